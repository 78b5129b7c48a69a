"""Room for identities on hosts: claims, and taking over what agents did."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import msgspec

from romana.codec.records import (
    BLOCK,
    ENDPOINT,
    HOST,
    IDENTITY,
    NUMBERS,
    PLAN_KEY,
    PUBLISHED,
    RESERVATION,
    RETIRED,
    SEGMENT,
    SPAN,
    TENANT,
    Published,
    StoredIdentity,
)
from romana.core.ipam import (
    ClaimChanges,
    ClaimState,
    PublicationChanges,
    PublicationState,
    apply_publication,
    claim,
    fill_stock,
)
from romana.core.ipam.bits import without_gone
from romana.core.policy.classes import classify
from romana.core.policy.world import PolicyWorld
from romana.core.topology.place import leaf_groups
from romana.model.address import Prefix
from romana.model.errors import Conflict
from romana.model.ipam import Block, Numbers, Retired
from romana.model.tenancy import Identity
from romana.model.topology import Host, Network
from romana.model.view import Claim, ClaimAnswer, Publication
from romana.services.control.core import Core, Draft
from romana.services.control.hosts import bound_host
from romana.services.control.reservations import put_use_ended
from romana.services.control.settled import check_host_settled, check_settled
from romana.services.control.state import State
from romana.services.control.tenancy import known_segment


class RoomVerbs:
    """What agents ask for and report about addresses."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def claim(self, request: Claim) -> ClaimAnswer:
        """Room for an identity on a host; NotFound for an unknown tenant or segment, Exhausted with the numbers,
        Conflict for a host that is draining.
        """

        def decide(state: State, draft: Draft) -> tuple[Prefix, ...]:
            host = bound_host(state, request.host, request.epoch)
            check_settled(state)
            if host.draining:
                raise Conflict(f"host {host.name} is draining, so it gets no more room; start the workload elsewhere")
            owner = request.identity.owner
            known_segment(state, owner.tenant, owner.segment)
            draft.read(
                PLAN_KEY, HOST.key(host.name), TENANT.key(owner.tenant), SEGMENT.key(owner.tenant, owner.segment)
            )
            name = request.identity.id
            room = claim_state_of(state, host, request.identity)
            draft.read(*(NUMBERS.key(network) for network in room.numbers))
            changes = claim(room, request)
            if name not in state.identities:
                draft.put(IDENTITY, IDENTITY.key(name), StoredIdentity(identity=request.identity))
            put_claimed(draft, changes, host)
            return changes.answer

        _, blocks = await self._core.commit(decide)
        # The host's view has the blocks, and so the rows, since these records were written, which may be long ago.
        keys = (IDENTITY.key(request.identity.id), *(BLOCK.key(cidr) for cidr in blocks))
        revision = max(self._core.state.revisions.of(key) for key in keys)
        return ClaimAnswer(revision=revision, blocks=blocks)

    async def publish(self, publication: Publication) -> int:
        """Take over what an agent did; a repeated publication changes nothing. Answers the revision that has it."""
        number = Published(epoch=publication.epoch, number=publication.number)

        def decide(state: State, draft: Draft) -> None:
            host = bound_host(state, publication.host, publication.epoch)
            check_host_settled(state, host.name)
            last = state.published.get(host.name)
            if last is not None and last.epoch == publication.epoch and last.number >= publication.number:
                return
            changes = apply_publication(publication_state_of(state, host), publication)
            put_published(draft, changes)
            _end_uses(state, draft, publication, changes)
            if changes.blocks and not host.draining and not state.unsettled:
                _refill(state, draft, host, changes)
            draft.read(HOST.key(host.name))
            draft.put(PUBLISHED, PUBLISHED.key(host.name), number)

        revision, _ = await self._core.commit(decide)
        return revision


def publication_state_of(state: State, host: Host) -> PublicationState:
    """What a host's publications are judged by."""
    return PublicationState(
        blocks=state.blocks_on(host.name),
        endpoints=state.endpoints,
        holder=state.holder,
        used=lambda cidr: state.used[cidr],
        reservation=state.reservation_of,
    )


def claim_state_of(state: State, host: Host, identity: Identity | None = None) -> ClaimState:
    """What a host's claims are decided from; `identity` is who claims."""
    groups = leaf_groups(state.plan, host)
    blocks = state.blocks_on(host.name)
    return ClaimState(
        networks=state.networks,
        group_cidrs={name: group.cidrs[name] for name, group in groups.items()},
        sole=frozenset(name for name, group in groups.items() if group.sole_host == host.name),
        spans=state.spans_on(host.name),
        blocks=blocks,
        taken=state.taken,
        retired=state.retired,
        numbers={name: _numbers(state, state.networks[name]) for name in groups if state.networks[name].bits},
        class_of=_classes(state, blocks, identity) if identity is not None else {},
        used=state.used,
        sequence=state.revision,
    )


def put_claimed(draft: Draft, changes: ClaimChanges, host: Host) -> None:
    """Spans and blocks, and the host's record with them: whoever removes or moves the host, or takes a span away, must
    see that it got room. They are of this plan, and of nothing that was given back since.
    """
    if changes.spans or changes.blocks:
        draft.read(PLAN_KEY)
    for span in changes.spans:
        draft.read(RETIRED.key(span.cidr))
        draft.put(SPAN, SPAN.key(span.cidr), span)
    for block in changes.blocks:
        draft.read(SPAN.key(block.span), RETIRED.key(block.cidr))
        draft.put(BLOCK, BLOCK.key(block.cidr), block)
    for network, numbers in changes.numbers.items():
        draft.put(NUMBERS, NUMBERS.key(network), numbers)
    for cidr in changes.revived:
        draft.delete(RETIRED.key(cidr))
    if (changes.spans or changes.blocks) and HOST.key(host.name) not in draft.puts:
        draft.put(HOST, HOST.key(host.name), host)


def put_published(draft: Draft, changes: PublicationChanges) -> None:
    """Blocks and endpoints as an agent has them; what it gave back is retired."""
    for block in changes.blocks:
        draft.put(BLOCK, BLOCK.key(block.cidr), block)
    state = draft.state
    for endpoint in changes.started:
        draft.put(ENDPOINT, ENDPOINT.key(endpoint.id), endpoint)
        used = state.reservation_of(endpoint.id)
        if used is not None:
            draft.read(RESERVATION.key(used.name))
    for name in changes.released:
        draft.delete(ENDPOINT.key(name))
    for block in changes.returned:
        draft.delete(BLOCK.key(block.cidr))
        gone = Retired(cidr=block.cidr, network=block.network, host=block.host)
        draft.put(RETIRED, RETIRED.key(block.cidr), gone)


def _end_uses(state: State, draft: Draft, publication: Publication, changes: PublicationChanges) -> None:
    """Who is gone uses no fixed addresses any more, also when it came and went in one publication."""
    stays = {endpoint.id for endpoint in changes.started}
    for released in publication.released:
        used = state.reservation_of(released.endpoint)
        if used is None or used.host != publication.host or released.endpoint in stays:
            continue
        if {one.address: one.sequence for one in used.allocations} == released.sequences:
            put_use_ended(state, draft, used)


def _refill(state: State, draft: Draft, host: Host, changes: PublicationChanges) -> None:
    """New stock for what was taken from it."""
    base = claim_state_of(state, host)
    blocks: dict[Prefix, Block] = {**base.blocks, **{block.cidr: block for block in changes.blocks}}
    put_claimed(draft, fill_stock(msgspec.structs.replace(base, blocks=blocks), host.name), host)


def _classes(state: State, blocks: Mapping[Prefix, Block], identity: Identity) -> Mapping[str, str]:
    """The classes of an identity and of those beside it; a class depends on policies and tenants alone."""
    beside = {name for block in blocks.values() if block.owner == identity.owner for name in block.identities}
    identities = {name: state.identities[name] for name in beside if name in state.identities}
    world = PolicyWorld(
        tenants=state.tenants,
        policies=state.policies,
        identities={**identities, identity.id: identity},
        networks={},
        blocks={},
        endpoints={},
    )
    return classify(world).of


def _numbers(state: State, network: Network) -> Numbers:
    """The ids of a network, without those of tenants and segments that are gone with all their blocks."""
    return without_gone(
        network,
        state.numbers.get(network.name, Numbers()),
        tenants=state.tenants,
        segments=state.segments,
        blocks=chain(state.blocks, state.retired),
    )
