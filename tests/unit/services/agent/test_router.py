"""A router's agent over fakes, with the real control plane in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from romana.codec.text import parse_prefix
from romana.core.diff import Changes
from romana.model.daemon import DaemonReport, DaemonState, SessionState
from romana.model.errors import Unavailable
from romana.model.route import Mismatch, Route, RouteKind, Turns
from romana.model.view import Hello, RouterView
from romana.services.agent.router import HEARING, RouterAgent, RouterWorld
from romana.services.agent.work import Workers
from romana.services.control.peering import peerings
from romana.services.control.plan import PlanVerbs
from romana.services.control.routes import route_check
from tests.fakes.control import FakeControlPlane
from tests.fakes.kernel import FakeKernel, FakeTurnGuard
from tests.fakes.route_daemon import FakeRouteDaemon
from tests.unit.services.agent.site import PLAN, here

HOSTS = [{"name": f"h{number}", "addresses": [f"192.0.2.{number}", f"2001:db8::{number}"]} for number in (1, 2)]
TOR = {"name": "tor", "asn": 65001, "addresses": ["192.0.2.254", "2001:db8::254"]}


def plan(**rack: Any) -> dict[str, Any]:
    group = {"name": "r1", "hosts": HOSTS, "asn": 65011, "routers": [TOR], **rack}
    topology = {"name": "dc", "networks": ["pods4", "pods6"], "groups": [group, {"name": "r2"}]}
    return {**PLAN, "topologies": [topology], "routing": {"protocol": "ebgp"}}


class Memory:
    def __init__(self) -> None:
        self.kept: RouterView | None = None
        self.full = False

    def load(self) -> RouterView | None:
        return self.kept

    def save(self, view: RouterView) -> None:
        if self.full:
            raise Unavailable("the disk is full")
        self.kept = view


class Rack:
    """A router whose kernel, daemon and disk stay while agents come and go."""

    def __init__(self) -> None:
        self.control = FakeControlPlane()
        self.kernel = FakeKernel()
        self.daemon = FakeRouteDaemon()
        self.memory = Memory()
        self.slept: list[float] = []
        self.agent: RouterAgent
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        world = RouterWorld(
            routes=self.kernel.ports.routes,
            turns=FakeTurnGuard(self.kernel),
            daemon=self.daemon,
            control=self.control,
            memory=self.memory,
        )
        self.agent = RouterAgent("tor", world, Workers(here, here), every=60.0, sleep=self.sleep)
        self._running = asyncio.create_task(self.agent.run())

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.001)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)

    async def join(self, host: str) -> None:
        await self.control._verbs.hello(Hello(host=host, instance=f"i-{host}"))


def run(test: Callable[[Rack], Awaitable[None]], document: dict[str, Any] | None = None) -> None:
    async def body() -> None:
        rack = Rack()
        await rack.control.open(document or plan(), {})
        try:
            await rack.start()
            async with asyncio.timeout(20):
                await test(rack)
        finally:
            await rack.stop()
            rack.control.close()

    asyncio.run(body())


def names(rack: Rack) -> list[str]:
    assert rack.daemon.plan is not None
    assert rack.daemon.plan.speaker is not None
    return [one.name for one in rack.daemon.plan.speaker.sessions]


def test_its_daemon_does_what_the_plan_says_and_follows_it() -> None:
    async def test(rack: Rack) -> None:
        await rack.until(lambda: rack.agent.status().ready)
        assert names(rack) == []
        await rack.join("h1")
        await rack.until(
            lambda: rack.daemon.plan is not None and bool(rack.daemon.plan.speaker) and len(names(rack)) == 2
        )
        assert names(rack) == ["down_h1_4", "down_h1_6"]
        status = rack.agent.status()
        assert (status.connected, status.problems) == (True, {})

    run(test)


def test_without_a_protocol_it_discards_by_itself_what_nobody_has() -> None:
    flat = {**PLAN["topologies"][0], "groups": [], "hosts": HOSTS, "layer2": True, "routers": [{**TOR, "asn": 0}]}

    async def test(rack: Rack) -> None:
        await rack.until(lambda: rack.agent.status().ready)
        whole = {parse_prefix("10.1.0.0/24"), parse_prefix("fd00:1::/112")}
        assert {one for one, route in rack.kernel.routing.items() if route.kind is RouteKind.BLACKHOLE} == whole

    run(test, {**PLAN, "topologies": [flat]})


def test_it_reaches_hosts_that_run_no_daemon_by_their_addresses() -> None:
    async def test(rack: Rack) -> None:
        rack.kernel.networks |= dict.fromkeys(map(parse_prefix, ("192.0.2.0/24", "2001:db8::/64")), frozenset({"eth0"}))
        await rack.join("h1")
        await rack.until(lambda: len(rack.kernel.routing) == 2)
        hops = {hop.text for route in rack.kernel.routing.values() for hop in route.next_hops}
        assert hops == {"192.0.2.1", "2001:db8::1"}
        await rack.control.hosts.lost("h1")
        await rack.until(lambda: not rack.kernel.routing)

    run(test, plan(layer2=True))


def test_it_keeps_packets_from_going_round_and_routes_also_where_it_cannot() -> None:
    document = plan()
    spines = [{"name": f"s{one}", "asn": 65000, "addresses": [f"192.0.2.{240 + one}"]} for one in (1, 2)]
    document["topologies"][0]["routers"] = spines
    pairs = [[f"203.0.113.{2 * one}", f"203.0.113.{2 * one + 1}"] for one in (1, 2)]
    document["routing"]["links"] = [
        {"ends": [f"s{one}", "tor"], "addresses": [pair]} for one, pair in zip((1, 2), pairs, strict=True)
    ]

    async def test(rack: Rack) -> None:
        rack.kernel.broken.add("turns")
        await rack.join("h1")
        await rack.until(lambda: rack.agent.status().ready and "down_h1_4" in names(rack))
        assert rack.agent.status().problems == {"turns": "turns: no buffer space available"}
        rack.kernel.networks |= {
            parse_prefix(f"{pair[0]}/31"): frozenset({f"swp{one}"}) for one, pair in enumerate(pairs)
        }
        rack.kernel.broken.clear()
        rack.agent.disturbed()
        await rack.until(lambda: rack.kernel.turns is not None)
        assert rack.kernel.turns == Turns(
            back=(("swp0",), ("swp1",)), inside=(parse_prefix("10.1.0.0/24"), parse_prefix("fd00:1::/112"))
        )
        await rack.until(lambda: rack.agent.status().problems == {})
        assert rack.agent.status().turned == 0
        rack.kernel.turned = 7
        rack.agent.disturbed()
        await rack.until(lambda: rack.agent.status().turned == 7)

    run(test, document)


def test_it_goes_on_with_what_it_kept_while_romanad_is_away() -> None:
    async def test(rack: Rack) -> None:
        await rack.join("h1")
        await rack.until(lambda: rack.memory.kept is not None and rack.agent.status().ready and len(names(rack)) == 2)
        await rack.stop()
        rack.control.leave()
        rack.daemon.plan = None
        stray = parse_prefix("10.9.0.0/24")
        rack.kernel.ports.routes.apply(Changes({stray: Route(prefix=stray, kind=RouteKind.BLACKHOLE)}, {}, {}))
        await rack.start()
        await rack.until(lambda: rack.agent.status().ready)
        assert names(rack) == ["down_h1_4", "down_h1_6"]
        assert rack.agent.status().problems == {"romanad": "romanad does not answer"}
        assert stray in rack.kernel.routing  # nothing goes before romanad was heard
        rack.control.come_back()
        await rack.until(lambda: stray not in rack.kernel.routing)

    run(test)


def test_a_daemon_that_refuses_keeps_what_it_has_and_its_words_are_shown() -> None:
    async def test(rack: Rack) -> None:
        await rack.until(lambda: rack.agent.status().ready)
        before = rack.daemon.plan
        rack.daemon.refusal = "line 7: syntax error"
        await rack.join("h1")
        await rack.until(lambda: not rack.agent.status().ready)
        assert rack.agent.status().problems["round"] == "BIRD refuses: line 7: syntax error"
        assert rack.daemon.plan is before
        await rack.until(
            lambda: (bool(rack.control.reports) and "line 7" in rack.control.reports[-1].problem) or tick(rack)
        )
        rack.daemon.refusal = ""
        await rack.until(lambda: rack.agent.status().ready)

    def tick(rack: Rack) -> bool:
        rack.agent.reporter.bell.ring()
        return False

    run(test)


def test_a_password_file_that_changed_is_told_to_the_daemon_without_a_full_round() -> None:
    async def test(rack: Rack) -> None:
        await rack.until(lambda: rack.agent.status().ready)
        rack.daemon.stale = True
        rack.agent.reporter.bell.ring()
        await rack.until(lambda: not rack.daemon.stale)

    run(test)


def test_a_check_hears_of_routers_too() -> None:
    async def test(rack: Rack) -> None:
        rack.control.take_reports = True
        await rack.until(lambda: rack.agent.status().ready)
        state = rack.control.core.state
        wrong = parse_prefix("10.1.0.64/26")
        rack.kernel.others = {
            route.prefix: Route(
                prefix=route.prefix, kind=RouteKind.BLACKHOLE if route.reach == "discard" else RouteKind.UNICAST
            )
            for route in state.routes.device_plan("tor").routes
        }
        gone = min(rack.kernel.others)
        del rack.kernel.others[gone]
        rack.kernel.others[wrong] = Route(prefix=wrong)
        rack.daemon.sessions = (SessionState(name="up_x", protocol="bgp", up=False, state="Idle", sentence="because"),)
        number, asked, heard = await rack.control.auditor.ask(0)
        await rack.until(lambda: "tor" in state.peerings and state.peerings["tor"].audit == number)
        found = route_check(state, asked, heard, number)
        kinds = {one.kind: one for one in found.differences}
        assert set(kinds) == {Mismatch.SESSION_DOWN, Mismatch.NOT_LEARNED, Mismatch.STRAY_ROUTE}
        assert kinds[Mismatch.SESSION_DOWN].sentence == "up_x is Idle: because"
        assert kinds[Mismatch.NOT_LEARNED].prefix == gone
        assert kinds[Mismatch.NOT_LEARNED].sentence.endswith("which comes from /; up_x is down")
        assert kinds[Mismatch.STRAY_ROUTE].prefix == wrong
        assert found.observed == 1

    run(test)


def test_what_is_known_of_a_router_goes_with_the_router() -> None:
    async def test(rack: Rack) -> None:
        rack.control.take_reports = True
        state = rack.control.core.state
        await rack.until(lambda: "tor" in state.peerings)
        await rack.join("h1")
        assert [one.device for one in peerings(state)] == ["tor", "h1"]
        assert peerings(state, "h1")[0].problem == "its agent has not said yet how it is"
        await rack.control.report(DaemonReport(device="h1", state=DaemonState(daemon="BIRD")))
        silent = {one.device: one.silent for one in peerings(state, is_connected=lambda _: False)}
        assert silent == {"tor": False, "h1": True}
        assert not peerings(state, "h1")[0].silent
        await PlanVerbs(rack.control.core).set_topology(plan(routers=[{**TOR, "name": "other"}]))
        await rack.until(
            lambda: "names no router 'tor'; it names other" in rack.agent.status().problems.get("romanad", "")
        )
        assert [one.device for one in peerings(state)] == ["other", "h1"]

    run(test)


def test_a_full_disk_is_said_and_stops_nothing() -> None:
    async def test(rack: Rack) -> None:
        rack.memory.full = True
        await rack.until(lambda: rack.agent.status().problems.get("romanad") == "the disk is full")
        await rack.until(lambda: rack.agent.status().ready)

    run(test)


@pytest.mark.parametrize(
    ("change", "up", "waits"),
    [
        ({"routers": [{**TOR, "asn": 65002}]}, "down_h1_4", True),
        ({"asn": 65012}, "down_h2_6", True),
        ({"asn": 65012}, "down_h2_6_1", True),
        ({"asn": 65012}, "", False),
        ({"asn": 65012}, "up_spine_4", False),
        ({"underlay": ["192.0.2.0/24"]}, "down_h1_4", False),
    ],
    ids=[
        "its AS number",
        "hosts' AS number",
        "in a range",
        "none is up",
        "another one",
        "what is announced",
    ],
)
def test_a_session_that_is_up_is_closed_when_everybody_could_hear_why(
    change: dict[str, Any], up: str, waits: bool
) -> None:
    async def test(rack: Rack) -> None:
        await rack.join("h1")
        await rack.until(lambda: rack.daemon.plan is not None and len(names(rack)) == 2)
        await rack.join("h2")
        await rack.until(lambda: len(names(rack)) == 4)
        assert HEARING not in rack.slept
        before = rack.daemon.plan
        rack.daemon.sessions = (SessionState(name=up, protocol="bgp", up=bool(up), state="Established"),)
        await PlanVerbs(rack.control.core).set_topology(plan(**change))
        await rack.until(lambda: rack.daemon.plan != before)
        assert (HEARING in rack.slept) is waits

    run(test)


def test_a_link_of_ospf_that_goes_is_let_go_when_what_was_flooded_is_forgotten() -> None:
    def ospf(*hosts: str) -> dict[str, Any]:
        tor = {"name": "tor", "addresses": TOR["addresses"]}
        links = [{"ends": ["tor", host], "interfaces": [f"to-{host}", "to-tor"]} for host in hosts]
        rack = {"name": "r1", "hosts": HOSTS, "area": 1, "routers": [tor]}
        topology = {"name": "dc", "networks": ["pods4", "pods6"], "groups": [rack, {"name": "r2"}]}
        return {**PLAN, "topologies": [topology], "routing": {"protocol": "ospf", "links": links}}

    async def test(rack: Rack) -> None:
        await rack.until(lambda: rack.agent.status().ready)
        assert HEARING not in rack.slept
        before = rack.daemon.plan
        await PlanVerbs(rack.control.core).set_topology(ospf("h1"))
        await rack.until(lambda: rack.daemon.plan != before)
        assert HEARING in rack.slept

    run(test, ospf("h1", "h2"))


def test_a_check_hears_of_a_router_whose_daemon_refuses() -> None:
    async def test(rack: Rack) -> None:
        rack.control.take_reports = True
        await rack.until(lambda: rack.agent.status().ready)
        rack.daemon.refusal = "line 7: syntax error"
        await rack.join("h1")
        await rack.until(lambda: not rack.agent.status().ready)
        state = rack.control.core.state
        number, asked, heard = await rack.control.auditor.ask(0)
        await rack.until(lambda: "tor" in state.peerings and state.peerings["tor"].audit == number)
        found = route_check(state, asked, heard, number)
        assert "BIRD refuses: line 7: syntax error" in [one.sentence for one in found.differences]
        assert found.observed == 1

    run(test)
