"""The hosts: added, changed, drained, removed and declared lost by people's word.

Owns what may be done to a host without its agent. Invariant: a host that holds a span is never removed, because a
silent host is not a dead one; what is taken from a host is retired, and its agent bound to nothing any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import structlog

from romana.codec.document import convert
from romana.codec.records import (
    BLOCK,
    ENDPOINT,
    HOST,
    PEERING,
    PLAN_KEY,
    PUBLISHED,
    RETIRED,
    ROSTER,
    ROSTER_KEY,
    SEEN,
    SPAN,
    UNSETTLED,
    Roster,
)
from romana.core.topology import place_host
from romana.model.address import Address, Prefix
from romana.model.errors import Conflict, Fault, Invalid, NotFound
from romana.model.ipam import Retired
from romana.model.topology import Host
from romana.services.control.core import Core, Draft
from romana.services.control.reservations import put_use_ended
from romana.services.control.state import State

log = structlog.get_logger()

SHOWN = 5
"""Things of a host that a refusal lists."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")


class HostDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host as people add it: its underlay addresses, and the labels that choose its group."""

    addresses: tuple[Address, ...] = ()
    labels: dict[str, str] = {}


class HostVerbs:
    """Hosts, as people see them."""

    def __init__(self, core: Core, is_connected: Callable[[str], bool]) -> None:
        """`is_connected` says whether a host's agent is there, at this romanad or another."""
        self._core = core
        self._is_connected = is_connected

    async def set_host(self, name: str, document: object) -> Host:
        """Add a host, or change its addresses and labels. Invalid when no group takes it."""
        wanted = convert(document, HostDocument)

        def decide(state: State, draft: Draft) -> Host:
            draft.read(PLAN_KEY)
            known = state.hosts.get(name, Host(name=name))
            host = msgspec.structs.replace(known, addresses=wanted.addresses, labels=wanted.labels)
            placed = place_host(state.plan, state.hosts, host, state.blackouts)
            if placed != state.hosts.get(name):
                draft.put(HOST, HOST.key(name), placed)
                put_roster(state, draft)
            return placed

        _, host = await self._core.commit(decide)
        return host

    async def remove_host(self, name: str) -> None:
        """Remove a host that holds no span, has no endpoint and uses no fixed address; Conflict when it does, because a
        silent host is not a dead one.
        """

        def decide(state: State, draft: Draft) -> None:
            if name not in state.hosts:
                raise NotFound(f"no host {name!r}; `romana host list` shows them")
            held = sorted(str(cidr) for cidr in state.spans_on(name)) + [one.id for one in state.endpoints_on(name)]
            held += [f"address {one} for {use.endpoint}" for one, use in state.reservations_on(name).items()]
            if held:
                more = f" and {len(held) - SHOWN} more" if len(held) > SHOWN else ""
                raise Conflict(
                    f"host {name} still holds {', '.join(held[:SHOWN])}{more}; drain it first (`romana host drain "
                    f"{name}`), or say that the machine is off (`romana host lost {name}`)"
                )
            draft.delete(HOST.key(name))
            _forget(state, draft, name)
            put_roster(state, draft)

        await self._core.commit(decide)

    async def drain(self, name: str, *, undo: bool = False) -> Host:
        """Give a host no more room, so that its agent gives back what it does not use; or, to `undo`, do so again."""

        def decide(state: State, draft: Draft) -> Host:
            known = known_host(state, name)
            host = msgspec.structs.replace(known, draining=not undo)
            if host != known:
                draft.put(HOST, HOST.key(name), host)
            return host

        _, host = await self._core.commit(decide)
        return host

    async def lost(self, name: str) -> Taken:
        """The operator's word that a machine is off: everything that it held is retired at once, and its endpoints are
        gone. Conflict while its agent is connected.
        """

        def decide(state: State, draft: Draft) -> Taken:
            host = known_host(state, name)
            if self._is_connected(name):
                raise Conflict(
                    f"the agent of host {name} is connected, or was a moment ago; if the machine is off, say so again "
                    f"in a minute, and if it runs, stop it first, or drain the host (`romana host drain {name}`)"
                )
            if not _holds_anything(state, host):
                return Taken(host=name, spans=(), endpoints=0, held=False)
            return take_away(state, draft, host)

        _, taken = await self._core.commit(decide)
        if taken.held:
            log.warning("host declared lost", host=name, spans=[str(cidr) for cidr in taken.spans])
        return taken


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken from a host; not `held` when there was nothing, and no agent bound to its name."""

    host: str
    spans: tuple[Prefix, ...]
    endpoints: int
    held: bool = True


def _holds_anything(state: State, host: Host) -> bool:
    name = host.name
    known = (state.published, state.seen, state.unsettled)
    return bool(
        host.instance
        or host.machine
        or state.spans_on(name)
        or state.blocks_on(name)
        or state.endpoints_on(name)
        or any(name in table for table in known)
        or state.reservations_on(name)
    )


def take_away(state: State, draft: Draft, host: Host) -> Taken:
    """Retire everything that a host holds, forget its endpoints, and bind its name to no agent: the next one to report
    in, also the same one, is new. The caller knows that no endpoint of the host runs any more.
    """
    spans = sorted(state.spans_on(host.name).values(), key=lambda one: one.cidr)
    endpoints = state.endpoints_on(host.name)
    for span in spans:
        draft.delete(SPAN.key(span.cidr))
        gone = Retired(cidr=span.cidr, network=span.network, host=host.name)
        draft.put(RETIRED, RETIRED.key(span.cidr), gone)
    for cidr in state.blocks_on(host.name):
        draft.delete(BLOCK.key(cidr))
    for endpoint in endpoints:
        draft.delete(ENDPOINT.key(endpoint.id))
    for reservation in state.reservations.values():
        if reservation.host == host.name:
            put_use_ended(state, draft, reservation)
    _forget(state, draft, host.name)
    draft.put(HOST, HOST.key(host.name), msgspec.structs.replace(host, instance="", machine="", epoch=host.epoch + 1))
    return Taken(host=host.name, spans=tuple(span.cidr for span in spans), endpoints=len(endpoints))


def _forget(state: State, draft: Draft, name: str) -> None:
    """What is known of a host's agent."""
    kinds = (
        (PUBLISHED, state.published),
        (SEEN, state.seen),
        (UNSETTLED, state.unsettled),
        (PEERING, state.peerings),
    )
    for kind, table in kinds:
        draft.read(kind.key(name))  # also its absence: the agent may be heard of meanwhile, for the first time
        if name in table:
            draft.delete(kind.key(name))


def put_roster(state: State, draft: Draft) -> None:
    """A host comes, goes, or has other addresses or labels: of such decisions, and of new plans, one goes first."""
    draft.put(ROSTER, ROSTER_KEY, Roster(changes=state.roster_changes + 1))


def known_host(state: State, name: str) -> Host:
    """The host of that name; NotFound with what to do."""
    host = state.hosts.get(name)
    if host is None:
        raise NotFound(f"no host {name!r}; add it with `romana host add`, or name it in the topology")
    return host


def bound_host(state: State, name: str, epoch: int) -> Host:
    """The host of that name, at that epoch; NotFound, or Conflict for a message of another agent."""
    host = known_host(state, name)
    if host.epoch != epoch:
        raise Conflict(f"host {name} is at epoch {host.epoch}, the request is of epoch {epoch}; report in again")
    return host


def check_name(kind: str, name: str) -> None:
    """Invalid unless a name is 1 to 63 letters, digits, dots, hyphens and underscores."""
    if _NAME.fullmatch(name) is None:
        raise Invalid(Fault(f"{kind}.name", f"{name!r} is not 1 to 63 letters, digits, dots, hyphens or underscores"))
