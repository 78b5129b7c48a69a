"""An agent's services over fakes, with the real control plane in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from romana.adapters.store.memory import MemoryStore
from romana.codec.records import HOST, UNSETTLED, Unsettled
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.policy import Failsafe
from romana.model.tenancy import Identity, Owner
from romana.ports import Transaction
from romana.services.agent import follower
from romana.services.agent.agent import Agent, AgentSettings, World
from romana.services.agent.attachments import Attached, Wanted
from romana.services.agent.work import Workers
from tests.fakes.agent_state import MemoryAgentState
from tests.fakes.control import FakeControlPlane
from tests.fakes.kernel import FakeClock, FakeKernel
from tests.fakes.route_daemon import FakeRouteDaemon

follower.AFTER = 0.0  # agents are killed here after a view was kept, in steps and not in seconds
T = TypeVar("T")
WEB, DB = (Identity(owner=Owner("red", segment)) for segment in ("web", "db"))
PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [
        {"name": "pods4", "cidr": "10.1.0.0/24", "block_length": 29, "span_length": 26, "mixed": 0, "stock": 2},
        {"name": "pods6", "cidr": "fd00:1::/112", "block_length": 122, "span_length": 118, "mixed": 0, "stock": 2},
    ],
    "topologies": [
        {"name": "rack", "networks": ["pods4", "pods6"], "groups": [{"name": "r1", "hosts": [{"name": "h1"}]}]}
    ],
}


FAILSAFE = Failsafe(ingress=((6, 22),), egress=((17, 53),))


async def here(function: Callable[..., T], *arguments: object) -> T:
    """A worker that works in the caller's thread, after everybody else had a turn."""
    await asyncio.sleep(0)
    return function(*arguments)


class Site:
    """One host: its kernel, memory and daemon stay while agents come and go."""

    def __init__(self) -> None:
        self.kernel = FakeKernel(*(f"/run/netns/p{number}" for number in range(64)))
        self.state = MemoryAgentState()
        self.clock = FakeClock()
        self.daemon = FakeRouteDaemon()
        self.control = FakeControlPlane()
        self.pauses: list[float] = []
        self.give_back = 10**9
        self.agent: Agent
        self._running: asyncio.Task[None] | None = None

    async def start(self, *, ready: bool = True) -> Agent:
        """A new agent over what is there."""
        world = World(
            kernel=self.kernel.ports, state=self.state, control=self.control, clock=self.clock, daemon=self.daemon
        )
        settings = AgentSettings(host="h1", wait=1.0, every=60.0, give_back=self.give_back, failsafe=FAILSAFE)
        self.agent = Agent(settings, world, Workers(here, here), sleep=self.sleep)
        self._running = asyncio.create_task(self.agent.run())
        if ready:
            await self.until(lambda: self.agent.status().ready and not self.agent.status().problems)
        return self.agent

    async def stop(self) -> None:
        """As a kill does: nothing more happens."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    def forget(self) -> None:
        """The agent's disk is lost."""
        self.state = MemoryAgentState()

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.001)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)

    async def add(self, number: int, identity: Identity = WEB) -> Attached:
        return await self.agent.attachments.add(self.wanted(number, identity))

    def wanted(self, number: int, identity: Identity = WEB) -> Wanted:
        return Wanted(
            container=f"c{number}",
            interface="eth0",
            netns=f"/run/netns/p{number}",
            identity=identity,
            name=f"c{number}",
            mtu=1450,
        )

    async def delete(self, number: int) -> bool:
        return await self.agent.attachments.delete(f"c{number}", "eth0")

    def published(self) -> dict[str, Endpoint]:
        return dict(self.control.core.state.endpoints)

    def flush(self) -> None:
        """As `nft flush ruleset` does."""
        self.kernel.filter.table = None

    def in_kernel(self) -> tuple[set[str], set[str], set[str]]:
        """Links, routed addresses, and addresses with elements in the table."""
        present = self.kernel.filter.table.elements if self.kernel.filter.table else {}
        elements = {str(key.prefix) for key in present if key.link or key.map.startswith("endpoints")}
        routed = {str(prefix) for prefix, route in self.kernel.routing.items() if route.link}
        return set(self.kernel.plans), routed, elements


async def new_epoch(site: Site) -> None:
    """The control plane has this host under another epoch, and all that it knew of it."""
    known = site.control.core.state.hosts["h1"]
    other = msgspec.structs.replace(known, epoch=known.epoch + 1)
    await site.control.core.commit(lambda _, draft: draft.put(HOST, HOST.key("h1"), other))


async def restore(site: Site, *others: str) -> FakeControlPlane:
    """The store as it is now, under another incarnation, with this host and others unsettled."""
    _, records = await site.control.core.store.scan()
    store = MemoryStore()
    puts = {record.key: record.value for record in records}
    puts |= {UNSETTLED.key(name): UNSETTLED.encode(Unsettled(host=name)) for name in ("h1", *others)}
    await store.commit(Transaction(puts=puts))
    control = FakeControlPlane(store)
    await control.go_on()
    return control


def run(
    test: Callable[[Site], Awaitable[None]], plan: dict[str, Any] | None = None, networks: Iterable[Prefix] = ()
) -> None:
    """A test on a site whose agent is ready; the host has addresses of these networks."""

    async def body() -> None:
        site = Site()
        site.kernel.networks.update(dict.fromkeys(networks, frozenset({"eth0"})))
        await site.control.open(plan or PLAN, {"red": ("web", "db"), "blue": ("web",)})
        try:
            await site.start()
            async with asyncio.timeout(20):
                await test(site)
        finally:
            await site.stop()
            site.control.close()

    asyncio.run(body())
