"""Everything an agent did and knows, in memory and on disk: endpoints, addresses, the log, the view.

Owns the agreement between the address book, the durable state and the view. Its methods are called in the event loop
and do not block; what must be durable first is written by the caller, on a worker. Refuses to know the kernel.
Invariants: an address is free for others only when its release is durable; a view is never replaced by an older one of
the same store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from romana.codec.json import decode, encode
from romana.core.ipam import AddressBook, Need, Settled, candidate_networks
from romana.core.view import apply_change
from romana.model.address import Family
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network
from romana.model.view import Publication, Released, View, ViewChange
from romana.ports import AgentState, Clock, PendingPublication
from romana.services.agent.work import Bell

log = structlog.get_logger()


class Ledger:
    """One host's book-keeping."""

    def __init__(self, host: str, state: AgentState, clock: Clock, *, rest: int) -> None:
        """Takes in what was remembered, with the view that was kept."""
        self.host = host
        self.state = state
        self.clock = clock
        memory = state.load()
        self.joined = memory.epoch
        """The epoch in which this memory and the control plane agreed."""
        self.rest_first = False
        """Whether all that is free has to rest when the next view comes: others may have used it."""
        self.endpoints = memory.endpoints
        self.unlinking = memory.unlinking
        self.orphans: dict[str, Endpoint] = {}
        """Link name -> stand-in for an endpoint that the kernel has and the memory does not."""
        self.view = _kept_view(memory.view)
        self.has_view = memory.view is not None and self.view.incarnation != ""
        self.no_view = "romanad was not asked yet"
        """Why there is no view, as long as there is none."""
        self.epoch = 0
        self.book = AddressBook(host, boot_id=clock.boot_id(), rest=rest, sequence=memory.sequence)
        self._show_book()
        self.book.restore(
            memory.endpoints.values(),
            memory.resting,
            taken=memory.taken,
            closed=memory.closed,
            now=clock.boottime(),
        )
        self.check_lease: Callable[[], None] = lambda: None
        """Raises Unavailable while this host may not use its addresses."""
        self.grown = Bell()
        """Rung when the log has a new entry to publish."""
        self._news = asyncio.Condition()

    def networks_of(self, identity: Identity) -> dict[Family, tuple[Network, ...]]:
        """The networks that may serve an identity here, by family, best first; NotFound when none does."""
        return candidate_networks(self.view.networks, identity.owner.tenant)

    def names_of(self, identity: Identity) -> list[str]:
        """The same as names."""
        return [network.name for networks in self.networks_of(identity).values() for network in networks]

    def knows(self, identity: Identity) -> bool:
        """Whether the view has rows for it."""
        return identity.id in self.view.identities

    def owns(self, endpoint: Endpoint) -> bool:
        """Whether the view has the addresses of an endpoint as this host's: its blocks, or a use of fixed ones."""
        if self.view.uses.get(endpoint.id) == endpoint.allocations:
            return True
        return all(one.block in self.view.blocks for one in endpoint.allocations)

    def allocate(self, endpoint: str, identity: Identity, need: Need = Need.USUAL) -> tuple[Allocation, ...]:
        """Addresses for an endpoint, not durable yet; Exhausted with the numbers."""
        return self.book.allocate(endpoint, identity, self.names_of(identity), self.clock.boottime(), need)

    def started(self, endpoint: Endpoint) -> None:
        """It is durable, and in the kernel."""
        self.endpoints[endpoint.id] = endpoint
        self.unlinking.pop(endpoint.id, None)

    def released(self, endpoint: Endpoint) -> None:
        """Its release is durable; the link is still to be removed."""
        self.endpoints.pop(endpoint.id, None)
        self.book.release(endpoint.id, self.clock.boottime())
        self.unlinking[endpoint.id] = endpoint

    def adopt(self, holder: Endpoint) -> None:
        """Keep the addresses of a link that the memory does not know, until the runtime deletes it."""
        self.orphans[holder.link] = holder
        self.book.restore([holder], {}, now=self.clock.boottime())

    def recover(self, endpoint: Endpoint) -> None:
        """An endpoint that the control plane knows of and this memory did not; it, or its release, is durable now."""
        stand_in = self.orphans.pop(endpoint.link, None)
        if stand_in is not None:
            self.book.release(stand_in.id, self.clock.boottime())
        self.book.restore([endpoint], {}, now=self.clock.boottime())
        self.endpoints[endpoint.id] = endpoint

    def abandon(self, link: str) -> None:
        """An adopted link is being removed; its addresses rest."""
        holder = self.orphans.pop(link, None)
        if holder is not None:
            self.book.release(holder.id, self.clock.boottime())

    def publication(self, entries: tuple[PendingPublication, ...]) -> Publication:
        """The first entries of the log as one message; its number is that of the last entry."""
        return Publication(
            host=self.host,
            epoch=self.epoch,
            number=entries[-1].number,
            taken=tuple(entry.taken for entry in entries if entry.taken is not None),
            started=tuple(entry.started for entry in entries if entry.started is not None),
            released=tuple(_released(entry.released) for entry in entries if entry.released is not None),
            returned=tuple(entry.returned for entry in entries if entry.returned is not None),
        )

    async def take_in(self, change: ViewChange) -> None:
        """A message of the view's stream; Conflict when it is older than what we have."""
        new = change.put
        if new.incarnation == self.view.incarnation and new.revision < self.view.revision:
            raise Conflict(f"romanad offers revision {new.revision} of the view, this host has {self.view.revision}")
        if self.view.incarnation not in ("", new.incarnation):
            log.warning("the control plane's store is another one", before=self.view.incarnation, now=new.incarnation)
        self.view = apply_change(self.view, change)
        self.has_view = True
        self._show_book()
        if self.rest_first:
            self.rest_first = False
            self.book.rest_everything(self.clock.boottime())
        async with self._news:
            self._news.notify_all()

    def _show_book(self) -> None:
        classes = {name: rows.class_id for name, rows in self.view.identities.items()}
        self.book.update(self.view.networks, self.view.blocks, classes)

    async def news(self) -> None:
        """Wait for the next change of the view."""
        async with self._news:
            await self._news.wait()

    def keep(self, view: View, settled: Settled) -> None:
        """On a worker: keep a view, and then forget of blocks what was settled with it."""
        self.state.save_view(encode(view))
        if settled.reopened or settled.confirmed:
            self.state.forget_blocks(closed=settled.reopened, taken=settled.confirmed)


def stand_in(host: str, link: str, allocations: tuple[Allocation, ...], *, name: str = "") -> Endpoint:
    """An endpoint for a link of which only the kernel's routes are known, or its name as well: no identity, so no
    rows.
    """
    name = name or f"unknown/{link}"
    identity = Identity(owner=Owner("", ""))
    return Endpoint(id=name, name=name, host=host, identity=identity, allocations=allocations, link=link)


def _released(endpoint: Endpoint) -> Released:
    return Released(endpoint=endpoint.id, sequences={one.address: one.sequence for one in endpoint.allocations})


def _kept_view(text: bytes | None) -> View:
    if text is None:
        return View()
    try:
        return decode(text, View)
    except (msgspec.DecodeError, ValueError) as error:
        log.warning("the kept view cannot be read; waiting for a new one", error=str(error))
        return View()
