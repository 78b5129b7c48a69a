"""A control plane that can be taken away: the real verbs over the store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from romana.adapters.store.memory import MemoryStore
from romana.model.daemon import DaemonReport
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.flow import Flow
from romana.model.ipam import Reservation
from romana.model.report import Observation
from romana.model.view import (
    AddressUse,
    Claim,
    ClaimAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    Inventory,
    InventoryAnswer,
    Publication,
    RouterView,
    ViewChange,
    Welcome,
)
from romana.services.control.addresses import AddressVerbs
from romana.services.control.agents import AgentVerbs
from romana.services.control.audit import Auditor
from romana.services.control.core import Core
from romana.services.control.flows import FlowVerbs
from romana.services.control.hosts import HostVerbs
from romana.services.control.inventory import InventoryVerbs
from romana.services.control.liveness import HostSettings, Liveness
from romana.services.control.peering import PeeringVerbs
from romana.services.control.plan import PlanVerbs
from romana.services.control.retirement import Retirement
from romana.services.control.rooms import RoomVerbs
from romana.services.control.tenancy import TenancyVerbs
from romana.services.control.views import ViewVerbs
from tests.fakes.kernel import FakeClock

T = TypeVar("T")


class FakeControlPlane:
    """`ports.ControlPlane` without a network. `leave` ends the streams and refuses every call until `come_back`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.core = Core(store or MemoryStore())
        self.claims = 0
        self.refusing = False
        """Whether publications are not taken."""
        self.beats: list[Heartbeat] = []
        """The heartbeats that were answered."""
        self.reports: list[DaemonReport] = []
        """What devices said of their daemons."""
        self.take_reports = False
        """Whether that is noted as well."""
        self._peering = PeeringVerbs(self.core)
        self.while_beating: Callable[[], None] = lambda: None
        """Called between a heartbeat and its answer."""
        self._rooms = RoomVerbs(self.core)
        self.flows = FlowVerbs(self.core)
        self._views = ViewVerbs(self.core, self.flows)
        self.clock = FakeClock()
        self.liveness = Liveness(self.core, self.clock, HostSettings())
        self.retirement = Retirement(self.core, self.liveness)
        self.auditor = Auditor(self.core, self.clock)
        self.addresses = AddressVerbs(self.core)
        self._inventories = InventoryVerbs(self.core)
        self._verbs = AgentVerbs(self.core, self._views, self.liveness)
        self.hosts = HostVerbs(self.core, self._verbs.is_connected)
        self._gone = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def open(self, plan: dict[str, Any], owners: dict[str, tuple[str, ...]]) -> None:
        """Load the plan, tenants and their segments."""
        await self.go_on()
        await PlanVerbs(self.core).set_topology(plan)
        tenancy = TenancyVerbs(self.core)
        for tenant, segments in owners.items():
            await tenancy.set_tenant(tenant, {})
            for segment in segments:
                await tenancy.set_segment(tenant, segment)

    async def go_on(self) -> None:
        """Begin with what is in the store."""
        await self.core.load()
        self._following = asyncio.create_task(self.core.run())

    def close(self) -> None:
        if self._following is not None:
            self._following.cancel()

    def leave(self) -> None:
        self._gone.set()

    def become(self, other: FakeControlPlane) -> None:
        """Have another one's store from now on, as romanad after a restore; every stream ends."""
        self.leave()
        self.close()
        vars(self).update(vars(other))

    def come_back(self) -> None:
        self._gone.clear()

    async def hello(self, hello: Hello) -> Welcome:
        self._meet()
        return await self._verbs.hello(hello)

    async def claim(self, claim: Claim) -> ClaimAnswer:
        self._meet()
        self.claims += 1
        return await self._rooms.claim(claim)

    async def use_addresses(self, use: AddressUse) -> Reservation:
        self._meet()
        owner = use.identity.owner
        user = {
            "host": use.host,
            "endpoint": use.endpoint,
            "tenant": owner.tenant,
            "segment": owner.segment,
            "labels": use.identity.labels,
            "epoch": use.epoch,
        }
        if not use.addresses:
            return await self.addresses.use(use.name, user)
        wanted = {"name": use.name, "addresses": [str(one) for one in use.addresses], **user}
        return await self.addresses.give(wanted)

    async def publish(self, publication: Publication) -> int:
        self._meet()
        if self.refusing:
            raise Unavailable("romanad takes no publications")
        return await self._rooms.publish(publication)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        self._meet()
        answer = await self._verbs.heartbeat(heartbeat)
        self.beats.append(heartbeat)
        self.while_beating()
        self._meet()
        return answer

    async def inventory(self, inventory: Inventory) -> InventoryAnswer:
        self._meet()
        return await self._inventories.inventory(inventory)

    async def observe(self, observation: Observation) -> int:
        self._meet()
        return await self.auditor.observe(observation)

    async def tell_flows(self, host: str, epoch: int, flows: Sequence[Flow]) -> None:
        self._meet()
        await self.flows.tell(host, epoch, flows)

    async def report(self, report: DaemonReport) -> None:
        self._meet()
        self.reports.append(report)
        if self.take_reports:
            await self._peering.report(report)

    async def router_view(self, router: str) -> AsyncIterator[RouterView]:
        async for one in self._until_gone(self._views.router_view(router)):
            yield one

    async def endpoints(self, host: str) -> tuple[Endpoint, ...]:
        self._meet()
        return tuple(one for one in self.core.state.endpoints.values() if one.host == host)

    async def view(self, host: str) -> AsyncIterator[ViewChange]:
        async for change in self._until_gone(self._views.view(host)):
            yield change

    async def _until_gone(self, stream: AsyncGenerator[T, None]) -> AsyncIterator[T]:
        self._meet()
        gone = asyncio.create_task(self._gone.wait())
        following = asyncio.ensure_future(anext(stream))
        try:
            while True:
                await asyncio.wait({following, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise Unavailable("romanad ended the stream")
                yield following.result()
                following = asyncio.ensure_future(anext(stream))
        finally:
            gone.cancel()
            following.cancel()
            await asyncio.wait({following})
            await stream.aclose()

    def _meet(self) -> None:
        if self._gone.is_set():
            raise Unavailable("romanad does not answer")
