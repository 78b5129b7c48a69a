"""Fixed addresses: the control plane gives addresses of static ranges to names, and says who uses them.

Owns the order of choosing, growing and committing. Refuses to choose: `core.ipam.reservations` does. Invariants: an
address's own record is compared and written by whoever gives it, so that two replicas never give one address; what is
being given here is given to nobody else here meanwhile; a repeated request has the same answer.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import structlog

from romana.codec.document import convert
from romana.codec.records import (
    BLOCK,
    FIXED,
    HELD_KEY,
    IDENTITY,
    PLAN_KEY,
    RESERVATION,
    SEGMENT,
    TENANT,
    FixedAddress,
    StoredIdentity,
)
from romana.core.ipam.reservations import FixedAddresses, next_block
from romana.model.address import Address, Prefix
from romana.model.errors import Conflict, Exhausted, Fault, Invalid, RomanaError
from romana.model.ipam import SERVER, Allocation, Reservation
from romana.model.tenancy import Identity
from romana.model.topology import Host, Network
from romana.services.control.core import Core, Draft, problem_words
from romana.services.control.hosts import bound_host, check_name, known_host
from romana.services.control.reservations import (
    AddressDocument,
    UseDocument,
    candidates,
    check_document,
    check_free_endpoint,
    check_identity,
    known_reservation,
    network_of,
    put_block,
    put_bound,
    put_released,
    put_retired,
    put_use_ended,
    refuse_retired,
    same_or_refuse,
    with_use,
)
from romana.services.control.settled import check_not_held, check_settled
from romana.services.control.state import State
from romana.services.control.tenancy import known_segment

TRIES = 50
"""How often room is made for one request at most."""
MOST_BLOCKS = 16
"""Blocks that are made at once for an owner who has many, at most: an eighth of what it has."""
IDLE = 300
"""Seconds for which a block must be seen without addresses before it is given back."""
MOST_COMPARED = 64
"""Addresses of a block that is given back at most: each one's record is compared, so that none is given meanwhile."""

log = structlog.get_logger()


class _Who(NamedTuple):
    """An identity with its id, which costs a hash."""

    identity: Identity
    id: str


class _NoRoomError(Exception):
    """A further block is needed: in one of these networks, or exactly this one."""

    def __init__(self, networks: Sequence[Network], cidr: Prefix | None = None) -> None:
        super().__init__()
        self.networks = networks
        self.cidr = cidr


class AddressVerbs:
    """What people may ask for about fixed addresses."""

    def __init__(self, core: Core, clock: Callable[[], float] = time.monotonic) -> None:
        self._core = core
        self._clock = clock
        self._book = FixedAddresses()
        self._growing = asyncio.Lock()
        self._idle: dict[Prefix, float] = {}  # blocks without addresses -> since when it is known

    async def give(self, document: object) -> Reservation:
        """Give addresses to a name. Invalid, NotFound or Conflict for what cannot be given, AlreadyExists when the name
        has something else, Exhausted with the numbers.
        """
        return await self.give_wanted(convert(document, AddressDocument))

    async def give_wanted(self, wanted: AddressDocument) -> Reservation:
        """The same for a request that was read already."""
        check_name("address", wanted.name)
        check_document(wanted)
        identity = wanted.identity
        who = _Who(identity, identity.id)
        for _ in range(TRIES):
            chosen: list[Address] = []
            try:
                return (await self._core.commit(functools.partial(self._give, wanted, who, chosen)))[1]
            except _NoRoomError as full:
                self._settle(chosen)
                await self._grow(who, full)
            finally:
                self._settle(chosen)
        raise Conflict(f"others took what was made for {wanted.name} {TRIES} times; try again")

    def _give(
        self, wanted: AddressDocument, who: _Who, chosen: list[Address], state: State, draft: Draft
    ) -> Reservation:
        if chosen:  # in an earlier try
            self._settle(chosen)
        host = _user(state, wanted.host, wanted.epoch) if wanted.host else None
        known = state.reservations.get(wanted.name)
        if known is not None:
            return same_or_refuse(state, known, wanted)
        check_settled(state)
        if wanted.host or not wanted.addresses:  # not somebody's word about an address that was given before
            check_not_held(state)
        known_segment(state, wanted.tenant, wanted.segment)
        draft.read(PLAN_KEY, TENANT.key(wanted.tenant), SEGMENT.key(wanted.tenant, wanted.segment))
        if host is not None:
            check_free_endpoint(state, wanted.endpoint)
            put_bound(draft, wanted.name, host, wanted.endpoint)
        found = self._choose(state, wanted, who, chosen)
        for address, cidr in found:
            draft.read(BLOCK.key(cidr))
            draft.put(FIXED, FIXED.key(address), FixedAddress(reservation=wanted.name))
        reservation = Reservation(
            name=wanted.name,
            identity=who.identity,
            allocations=tuple(
                Allocation(address=address, block=cidr, endpoint=wanted.endpoint, sequence=state.revision + 1)
                for address, cidr in found
            ),
            host=wanted.host,
            endpoint=wanted.endpoint,
            sticky=wanted.sticky,
            epoch=wanted.epoch,
        )
        draft.put(RESERVATION, RESERVATION.key(wanted.name), reservation)
        return reservation

    def _choose(
        self, state: State, wanted: AddressDocument, who: _Who, chosen: list[Address]
    ) -> list[tuple[Address, Prefix]]:
        """An address of each family with its block, all of them noted in `chosen` as well."""
        self._follow(state)
        now = self._clock()
        if wanted.addresses:
            return [(address, self._choose_this(state, who, address, chosen)) for address in wanted.addresses]
        found = []
        for networks in candidates(state, wanted).values():
            for network in networks:
                address = self._book.choose(network.name, who.id, now)
                if address is not None:
                    chosen.append(address)
                    found.append((address, address.supernet(network.block_length)))
                    break
            else:
                raise _NoRoomError(networks)
        return found

    def _choose_this(self, state: State, who: _Who, address: Address, chosen: list[Address]) -> Prefix:
        network = network_of(state, who.identity.owner.tenant, address)
        cidr = address.supernet(network.block_length)
        block = state.blocks.get(cidr)
        if block is not None and block.owner != who.identity.owner:
            raise Conflict(f"{address} is in block {cidr} of {block.owner}, so {who.identity.owner} cannot have it")
        if block is None or who.id not in block.identities:
            raise _NoRoomError([network], cidr)
        why = self._book.choose_this(address, self._clock())
        if why:
            raise Conflict(f"{address} {why}; choose another one, or try later")
        chosen.append(address)
        return cidr

    async def _grow(self, who: _Who, full: _NoRoomError) -> None:
        """Make room for an identity, unless somebody has done so meanwhile."""
        async with self._growing:
            try:
                await self._core.commit(lambda state, draft: self._make_room(state, draft, who.identity, full))
            except Exhausted:
                if not any(self._book.is_choosing(network.name) for network in full.networks):
                    raise
                await self._core.newer(self._core.state.revision, at_most=0.1)  # one of these may come back

    def _make_room(self, state: State, draft: Draft, identity: Identity, full: _NoRoomError) -> None:
        self._follow(state)
        if full.cidr is None and any(self._has_room(network, identity) for network in full.networks):
            return
        known_segment(state, identity.owner.tenant, identity.owner.segment)
        draft.read(
            PLAN_KEY, TENANT.key(identity.owner.tenant), SEGMENT.key(identity.owner.tenant, identity.owner.segment)
        )
        if identity.id not in state.identities:
            draft.put(IDENTITY, IDENTITY.key(identity.id), StoredIdentity(identity=identity))
        for network in full.networks:
            if full.cidr is not None:
                if self._take_block(state, draft, identity, network, full.cidr):
                    return
            # one that has blocks of its own gets more of them, as long as there are some
            elif self._book.serves(network.name, identity.id):
                if self._new_blocks(state, draft, identity, network) or self._join(state, draft, identity, network):
                    return
            elif self._join(state, draft, identity, network) or self._new_blocks(state, draft, identity, network):
                return
        if full.cidr is not None:
            raise Conflict(
                f"block {full.cidr} serves identities of {identity.owner} that policies tell apart from this one"
            )
        raise Exhausted(
            f"no fixed address is left for {identity.owner}: "
            + "; ".join(self._numbers(state, network) for network in full.networks)
        )

    def _has_room(self, network: Network, identity: Identity) -> bool:
        there = self._book.choose(network.name, identity.id, self._clock())
        if there is not None:
            self._book.settle(there)
        return there is not None

    def _take_block(self, state: State, draft: Draft, identity: Identity, network: Network, cidr: Prefix) -> bool:
        """Have a certain block serve an identity, where it may."""
        if cidr not in state.blocks:
            refuse_retired(state, cidr)
            put_block(state, draft, identity, network, cidr)
            return True
        return self._join_block(state, draft, identity, cidr)

    def _join(self, state: State, draft: Draft, identity: Identity, network: Network) -> bool:
        """Have a block of the same owner and class that has room serve an identity too."""
        return any(
            not self._is_full(cidr) and self._join_block(state, draft, identity, cidr)
            for cidr in self._book.blocks_of(network.name, identity.owner)
        )

    def _join_block(self, state: State, draft: Draft, identity: Identity, cidr: Prefix) -> bool:
        block, own_class = state.blocks[cidr], self._core.class_of(identity)
        if any(self._core.classes.get(other) != own_class for other in block.identities):
            return False
        members = tuple(sorted({*block.identities, identity.id}))
        draft.put(BLOCK, BLOCK.key(cidr), msgspec.structs.replace(block, identities=members))
        return True

    def _is_full(self, cidr: Prefix) -> bool:
        return self._book.is_full(cidr, self._clock())

    def _new_blocks(self, state: State, draft: Draft, identity: Identity, network: Network) -> bool:
        count = min(MOST_BLOCKS, max(1, len(self._book.blocks_of(network.name, identity.owner)) // 8))
        made: list[Prefix] = []
        for _ in range(count):
            cidr = next_block(network, state.served)
            if cidr is None:
                break
            made.append(cidr)
            state.served.add(cidr)  # for the length of this loop
        for cidr in made:
            state.served.remove(cidr)
            self._book.prefer(cidr)
            put_block(state, draft, identity, network, cidr)
        return bool(made)

    def _numbers(self, state: State, network: Network) -> str:
        counts = self._book.counts(network.name, self._clock())
        size = sum(static.size for static in network.static)
        room = sum(1 << max(0, network.block_length - static.length) for static in network.static)
        return (
            f"network {network.name}: static {', '.join(map(str, network.static))} has {size} address(es) in {room} "
            f"block(s) of /{network.block_length}, {counts['blocks']} block(s) have an owner, {counts['in-use']} "
            f"address(es) in use, {counts['resting']} resting, {len(network.reserved)} CIDR(s) reserved, "
            f"{sum(one.network == network.name for one in state.retired.values())} retired"
        )

    async def release(self, name: str) -> None:
        """Take the addresses of a name back; Conflict while somebody uses them."""

        def decide(state: State, draft: Draft) -> None:
            known = known_reservation(state, name)
            if known.host:
                raise Conflict(f"address {name} is in use by {known.endpoint} on host {known.host}; end that use first")
            put_released(draft, known)

        await self._core.commit(decide)

    async def use(self, name: str, document: object) -> Reservation:
        """Say that an endpoint uses the addresses now; Conflict while another one does."""
        wanted = convert(document, UseDocument)

        def decide(state: State, draft: Draft) -> Reservation:
            known = known_reservation(state, name)
            check_identity(known, wanted)
            same = (known.host, known.endpoint) == (wanted.host, wanted.endpoint)
            if known.host and not same:
                raise Conflict(f"address {name} is in use by {known.endpoint} on host {known.host}; end that use first")
            host = _user(state, wanted.host, wanted.epoch)
            if same and wanted.epoch in (0, known.epoch):
                return known
            if not same:
                check_free_endpoint(state, wanted.endpoint)
            put_bound(draft, name, host, wanted.endpoint)
            used = with_use(state, known, wanted.host, wanted.endpoint, epoch=wanted.epoch)
            draft.put(RESERVATION, RESERVATION.key(name), used)
            return used

        if not wanted.host or not wanted.endpoint:
            raise Invalid(Fault("", "a use needs both a host and an endpoint"))
        return (await self._core.commit(decide))[1]

    async def end_use(self, name: str, endpoint: str = "") -> None:
        """Say that an endpoint (or whoever it is) uses the addresses no more; nobody does already is success."""

        def decide(state: State, draft: Draft) -> None:
            known = known_reservation(state, name)
            if not known.host:
                return
            if endpoint not in ("", known.endpoint):
                raise Conflict(f"address {name} is in use by {known.endpoint}, not by {endpoint}")
            if known.epoch:
                raise Conflict(
                    f"the agent of host {known.host} has address {name} for {known.endpoint}; the use ends with that "
                    "workload, or with the host (`romana host lost`)"
                )
            for allocation in known.allocations:
                if state.holder(allocation.address) is not None:
                    raise Conflict(f"endpoint {known.endpoint} still has {allocation.address}; end its workload first")
            put_use_ended(state, draft, known)

        await self._core.commit(decide)

    async def confirm(self) -> bool:
        """Somebody's word, after a restore, that all fixed addresses that were given are known; whether it was needed.
        Unavailable while hosts did not say yet which ones they use.
        """

        def decide(state: State, draft: Draft) -> bool:
            if not state.held:
                return False
            check_settled(state)
            draft.delete(HELD_KEY)
            return True

        _, held = await self._core.commit(decide)
        if held:
            log.warning("the fixed addresses of this restored store were confirmed")
        return held

    async def give_back_idle(self) -> int:
        """Retire the control plane's blocks in which nobody has had an address for a while, so that other owners can
        have them; how many.
        """
        if self._core.state.held:
            return 0
        self._follow(self._core.state)
        now = self._clock()
        idle = self._book.idle(now)
        self._idle = {cidr: self._idle.get(cidr, now) for cidr in idle}
        given = [cidr for cidr, since in self._idle.items() if since + IDLE <= now and cidr.size <= MOST_COMPARED]
        for cidr in given:
            try:
                await self._core.commit(functools.partial(put_retired, cidr))
            except Conflict:
                continue
        return len(given)

    async def run(self) -> None:
        """Look for idle blocks for ever."""
        while True:
            await asyncio.sleep(IDLE / 2)
            try:
                await self.give_back_idle()
            except RomanaError as error:
                log.warning("idle blocks could not be given back", **problem_words(error))

    def _follow(self, state: State) -> None:
        """Bring the book to the state."""
        self._book.plan(state.networks)
        for cidr in state.served_touched:
            block = state.blocks.get(cidr)
            self._book.put_block(cidr, block if block is not None and block.allocator == SERVER else None)
        state.served_touched.clear()
        now = self._clock()
        for address in state.fixed_touched:
            fixed, revision = state.fixed.get(address), state.revisions.of(FIXED.key(address))
            self._book.put_address(address, None if fixed is None else fixed.reservation, now, revision)
        state.fixed_touched.clear()

    def _settle(self, chosen: list[Address]) -> None:
        """It is known what became of these."""
        self._follow(self._core.state)
        for address in chosen:
            self._book.settle(address)
        chosen.clear()


def _user(state: State, host: str, epoch: int) -> Host:
    """The host on which a use begins; NotFound, or Conflict when it is draining, or when its agent is not the one that
    asks.
    """
    found = bound_host(state, host, epoch) if epoch else known_host(state, host)
    if found.draining:
        raise Conflict(f"host {host} is draining, so nothing new starts there; start the workload elsewhere")
    return found
