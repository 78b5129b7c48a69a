"""Room for identities on hosts: claims, and taking over what agents did."""

from __future__ import annotations

import msgspec

from romana.codec.records import (
    BLOCK,
    ENDPOINT,
    HOST,
    IDENTITY,
    PLAN_KEY,
    PUBLISHED,
    SEGMENT,
    SPAN,
    TENANT,
    Published,
    StoredIdentity,
)
from romana.core.ipam import PublicationState, apply_publication, claim, claim_state, fill_stock
from romana.core.ipam.claims import ClaimChanges, ClaimState
from romana.core.policy.classes import classify
from romana.model.address import Prefix
from romana.model.errors import Conflict
from romana.model.tenancy import Identity
from romana.model.topology import Host
from romana.model.view import Claim, ClaimAnswer, Publication
from romana.services.control.core import Core, Draft
from romana.services.control.hosts import known_host
from romana.services.control.state import State
from romana.services.control.tenancy import known_segment


class RoomVerbs:
    """What agents ask for and report about addresses."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def claim(self, request: Claim) -> ClaimAnswer:
        """Room for an identity on a host; NotFound for an unknown tenant or segment, Exhausted with the numbers."""

        def decide(state: State, draft: Draft) -> tuple[Prefix, ...]:
            host = bound_host(state, request.host, request.epoch)
            owner = request.identity.owner
            known_segment(state, owner.tenant, owner.segment)
            draft.read(
                PLAN_KEY, HOST.key(host.name), TENANT.key(owner.tenant), SEGMENT.key(owner.tenant, owner.segment)
            )
            name = request.identity.id
            changes = claim(claim_state_of(state, host, {name: request.identity}), request)
            if name not in state.identities:
                draft.put(IDENTITY, IDENTITY.key(name), StoredIdentity(identity=request.identity))
            put_claimed(draft, changes, host)
            return changes.answer

        _, blocks = await self._core.commit(decide)
        # The host's view has the blocks, and so the rows, since these records were written, which may be long ago.
        keys = (IDENTITY.key(request.identity.id), *(BLOCK.key(cidr) for cidr in blocks))
        revision = max(self._core.state.revisions.get(key, 0) for key in keys)
        return ClaimAnswer(revision=revision, blocks=blocks)

    async def publish(self, publication: Publication) -> int:
        """Take over what an agent did; a repeated publication changes nothing. Answers the revision that has it."""
        number = Published(epoch=publication.epoch, number=publication.number)

        def decide(state: State, draft: Draft) -> None:
            host = bound_host(state, publication.host, publication.epoch)
            last = state.published.get(host.name)
            if last is not None and last.epoch == publication.epoch and last.number >= publication.number:
                return
            current = PublicationState(blocks=state.blocks, endpoints=state.endpoints, holders=state.holders)
            changes = apply_publication(current, publication)
            for block in changes.blocks:
                draft.put(BLOCK, BLOCK.key(block.cidr), block)
            for endpoint in changes.started:
                draft.put(ENDPOINT, ENDPOINT.key(endpoint.id), endpoint)
            for name in changes.released:
                draft.delete(ENDPOINT.key(name))
            if changes.blocks:
                base = claim_state_of(state, host, {})
                taken = {**state.blocks, **{block.cidr: block for block in changes.blocks}}
                put_claimed(draft, fill_stock(msgspec.structs.replace(base, blocks=taken), host.name), host)
            draft.read(HOST.key(host.name))
            draft.put(PUBLISHED, PUBLISHED.key(host.name), number)

        revision, _ = await self._core.commit(decide)
        return revision


def bound_host(state: State, name: str, epoch: int) -> Host:
    """The host of that name, at that epoch; NotFound, or Conflict for a message of another agent."""
    host = known_host(state, name)
    if host.epoch != epoch:
        raise Conflict(f"host {name} is at epoch {host.epoch}, the request is of epoch {epoch}; report in again")
    return host


def claim_state_of(state: State, host: Host, new: dict[str, Identity]) -> ClaimState:
    """What a host's claims are decided from; `new` are identities that no record has yet."""
    world = state.world()
    if new:
        world = msgspec.structs.replace(world, identities={**state.identities, **new})
    return claim_state(
        state.plan,
        host,
        spans=state.spans,
        blocks=state.blocks,
        class_of=classify(world).of if new else {},
        used=state.used,
    )


def put_claimed(draft: Draft, changes: ClaimChanges, host: Host) -> None:
    """Spans and blocks, and the host's record with them: whoever removes or moves the host must see that it got
    room.
    """
    for span in changes.spans:
        draft.put(SPAN, SPAN.key(span.cidr), span)
    for block in changes.blocks:
        draft.put(BLOCK, BLOCK.key(block.cidr), block)
    if (changes.spans or changes.blocks) and HOST.key(host.name) not in draft.puts:
        draft.put(HOST, HOST.key(host.name), host)
