"""Several replicas of the control plane over one store in memory, and one clock for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from romana.adapters.store.memory import MemoryStore
from romana.codec.records import BLOCK, RETIRED
from romana.codec.text import parse_prefix
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Retired
from romana.model.tenancy import Identity, Owner
from romana.model.view import (
    Claim,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    Inventory,
    InventoryAnswer,
    Publication,
    View,
    Welcome,
)
from romana.ports import Lease
from romana.services.control.agents import AgentVerbs
from romana.services.control.core import Core
from romana.services.control.hosts import HostVerbs
from romana.services.control.inventory import InventoryVerbs
from romana.services.control.liveness import HostSettings, Liveness
from romana.services.control.plan import PlanVerbs
from romana.services.control.retirement import Retirement
from romana.services.control.rooms import RoomVerbs
from romana.services.control.tenancy import TenancyVerbs
from romana.services.control.views import ViewVerbs
from tests.fakes.kernel import FakeClock

PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [{"name": "pods", "cidr": "10.1.0.0/20", "block_length": 29, "span_length": 26}],
    "topologies": [{"name": "all", "networks": ["pods"], "groups": [{"name": "rack", "hosts": []}]}],
}
WEB = Identity(owner=Owner("a", "web"))
SETTINGS = HostSettings(lease=1000, rest=100, round=15.0)


class Inventories(InventoryVerbs):
    """Says for agents that they reported in just now, where a test does not say since when."""

    async def inventory(self, inventory: Inventory) -> InventoryAnswer:
        if not inventory.since:
            inventory = msgspec.structs.replace(inventory, since=self._core.state.revision)
        return await super().inventory(inventory)


class Replica:
    """One romanad, with the calls of agents that reach it."""

    def __init__(self, store: MemoryStore, clock: FakeClock, name: str, settings: HostSettings = SETTINGS) -> None:
        self.name = name
        self.core = Core(store)
        self.clock = clock
        self.liveness = Liveness(self.core, clock, settings, name)
        self.views = ViewVerbs(self.core)
        self.rooms = RoomVerbs(self.core)
        self.agents = AgentVerbs(self.core, self.views, self.liveness)
        self.hosts = HostVerbs(self.core, self.agents.is_connected)
        self.inventories = Inventories(self.core)
        self.retirement = Retirement(self.core, self.liveness)
        self.lease: Lease | None = None
        self.following: asyncio.Task[None]

    async def open(self) -> None:
        await self.core.load()
        self.following = asyncio.create_task(self.core.run())
        if self.name:
            self.lease = await self.core.store.lease(f"replica-{self.name}", 30)
            await self.touch()

    async def touch(self) -> None:
        assert self.lease is not None
        await self.liveness.touch(self.lease)

    async def die(self) -> None:
        assert self.lease is not None
        await self.lease.release()
        self.following.cancel()
        await asyncio.wait({self.following})

    async def hello(self, host: str, *, instance: str = "", machine: str = "") -> Welcome:
        return await self.agents.hello(Hello(host=host, instance=instance or f"i-{host}", machine=machine))

    async def beat(self, host: str, applied: int = 0, *, lease: int = 0, incarnation: str = "") -> HeartbeatAnswer:
        epoch = self.core.state.hosts[host].epoch
        store = incarnation or self.core.incarnation
        return await self.agents.heartbeat(
            Heartbeat(host=host, epoch=epoch, incarnation=store, applied=applied, lease=lease)
        )

    async def view(self, host: str) -> View:
        stream = self.views.view(host)
        change = await anext(stream)
        await stream.aclose()
        return change.put

    async def start(self, host: str, name: str, number: int = 1) -> Endpoint:
        epoch = self.core.state.hosts[host].epoch
        answer = await self.rooms.claim(Claim(host=host, epoch=epoch, identity=WEB))
        allocations = tuple(
            Allocation(address=block.address(number), block=block, endpoint=name, sequence=number)
            for block in answer.blocks
        )
        endpoint = Endpoint(id=name, name=name, host=host, identity=WEB, allocations=allocations, link="rom0")
        await self.rooms.publish(Publication(host=host, epoch=epoch, number=number, started=(endpoint,)))
        return endpoint

    async def retire(self, cidr: str, host: str) -> int:
        """Something that the host gave back; the revision that says so."""
        gone = Retired(cidr=parse_prefix(cidr), network="pods", host=host)
        revision, _ = await self.core.commit(lambda _, draft: draft.put(RETIRED, RETIRED.key(gone.cidr), gone))
        return revision

    async def give_back(self, *blocks: Prefix) -> None:
        """As if everybody had acknowledged it already."""
        await self.core.commit(lambda _, draft: draft.deletes.extend(map(BLOCK.key, blocks)))

    async def is_retired(self, cidr: str) -> bool:
        """After a round of everything."""
        await self.liveness.round()
        lease = await self.core.store.lease("retirement", 30)
        await self.retirement.retire(lease)
        await lease.release()
        return parse_prefix(cidr) in self.core.state.retired

    async def watch(self, seconds: int, step: int = 15) -> None:
        """The lease holder's rounds over so many seconds."""
        lease = await self.core.store.lease("hosts", 30)
        for _ in range(0, seconds, step):
            self.clock.now += step
            await self.liveness.round()
            await self.retirement.watch(lease)
        await lease.release()

    def silent(self, host: str) -> int:
        seen = self.core.state.seen.get(host)
        return seen.silent if seen is not None else 0


class Cluster:
    """The store, the clock, and who runs."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.clock = FakeClock()
        self.replicas: list[Replica] = []

    async def replica(self, name: str = "", settings: HostSettings = SETTINGS) -> Replica:
        replica = Replica(self.store, self.clock, name, settings)
        await replica.open()
        self.replicas.append(replica)
        return replica

    async def settle(self) -> None:
        """Every replica has seen everything."""
        revision, _ = await self.store.scan("nothing/")
        for replica in self.replicas:
            if not replica.following.done():
                await replica.core.reached(revision)


def run(test: Callable[[Cluster], Awaitable[None]], store: MemoryStore | None = None) -> None:
    """A test on a store with a plan and a tenant."""

    async def body() -> None:
        cluster = Cluster(store or MemoryStore())
        first = Core(cluster.store)
        await first.load()
        following = asyncio.create_task(first.run())
        if not first.state.plan.networks:
            await PlanVerbs(first).set_topology(PLAN)
            tenancy = TenancyVerbs(first)
            await tenancy.set_tenant("a", {})
            await tenancy.set_segment("a", "web")
        following.cancel()
        try:
            async with asyncio.timeout(20):
                await test(cluster)
        finally:
            for replica in cluster.replicas:
                replica.following.cancel()

    asyncio.run(body())
