from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from romana.apps.cli.main import command_line
from romana.apps.cli.plan_load import LoadOptions, load_of
from romana.codec.topology import read_plan
from romana.core.topology import carve
from romana.model.errors import Invalid

RACKS = "examples/topologies/racks.yaml"
GOOD = """\
version: 1
networks: [{name: v4, cidr: 10.0.0.0/16, span_length: 25}]
topologies: [{name: dc, networks: [v4], groups: [{name: a}, {name: b, hosts: [h1, h2]}]}]
"""


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(command_line(), ["plan", *arguments], input=stdin, env={"COLUMNS": "80"})


def test_a_document_from_standard_input_needs_no_romanad() -> None:
    ran = run("-", "--server", "unix:///nowhere", stdin=GOOD)
    assert ran.exit_code == 0
    assert ran.stdout.startswith("Address plan of standard input\n")
    assert "\x1b" not in ran.stdout


def test_json_and_yaml_say_the_same_and_repeat() -> None:
    one, other, third = run(RACKS, "--json"), run(RACKS, "-o", "yaml"), run(RACKS, "--json")
    found = json.loads(one.stdout)
    assert found == yaml.safe_load(other.stdout)
    assert one.stdout == third.stdout
    assert found["load"]["seed"] == 1
    assert {group["path"] for group in found["groups"]} >= {"/", "/row-1", "/row-1/rack-1"}
    assert {"per_node", "per_block", "per_endpoint"} == set(found["beside"])


def test_another_seed_draws_another_load() -> None:
    assert run(RACKS, "--seed", "2", "--json").stdout != run(RACKS, "--seed", "1", "--json").stdout


def test_every_fault_of_a_document_has_its_sentence(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(GOOD.replace("10.0.0.0/16", "10.0.0.0/33").replace("hosts: [h1, h2]", "colour: red"))
    ran = run(str(file))
    assert isinstance(ran.exception, Invalid)
    places = [fault.path for fault in ran.exception.faults]
    assert places == [f"{file}: networks[0].cidr", f"{file}: topologies[0].groups[1].colour"]
    assert ran.stdout == ""


def test_faults_of_carving_are_all_told() -> None:
    bad = GOOD.replace("name: a}", "name: b, cidrs: {v5: 10.0.0.0/20}}").replace("span_length: 25", "span_length: 31")
    ran = run("-", stdin=bad)
    assert isinstance(ran.exception, Invalid)
    assert len(ran.exception.faults) >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a FILE"),
        (("--diff",), "give a FILE"),
        ((RACKS, "--current"), "use --diff"),
        ((RACKS, "--diff", "--current"), "not --current"),
        ((RACKS, "--hosts", "0"), "--hosts"),
        ((RACKS, "--apart", "2"), "--apart"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], words: str) -> None:
    ran = run(*arguments)
    assert ran.exit_code == 2
    assert words in " ".join(ran.output.replace("│", " ").split())


def test_a_drawing_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    ran = run(RACKS, "--svg", str(tmp_path / "no" / "plan.svg"))
    assert isinstance(ran.exception, Invalid)
    assert "cannot be written" in str(ran.exception)


def test_two_of_pods_tenants_and_pods_a_tenant_say_the_third() -> None:
    plan = carve(read_plan(yaml.safe_load(GOOD)))
    assert load_of(plan, LoadOptions()).hosts == 2
    assert load_of(plan, LoadOptions(hosts=50, tenants=10, pods_per_tenant=7)).pods == 70
    assert load_of(plan, LoadOptions(pods=100, pods_per_tenant=7)).tenants == 15
    with pytest.raises(Invalid, match="leave one of them out"):
        load_of(plan, LoadOptions(pods=100, tenants=10, pods_per_tenant=7))
    with pytest.raises(Invalid, match="too many to draw"):
        load_of(plan, LoadOptions(tenants=100_000, pods_per_tenant=100_000))


def test_a_plan_without_listed_hosts_is_filled_with_some() -> None:
    plan = carve(read_plan(yaml.safe_load(GOOD.replace(", hosts: [h1, h2]", ""))))
    assert load_of(plan, LoadOptions()).hosts == 32


def test_an_address_is_shown_as_it_is_written() -> None:
    document = (
        'version: 1\nnetworks: [{name: p, cidr: "fd00:100::/40"}]\n'
        "topologies: [{name: t, networks: [p], groups: [{name: a}, {name: b}]}]\n"
    )
    shown = run("-", stdin=document).stdout
    assert "fd00:100:80::/41" in shown
