"""What an agent did, taken over by the control plane: blocks taken, endpoints started and gone, blocks given back.

Owns the rules by which an agent's word is believed. Refuses to know how it is stored. Invariants: an address has one
endpoint; an agent's endpoints lie in blocks that it allocates and that serve their identity, or have fixed addresses;
no block is given back with an endpoint in it; a stale message changes nothing, and a repeated one neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec

from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Fault, Invalid
from romana.model.ipam import Allocation, Block, Reservation
from romana.model.view import BlockReturned, BlockTaken, Publication, Released

K = TypeVar("K")
V = TypeVar("V")


def _no_reservation(_endpoint: str) -> None:
    return None


class PublicationState(msgspec.Struct, frozen=True, kw_only=True):
    """What a publication is judged by: `blocks` (at least the host's), `endpoints` by id; `holder` answers who has an
    address, `used` how many published addresses a block has, `reservation` which fixed addresses an endpoint uses.
    """

    blocks: Mapping[Prefix, Block]
    endpoints: Mapping[str, Endpoint]
    holder: Callable[[Address], str | None]
    used: Callable[[Prefix], int]
    reservation: Callable[[str], Reservation | None] = _no_reservation


class PublicationChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to store: changed blocks, new or changed endpoints, the ids of endpoints to delete, and blocks that are
    retired.
    """

    blocks: tuple[Block, ...] = ()
    started: tuple[Endpoint, ...] = ()
    released: tuple[str, ...] = ()
    returned: tuple[Block, ...] = ()


def apply_publication(state: PublicationState, publication: Publication) -> PublicationChanges:
    """The changes of one publication, whole or not at all; Conflict or Invalid as the functions below raise them.

    Its lists have lost the order between a start and a release, which sequences tell: what started and is gone again
    never appears, and a release frees its address before another endpoint starts with it. Nothing happens in a block
    after it was given back, so that comes last.
    """
    blocks = _Overlay(state.blocks)
    endpoints = _Overlay(state.endpoints)
    holders: dict[Address, str | None] = {}

    def holder(address: Address) -> str | None:
        return holders[address] if address in holders else state.holder(address)

    current = PublicationState(
        blocks=blocks, endpoints=endpoints, holder=holder, used=state.used, reservation=state.reservation
    )
    users: Counter[Prefix] = Counter()
    taken: dict[Prefix, Block] = {}
    back = {(one.cidr, one.sequence) for one in publication.returned}
    for one in publication.taken:
        if one.cidr not in blocks and (one.cidr, one.sequence) in back:
            continue  # a repetition: it is known to be given back
        block = apply_taken(blocks, publication.host, one)
        if block is not None:
            taken[one.cidr] = block
            blocks.put(one.cidr, block)
    gone = {(released.endpoint, _key(released.sequences)) for released in publication.released}
    removed: dict[str, None] = {}
    for released in publication.released:
        if apply_released(endpoints, publication.host, released):
            known = endpoints[released.endpoint]
            users.subtract(allocation.block for allocation in known.allocations)
            holders |= dict.fromkeys(known.addresses, None)
            endpoints.put(released.endpoint, None)
            removed[released.endpoint] = None
    started: dict[str, Endpoint] = {}
    for endpoint in publication.started:
        if (endpoint.id, _key(_sequences(endpoint))) in gone:
            continue
        if endpoint.host != publication.host:
            raise Invalid(Fault(f"started.{endpoint.id}", f"is on {endpoint.host}, not on {publication.host}"))
        accepted = apply_started(current, endpoint)
        if accepted is not None:
            if endpoint.id not in endpoints:
                users.update(allocation.block for allocation in accepted.allocations)
            started[endpoint.id] = accepted
            endpoints.put(endpoint.id, accepted)
            holders |= dict.fromkeys(accepted.addresses, endpoint.id)
    returned = [
        block
        for one in publication.returned
        if (block := apply_returned(blocks, publication.host, one)) is not None
        and state.used(one.cidr) + users[one.cidr] == 0
    ]
    gone_blocks = {block.cidr for block in returned}
    return PublicationChanges(
        blocks=tuple(block for block in taken.values() if block.cidr not in gone_blocks),
        started=tuple(started.values()),
        released=tuple(name for name in removed if name not in started),
        returned=tuple(returned),
    )


def apply_taken(blocks: Mapping[Prefix, Block], host: str, taken: BlockTaken) -> Block | None:
    """The block with its new owner; None when that is known already, or long past.

    Invalid when the block is not the host's to give; Conflict when it has another owner or another history.
    """
    block = blocks.get(taken.cidr)
    place = f"taken.{taken.cidr}"
    if block is None or block.host != host or block.allocator != host:
        raise Invalid(Fault(place, f"is no block that host {host} allocates"))
    if block.owner == taken.owner and block.sequence == taken.sequence and taken.identity in block.identities:
        return None
    if taken.sequence < block.sequence:
        return None
    if not block.is_stock:
        owner = block.owner or "several owners"
        raise Conflict(f"block {block.cidr} belongs to {owner} (use {block.sequence}), not to {taken.owner}")
    if taken.sequence != block.sequence + 1:
        raise Conflict(f"block {block.cidr} is at use {block.sequence}; {host} took it as use {taken.sequence}")
    return msgspec.structs.replace(block, owner=taken.owner, identities=(taken.identity,), sequence=taken.sequence)


def apply_returned(blocks: Mapping[Prefix, Block], host: str, returned: BlockReturned) -> Block | None:
    """The block that is given back; None when that is known already, for another use of the block, and for one that is
    not the host's to give back.
    """
    block = blocks.get(returned.cidr)
    if block is None or block.host != host or block.allocator != host or block.sequence != returned.sequence:
        return None
    return block


def apply_started(state: PublicationState, endpoint: Endpoint) -> Endpoint | None:
    """The endpoint to store; None when it is known exactly so.

    Invalid when an address is neither in a block that its host allocates and that serves its identity, nor a fixed one
    that it uses; Conflict when an address or the id belongs to another endpoint.
    """
    known = state.endpoints.get(endpoint.id)
    if known == endpoint:
        return None
    if known is not None and (known.host != endpoint.host or known.allocations != endpoint.allocations):
        raise Conflict(
            f"endpoint {endpoint.id} is known on host {known.host} with {_listed(known)}; "
            f"{endpoint.host} reports {_listed(endpoint)}"
        )
    faults = [fault for index in range(len(endpoint.allocations)) for fault in _faults(state, endpoint, index)]
    if len({address.family for address in endpoint.addresses}) != len(endpoint.addresses) or not endpoint.addresses:
        faults.append(Fault(f"started.{endpoint.id}", f"needs one address a family, has {_listed(endpoint)}"))
    if faults:
        raise Invalid(*faults)
    for address in endpoint.addresses:
        holder = state.holder(address)
        if holder not in (None, endpoint.id):
            raise Conflict(f"{address} belongs to endpoint {holder}, so {endpoint.id} cannot have it")
    return endpoint


def apply_released(endpoints: Mapping[str, Endpoint], host: str, released: Released) -> bool:
    """Whether the endpoint is to be deleted. False for one that is gone, for another use of its addresses, and for one
    that is another host's.
    """
    known = endpoints.get(released.endpoint)
    return known is not None and known.host == host and _sequences(known) == released.sequences


class _Overlay(Mapping[K, V], Generic[K, V]):
    """A mapping with changes over it, so that a publication costs nothing for what it does not touch."""

    def __init__(self, below: Mapping[K, V]) -> None:
        self.below = below
        self.changes: dict[K, V | None] = {}

    def put(self, key: K, value: V | None) -> None:
        """Set a value; None takes the key away."""
        self.changes[key] = value

    def __getitem__(self, key: K) -> V:
        value = self.changes[key] if key in self.changes else self.below[key]
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self.below if key not in self.changes)
        yield from (key for key, value in self.changes.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _faults(state: PublicationState, endpoint: Endpoint, index: int) -> list[Fault]:
    allocation = endpoint.allocations[index]
    place = f"started.{endpoint.id}.allocations[{index}]"
    block = state.blocks.get(allocation.block)
    if block is None or block.host != endpoint.host or block.allocator != endpoint.host:
        if _is_fixed(state.reservation(endpoint.id), endpoint, allocation):
            return []
        return [Fault(place, f"{allocation.block} is no block that host {endpoint.host} allocates")]
    faults = []
    if not block.cidr.contains(allocation.address):
        faults.append(Fault(place, f"{allocation.address} is not in block {block.cidr}"))
    if allocation.endpoint != endpoint.id:
        faults.append(Fault(place, f"{allocation.address} was allocated for {allocation.endpoint}"))
    mine = block.mixed or block.owner == endpoint.identity.owner
    if endpoint.identity.id not in block.identities or not mine:
        faults.append(Fault(place, f"block {block.cidr} does not serve identity {endpoint.identity.id}"))
    return faults


def _is_fixed(reservation: Reservation | None, endpoint: Endpoint, allocation: Allocation) -> bool:
    """Whether the control plane itself gave that address to this use: to this endpoint, there, now."""
    return (
        reservation is not None
        and (reservation.host, reservation.endpoint) == (endpoint.host, endpoint.id)
        and reservation.identity == endpoint.identity
        and allocation in reservation.allocations
    )


def _sequences(endpoint: Endpoint) -> dict[Address, int]:
    return {allocation.address: allocation.sequence for allocation in endpoint.allocations}


def _key(sequences: Mapping[Address, int]) -> tuple[tuple[Address, int], ...]:
    return tuple(sorted(sequences.items()))


def _listed(endpoint: Endpoint) -> str:
    return ", ".join(f"{one.address} (use {one.sequence})" for one in endpoint.allocations) or "no address"
