"""`romana` by its front door: the real program against a real romanad."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from romana.adapters.romanad import RomanadClient
from romana.apps.cli.failure import ExitStatus
from romana.codec.text import parse_address
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation
from romana.model.policy import Failsafe
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Hello, Publication
from tests.probes.programs import BIN, Romana, romanad

PLAN = """\
version: 1
networks:
  - {name: pods4, cidr: 10.112.0.0/12, block_length: 29, span_length: 24, mixed: 0}
  - {name: pods6, cidr: "fd00:10:110::/44", block_length: 122, span_length: 117}
topologies:
  - name: datacentre
    networks: [pods4, pods6]
    groups:
      - {name: rack1, hosts: [h11, h12]}
      - {name: rack2, hosts: [h21]}
"""
POLICY = """\
version: 1
kind: policy
id: web-to-db
description: only the web segment talks to db
applies_to: [{tenant: blue, segment: db}]
ingress:
  - from: [{tenant: blue, segment: web}]
    ports: [tcp/5432]
"""


@pytest.fixture(scope="module")
def romana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Romana]:
    """A romanad with a plan, two tenants, and one endpoint of blue/web on h11."""
    directory = tmp_path_factory.mktemp("romanad")
    with romanad(directory) as server:
        asyncio.run(_fill(server))
        yield Romana(server, directory / "compiled")


async def _fill(server: str) -> None:
    """The plan, the tenants, and what an agent of h11 sends for one pod."""
    identity = Identity(owner=Owner("blue", "web"), labels={"app": "web"})
    async with RomanadClient(server) as client:
        await client.put("/v1/topology", PLAN)
        await client.put("/v1/tenants/blue", {"labels": {"team": "payments"}})
        await client.put("/v1/tenants/green", {"isolation": "segment"})
        await client.put("/v1/tenants/blue/segments/web", {})
        await client.put("/v1/tenants/blue/segments/db", {})
        welcome = await client.hello(
            Hello(
                host="h11",
                instance="one",
                addresses=(parse_address("192.168.1.1"),),
                failsafe=Failsafe(ingress=((6, 22),)),
            )
        )
        answer = await client.claim(Claim(host="h11", epoch=welcome.epoch, identity=identity))
        allocations = tuple(
            Allocation(address=block.address(1), block=block, endpoint="c1/eth0", sequence=1) for block in answer.blocks
        )
        endpoint = Endpoint(
            id="c1/eth0", name="web-1", host="h11", identity=identity, allocations=allocations, link="rom0"
        )
        await client.publish(Publication(host="h11", epoch=welcome.epoch, number=1, started=(endpoint,)))


def test_the_plan_is_shown_as_it_was_carved(romana: Romana) -> None:
    lines = romana("topology", "show").splitlines()
    assert lines[0].split() == ["TOPOLOGY", "GROUP", "CIDRS", "PLANNED", "HOSTS", "JOINED", "ASSIGNMENT"]
    assert lines[2].split() == ["datacentre", "/rack1", "10.112.0.0/13,fd00:10:110::/45", "h11,h12", "1", "-"]
    networks = romana.json("network", "list")
    assert [(one["name"], one["cidr"]) for one in networks] == [
        ("pods4", "10.112.0.0/12"),
        ("pods6", "fd00:10:110::/44"),
    ]
    assert "span:      /117" in romana("network", "show", "pods6").splitlines()


def test_a_host_moves_with_its_span_by_word_alone_and_back(romana: Romana) -> None:
    other = PLAN.replace("hosts: [h11, h12]", "hosts: [h12, h13]").replace("hosts: [h21]", "hosts: [h11, h21]")
    assert "romana topology apply --move h11" in romana.fails(
        "topology", "apply", "-", stdin=other, status=ExitStatus.INVALID
    )
    said = romana("topology", "apply", "--dry-run", "--move", "h11", "-", stdin=other).splitlines()
    assert ["host", "h11", "in", "datacentre", "/rack1", "/rack2"] in [line.split() for line in said]
    assert romana.json("route", "exceptions") == []
    assert "1 host(s) moved" in romana("topology", "apply", "--move", "h11", "-", stdin=other)
    away = romana.json("route", "exceptions")
    assert [(one["reason"], one["host"], one["home"]) for one in away] == [("span-away", "h11", "/rack1")] * 2
    told = romana.fails("topology", "apply", "--move", "h99", "-", stdin=PLAN, status=ExitStatus.INVALID)
    assert "moving: no host 'h99'" in told
    romana("topology", "apply", "-", stdin=PLAN)
    assert romana.json("route", "exceptions") == []


def test_checking_a_plan_needs_no_romanad_and_a_dry_run_changes_nothing(romana: Romana) -> None:
    other = PLAN.replace("10.112.0.0/12", "10.96.0.0/11").replace("pods4", "more4")
    assert "10.112.0.0/12" in Romana("unix:///nowhere")("topology", "check", "-", stdin=other)
    before = romana("network", "list", "--json")
    wider = PLAN.replace("  - {name: pods4", "  - {name: extra, cidr: 10.0.0.0/12}\n  - {name: pods4")
    wider = wider.replace("[pods4, pods6]", "[extra, pods4, pods6]")
    said = [line.split() for line in romana("topology", "apply", "--dry-run", "-", stdin=wider).splitlines()]
    assert said[:2] == [["WHAT", "NAME", "BEFORE", "AFTER"], ["network", "extra", "-", "10.0.0.0/12"]]
    assert ["group", "datacentre:/rack1", "in", "extra", "-", "10.0.0.0/13"] in said
    parts = ("networks", "groups", "hosts", "connections", "refusals")
    nothing: dict[str, list[str]] = {part: [] for part in parts}
    assert romana.json("topology", "apply", "--dry-run", "-", stdin=PLAN) == nothing
    other = PLAN.replace("block_length: 29", "block_length: 28")
    refused = romana.run("topology", "apply", "--dry-run", "-", stdin=other, expect=ExitStatus.INVALID)
    assert ["block_length", "pods4", "29", "28"] in [line.split() for line in refused.stdout.splitlines()]
    assert "they cannot become" in refused.stderr
    told = romana.fails(
        "topology", "apply", "-", stdin=PLAN.replace("block_length: 29", "block_length: 28"), status=ExitStatus.INVALID
    )
    assert "in use, spans of /24 with blocks of /29" in told
    assert romana("network", "list", "--json") == before


def test_blackouts_are_added_listed_and_removed(romana: Romana) -> None:
    told = romana.fails("network", "blackout", "add", "10.112.0.0/12", status=ExitStatus.INVALID)
    assert "is all of network pods4" in told
    assert romana("network", "blackout", "add", "10.113.0.0/24", "--reason", "printers") == (
        "10.113.0.0/24 is blacked out in network pods4\n"
    )
    assert romana("network", "blackout", "add", "10.113.0.8/29") == (
        "10.113.0.8/29 is blacked out in network pods4, as part of 10.113.0.0/24\n"
    )
    rows = [line.split() for line in romana("network", "blackout", "list").splitlines()]
    assert rows == [["BLACKOUT", "NETWORK", "REASON"], ["10.113.0.0/24", "pods4", "printers"]]
    told = romana.fails("network", "blackout", "remove", "10.113.0.8/29", status=ExitStatus.NOT_FOUND)
    assert "what overlaps it is: 10.113.0.0/24" in told
    told = romana.fails("network", "blackout", "add", "10.112.0.0/24", status=ExitStatus.CONFLICT)
    assert "of web-1" in told
    told = romana.fails("network", "blackout", "remove", "10.113.0.1/24", status=ExitStatus.INVALID)
    assert "did you mean 10.113.0.0/24" in told
    romana("network", "blackout", "remove", "10.113.0.0/24")
    assert romana.json("network", "blackout", "list") == []


def test_the_plan_in_force_is_reported_with_its_real_use_and_compared_with_a_document(romana: Romana) -> None:
    report = romana.json("plan", "--current")
    pods4 = report["networks"][0]
    assert (report["hosts"], report["endpoints"], pods4["use"]["endpoints"]) == (1, 1, 1)
    assert (pods4["use"]["spans"], pods4["use"]["hosts"]) == (1, 1)
    assert pods4["use"]["owned"] + pods4["use"]["mixed"] == 1
    assert "as they are now" in romana("plan", "--current")
    wider = PLAN.replace("- {name: rack2", "- {name: rack3}\n      - {name: rack2")
    told = romana.run("plan", "-", "--diff", stdin=wider, expect=ExitStatus.DONE).stdout
    assert "+ group /rack3 in pods4: not there -> 10.116.0.0/14" in told
    assert "~ group /rack1 in pods4: 10.112.0.0/13 -> 10.112.0.0/14" in told
    found = romana.json("plan", "-", "--diff", stdin=wider)["networks"][0]
    assert (found["before"]["groups"], found["after"]["groups"]) == (2, 3)
    without = PLAN.replace("pods4", "other4").replace("10.112.0.0/12", "10.64.0.0/12")
    done = romana.run("plan", "-", "--diff", stdin=without, expect=ExitStatus.INVALID)
    assert "- network pods4" in done.stdout
    assert "networks.pods4: is not in the new plan" in done.stderr


def test_every_fault_of_a_document_is_told_with_its_file_and_place(romana: Romana, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace("10.112.0.0/12", "10.112.0.0/33").replace("block_length: 122", "colour: red"))
    for verb in ("check", "apply"):
        told = romana.fails("topology", verb, str(file), status=ExitStatus.INVALID)
        assert "2 faults, nothing was changed" in told
        assert f"{file}: networks[0].cidr: '10.112.0.0/33' is not a CIDR" in told
        assert f"{file}: networks[1].colour: unknown field" in told
    assert "cannot be read" in romana.fails("topology", "apply", "no/such/file", status=ExitStatus.INVALID)
    told = romana.fails("topology", "apply", "-", stdin="a: [", status=ExitStatus.INVALID)
    assert "standard input: line 1" in told
    told = romana.fails("topology", "apply", "-", stdin="", status=ExitStatus.INVALID)
    assert "standard input: has no document in it" in told
    for verb in ("apply", "check"):
        told = romana.fails("topology", verb, "/nowhere", status=ExitStatus.INVALID)
        assert "invalid: /nowhere: cannot be read" in told


def test_hosts_are_added_and_removed_unless_they_hold_addresses(romana: Romana) -> None:
    with_labels = PLAN.replace("hosts: [h21]", "assignment: {rack: two}")
    romana("topology", "apply", "-", stdin=with_labels)
    host = romana.json("host", "add", "h99", "192.168.9.9", "--label", "rack=two")
    assert host["groups"] == {"datacentre": "/rack2"}
    assert [row.split()[0] for row in romana("host", "list").splitlines()] == ["HOST", "h11", "h99"]
    assert "addresses: 192.168.9.9" in romana("host", "show", "h99").splitlines()
    again = romana.json("host", "add", "h99", "192.168.9.8")
    assert (again["addresses"], again["labels"]) == (["192.168.9.8"], {"rack": "two"})
    assert romana("host", "remove", "h99") == "host h99 removed\n"
    assert "h99" in romana.fails("host", "show", "h99", status=ExitStatus.NOT_FOUND)
    assert "still holds" in romana.fails("host", "remove", "h11", status=ExitStatus.CONFLICT)
    told = romana.fails("host", "add", "h98", "--label", "rack", status=ExitStatus.INVALID)
    assert "'rack' is not KEY=VALUE" in told


def test_tenants_and_segments_come_and_go_unless_they_are_in_use(romana: Romana) -> None:
    romana("tenant", "add", "blue", "--label", "team=billing")
    romana("tenant", "add", "blue", "--label", "team=payments")
    assert [line.split() for line in romana("tenant", "list").splitlines()[1:]] == [
        ["blue", "tenant", "no", "team=payments"],
        ["green", "segment", "no", "-"],
    ]
    romana("tenant", "add", "green", "--own-host")
    romana("tenant", "add", "green", "--label", "team=books")
    assert romana.json("tenant", "show", "green") == {
        "name": "green",
        "isolation": "segment",
        "labels": {"team": "books"},
        "own_host": True,
    }
    assert romana.json("tenant", "add", "green", "--no-own-host")["isolation"] == "segment"
    romana("tenant", "add", "red")
    romana("segment", "add", "red", "api")
    assert romana.json("segment", "list", "--tenant", "red") == [{"tenant": "red", "name": "api"}]
    romana("segment", "remove", "red", "api")
    romana("tenant", "remove", "red")
    assert "1 endpoints" in romana.fails("tenant", "remove", "blue", status=ExitStatus.CONFLICT)
    told = romana.fails("segment", "add", "red", "api", status=ExitStatus.NOT_FOUND)
    assert "romana tenant add red" in told


def test_addresses_in_use_are_counted_from_network_to_endpoint(romana: Romana) -> None:
    (endpoint,) = romana.json("endpoint", "list", "--tenant", "blue", "--segment", "web", "--host", "h11")
    address, block = endpoint["allocations"][0]["address"], endpoint["allocations"][0]["block"]
    for handle in ("web-1", "c1/eth0", address):
        assert "owner:     blue/web" in romana("endpoint", "show", handle).splitlines()
    assert romana.json("endpoint", "list", "--host", "h12") == []
    blocks = {one["cidr"]: one for one in romana.json("block", "list", "--host", "h11")}
    assert blocks[block]["used"] == 1
    assert blocks[block]["owner"] == {"tenant": "blue", "segment": "web"}
    spans = {one["cidr"]: one for one in romana.json("span", "list", "--host", "h11")}
    assert spans[blocks[block]["span"]]["used"] == 1
    assert sum(one["blocks"] for one in spans.values()) == len(blocks)
    assert {one["host"] for one in spans.values()} == {"h11"}
    assert "no endpoint 'nobody'" in romana.fails("endpoint", "show", "nobody", status=ExitStatus.NOT_FOUND)


def test_the_route_plan_names_what_each_device_holds(romana: Romana) -> None:
    (rack,) = romana.json("route", "plan", "--device", "/rack1")
    assert rack["originates"] == ["10.112.0.0/13", "fd00:10:110::/45"]
    assert (rack["above"], rack["discards"], rack["exceptions"]) == (2, 2, 0)
    assert rack["total"] == len(romana.json("route", "show", "/rack1"))
    rows = [line.split()[:4] for line in romana("route", "list", "--device", "/").splitlines()]
    assert ["/", "10.112.0.0/13", "below", "/rack1"] in rows
    told = romana.fails("route", "list", "--device", "nope", status=ExitStatus.NOT_FOUND)
    assert "known are" in told
    assert romana.json("route", "exceptions") == []


def test_the_fabric_is_drawn_and_compared_with_its_hosts(romana: Romana, tmp_path: Path) -> None:
    romana("route", "draw", "--svg", str(tmp_path / "fabric.svg"))
    assert 'data-path="/rack1"' in (tmp_path / "fabric.svg").read_text()
    told = romana.fails("route", "draw", "--svg", str(tmp_path / "no" / "fabric.svg"), status=ExitStatus.INVALID)
    assert "cannot be written" in told
    checked = romana.run("route", "check", "--wait", "0", "--json", stdin="", expect=ExitStatus.FAILED)
    found = json.loads(checked.stdout)
    assert (found["differences"], found["unreachable"]) == ([], ["h11"])
    assert "agents did not answer: h11" in checked.stderr


def test_policies_are_applied_shown_explained_and_removed(romana: Romana, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    assert romana("policy", "apply", str(file)) == "in force: web-to-db\n"
    assert "only the web segment talks to db" in romana("policy", "list")
    shown = yaml.safe_load(romana("policy", "show", "web-to-db", "-o", "yaml"))
    assert (shown["kind"], shown["egress"]) == ("native", None)
    assert '"applies_to"' in romana("policy", "show", "web-to-db")
    romana("policy", "remove", "web-to-db")
    assert "romana policy list" in romana.fails("policy", "remove", "web-to-db", status=ExitStatus.NOT_FOUND)
    told = romana.fails(
        "policy", "apply", "-", stdin=POLICY.replace("tcp/5432", "tcp/99999"), status=ExitStatus.INVALID
    )
    assert "tcp/99999" in told


def test_names_that_nobody_has_are_told_of(romana: Romana) -> None:
    document = {
        "version": 1,
        "kind": "policy",
        "id": "strange",
        "applies_to": [{"tenant": "blu"}, {"tenant": "blue", "segment": ["web", "wep"]}, {"segment": "db"}],
        "ingress": [{"from": [{"host": ["h11", "h77"]}, {"tenant": ["blue", "green"]}, {"cidr": "10.0.0.0/8"}]}],
    }
    told = romana.run("policy", "apply", "-", stdin=json.dumps(document), expect=0)
    assert told.stdout == "in force: strange\n"
    assert told.stderr.splitlines() == [
        f"romana: policy strange names {whom}, which is not there (yet)"
        for whom in ("tenant 'blu'", "segment 'blue/wep'", "host 'h77'")
    ]
    romana("policy", "remove", "strange")


@pytest.mark.parametrize("verb", ["apply", "impact"])
def test_several_files_are_taken_whole_or_not_at_all_and_each_fault_names_its_file(
    romana: Romana, tmp_path: Path, verb: str
) -> None:
    good, bad, two = (tmp_path / name for name in ("good.yaml", "bad.yaml", "two.yaml"))
    good.write_text(POLICY.replace("web-to-db", "first"))
    bad.write_text(POLICY.replace("tcp/5432", "tcp/99999"))
    two.write_text(f"{POLICY.replace('web-to-db', 'second')}\n---\n{POLICY.replace('tcp/5432', 'tcp/0')}")
    told = romana.fails("policy", verb, str(good), str(bad), str(two), status=ExitStatus.INVALID)
    assert f"{bad}: ingress[0].ports[0]: " in told
    assert f"{two}: [1].ingress[0].ports[0]: " in told
    assert all(one["id"] not in ("first", "second") for one in romana.json("policy", "list"))


def test_the_list_says_whom_and_what_a_policy_is_about(romana: Romana) -> None:
    about = {"host": {"host": ["h1"], "labels": {"role": "edge"}}, "tenant": {"tenant": "blue"}}
    for name, whom in about.items():
        document = {"version": 1, "kind": "policy", "id": name, "applies_to": [whom], "ingress": [], "staged": True}
        romana("policy", "apply", "-", stdin=json.dumps(document))
    listed = {line.split()[0]: " ".join(line.split()) for line in romana("policy", "list").splitlines()}
    assert "host h1 role=edge nothing allowed not governed staged" in listed["host"]
    assert "blue nothing allowed not governed staged" in listed["tenant"]
    romana("policy", "remove", *about)


def test_verify_proves_or_shows_a_connection(romana: Romana, tmp_path: Path) -> None:
    statements = tmp_path / "statements"
    statements.write_text("# walls\nnothing outside reaches tenant blue\n")
    assert romana("verify", str(statements)).startswith("holds  nothing outside reaches tenant blue: proved")
    told = romana("verify", "-", stdin="tenant blue never reaches tenant blue", expect=ExitStatus.UNEXPECTED_VERDICT)
    assert told.startswith("FAILS  tenant blue never reaches tenant blue: tcp/80 from ")
    told = romana("verify", "-", stdin="tenant blu never reaches outside", expect=ExitStatus.UNEXPECTED_VERDICT)
    assert "there is no tenant 'blu'" in told
    told = romana("verify", "-", stdin="segment blue/x never reaches outside", expect=ExitStatus.UNEXPECTED_VERDICT)
    assert "there is no segment 'blue/x'" in told
    assert "standard input: line 1: 'hello' is no statement" in romana.fails(
        "verify", "-", stdin="hello", status=ExitStatus.INVALID
    )


@pytest.mark.parametrize("staged", [False, True])
def test_impact_says_what_a_policy_would_open(romana: Romana, staged: bool) -> None:
    document = {
        "version": 1,
        "kind": "policy",
        "id": "door",
        "applies_to": [{"tenant": "blue"}],
        "ingress": [{"from": [{"cidr": "0.0.0.0/0"}], "ports": ["tcp/80"]}],
        "staged": staged,
    }
    pairs = romana.json("policy", "impact", "-", stdin=json.dumps(document))["pairs"]
    assert any((one["source"], one["opened"]) == ("outside", "tcp/80") for one in pairs)
    assert all(one["id"] != "door" for one in romana.json("policy", "list"))
    romana.fails("policy", "impact", "--remove", "nowhere", status=ExitStatus.NOT_FOUND)


def test_trace_explains_both_ends_and_checks_an_expectation(romana: Romana) -> None:
    lines = romana("trace", "web-1", "8.8.8.8", "tcp/80").splitlines()
    assert lines[0].startswith("tcp/80 from web-1")
    assert any(line.startswith("sender: egress") for line in lines)
    assert any(line.startswith("receiver: ingress") for line in lines)
    assert romana("trace", "h11", "web-1", "tcp/80").startswith("tcp/80 from h11 (192.168.1.1) to web-1")
    told = romana.fails("trace", "h12", "web-1", "tcp/80", status=ExitStatus.NOT_FOUND)
    assert "neither an address nor an endpoint nor a host" in told
    verdict = romana.json("trace", "8.8.8.8", "web-1", "tcp/80")["verdict"]
    assert verdict is False
    romana("trace", "8.8.8.8", "web-1", "tcp/80", "--expect", "deny")
    done = romana.run(
        "trace", "8.8.8.8", "web-1", "tcp/80", "--expect", "accept", stdin="", expect=ExitStatus.UNEXPECTED_VERDICT
    )
    assert "expected to be accepted" in done.stderr
    told = romana.fails("trace", "web-1", "8.8.8.8", "tcp/0", status=ExitStatus.INVALID)
    assert "traffic" in told


def test_trace_explains_a_hosts_end_with_what_no_policy_can_close(romana: Romana) -> None:
    target, peer = {"dest": "host"}, {"peer": "local"}
    local = {"peers": [peer], "rules": [{"protocol": "tcp", "ports": [80]}]}
    document = {"id": "own", "direction": "ingress", "applied_to": [target], "ingress": [local]}
    romana("policy", "apply", "-", stdin=json.dumps(document))
    try:
        lines = romana("trace", "8.8.8.8", "h11", "tcp/22", "--expect", "accept").splitlines()
        assert lines[0].endswith("to h11 (192.168.1.1): ACCEPTED")
        assert "  why: no policy closes tcp/22, which its agent's `[host] failsafe_in` lists" in lines
        assert "  kernel: set failsafe_in: tcp/22 -> accept" in lines
        lines = romana("trace", "web-1", "h11", "tcp/80").splitlines()
        assert "receiver: ingress of h11 (192.168.1.1): ACCEPTED" in lines
        assert "  why: rule 0 of policy own accepts it" in lines
        assert any("kernel: chain guard_in_" in line for line in lines)
        assert any("_4_range" in line and "(tcp/80)" in line for line in lines)
        romana("trace", "8.8.8.8", "h11", "tcp/80", "--expect", "deny")
    finally:
        romana("policy", "remove", "own")


def test_watch_gives_every_change_from_a_revision(romana: Romana) -> None:
    command = [str(BIN / "romana"), "watch", "--from", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=romana.environment) as watching:
        assert watching.stdout is not None
        events = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.terminate()
    assert events[1]["key"].startswith("plan/")
    assert events[2]["key"] == "tenant/blue"
    assert events[1]["revision"] < events[2]["revision"]


def test_output_is_json_yaml_or_a_table_without_colour(romana: Romana) -> None:
    assert json.loads(romana("tenant", "list", "-o", "json")) == yaml.safe_load(romana("tenant", "list", "-o", "yaml"))
    assert "\x1b" not in romana("tenant", "list")
    empty = romana.run("policy", "list", stdin="", expect=0)
    assert empty.stdout == ""
    assert "no policies" in empty.stderr


def test_a_romanad_that_is_away_and_wrong_usage_have_their_own_statuses() -> None:
    away = Romana("unix:///nowhere/romanad.sock")
    told = away.fails("host", "list", status=ExitStatus.UNAVAILABLE)
    assert told.startswith("romana: unavailable: romanad at unix:///nowhere/romanad.sock")
    assert "(No such file or directory); is it running?" in told
    assert "No such command" in away.fails("host", "dance", status=ExitStatus.USAGE)
    assert "neither unix" in Romana("ftp://x").fails("host", "list", status=ExitStatus.INVALID)


def test_the_program_knows_its_version_and_completes_its_words() -> None:
    romana = Romana("unix:///nowhere")
    assert romana("--version").startswith("romana 0.")
    environment = {**os.environ, "_ROMANA_COMPLETE": "complete_bash", "COMP_WORDS": "romana ten", "COMP_CWORD": "1"}
    done = subprocess.run([BIN / "romana"], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["tenant"]


def test_a_host_is_drained_or_declared_lost_by_word(romana: Romana) -> None:
    states = {row.split()[0]: row.split()[1] for row in romana("host", "list").splitlines()}
    assert states["h11"].startswith("silent")
    assert romana("host", "drain", "h11") == "host h11 gets no more room, and gives back what it does not use\n"
    assert "silent, draining" in romana("host", "show", "h11")
    assert romana.json("host", "drain", "h11", "--undo").get("draining", False) is False
    assert "--yes" in romana.fails("host", "lost", "h11", status=ExitStatus.USAGE)
    taken = romana.json("host", "lost", "h11", "--yes")
    assert taken["endpoints"] == 1
    assert not romana.json("block", "list", "--host", "h11")
    assert romana.json("host", "show", "h11")["life"]["state"] == "absent"
    assert "there is nothing to give up" in romana("host", "lost", "h11", "--yes")
    assert romana("host", "remove", "h11") == "host h11 removed\n"
