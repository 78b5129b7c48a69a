"""The example's fabric, eBGP with a spine and two racks, when something of it breaks, under pings between all hosts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from romana.apps.lab import api
from romana.apps.lab.nodes import end
from romana.apps.lab.waiting import wait
from tests.lab.conftest import Centre
from tests.lab.sites import Site, having, nobody, site, suffered
from tests.probes.pings import Pair


@pytest.fixture
def fabric(centre: Centre) -> Iterator[Site]:
    """One endpoint a host, all of one tenant."""
    pods = {pod.endpoint.host: pod for pod in centre.pods if pod.endpoint.tenant == "blue"}
    found = Site(centre.lab, centre.record, list(pods.values()))
    yield found
    centre.record = found.record
    found.until_checked()


def test_a_link_has_another_index_at_each_end(fabric: Site) -> None:
    """Else the kernel tells of a lost carrier late."""
    for node in ("spine", "tor1", "h11"):
        links = [one for one in json.loads(fabric.run(node, "ip", "-json", "link")) if one["ifname"].startswith("to-")]
        assert links
        assert [one for one in links if one["ifindex"] == one["link_index"]] == []


def test_a_cut_link_stops_its_host_alone_and_comes_back(fabric: Site) -> None:
    with fabric.pings() as pings:
        fabric.cut("tor1", "h12")
        time.sleep(1)
        fabric.mend("tor1", "h12")
        wait("routes", fabric.differences, seconds=20)
        result = pings.lap()
        time.sleep(0.5)
        assert pings.lap().lossy() == []
    assert suffered("eBGP: a host's link cut for 1 s", result, having("h12")) > 0.9


@pytest.mark.parametrize("node", ["tor1", "spine", "h21"])
def test_a_killed_bird_that_comes_back_loses_no_packet(fabric: Site, node: str) -> None:
    with fabric.pings() as pings:
        fabric.kill(node, "bird")
        time.sleep(0.5)
        fabric.restart_bird(node)
        fabric.until_checked()
        time.sleep(1)
        suffered(f"eBGP: BIRD on {node} killed, back after 0.5 s", pings.lap())


def test_routers_without_their_agent_and_romanad_go_on(fabric: Site) -> None:
    with fabric.pings() as pings:
        for node in ("tor1", "spine"):
            fabric.kill(node, "romana-agent")
        end([fabric.record.programs["ctl/romanad"]], signal.SIGKILL)
        fabric.start_agent("tor1")  # with what it kept
        time.sleep(0.5)
        suffered("eBGP: romanad away, routers' agents killed, one back", pings.lap())
        fabric.start_romanad()
        fabric.start_agent("spine")
        suffered("eBGP: romanad and the agents back", pings.lap())


def test_a_session_that_is_down_is_said_with_its_reason(fabric: Site) -> None:
    fabric.cut("tor2", "h22")
    try:

        def missing() -> list[str]:
            sentences = [one["sentence"] for one in fabric.checked(3) if one["kind"] == "session-down"]
            return [] if any("down_h22_4" in one for one in sentences) else sentences or ["nothing is said"]

        wait("a session that is down", missing, seconds=20)
    finally:
        fabric.mend("tor2", "h22")


def test_a_plan_that_closes_sessions_is_heard_by_everybody_before_it_closes_them(fabric: Site) -> None:
    """All devices reach romanad through the sessions that get a password here, and with another AS number."""
    routers = [node.name for node in fabric.fabric.roles("spine", "router")]
    for node in (*routers, *fabric.lab.file.hosts):
        fabric.run(node, "sh", "-c", "mkdir -p /etc/romana; umask 077; echo secret > /etc/romana/fabric.password")
    before: Any = fabric.lab.topologies[-1][1]
    after = json.loads(json.dumps(before))
    after["routing"]["sessions"] = {"password_file": "/etc/romana/fabric.password"}
    after["topologies"][0]["groups"][0]["routers"][0]["asn"] += 70

    def unsecured() -> list[str]:
        return [
            name
            for name in (*routers, *fabric.lab.file.hosts)
            if 'password "secret"' not in fabric.run(name, "cat", "/etc/bird/romana.conf")
        ]

    try:
        api.put(fabric.record, "/v1/topology", after)
        wait("devices with a password", unsecured, seconds=20)
        fabric.until_checked()
    finally:
        api.put(fabric.record, "/v1/topology", before)
        wait("devices without one", lambda: [one for one in routers if one not in unsecured()], seconds=20)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two spines, and a rack with two routers beside one with one: every aggregate but a rack's has two originators."""
    racks = [
        {"name": "rack1", "routers": ["t1a", "t1b"], "hosts": ["h11", "h12", "h13"]},
        {"name": "rack2", "router": "t2", "hosts": ["h21"]},
    ]
    with site(tmp_path_factory.mktemp("pair"), "hp", racks, spines=["s1", "s2"], spare=2) as found:
        yield found


def test_equal_ways_are_all_used(pair: Site) -> None:
    for node, prefix in (("h11", "10.112.0.0/12"), ("h11", "fd00:10:110::/44"), ("t2", "10.112.0.0/12")):
        shown = pair.run(node, "ip", "-6" if ":" in prefix else "-4", "route", "show", prefix)
        assert shown.count("nexthop") == 2, shown


@pytest.mark.parametrize(
    ("one", "other", "crosses"),
    [("t1a", "h11", having("h11")), ("s1", "t1a", having("h21")), ("t1a", "t1b", nobody)],
    ids=["downlink", "uplink", "between"],
)
def test_no_single_link_of_several_ways_stops_anybody(
    pair: Site, one: str, other: str, crosses: Callable[[Pair], bool]
) -> None:
    """Of two routers that originate the rack's aggregate one loses its link to a host: RFC 7938, section 8."""
    with pair.pings() as pings:
        time.sleep(0.3)
        pair.cut(one, other)
        time.sleep(2)
        during = pings.lap()
        time.sleep(1)
        after = pings.lap()
        pair.mend(one, other)
        pair.until_checked()
        mended = pings.lap()
    assert suffered(f"two ways: link {one} - {other} cut", during, crosses) < 1.0
    suffered(f"two ways: link {one} - {other}, after it", after)
    assert suffered(f"two ways: link {one} - {other} mended", mended, crosses) < 1.0


def away(found: Site) -> set[tuple[str, str]]:
    """What `romana route exceptions` lists: prefixes with their hosts."""
    return {(one["prefix"], one["host"]) for one in api.get(found.record, "/v1/routes/exceptions")}


def test_a_host_moves_to_another_rack_with_its_spans_and_back(pair: Site) -> None:
    spans = {(one["cidr"], "h13") for one in api.items(pair.record, "/v1/spans") if one["host"] == "h13"}
    for rack, exceptions in (("rack2", spans), ("rack1", set[tuple[str, str]]())):
        with pair.pings() as pings:
            pair.move("h13", rack)
            pair.until_checked()
            moving = [one.text for one in pair.pods["h13"].addresses]
            assert suffered(f"two ways: h13 moves to {rack}", pings.lap(), having("h13"), moving) < 10
            time.sleep(0.5)
            assert pings.lap().lossy() == []
        assert away(pair) == exceptions


def test_a_rack_joins_and_nobody_else_loses_a_packet(pair: Site) -> None:
    with pair.pings() as pings:
        pair.grow({"name": "rack3", "router": "t3", "hosts": ["h31"]})
        pair.until_checked()
        suffered("two ways: a rack joins", pings.lap())
        pings.again(pair.places())
        time.sleep(1)
        result = pings.lap()
    assert {"h31"} < {pair.source for pair in result.pairs}
    assert result.lossy() == []


def test_a_rack_router_that_dies_is_not_missed(pair: Site) -> None:
    """Its links go with it."""
    with pair.pings() as pings:
        end([pair.record.nodes["t1a"]])
        time.sleep(2)
        during = pings.lap()
        time.sleep(1)
        suffered("two ways: a rack router died, after it", pings.lap())
    assert suffered("two ways: a rack router died", during, having("h11", "h12", "h13")) < 1.0
