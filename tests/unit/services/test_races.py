"""Decisions that are made at the same time: what one of them read, another one changes before it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from romana.adapters.store.memory import MemoryStore
from romana.codec.text import parse_address
from romana.model.errors import Invalid, Unavailable
from romana.model.view import Hello
from romana.ports import Transaction
from romana.services.control.agents import AgentVerbs
from romana.services.control.core import TRIES, Core
from romana.services.control.liveness import HostSettings, Liveness
from romana.services.control.plan import PlanVerbs
from romana.services.control.rooms import RoomVerbs
from romana.services.control.views import ViewVerbs
from tests.fakes.kernel import FakeClock

RACKS = [{"name": f"rack{number}", "assignment": {"rack": str(number)}} for number in (1, 2)]


def plan(cidr: str) -> dict[str, object]:
    return {
        "version": 1,
        "networks": [{"name": "pods", "cidr": cidr}],
        "topologies": [{"name": "site", "networks": ["pods"], "groups": RACKS}],
    }


class HeldStore(MemoryStore):
    """A store in which one kind of commit waits, as if the disk were slow, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held_key = ""
        self.waiting = asyncio.Event()
        self.let_go = asyncio.Event()
        self.broken = False

    async def check(self) -> None:
        if self.broken:
            raise Unavailable("the disk is full")

    async def commit(self, transaction: Transaction) -> int:
        if self.broken:
            raise Unavailable("the disk is full")
        if self.held_key in transaction.puts:
            self.held_key = ""
            self.waiting.set()
            await self.let_go.wait()
        await asyncio.sleep(0)  # everybody decides before anybody's decision is stored
        return await super().commit(transaction)


class Site:
    """A control plane with a plan of two racks."""

    def __init__(self, core: Core, store: HeldStore) -> None:
        self.core = core
        self.store = store
        self.plan = PlanVerbs(core)
        self.rooms = RoomVerbs(core)
        self.views = ViewVerbs(core)
        self.agents = AgentVerbs(core, self.views, Liveness(core, FakeClock(), HostSettings()))

    async def hello(self, host: str, address: str = "", *, rack: int = 1) -> None:
        addresses = (parse_address(address),) if address else ()
        await self.agents.hello(Hello(host=host, instance=host, addresses=addresses, labels={"rack": str(rack)}))


def run(test: Callable[[Site], Awaitable[None]]) -> None:
    async def body() -> None:
        store = HeldStore()
        core = Core(store)
        await core.load()
        following = asyncio.create_task(core.run())
        try:
            site = Site(core, store)
            await site.plan.set_topology(plan("10.0.0.0/8"))
            await asyncio.wait_for(test(site), 20)
        finally:
            following.cancel()

    asyncio.run(body())


def test_of_two_hosts_with_one_address_one_joins() -> None:
    async def test(site: Site) -> None:
        joins = [site.hello(f"h{rack}", "192.0.2.1", rack=rack) for rack in (1, 2)]
        answers = await asyncio.gather(*joins, return_exceptions=True)
        assert [type(answer) for answer in answers if answer is not None] == [Invalid]
        assert len(site.core.state.hosts) == 1

    run(test)


def test_a_known_host_cannot_take_an_address_of_another() -> None:
    async def test(site: Site) -> None:
        await site.hello("h1", "192.0.2.1")
        await site.hello("h2", "192.0.2.2")
        with pytest.raises(Invalid, match="also an address of host h1"):
            await site.hello("h2", "192.0.2.1")
        assert site.core.state.hosts["h2"].addresses == (parse_address("192.0.2.2"),)
        await site.hello("h2", "192.0.2.3")
        assert site.core.state.hosts["h2"].addresses == (parse_address("192.0.2.3"),)

    run(test)


def test_a_host_that_joins_while_a_plan_is_put_in_force_is_not_forgotten() -> None:
    async def test(site: Site) -> None:
        site.store.held_key = "plan/current"
        changing = asyncio.create_task(site.plan.set_topology(plan("172.16.0.0/12")))
        await site.store.waiting.wait()
        await site.hello("h1")
        site.store.let_go.set()
        with pytest.raises(Invalid, match="holds 10"):
            await changing
        state = site.core.state
        assert [str(network.cidr) for network in state.plan.networks] == ["10.0.0.0/8"]
        assert all(state.plan.networks[0].cidr.contains(span) for span in state.spans)

    run(test)


def test_more_hosts_than_tries_join_one_rack_at_once() -> None:
    async def test(site: Site) -> None:
        count = 3 * TRIES
        await asyncio.gather(*(site.hello(f"h{number}") for number in range(count)))
        state = site.core.state
        assert len(state.hosts) == len({span.host for span in state.spans.values()}) == count

    run(test)


def test_a_store_that_takes_no_changes_is_not_ready() -> None:
    async def test(site: Site) -> None:
        await site.core.check_ready()
        site.store.broken = True
        with pytest.raises(Unavailable):
            await site.hello("h1")
        with pytest.raises(Unavailable, match="full"):
            await site.core.check_ready()
        site.store.broken = False
        await site.hello("h1")
        await site.core.check_ready()

    run(test)
