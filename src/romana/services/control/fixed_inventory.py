"""Fixed addresses that endpoints of a host use, against a restored store that may not know that they were given.

Owns which reservations, addresses and blocks that changes. The host's word about itself counts, unless another host has
said before that it uses the same. Invariants: an endpoint that is taken over with a fixed address has a reservation of
it that names the endpoint and its host; no block is made over something else, and none changes its owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
import structlog

from romana.codec.records import (
    BLOCK,
    BOUND,
    ENDPOINT,
    FIXED,
    IDENTITY,
    PLAN_KEY,
    RESERVATION,
    RETIRED,
    SEGMENT,
    TENANT,
    FixedAddress,
    StoredIdentity,
)
from romana.core.ipam.reservations import static_range
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.ipam import SERVER, Allocation, Block, Reservation, Retired, Span
from romana.model.tenancy import Identity, Segment, Tenant
from romana.model.topology import Host, Network
from romana.services.control.core import Draft
from romana.services.control.reservations import put_block, put_bound, put_use_ended, with_use
from romana.services.control.state import State

LONGEST = 50
"""Characters of an endpoint's id that are a part of a name as they are."""

log = structlog.get_logger()


def is_fixed(state: State, allocation: Allocation) -> bool:
    """Whether an address is one that only the control plane gives."""
    block = state.blocks.get(allocation.block)
    return _network(state, allocation) is not None if block is None else block.allocator == SERVER


def put_identity(state: State, draft: Draft, identity: Identity) -> None:
    """An identity, with the tenant and the segment, that was made after the backup, and is in use."""
    if identity.id in state.identities:
        return
    draft.put(IDENTITY, IDENTITY.key(identity.id), StoredIdentity(identity=identity))
    owner = identity.owner
    if owner.tenant not in state.tenants and TENANT.key(owner.tenant) not in draft.puts:
        log.warning("a tenant that is in use is not in the backup; apply its policies again", tenant=owner.tenant)
        draft.put(TENANT, TENANT.key(owner.tenant), Tenant(name=owner.tenant))
    if (owner.tenant, owner.segment) not in state.segments:
        segment = Segment(tenant=owner.tenant, name=owner.segment)
        draft.put(SEGMENT, SEGMENT.key(owner.tenant, owner.segment), segment)


def end_gone(state: State, draft: Draft, endpoint: Endpoint) -> None:
    """An endpoint is not there any more, so it uses nothing."""
    used = state.reservation_of(endpoint.id)
    if used is not None and used.host == endpoint.host:
        put_use_ended(state, draft, used)


def unbind(state: State, draft: Draft, host: Host, endpoint: Endpoint) -> None:
    """What an endpoint uses is used by no other endpoint of its host, and it uses nothing else. Names stay."""
    mine = {one.address for one in endpoint.allocations}
    used = [state.reservations[name] for name in _names(state, endpoint.allocations) if name in state.reservations]
    before = state.reservation_of(endpoint.id)
    stale = [one for one in used if one.host == host.name and one.endpoint != endpoint.id]
    if before is not None and not mine.issuperset(one.address for one in before.allocations):
        stale += [before] if before.host == host.name or before.host in state.unsettled else []
    for one in stale:
        if RESERVATION.key(one.name) not in draft.puts:
            draft.delete(BOUND.key(one.endpoint))
            draft.put(RESERVATION, RESERVATION.key(one.name), with_use(state, one))


class FixedTakeOver:
    """One decision about endpoints of a host."""

    def __init__(self, state: State, draft: Draft, host: Host) -> None:
        self._state = state
        self._draft = draft
        self._host = host
        self._blocks: dict[Prefix, Block] = {}  # that this decision has changed
        self._taken: set[object] = set()  # addresses that this decision has taken over

    def take_over(self, endpoint: Endpoint) -> str:
        """Know the fixed addresses of an endpoint, or say why not. Unavailable while a host that did not say yet what
        it holds may hold some of them.
        """
        mine = tuple(one for one in endpoint.allocations if is_fixed(self._state, one))
        if not mine:
            return ""
        for allocation in mine:
            why = self._fault(endpoint, allocation)
            if why:
                return f"endpoint {endpoint.id} has {allocation.address}, {why}"
        names = _names(self._state, mine)
        known = self._state.reservations.get(min(names)) if names else None
        if names:
            why = self._conflict(endpoint, mine, known)
            if why:
                return f"endpoint {endpoint.id} has {', '.join(str(one.address) for one in mine)}, {why}"
        self._put(endpoint, mine, known)
        return ""

    def _fault(self, endpoint: Endpoint, allocation: Allocation) -> str:
        """Why an endpoint cannot have that address in that block."""
        cidr, owner = allocation.block, endpoint.identity.owner
        network = _network(self._state, allocation)
        if network is None or allocation.address.supernet(network.block_length) != cidr:
            return f"in {cidr}, which is no block of a static range of the plan"
        holder = self._state.holder(allocation.address)
        if allocation.address in self._taken:
            return "which another endpoint of the host has"
        if holder not in (None, endpoint.id) and not self._may_yield(self._state.endpoints[holder].host):
            return f"which endpoint {holder} has"
        block = self._block(cidr)
        if block is not None:
            return "" if block.owner == owner else f"in block {cidr} of {block.owner}, and is of {owner}"
        return self._overlap(cidr)

    def _overlap(self, cidr: Prefix) -> str:
        """What a block that is not there would lie over."""
        state = self._state
        others: list[Span | Retired | Block] = [span for span in state.spans.values() if span.host != SERVER]
        others += (one for one in state.retired.values() if one.cidr != cidr)
        others += state.blocks_on(SERVER).values()
        for other in others:
            if not other.cidr.overlaps(cidr):
                continue
            if other.host != SERVER and other.host in state.unsettled:
                raise Unavailable(
                    f"host {self._host.name} holds addresses that the backup gives to {other.host}, which did not say "
                    "yet what it holds; start its agent, or say `romana host lost NAME` of a machine that is off"
                )
            return f"in {cidr}, over which {other.cidr} of {_whose(other.host)} lies"
        return ""

    def _conflict(self, endpoint: Endpoint, mine: tuple[Allocation, ...], known: Reservation | None) -> str:
        """Why an endpoint does not use the reservation that has its addresses."""
        if known is None or {one.address for one in known.allocations} != {one.address for one in mine}:
            return f"not all of what belongs to {', '.join(sorted(_names(self._state, mine)))}"
        if known.identity.owner != endpoint.identity.owner:
            return f"which belongs to {known.name} of {known.identity.owner}, and is of {endpoint.identity.owner}"
        same = (known.host, known.endpoint) == (self._host.name, endpoint.id)
        if known.host and not same and not self._may_yield(known.host):
            return f"which belongs to {known.name}, in use by {known.endpoint} on host {known.host}"
        return ""

    def _may_yield(self, host: str) -> bool:
        """Whether what the store says of a host is what the backup said of it."""
        return host != self._host.name and host in self._state.unsettled

    def _put(self, endpoint: Endpoint, mine: tuple[Allocation, ...], known: Reservation | None) -> None:
        state, draft = self._state, self._draft
        draft.read(PLAN_KEY)
        put_identity(state, draft, endpoint.identity)
        name = known.name if known is not None else self._name(endpoint, mine)
        for allocation in mine:
            self._put_block(endpoint.identity, allocation)
            self._taken.add(allocation.address)
            fixed = FixedAddress(reservation=name)
            if state.fixed.get(allocation.address) != fixed:
                draft.put(FIXED, FIXED.key(allocation.address), fixed)
            holder = state.holder(allocation.address)
            if holder not in (None, endpoint.id) and ENDPOINT.key(holder) not in draft.deletes:
                draft.delete(ENDPOINT.key(holder))
        reservation = Reservation(
            name=name,
            identity=endpoint.identity,
            allocations=mine,
            host=self._host.name,
            endpoint=endpoint.id,
            sticky=known is not None and known.sticky,
            epoch=self._host.epoch,
        )
        if known is not None and known.endpoint not in ("", endpoint.id):
            draft.delete(BOUND.key(known.endpoint))
        if reservation != known:
            draft.put(RESERVATION, RESERVATION.key(name), reservation)
            put_bound(draft, name, self._host, endpoint.id)

    def _put_block(self, identity: Identity, allocation: Allocation) -> None:
        """The block is there, and serves the identity."""
        cidr = allocation.block
        block, network = self._block(cidr), _network(self._state, allocation)
        if block is None and network is not None:
            self._blocks[cidr] = put_block(self._state, self._draft, identity, network, cidr)
            if cidr in self._state.retired:
                self._draft.delete(RETIRED.key(cidr))
        elif block is not None and identity.id not in block.identities:
            members = tuple(sorted({*block.identities, identity.id}))
            self._blocks[cidr] = msgspec.structs.replace(block, identities=members)
            self._draft.put(BLOCK, BLOCK.key(cidr), self._blocks[cidr])
        else:
            self._draft.read(BLOCK.key(cidr))

    def _block(self, cidr: Prefix) -> Block | None:
        return self._blocks.get(cidr) or self._state.blocks.get(cidr)

    def _name(self, endpoint: Endpoint, mine: Iterable[Allocation]) -> str:
        """A name for addresses whose name only the lost store knew."""
        text = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in endpoint.id)
        name = f"restored.{text}"
        if text == endpoint.id and len(text) <= LONGEST and name not in self._state.reservations:
            return name
        whole = " ".join([endpoint.id, *(str(one.address) for one in mine)])
        return f"restored.{text[: LONGEST - 13]}.{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def _names(state: State, allocations: Iterable[Allocation]) -> set[str]:
    """The reservations that have some of these addresses."""
    found = (state.fixed.get(one.address) for one in allocations)
    return {one.reservation for one in found if one is not None and one.reservation}


def _network(state: State, allocation: Allocation) -> Network | None:
    """The network in a static range of which an address lies."""
    networks = state.networks.values()
    return next((one for one in networks if static_range(one, allocation.address) is not None), None)


def _whose(host: str) -> str:
    return "the control plane" if host == SERVER else f"host {host}"
