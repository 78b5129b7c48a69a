"""The example topologies, beside the plans they carve (`ROMANA_REWRITE=1` rewrites them); and the reference's keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from romana.codec import topology as documents
from romana.codec import topology_routing as routing
from romana.codec.document import load
from romana.core.topology import carve
from romana.model.topology import AddressPlan, BitPlan, Group

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples/topologies").iterdir() if path.suffix != ".md")
GOLDEN = Path(__file__).parent / "topologies"
REFERENCE = ROOT / "docs/topology.md"


def plan_of(text: str) -> AddressPlan:
    return carve(documents.read_plan(load(text)))


def lines(plan: AddressPlan) -> Iterator[str]:
    for network in plan.networks:
        words = [f"span /{network.span_length}", f"block /{network.block_length}", network.placement]
        words += [f"{key} {value}" for key in ("reserved", "static") for value in getattr(network, key)]
        yield f"{network.name} {network.cidr}: {', '.join(words)}"
    for topology in plan.topologies:
        yield topology.name
        yield from group_lines(topology.root)
        yield from (f"  {host.name} in {host.group}" for host in topology.hosts)


def group_lines(group: Group) -> Iterator[str]:
    closed = " closed" if group.closed else f" for {group.sole_host}" if group.sole_host else ""
    yield f"  {group.path}: {', '.join(map(str, group.cidrs.values()))}{closed}"
    for child in group.groups:
        yield from group_lines(child)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_carves_as_it_should(path: Path) -> None:
    text = "".join(f"{line}\n" for line in lines(plan_of(path.read_text())))
    golden = GOLDEN / f"{path.name}.txt"
    if os.environ.get("ROMANA_REWRITE"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_example_is_listed_and_nothing_else() -> None:
    listed = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "examples/topologies/README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [path.name for path in EXAMPLES]
    assert sorted(path.name for path in GOLDEN.iterdir()) == [f"{path.name}.txt" for path in EXAMPLES]


@pytest.mark.parametrize("language", ["yaml", "json"])
def test_the_documents_in_the_reference_carve(language: str) -> None:
    (text,) = re.findall(rf"```{language}\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    assert plan_of(text).networks


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("The document", documents.PlanDocument),
        ("A network", documents.NetworkDocument),
        ("Bits", BitPlan),
        ("A topology", documents.TopologyDocument),
        ("A group", documents.GroupDocument),
        ("Routing", routing.RoutingDocument),
        ("Routing", routing.LinkDocument),
        ("Routing", routing.PeerDocument),
        ("Routing", routing.SessionDocument),
        ("A group", routing.RouterDocument),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reference_has_a_row_for_each_key(heading: str, kind: Any) -> None:
    text = REFERENCE.read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    tables = [re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) for table in section.split("|---|---|---|\n")]
    assert [field.encode_name for field in msgspec.structs.fields(kind)] in tables


def test_the_example_of_the_reference_uses_every_key() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    used: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            used.update(value)
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(load(text))
    kinds = (
        documents.PlanDocument,
        documents.NetworkDocument,
        documents.TopologyDocument,
        documents.GroupDocument,
        documents.HostDocument,
        routing.RouterDocument,
        routing.RoutingDocument,
        routing.LinkDocument,
        routing.PeerDocument,
        BitPlan,
    )
    assert {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)} <= used
