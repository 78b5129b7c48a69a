"""Rulesets beside the nft text they become; nft itself lists what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from romana.codec.nft import render_changes, render_table
from romana.codec.nft_listing import parse_table
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.endpoint import Endpoint
from romana.model.policy import Failsafe
from romana.model.program import RowIds
from romana.model.view import View
from tests.fakes.rulesets import HTTP, NOT_HTTP, STORE, endpoint, entries, view
from tests.probes.onehost import one_host

FILES = Path(__file__).parent / "nft"

FAILSAFE = Failsafe(ingress=((6, 22), (17, 68)), egress=((17, 67),))
ROWS = {
    "in_web": entries(
        f"10.0.0.0/8 {HTTP.id}", "10.0.0.8/29 accept", f"10.0.0.17 {NOT_HTTP.id}", "fd00::40/122 accept", "::/0 accept"
    ),
    "out_web": entries("0.0.0.0/0 accept", "::/0 accept", "192.168.0.0/16 drop"),
    "in_store": entries("10.0.0.0/29 accept"),
    "out_store": entries(),
}
WORLDS: dict[str, tuple[View, tuple[Endpoint, ...]]] = {
    "empty": (view({}), ()),
    "one-endpoint": (view(ROWS), (endpoint(1),)),
    "host-and-staged": (
        view(
            {
                **ROWS,
                "in_web": entries(
                    f"10.0.0.0/8 {HTTP.id}~{NOT_HTTP.id}", "10.0.0.8/29 accept~drop", "10.0.0.17 drop~accept"
                ),
                "in_host": entries(f"10.0.0.0/29 {HTTP.id}", f"192.168.0.0/24 accept~{HTTP.id}"),
                "out_host": entries("0.0.0.0/0 accept"),
            },
            own={"in_web": f"accept~{HTTP.id}", "out_web": "accept"},
            host_rows=RowIds("in_host", "out_host"),
        ),
        (endpoint(1),),
    ),
    "two-lengths": (view(ROWS, block_lengths=((29, 122), (28, 121))), (endpoint(1), endpoint(9, STORE))),
}


def compare(path: Path, text: str, *, rewrite: bool) -> None:
    if rewrite:
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_becomes_its_table(name: str, rewrite_golden: bool) -> None:
    world, endpoints = WORLDS[name]
    compare(FILES / f"{name}.nft", render_table(desired_ruleset(world, endpoints, FAILSAFE)), rewrite=rewrite_golden)


def test_a_row_comes_with_its_endpoint(rewrite_golden: bool) -> None:
    before, after = desired_ruleset(view(ROWS), [endpoint(1)]), desired_ruleset(view(ROWS), [endpoint(9, STORE)])
    text = "---\n".join(step.text for step in render_changes(ruleset_changes(after, before)))
    compare(FILES / "from-web-to-store.nft", text, rewrite=rewrite_golden)


@pytest.mark.parametrize("name", WORLDS)
def test_nft_lists_what_is_read_back_as_the_same(name: str, rewrite_golden: bool) -> None:
    with one_host("g") as host:
        host.nft((FILES / f"{name}.nft").read_text())
        listing = host.table.listing()
        compare(FILES / f"{name}.listing", host.nft("list table inet romana"), rewrite=rewrite_golden)
    world, endpoints = WORLDS[name]
    assert not ruleset_changes(desired_ruleset(world, endpoints, FAILSAFE), parse_table(listing))
