"""Rounds over route tables in a cloud in memory: what is written, in which order, and what a failure leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.codec.text import parse_address, parse_prefix
from romana.core.routing.vpc.decision import VpcRules
from romana.core.routing.vpc.health import HealthTimes
from romana.model.address import Prefix
from romana.model.errors import Exhausted, Invalid, RomanaError, Unavailable
from romana.model.vpc import Instance, Interface, RouteTable, TableRoute, VpcHost, VpcPlan, VpcRoute
from romana.services.vpc.turn import Turn, Word
from romana.services.vpc.writer import Outcome, TableChoice, Writer
from tests.fakes.kernel import FakeClock
from tests.fakes.vpcs import AWAY, FakeVpcControl, FakeVpcs

GROUPS = {name: parse_prefix(f"100.{96 + 8 * place}.0.0/13") for place, name in enumerate("abcd")}
FOREIGN = {
    parse_prefix("10.0.0.0/16"): TableRoute(target="local", local=True),
    parse_prefix("0.0.0.0/0"): TableRoute(target="igw-1"),
}


HOSTS = [f"{letter}{number}" for letter in "abcd" for number in (1, 2)]


class Killed(BaseException):
    """The process ends here."""


class World:
    """Two tables, hosts `a1`, `a2`, ... in groups by letter; everything may change between rounds."""

    def __init__(self, hosts: str = "a1 a2 b1 b2") -> None:
        self.vpcs = FakeVpcs()
        self.control = FakeVpcControl()
        self.clock = FakeClock()
        for id_ in ("rtb-1", "rtb-2"):
            self.vpcs.put(RouteTable(id=id_, vpc="vpc-1", routes=dict(FOREIGN)))
        self.place(*hosts.split())
        self.start()

    def place(self, *hosts: str) -> None:
        """These hosts are there, and no others."""
        known = self.vpcs.machines
        self.vpcs.machines = {f"i-{name}": known.get(f"i-{name}", machine(name)) for name in hosts}
        self.route({letter: [name for name in hosts if name[0] == letter] for letter in {name[0] for name in hosts}})

    def route(self, members: dict[str, list[str]]) -> None:
        routes = [
            VpcRoute(prefix=GROUPS[letter], hosts=tuple(sorted(names)), group=f"s:/{letter}")
            for letter, names in sorted(members.items())
            if names
        ]
        hosts = [
            VpcHost(name=one.id[2:], addresses=one.interfaces[0].addresses, silent=0)
            for one in self.vpcs.machines.values()
        ]
        before = self.control.plan
        self.control.plan = VpcPlan(
            revision=before.revision + 1, routes=tuple(routes), hosts=tuple(hosts), owned=before.owned
        )

    def start(self, *, quota: int = 50) -> None:
        """The program begins anew, knowing nothing."""
        self.turn = Turn(self.control, "one")
        self.writer = Writer(
            self.control,
            self.vpcs,
            self.clock,
            at_once,
            turn=self.turn,
            choice=TableChoice(ids=("rtb-1", "rtb-2")),
            rules=VpcRules(
                label="romana.io/instance", quota=quota, times=HealthTimes(fail_over=0, fail_back=30, silent=60)
            ),
        )

    async def round(self, **more: Any) -> Outcome:
        await self.turn.renew()
        return await self.writer.round(**more)

    def state(self, name: str, state: str) -> None:
        self.vpcs.machines[f"i-{name}"] = msgspec.structs.replace(self.vpcs.machines[f"i-{name}"], state=state)

    def routes(self, table: str = "rtb-1") -> dict[str, str]:
        """Our routes: group -> host."""
        names = {prefix: letter for letter, prefix in GROUPS.items()}
        found = self.vpcs.known[table].routes
        assert FOREIGN.items() <= found.items()
        return {names[prefix]: route.target.removeprefix("eni-") for prefix, route in found.items() if prefix in names}

    def recorded(self, table: str = "rtb-1") -> set[Prefix]:
        return set(self.control.plan.owned.get(table, ()))


def machine(name: str) -> Instance:
    card = Interface(
        id=f"eni-{name}", subnet=f"subnet-{name[0]}", addresses=(parse_address(f"10.0.0.{HOSTS.index(name)}"),)
    )
    return Instance(id=f"i-{name}", vpc="vpc-1", state="running", interfaces=(card,))


async def at_once(function: Callable[..., Any], *arguments: object) -> Any:
    return function(*arguments)


def run(test: Callable[[World], Any], *hosts: str) -> None:
    async def body() -> None:
        await test(World(*hosts))

    asyncio.run(body())


def failing(name: str, error: Exception, *, times: int = 1000) -> Callable[[str, tuple[object, ...]], None]:
    left = [times]

    def before(called: str, _arguments: tuple[object, ...]) -> None:
        if called == name and left[0]:
            left[0] -= 1
            raise error

    return before


def test_a_round_makes_the_routes_writes_them_down_first_and_the_next_one_writes_nothing() -> None:
    async def test(world: World) -> None:
        order: list[str] = []
        world.vpcs.before = lambda name, _: order.append(name)
        world.control.before = lambda: order.append("record")
        outcome = await world.round()
        assert (outcome.changed, outcome.problems) == (8, ())
        assert order == ["stop_checking"] * 4 + (["record"] + ["add_route"] * 2) * 2
        assert world.routes().keys() == world.routes("rtb-2").keys() == {"a", "b"}
        assert world.recorded() == {GROUPS["a"], GROUPS["b"]}
        assert (await world.round()).changed == 0
        assert len(order) == 10

    run(test)


def test_a_program_whose_turn_it_is_not_writes_nothing_and_one_that_loses_it_stops() -> None:
    async def test(world: World) -> None:
        world.control.holders["aws"] = "two"
        outcome = await world.round()
        assert (outcome.changed, world.routes()) == (0, {})
        assert world.turn.word is Word.STANDS_BY
        del world.control.holders["aws"]

        def lose(name: str, _: tuple[object, ...]) -> None:
            if name == "add_route":
                world.turn.word = Word.STANDS_BY

        world.vpcs.before = lose
        with pytest.raises(Unavailable, match="not this program's turn"):
            await world.round()
        assert len(world.routes()) + len(world.routes("rtb-2")) == 1

    run(test)


def test_without_the_control_plane_routes_fail_over_and_none_comes_or_goes() -> None:
    async def test(world: World) -> None:
        await world.round()
        first = world.routes()
        world.control.away = AWAY
        outcome = await world.round()
        assert world.turn.word is Word.FAILS_OVER_ONLY
        assert "going on with the plan of revision" in outcome.problems[0]
        world.state(first["a"], "stopped")
        await world.round()
        assert world.routes()["a"] != first["a"]
        world.place("c1")
        assert (await world.round()).changed == 0

    run(test)


def test_a_program_that_begins_while_the_control_plane_is_away_writes_nothing() -> None:
    async def test(world: World) -> None:
        world.control.away = AWAY
        with pytest.raises(Unavailable):
            await world.round()
        assert world.turn.word is Word.STANDS_BY
        assert world.routes() == {}

    run(test)


def test_what_is_ours_is_known_to_the_next_round_when_the_control_plane_goes_away_after_it() -> None:
    async def test(world: World) -> None:
        await world.round()
        world.control.away = AWAY
        world.state(world.routes()["a"], "stopped")
        outcome = await world.round()
        assert outcome.changed > 0
        assert not any("not ours" in problem for problem in outcome.problems)

    run(test)


def test_a_cloud_that_asks_for_fewer_calls_ends_the_round_and_other_refusals_do_not() -> None:
    async def test(world: World) -> None:
        calls: list[str] = []
        world.vpcs.before = failing("add_route", Unavailable("AWS asks for fewer calls"))
        with pytest.raises(Unavailable):
            await world.round()
        world.vpcs.before = failing("add_route", Exhausted("full"), times=1)
        outcome = await world.round()
        assert [problem for problem in outcome.problems if "full" in problem] == list(outcome.problems)
        assert len(world.routes()) + len(world.routes("rtb-2")) == 3
        world.vpcs.before = lambda name, _: calls.append(name)
        outcome = await world.round()
        assert (calls, len(outcome.problems)) == ([], 1)  # it waits before it tries again
        world.clock.now += 11
        assert (await world.round()).problems == ()
        assert calls == ["add_route"]

    run(test)


def test_a_route_that_could_not_be_added_keeps_the_one_that_it_would_replace() -> None:
    async def test(world: World) -> None:
        await world.round()
        whole = parse_prefix("100.96.0.0/12")
        plan = world.control.plan
        hosts = tuple(name for route in plan.routes for name in route.hosts if name[0] == "a")
        world.control.plan = msgspec.structs.replace(
            plan, routes=(VpcRoute(prefix=whole, hosts=hosts, group="s:/all"),)
        )
        world.vpcs.before = failing("add_route", Invalid())
        await world.round()
        assert world.routes().keys() == {"a", "b"}
        world.vpcs.before = lambda _name, _arguments: None
        world.clock.now += 11
        await world.round()
        assert world.routes() == {}
        assert whole in world.vpcs.known["rtb-1"].routes
        assert world.recorded() == {whole}

    run(test)


def test_a_host_without_an_instance_leaves_its_routes_as_they_are() -> None:
    async def test(world: World) -> None:
        await world.round()
        before = world.routes()
        world.vpcs.machines.clear()
        outcome = await world.round()
        assert outcome.changed == 0
        assert world.routes() == before
        assert len([one for one in outcome.problems if "no instance" in one]) == 4

    run(test)


def test_everything_of_ours_is_removed_also_from_tables_that_are_not_named_any_more() -> None:
    async def test(world: World) -> None:
        await world.round()
        world.writer._choice = TableChoice(ids=("rtb-2",))
        outcome = await world.round()
        assert "route table rtb-1 has 2 routes of ours" in outcome.problems[0]
        known = world.vpcs.known.pop("rtb-1")
        removal = await world.writer.remove()
        assert removal.removed == 2
        assert "there is no route table rtb-1 in this region, in which 2 routes are ours" in removal.problems[0]
        world.vpcs.known["rtb-1"] = known
        assert (await world.writer.remove()).removed == 2
        assert world.routes() == world.routes("rtb-2") == {}
        assert world.control.plan.owned == {}

    run(test)


def test_a_failure_of_status_checks_alone_is_told_and_the_rest_goes_on() -> None:
    async def test(world: World) -> None:
        world.vpcs.blind = True
        outcome = await world.round()
        assert outcome.changed == 8
        assert len(outcome.problems) == 1

    run(test)


class Storm:
    """Hosts and their states change, and any write may fail or be the last one of a process."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.draw = random.Random(seed)
        self.live: dict[str, set[str]] = {}
        """By table, the groups that have hosts and had a route: they must keep one."""
        world.vpcs.after = self.watch

    def watch(self) -> None:
        for table in ("rtb-1", "rtb-2"):
            routes = self.world.routes(table)
            assert self.live.get(table, set()) <= routes.keys()
            assert {GROUPS[letter] for letter in routes} <= self.world.recorded(table)

    def fate(self, _name: str, _arguments: tuple[object, ...]) -> None:
        if self.draw.random() < 0.15:
            raise self.draw.choice([Killed(), Unavailable("throttled"), Invalid(), Exhausted("full")])

    def change(self) -> None:
        present = self.draw.sample(HOSTS, self.draw.randint(1, 8))
        self.world.place(*present)
        for name in present:
            self.world.state(name, self.draw.choice(["running", "running", "stopped"]))
        letters = {name[0] for name in present}
        self.live = {table: self.world.routes(table).keys() & letters for table in ("rtb-1", "rtb-2")}

    async def rounds(self) -> None:
        self.world.vpcs.before = self.fate
        for _ in range(self.draw.randint(1, 3)):
            try:
                await self.world.round()
            except Killed:
                self.world.start()
            except RomanaError:
                pass
            self.world.clock.now += self.draw.randint(1, 200)
        self.world.vpcs.before = lambda _name, _arguments: None

    async def calm(self) -> Outcome:
        """The third round after the last failure."""
        for _ in range(3):
            self.world.clock.now += 700
            outcome = await self.world.round()
        return outcome


@given(st.integers(0, 2**32))
def test_killed_or_refused_anywhere_it_converges_and_no_live_group_is_ever_without_its_route(seed: int) -> None:
    async def test(world: World) -> None:
        storm = Storm(world, seed)
        for _ in range(6):
            storm.change()
            await storm.rounds()
        assert (await storm.calm()).changed == 0
        states = {id_[2:]: one.state for id_, one in world.vpcs.machines.items()}
        up = {name[0] for name, state in states.items() if state == "running"}
        for table in ("rtb-1", "rtb-2"):
            routes = world.routes(table)
            assert up <= routes.keys() <= {name[0] for name in states}
            assert {GROUPS[letter] for letter in routes} == world.recorded(table)
            assert {states[routes[letter]] for letter in up} <= {"running"}

    run(test)
