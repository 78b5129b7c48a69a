"""romana-aws by its front door: the real program with real boto3, moto's server behind a gate, and a real romanad."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.probes.agenthost import wait
from tests.probes.cloud import ANSWER_LOST, WRITES, Cloud, cloud
from tests.probes.programs import Romana, romanad
from tests.probes.vpcsite import GROUPS4, GROUPS6, PLAN, ZONES, Site, both, vpc_site

EXAMPLES = Path(__file__).parents[2] / "examples/topologies"
KUBERNETES = "failure-domain.beta.kubernetes.io"


@pytest.fixture
def aws(moto: int) -> Iterator[Cloud]:
    with cloud(moto) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, aws: Cloud) -> Iterator[Site]:
    with vpc_site(tmp_path, aws) as found:
        yield found


def other(host: str) -> str:
    return host[0] + ("2" if host[1] == "1" else "1")


def running(site: Site) -> dict[str, str]:
    """Routes of all zones, by a program that goes on."""
    site.start()
    wait(lambda: len(site.cloud.routes("main")) == 2 * len(ZONES), "no routes")
    return site.next_hops()


def test_once_every_table_has_a_route_a_zone_and_family_and_no_interface_checks(site: Site) -> None:
    site.build()
    site.table("private")
    site.cloud.add_route("main", "0.0.0.0/0", GatewayId=site.cloud.gateway("gateway", "vpc"))
    foreign = site.cloud.routes("main")
    planned = json.loads(site.aws("sync", "--dry-run", "--json").stdout)
    assert {(one["change"], one["prefix"]) for one in planned["changes"]} == {
        ("add", prefix) for prefix in (*GROUPS4.values(), *GROUPS6.values())
    }
    assert len(planned["changes"]) == 12
    assert (site.cloud.routes("main"), site.cloud.gate.writes(), site.owned()) == (foreign, [], set())

    site.aws("sync")
    for table in ("main", "private"):
        hops = site.next_hops(table)
        assert {zone: host[0] for zone, host in hops.items()} == {zone: zone for zone in ZONES}
        assert site.cloud.routes(table) == both(hops) | (foreign if table == "main" else {})
        assert site.owned(table) == both(hops).keys()
    assert not any(site.cloud.checks(f"{zone}{number}") for zone in ZONES for number in (1, 2))

    site.cloud.gate.forget()
    assert "as the plan says" in site.aws("sync").stdout
    assert site.cloud.gate.writes() == []


def test_tables_are_found_by_tags_too(site: Site) -> None:
    site.build()
    site.cloud.table("tagged", "vpc", role="pods", stage="live")
    site.cloud.table("other", "vpc", role="pods", stage="test")
    site.settings["aws"] |= {"tables": [], "table_tags": {"role": "pods", "stage": "live"}}
    site.aws("sync")
    assert len(site.cloud.routes("tagged")) == 6
    assert site.cloud.routes("other") == site.cloud.routes("main") == {}


def test_a_next_hop_that_stops_is_left_at_once_and_taken_again_when_it_was_well_for_a_while(site: Site) -> None:
    site.settings["health"]["fail_back_seconds"] = 5
    site.build()
    first = running(site)
    site.cloud.gate.forget()
    site.cloud.stop(first["a"])
    site.settled(both(first | {"a": other(first["a"])}))
    assert {call.action for call in site.cloud.gate.writes()} == {"ReplaceRoute"}
    site.cloud.start(first["a"])
    site.settled(both(first))
    assert {call.action for call in site.cloud.gate.writes()} == {"ReplaceRoute"}
    found = site.status(expect=0)
    host = next(one for one in found["hosts"] if one["host"] == first["a"])
    assert (host["level"], host["failures"]) == ("settled", 1)
    events = [json.loads(line) for line in site.log().splitlines()]
    moves = [one for one in events if one["event"] == "route led elsewhere" and one["prefix"] == GROUPS4["a"]]
    away, back = (datetime.fromisoformat(one["timestamp"]) for one in moves)
    assert (back - away).total_seconds() > 4  # whole seconds are counted, so five may be a little less


def test_status_checks_that_fail_and_silence_move_routes_and_a_terminated_instance_is_forgotten(site: Site) -> None:
    site.settings["health"] |= {"silent_seconds": 2, "fail_back_seconds": 60}
    site.build()
    first = running(site)
    site.cloud.gate.impaired.add(site.cloud.ids[first["a"]])
    site.settled(both(first | {"a": other(first["a"])}))
    site.heartbeat(first["b"])  # and never again
    second = first | {"a": other(first["a"]), "b": other(first["b"])}
    site.settled(both(second))
    site.cloud.terminate(first["c"])
    site.settled(both(second | {"c": other(first["c"])}))
    found = site.status(expect=0)
    assert {one["host"]: one["why"] for one in found["hosts"] if one["why"]}.keys() >= {first["a"], first["b"]}


def test_with_nobody_left_a_route_stays_where_it_is_and_that_is_said(site: Site) -> None:
    site.build(hosts=1)
    first = running(site)
    site.cloud.stop("a1")
    site.cloud.gate.forget()
    wait(lambda: bool(site.status()["problems"]), "nothing is said")
    assert site.cloud.routes("main") == both(first)
    assert site.cloud.gate.writes() == []
    (first_problem, *_) = site.status(expect=1)["problems"]
    assert "stays with a1, although instance i-" in first_problem
    assert "is stopped: no other host is better" in first_problem


def test_routes_of_others_stay_and_one_at_our_destination_is_told_until_it_is_adopted(site: Site) -> None:
    site.build()
    gateway = site.cloud.gateway("gateway", "vpc")
    site.cloud.add_route("main", GROUPS4["a"], GatewayId=gateway)
    site.cloud.add_route("main", "192.0.2.0/24", GatewayId=gateway)
    done = site.aws("sync", expect=1)
    assert f"has a route to {GROUPS4['a']} that is not ours (to {gateway}); it stays" in done.stderr
    routes = site.cloud.routes("main")
    assert (routes[GROUPS4["a"]], routes["192.0.2.0/24"], len(routes)) == (gateway, gateway, 7)
    site.aws("sync", "--adopt")
    assert site.cloud.routes("main")[GROUPS4["a"]] in ("a1", "a2")
    assert site.cloud.routes("main")["192.0.2.0/24"] == gateway
    assert GROUPS4["a"] in site.owned()
    site.aws("remove")
    assert site.cloud.routes("main") == {"192.0.2.0/24": gateway}
    assert site.owned() == set()


def test_throttling_makes_it_call_less_and_then_it_goes_on(site: Site) -> None:
    site.build()
    first = running(site)
    site.cloud.gate.forget()
    site.cloud.gate.rule("DescribeRouteTables", code="RequestLimitExceeded", times=7)
    site.cloud.stop(first["a"])
    wait(lambda: "asks for fewer calls" in site.log(), "it does not say so")
    site.settled(both(first | {"a": other(first["a"])}), seconds=60)
    reads = [call.action for call in site.cloud.gate.calls].index("DescribeInstances")
    moments = site.cloud.gate.times[: reads + 1]
    assert len(moments) >= 8
    assert moments[-1] - moments[0] > 2  # eight reads, which come five times a second while all is well
    assert site.status(expect=0)["problem"] == ""


def test_throttled_writes_are_finished_later(site: Site) -> None:
    site.build()
    site.cloud.gate.rule("CreateRoute", code="RequestLimitExceeded", times=4, after=2)
    site.start()
    wait(lambda: len(site.cloud.routes("main")) == 6, "not finished", seconds=60)
    assert "asks for fewer calls" in site.log()
    wait(lambda: site.status()["problem"] == "", "not well again")


def test_what_fails_in_part_is_told_and_tried_again_without_holding_up_the_rest(site: Site) -> None:
    site.build()
    forbidden = site.cloud.gate.rule("CreateRoute", code="UnauthorizedOperation", times=1, after=1)
    done = site.aws("sync", expect=1)
    assert "ec2:CreateRoute: these credentials may not do it: said the gate (UnauthorizedOperation)" in done.stderr
    assert len(site.cloud.routes("main")) == 5
    assert site.owned() == site.cloud.routes("main").keys()
    assert forbidden.times == 0
    site.aws("sync")
    assert len(site.cloud.routes("main")) == 6


def test_checks_that_cannot_be_turned_off_are_retried_until_they_are(site: Site) -> None:
    site.build()
    refused = site.cloud.gate.rule("ModifyNetworkInterfaceAttribute", code="UnauthorizedOperation", times=2)
    first = running(site)
    wait(lambda: not refused.times, "it did not try")
    assert len(both(first)) == 6
    wait(lambda: not any(site.cloud.checks(f"{zone}{one}") for zone in ZONES for one in (1, 2)), "still on", seconds=40)
    tries = [call for call in site.cloud.gate.calls if call.action == "ModifyNetworkInterfaceAttribute"]
    assert len(tries) == 8
    wait(lambda: site.status()["problems"] == [], "a problem is left")


def test_an_answer_that_is_lost_does_not_make_a_route_somebody_elses(site: Site) -> None:
    site.build()
    site.cloud.gate.rule("CreateRoute", code=ANSWER_LOST, times=2)
    site.aws("sync")
    assert len(site.cloud.routes("main")) == 6
    assert site.owned() == site.cloud.routes("main").keys()


def test_a_route_that_somebody_else_makes_at_the_same_time_is_theirs(site: Site) -> None:
    site.build()
    taken = site.cloud.gate.rule("CreateRoute", code="RouteAlreadyExists", times=1)
    done = site.aws("sync", expect=1)
    assert not taken.times
    assert "somebody else made a route to" in done.stderr
    assert site.owned() == site.cloud.routes("main").keys()
    assert len(site.owned()) == 5


@pytest.mark.parametrize("action", sorted(WRITES - {"ReplaceRoute"}))
def test_killed_between_two_writes_it_finishes_after_its_start(site: Site, action: str) -> None:
    site.build(plan=racks(marked=False))
    if action == "DeleteRoute":
        site.aws("sync")
        site.call("PUT", "/v1/topology", racks(marked=True))
    held = site.cloud.gate.rule(action, hold=True, after=1)
    process = site.start("first")
    assert held.reached.wait(20), site.log("first")
    process.send_signal(signal.SIGKILL)
    process.wait()
    site.cloud.gate.rules.clear()
    site.start()
    wanted = 6 if action == "DeleteRoute" else 12
    wait(lambda: len(site.cloud.routes("main")) == wanted, f"not finished: {site.cloud.routes('main')}")
    wait(lambda: site.owned() == site.cloud.routes("main").keys(), "what is ours is not written down")
    assert site.status(expect=0)["problems"] == []


def racks(*, marked: bool) -> dict[str, Any]:
    """The plan with two racks a zone, whose zones may be what the VPC knows."""
    plan = copy.deepcopy(PLAN)
    for zone in plan["topologies"][0]["groups"]:
        zone["groups"] = [{"name": f"rack-{number}", "assignment": {"rack": str(number)}} for number in (1, 2)]
        zone["routing"] = "prefix-announce-vpc" if marked else ""
    return plan


def test_a_plan_that_is_divided_otherwise_is_led_first_and_then_the_old_routes_go(site: Site) -> None:
    site.build(plan=racks(marked=False))
    site.start()
    wait(lambda: len(site.cloud.routes("main")) == 12, "no routes")
    site.cloud.gate.forget()
    site.call("PUT", "/v1/topology", racks(marked=True))
    wait(lambda: len(site.cloud.routes("main")) == 6, f"{site.cloud.routes('main')}")
    assert site.cloud.routes("main").keys() == {*GROUPS4.values(), *GROUPS6.values()}
    assert [call.action for call in site.cloud.gate.writes()] == ["CreateRoute"] * 6 + ["DeleteRoute"] * 12


def test_what_does_not_fit_is_refused_with_numbers_before_anything_is_written(site: Site) -> None:
    site.settings["aws"]["routes_per_table"] = 4
    site.build()
    site.cloud.add_route("main", "192.0.2.0/24", GatewayId=site.cloud.gateway("gateway", "vpc"))
    done = site.aws("sync", expect=1)
    assert "3 more IPv4 routes would not fit, and none was added: it has 2 (0 of ours, 2 of others)" in done.stderr
    assert "of at most 4, and 2 can come" in done.stderr
    assert site.cloud.routes("main").keys() == {"192.0.2.0/24", *GROUPS6.values()}
    site.settings["aws"]["routes_per_table"] = 5
    site.aws("sync")
    assert len(site.cloud.routes("main")) == 7


def test_a_quota_that_is_lower_than_we_were_told_is_told_by_aws(site: Site) -> None:
    site.build()
    site.cloud.gate.quota = 3
    done = site.aws("sync", expect=1)
    assert "RouteLimitExceeded" in done.stderr
    assert len(site.cloud.routes("main")) == 4
    assert site.owned() == site.cloud.routes("main").keys()


def test_of_two_programs_one_writes_and_the_other_takes_over_when_it_ends(site: Site) -> None:
    site.build()
    one = site.start("one", holder="one")
    wait(lambda: len(site.cloud.routes("main")) == 2 * len(ZONES), "no routes")
    two = site.start("two", holder="two", socket=f"{site.directory}/two.sock")
    wait(lambda: (site.status("two") or {}).get("turn") == "stands by", "it does not stand by")
    assert site.status("two", expect=0)["why"].startswith("one has the lease aws")
    assert site.aws("sync", "--dry-run", ROMANA_AWS_HOLDER="three").stdout
    assert "not this program's turn" in site.aws("sync", expect=1, ROMANA_AWS_HOLDER="three").stderr
    one.send_signal(signal.SIGTERM)
    assert one.wait(20) == 0
    assert not (site.directory / "aws.sock").exists()
    wait(lambda: site.status("two")["turn"] == "writes", "it does not take over")
    first = site.next_hops()
    site.cloud.stop(first["a"])
    site.settled(both(first | {"a": other(first["a"])}))
    assert two.poll() is None


def test_while_romanad_is_away_routes_fail_over_and_nothing_comes_or_goes(tmp_path: Path, aws: Cloud) -> None:
    with romanad(tmp_path) as server:
        site = Site(tmp_path, aws, server)
        site.build()
        first = running(site)
    try:
        wait(lambda: (site.status() or {}).get("turn") == "fails over only", "it has not noticed", seconds=30)
        site.cloud.stop(first["a"])
        site.settled(both(first | {"a": other(first["a"])}))
        assert "going on with the plan of revision" in site.status(expect=1)["problems"][0]
        with romanad(tmp_path):
            wait(lambda: site.status()["turn"] == "writes", "it does not go on", seconds=30)
            wait(lambda: site.status()["problems"] == [], "a problem is left")
    finally:
        site.close()


def test_a_host_apart_from_its_groups_subnet_has_its_own_routes(site: Site) -> None:
    site.build(zones=("a",))
    site.cloud.subnet("public", "vpc", "10.0.9.0/24")
    site.host("a9", "public", "10.0.9.10", {"zone": "a"})
    site.claim("a9")
    spans = site.spans("a9")
    assert len(spans) == 2
    site.aws("sync")
    routes = site.cloud.routes("main")
    assert routes.keys() == {GROUPS4["a"], GROUPS6["a"], *spans}
    assert {routes[span] for span in spans} == {"a9"}


def test_romana_v2s_plan_for_kops_has_a_route_for_each_group_that_has_hosts(site: Site) -> None:
    site.call("PUT", "/v1/topology", json.loads((EXAMPLES / "v2-kops-aws.json").read_text()))
    site.cloud.vpc("vpc", "172.20.0.0/16")
    for number, zone in enumerate(("eu-north-1a", "eu-north-1b", "eu-north-1c"), 1):
        site.cloud.subnet(zone, "vpc", f"172.20.{number}.0/24")
        for host in range(1, 4):
            labels = {f"{KUBERNETES}/region": "eu-north-1", f"{KUBERNETES}/zone": zone}
            site.host(f"{zone}-{host}", zone, f"172.20.{number}.{host + 9}", labels)
    site.table("main")
    site.aws("sync")
    planned = {one["prefix"]: set(one["hosts"]) for one in Romana(site.server).json("route", "vpc")}
    routes = site.cloud.routes("main")
    assert routes.keys() == planned.keys()
    assert len(routes) == 9  # v2 spreads hosts over the eight groups of a zone
    assert all(routes[prefix] in hosts for prefix, hosts in planned.items())


def test_romana_v2s_plan_for_two_vpcs_gives_each_table_the_routes_of_its_own(site: Site) -> None:
    site.call("PUT", "/v1/topology", json.loads((EXAMPLES / "v2-vpc-two-zones.json").read_text()))
    for vpc, octet in (("vpc-a", 1), ("vpc-b", 2)):
        site.cloud.vpc(vpc, f"172.{octet + 15}.0.0/16")
        for zone in ("1", "2"):
            site.cloud.subnet(f"{vpc}-{zone}", vpc, f"172.{octet + 15}.{zone}.0/24")
            site.host(f"{vpc}-{zone}", f"{vpc}-{zone}", f"172.{octet + 15}.{zone}.10", {"vpc": vpc, "zone": zone})
        site.table(f"table-{vpc}", vpc)
    site.aws("sync")
    assert site.cloud.routes("table-vpc-a") == {"10.32.0.0/13": "vpc-a-1", "10.40.0.0/13": "vpc-a-2"}
    assert site.cloud.routes("table-vpc-b") == {"10.48.0.0/13": "vpc-b-1", "10.56.0.0/13": "vpc-b-2"}


def test_hosts_are_found_by_label_and_one_that_is_not_found_leaves_its_route_alone(site: Site) -> None:
    site.build(hosts=1)
    site.cloud.instance("x", "subnet-a", "10.0.1.99")
    site.hello("a1", "192.0.2.1", {"zone": "a", "romana.io/instance": site.cloud.ids["x"]})
    site.call("PUT", "/v1/hosts/a1", {"labels": {"zone": "a", "romana.io/instance": site.cloud.ids["x"]}})
    site.aws("sync")
    assert site.cloud.routes("main")[GROUPS4["a"]] == "x"
    site.call("PUT", "/v1/hosts/a1", {"addresses": ["192.0.2.1"], "labels": {"zone": "a"}})
    done = site.aws("sync", expect=1)
    assert "no instance of the tables' VPCs has an address of host a1 (192.0.2.1)" in done.stderr
    assert site.cloud.routes("main")[GROUPS4["a"]] == "x"
    assert len(site.cloud.routes("main")) == 6


def test_a_plan_without_groups_that_have_hosts_is_said_and_leaves_everything(site: Site) -> None:
    site.cloud.vpc("vpc", "10.0.0.0/16")
    site.table("main")
    done = site.aws("sync", expect=1)
    assert "the address plan has no group with hosts, so there is nothing to route" in done.stderr


def test_endpoints_in_the_vpcs_own_range_are_refused(site: Site) -> None:
    ours = '"10.0.0.0/15", "reserved": ["10.0.0.0/20"]'  # where the hosts have their own addresses
    plan = json.loads(json.dumps(PLAN).replace('"100.96.0.0/11"', ours))
    site.build(plan=plan)
    done = site.aws("sync", expect=1)
    assert "overlaps with 10.0.0.0/16, which is the VPC's own" in done.stderr
    assert site.cloud.routes("main").keys() == {"10.1.0.0/17", *GROUPS6.values()}


def test_wrong_input_has_its_sentence_and_changes_nothing(site: Site) -> None:
    site.build()
    site.aws("sync")
    before = site.cloud.routes("main")
    gate = site.cloud.gate
    gate.rule("DescribeRouteTables", code="AuthFailure", times=1)
    assert "credentials: AWS refuses them: DescribeRouteTables" in site.aws("sync", expect=2).stderr
    gate.rule("DescribeInstances", code="UnauthorizedOperation", times=1)
    assert "ec2:DescribeInstances: these credentials may not do it" in site.aws("sync", expect=2).stderr
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert "credentials: there are none" in site.aws("sync", expect=2, **keys).stderr
    away = {"ROMANA_AWS_ENDPOINT": "http://127.0.0.1:9", "ROMANA_AWS_REGION": "eu-nowhere-1"}
    assert "boto3 knows no region 'eu-nowhere-1': is aws.region right?" in site.aws("sync", expect=1, **away).stderr
    assert "'no region' is no region" in site.aws("sync", expect=2, ROMANA_AWS_REGION="no region").stderr
    gate.rule("DescribeInstanceStatus", code="UnauthorizedOperation", times=1)
    assert "ec2:DescribeInstanceStatus: these credentials may not" in site.aws("sync", expect=1).stderr
    site.settings["romanad"] = {"url": f"unix://{site.directory}/nobody.sock"}
    assert "does not answer" in site.aws("sync", expect=1).stderr
    del site.settings["romanad"]
    site.settings["aws"]["tables"].append("rtb-00000000000000000")
    assert "there is no route table rtb-00000000000000000" in site.aws("sync", expect=1).stderr
    del site.settings["aws"]["tables"][:]
    site.settings["aws"]["tables"].append("rtb-00000000000000000")
    done = site.aws("sync", expect=1)
    assert "nothing is written" in done.stderr
    assert "has 6 routes of ours, but is none of those that the configuration names" in done.stderr
    assert site.cloud.routes("main") == before


def test_a_configuration_is_refused_with_every_fault(site: Site) -> None:
    site.settings["aws"] |= {"tables": ["main"], "routes_per_table": 0, "colour": 1}
    done = site.aws("check-config", expect=2)
    assert "aws.colour: unknown" in done.stderr
    del site.settings["aws"]["colour"]
    site.settings["health"]["probe_port"] = 70000
    told = site.aws("check-config", expect=2).stderr
    assert "aws.tables[0]: 'main' is not the id of a route table" in told
    assert "aws.routes_per_table: must be more than 0" in told
    assert "health.probe_port: 70000 is no TCP port" in told
    site.settings["aws"] |= {"tables": ["rtb-1"], "routes_per_table": 100}
    site.settings["health"]["probe_port"] = 22
    assert "is right" in site.aws("check-config").stdout


def test_the_program_goes_on_through_wrong_credentials_and_tells_it_in_its_status(site: Site) -> None:
    site.build()
    first = running(site)
    site.cloud.gate.rule("DescribeRouteTables", code="ExpiredToken", times=2)
    wait(lambda: "ExpiredToken" in site.status()["problem"], "it does not say so")
    assert site.cloud.routes("main") == both(first)
    wait(lambda: site.status()["problem"] == "", "it does not go on", seconds=30)
    shown = site.aws("status").stdout
    assert "writes" in shown
    assert first["a"] in shown
    assert "4/50" in shown
