"""What agents ask for: a place, room for identities, taking over what they did, and their view as it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec
import structlog

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
from romana.core.topology import group_cidrs, place_host
from romana.core.view import ViewSource, diff_view, host_view, snapshot
from romana.model.address import Prefix
from romana.model.errors import Conflict, NotFound
from romana.model.tenancy import Identity
from romana.model.topology import Host
from romana.model.view import Claim, ClaimAnswer, Hello, Publication, View, ViewChange, Welcome
from romana.services.control.core import Core, Draft
from romana.services.control.plan import check_name, known_host, put_roster
from romana.services.control.state import State
from romana.services.control.tenancy import known_segment

log = structlog.get_logger()


class AgentVerbs:
    """ports.ControlPlane, from the server's side."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._live: Counter[str] = Counter()  # host -> open view streams

    async def hello(self, hello: Hello) -> Welcome:
        """Bind an agent's instance to its host.

        An unknown host joins by its labels. Invalid when no group takes it, or when another host has one of its
        addresses; Conflict when another instance of the host is connected.
        """
        check_name("host", hello.host)

        def decide(state: State, draft: Draft) -> Host:
            draft.read(PLAN_KEY)
            known = state.hosts.get(hello.host) or Host(name=hello.host, labels=hello.labels)
            if known.instance not in ("", hello.instance) and self._live[hello.host]:
                raise Conflict(
                    f"another agent (instance {known.instance}) runs for host {hello.host}; stop one of them"
                )
            bound = known
            if known.instance != hello.instance:
                bound = msgspec.structs.replace(known, instance=hello.instance, epoch=known.epoch + 1)
            moved = bool(hello.addresses) and set(hello.addresses) != set(bound.addresses)
            if moved or hello.host not in state.hosts:
                addresses = hello.addresses or bound.addresses
                bound = place_host(state.plan, state.hosts, msgspec.structs.replace(bound, addresses=addresses))
                put_roster(state, draft)
            if bound != state.hosts.get(hello.host):
                draft.put(HOST, HOST.key(hello.host), bound)
            _put_claimed(draft, fill_stock(_claim_state(state, bound, {}), bound.name), bound)
            return bound

        revision, host = await self._core.commit(decide)
        log.info("agent reported in", host=host.name, instance=host.instance, epoch=host.epoch, version=hello.version)
        return Welcome(epoch=host.epoch, incarnation=self._core.incarnation, revision=revision)

    async def claim(self, request: Claim) -> ClaimAnswer:
        """Room for an identity on a host; NotFound for an unknown tenant or segment, Exhausted with the numbers."""

        def decide(state: State, draft: Draft) -> tuple[Prefix, ...]:
            host = _bound_host(state, request.host, request.epoch)
            owner = request.identity.owner
            known_segment(state, owner.tenant, owner.segment)
            draft.read(
                PLAN_KEY, HOST.key(host.name), TENANT.key(owner.tenant), SEGMENT.key(owner.tenant, owner.segment)
            )
            name = request.identity.id
            changes = claim(_claim_state(state, host, {name: request.identity}), request)
            if name not in state.identities:
                draft.put(IDENTITY, IDENTITY.key(name), StoredIdentity(identity=request.identity))
            _put_claimed(draft, changes, host)
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
            host = _bound_host(state, publication.host, publication.epoch)
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
                base = _claim_state(state, host, {})
                taken = {**state.blocks, **{block.cidr: block for block in changes.blocks}}
                _put_claimed(draft, fill_stock(msgspec.structs.replace(base, blocks=taken), host.name), host)
            draft.read(HOST.key(host.name))
            draft.put(PUBLISHED, PUBLISHED.key(host.name), number)

        revision, _ = await self._core.commit(decide)
        return revision

    @contextmanager
    def connected(self, host: str) -> Iterator[None]:
        """While the host's view is followed, no other instance may report in."""
        self._live[host] += 1
        try:
            yield
        finally:
            self._live[host] -= 1

    async def view(self, host: str) -> AsyncIterator[ViewChange]:
        """A snapshot, then changes, for ever; NotFound for an unknown host."""
        known_host(self._core.state, host)
        with self.connected(host):
            last = self._view(host)
            seen = last.revision
            yield snapshot(last)
            while True:
                await self._core.reached(seen + 1)
                seen = self._core.state.revision
                if host not in self._core.state.hosts:
                    raise NotFound(f"host {host} was removed")
                new = self._view(host)
                change = diff_view(last, new)
                if change is not None:
                    last = new
                    yield change

    def _view(self, host: str) -> View:
        state = self._core.state
        source = ViewSource(
            incarnation=self._core.incarnation,
            revision=state.revision,
            networks={network.name: network for network in state.plan.networks},
            spans=state.spans,
            blocks=state.blocks,
            identities=state.identities,
            program=self._core.program,
        )
        return host_view(source, host, frozenset(group_cidrs(state.plan, state.hosts[host])))


def _bound_host(state: State, name: str, epoch: int) -> Host:
    host = known_host(state, name)
    if host.epoch != epoch:
        raise Conflict(f"host {name} is at epoch {host.epoch}, the request is of epoch {epoch}; report in again")
    return host


def _claim_state(state: State, host: Host, new: dict[str, Identity]) -> ClaimState:
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


def _put_claimed(draft: Draft, changes: ClaimChanges, host: Host) -> None:
    """Spans and blocks, and the host's record with them: whoever removes or moves the host must see that it got
    room.
    """
    for span in changes.spans:
        draft.put(SPAN, SPAN.key(span.cidr), span)
    for block in changes.blocks:
        draft.put(BLOCK, BLOCK.key(block.cidr), block)
    if (changes.spans or changes.blocks) and HOST.key(host.name) not in draft.puts:
        draft.put(HOST, HOST.key(host.name), host)
