"""The verbs of a container runtime: an interface is added, deleted, checked; what the runtime forgot is collected.

Owns the order: durable before it is used, rules before the link, cut off before the address is free. Refuses to know
CNI's documents. Invariants: an ADD that fails leaves nothing; a repeated ADD gives the same answer or says what
differs; a DEL of what is gone is success; nothing is collected on one observation.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import ExitStack, asynccontextmanager

import msgspec
import structlog

from romana.model.address import Address
from romana.model.endpoint import Endpoint, endpoint_id
from romana.model.errors import AlreadyExists, NotFound, RomanaError, Unavailable
from romana.model.tenancy import Identity
from romana.ports import AgentMemory, LinkPlan, LinkState
from romana.services.agent.kernel import Kernel
from romana.services.agent.ledger import Ledger
from romana.services.agent.removals import Removals
from romana.services.agent.rooms import Rooms
from romana.services.agent.work import Workers

log = structlog.get_logger()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An interface that a runtime asks for. `name` is for people, `mtu` in bytes. It has addresses of its own where
    `reservation` names some that romanad gave, or `addresses` lists some that it is to give.
    """

    container: str
    interface: str
    netns: str
    identity: Identity
    name: str
    mtu: int
    reservation: str = ""
    addresses: tuple[Address, ...] = ()

    @property
    def is_fixed(self) -> bool:
        """Whether it asks for addresses of its own."""
        return bool(self.reservation or self.addresses)

    @property
    def id(self) -> str:
        """The endpoint's id."""
        return endpoint_id(self.container, self.interface)


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as the runtime is told of it, with the hardware address of the host's side."""

    endpoint: Endpoint
    host_mac: str


class Attachments:
    """The endpoints of one host, as runtimes make and unmake them."""

    def __init__(self, ledger: Ledger, rooms: Rooms, kernel: Kernel, workers: Workers, removals: Removals) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._kernel = kernel
        self._workers = workers
        self._removals = removals
        self._turns: dict[str, _Turn] = {}
        self._unlisted: dict[str, tuple[tuple[int, ...], int]] = {}

    async def add(self, wanted: Wanted) -> Attached:
        """Make an endpoint. AlreadyExists when the container has that interface otherwise than asked for."""
        async with self.turn(wanted.id):
            known = self._ledger.endpoints.get(wanted.id)
            if known is not None:
                return await self._again(known, wanted)
            if link_name(wanted.id) in self._ledger.orphans:
                raise AlreadyExists(
                    f"container {wanted.container} has interface {wanted.interface} already, from before the agent lost"
                    " its memory; DEL comes before another ADD"
                )
            if wanted.is_fixed:
                allocations = await self._rooms.fixed.use(
                    wanted.id, wanted.identity, wanted.reservation, wanted.addresses
                )
            else:
                allocations = await self._rooms.allocate(wanted.id, wanted.identity)
            endpoint = Endpoint(
                id=wanted.id,
                name=wanted.name,
                host=self._ledger.host,
                identity=wanted.identity,
                allocations=allocations,
                link=link_name(wanted.id),
                interface=wanted.interface,
                netns=wanted.netns,
                mtu=wanted.mtu,
            )
            return await (self._start_fixed(endpoint) if wanted.is_fixed else self._start(endpoint))

    async def delete(self, container: str, interface: str) -> bool:
        """Unmake an endpoint; whether there was one. Its link goes afterwards."""
        name = endpoint_id(container, interface)
        async with self.turn(name):
            known = self._ledger.endpoints.get(name)
            if known is not None:
                await self._stop(known)
                return True
            orphan = self._ledger.orphans.get(link_name(name))
            if orphan is not None:
                await self._stop_orphan(orphan)
            return orphan is not None

    async def check(self, container: str, interface: str) -> tuple[Endpoint, list[str]]:
        """An endpoint and what the kernel lacks of it, as sentences; NotFound when there is no such endpoint."""
        name = endpoint_id(container, interface)
        async with self.turn(name):
            known = self._ledger.endpoints.get(name)
            if known is None:
                raise NotFound(f"host {self._ledger.host} has no endpoint {name}")
            return known, await self._workers.kernel(self._kernel.check, known, link_plan(known))

    async def collect(self, listed: Collection[str], *, patience: int) -> list[str]:
        """Unmake endpoints that the runtime does not list (ids) and did not list `patience` seconds ago, either; the
        ids of those that are gone.
        """
        now = self._ledger.clock.boottime()
        links = {link_name(name) for name in listed}
        seen = {}
        due = []
        candidates = [endpoint for endpoint in self._ledger.endpoints.values() if endpoint.id not in listed]
        candidates += [orphan for link, orphan in self._ledger.orphans.items() if link not in links]
        for endpoint in candidates:
            use = tuple(allocation.sequence for allocation in endpoint.allocations)
            before = self._unlisted.get(endpoint.id)
            if before is None or before[0] != use:
                seen[endpoint.id] = (use, now)
                continue
            seen[endpoint.id] = before
            if before[1] + patience <= now:
                due.append(endpoint)
        self._unlisted = seen
        return [endpoint.id for endpoint in due if await self._collect(endpoint)]

    def is_here(self, name: str) -> bool:
        """Whether an endpoint of that id is here, or its link, of which nobody may know more."""
        return name in self._ledger.endpoints or link_name(name) in self._ledger.orphans

    async def held(self) -> tuple[AgentMemory, dict[Address, str]]:
        """What is remembered, and which addresses the kernel routes to which links, both of one moment."""
        return await self._workers.kernel(self._held)

    def _held(self) -> tuple[AgentMemory, dict[Address, str]]:
        return self._ledger.state.load(), self._kernel.routed()

    async def cut(self, link: str) -> bool:
        """Cut off a link that nobody allocated; whether there was one."""
        orphan = self._ledger.orphans.get(link)
        return orphan is not None and await self._collect(orphan)

    async def stop(self, endpoint: Endpoint) -> None:
        """Unmake an endpoint that is not this host's any more, whatever its runtime thinks of it."""
        async with self.turn(endpoint.id):
            if self._ledger.endpoints.get(endpoint.id) == endpoint:
                await self._stop(endpoint)

    async def stop_gone(self, endpoint: Endpoint) -> None:
        """The same, of one whose link is not there."""
        async with self.turn(endpoint.id):
            known = self._ledger.endpoints.get(endpoint.id) == endpoint
            if known and await self._workers.kernel(self._kernel.is_gone, endpoint):
                await self._stop(endpoint)

    async def _collect(self, endpoint: Endpoint) -> bool:
        async with self.turn(endpoint.id):
            if endpoint.link in self._ledger.orphans:
                await self._stop_orphan(endpoint)
                return True
            if self._ledger.endpoints.get(endpoint.id) != endpoint:
                return False
            log.warning("the runtime no longer lists an endpoint", endpoint=endpoint.id, addresses=_shown(endpoint))
            await self._stop(endpoint)
            return True

    async def _start_fixed(self, endpoint: Endpoint) -> Attached:
        try:
            self._ledger.book.restore([endpoint], {}, now=self._ledger.clock.boottime())
            return await self._start(endpoint)
        except RomanaError:
            self._rooms.fixed.bell.ring()  # nothing may have been written of it
            raise

    async def _start(self, endpoint: Endpoint) -> Attached:
        durable: list[Endpoint] = []
        try:
            await self._removals.finish(endpoint.id, endpoint.addresses)
            link = await self._workers.kernel(self._make, endpoint, durable)
        except BaseException:
            if durable:  # even its release could not be written: it stays, for a DEL
                self._ledger.started(endpoint)
            else:
                self._ledger.released(endpoint)
                self._removals.bell.ring()
            raise
        self._ledger.started(endpoint)
        self._ledger.grown.ring()
        owner = str(endpoint.identity.owner)
        log.info("endpoint started", endpoint=endpoint.id, owner=owner, addresses=_shown(endpoint))
        return _attached(endpoint, link)

    def _make(self, endpoint: Endpoint, durable: list[Endpoint]) -> LinkState:
        """On the kernel's worker: `durable` has the endpoint as long as the durable state has it.

        The view is that of now: since this was asked for, a round may have brought a newer one into the kernel.
        """

        def forget() -> None:
            self._ledger.state.release(endpoint, self._ledger.clock.boottime())
            durable.clear()

        if not self._ledger.owns(endpoint):
            raise Unavailable(f"{', '.join(_shown(endpoint))} is not host {endpoint.host}'s any more; try again")
        with ExitStack() as undo:
            self._ledger.state.start(endpoint)
            durable.append(endpoint)
            undo.callback(forget)
            link = self._kernel.admit(endpoint, link_plan(endpoint), self._ledger.view)
            undo.pop_all()
        return link

    async def _again(self, known: Endpoint, wanted: Wanted) -> Attached:
        """A second ADD: the same answer when the kernel still matches; a half-made endpoint is completed."""
        if known.identity != wanted.identity or known.netns != wanted.netns:
            raise AlreadyExists(
                f"container {wanted.container} has interface {wanted.interface} already, as an endpoint of "
                f"{known.identity.owner} in {known.netns}; DEL comes before another ADD"
            )
        if wanted.addresses and wanted.addresses != known.addresses:
            raise AlreadyExists(
                f"container {wanted.container} has interface {wanted.interface} already, with "
                f"{', '.join(_shown(known))}; DEL comes before another ADD"
            )
        link, missing = await self._workers.kernel(self._look, known)
        if link is None or not link.finished:
            return _attached(known, await self._workers.kernel(self._complete, known))
        if missing:
            raise AlreadyExists(
                f"container {wanted.container} has interface {wanted.interface} already, and it is not as it was made: "
                f"{'; '.join(missing)}; DEL comes before another ADD"
            )
        return _attached(known, link)

    def _complete(self, endpoint: Endpoint) -> LinkState:
        return self._kernel.complete(endpoint, link_plan(endpoint), self._ledger.view)

    def _look(self, endpoint: Endpoint) -> tuple[LinkState | None, list[str]]:
        link = self._kernel.state(endpoint.link)
        return link, [] if link is None else self._kernel.check(endpoint, link_plan(endpoint))

    async def _stop(self, endpoint: Endpoint) -> None:
        await self._workers.kernel(self._unmake, endpoint)
        self._ledger.released(endpoint)
        self._ledger.grown.ring()
        self._removals.bell.ring()
        log.info("endpoint gone", endpoint=endpoint.id, addresses=_shown(endpoint))

    def _unmake(self, endpoint: Endpoint) -> None:
        self._kernel.dismiss(endpoint)
        self._ledger.state.release(endpoint, self._ledger.clock.boottime())

    async def _stop_orphan(self, orphan: Endpoint) -> None:
        await self._workers.kernel(self._unmake, orphan)  # nobody knows it, but its addresses rest
        self._ledger.abandon(orphan.link)
        self._ledger.unlinking[orphan.id] = orphan
        self._ledger.grown.ring()
        self._removals.bell.ring()
        self._rooms.fixed.bell.ring()  # it may have had some

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """One verb at a time for an endpoint."""
        turn = self._turns.setdefault(name, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[name]


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def link_name(endpoint: str) -> str:
    """The name of an endpoint's link on the host: `rom` and 12 hexadecimal digits of SHA-256 over its id."""
    return f"rom{hashlib.sha256(endpoint.encode()).hexdigest()[:12]}"


def link_plan(endpoint: Endpoint) -> LinkPlan:
    """What the kernel should have for an endpoint."""
    return LinkPlan(
        link=endpoint.link,
        netns=endpoint.netns,
        interface=endpoint.interface,
        addresses=endpoint.addresses,
        mtu=endpoint.mtu,
    )


def _attached(endpoint: Endpoint, link: LinkState) -> Attached:
    return Attached(endpoint=msgspec.structs.replace(endpoint, mac=link.peer_mac), host_mac=link.mac)


def _shown(endpoint: Endpoint) -> list[str]:
    return [str(address) for address in endpoint.addresses]
