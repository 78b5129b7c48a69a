"""The hosts: added, changed and removed by people's word.

Owns what may be done to a host without its agent. Invariant: a host that holds a span is never removed, because a
silent host is not a dead one.
"""

from __future__ import annotations

import msgspec

from romana.codec.document import convert
from romana.codec.records import HOST, PLAN_KEY, ROSTER, ROSTER_KEY, Roster
from romana.core.topology import place_host
from romana.model.address import Address
from romana.model.errors import Conflict, Fault, Invalid, NotFound
from romana.model.topology import Host
from romana.services.control.core import Core, Draft
from romana.services.control.state import State


class HostDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host as people add it: its underlay addresses, and the labels that choose its group."""

    addresses: tuple[Address, ...] = ()
    labels: dict[str, str] = {}


class HostVerbs:
    """Hosts, as people see them."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def set_host(self, name: str, document: object) -> Host:
        """Add a host, or change its addresses and labels. Invalid when no group takes it."""
        wanted = convert(document, HostDocument)

        def decide(state: State, draft: Draft) -> Host:
            draft.read(PLAN_KEY)
            known = state.hosts.get(name, Host(name=name))
            host = msgspec.structs.replace(known, addresses=wanted.addresses, labels=wanted.labels)
            placed = place_host(state.plan, state.hosts, host)
            if placed != state.hosts.get(name):
                draft.put(HOST, HOST.key(name), placed)
                put_roster(state, draft)
            return placed

        _, host = await self._core.commit(decide)
        return host

    async def remove_host(self, name: str) -> None:
        """Remove a host that holds no span; Conflict when it does, because a silent host is not a dead one."""

        def decide(state: State, draft: Draft) -> None:
            if name not in state.hosts:
                raise NotFound(f"no host {name!r}; `romana host list` shows them")
            held = [str(span.cidr) for span in state.spans.values() if span.host == name]
            if held:
                raise Conflict(
                    f"host {name} still holds {', '.join(sorted(held))}; its agent must give them back first"
                )
            draft.delete(HOST.key(name))
            put_roster(state, draft)

        await self._core.commit(decide)


def put_roster(state: State, draft: Draft) -> None:
    """A host comes, goes, or has other addresses or labels: of such decisions, and of new plans, one goes first."""
    draft.put(ROSTER, ROSTER_KEY, Roster(changes=state.roster_changes + 1))


def known_host(state: State, name: str) -> Host:
    """The host of that name; NotFound with what to do."""
    host = state.hosts.get(name)
    if host is None:
        raise NotFound(f"no host {name!r}; add it with `romana host add`, or name it in the topology")
    return host


def check_name(kind: str, name: str) -> None:
    """Invalid unless a name is 1 to 63 letters, digits, dots, hyphens and underscores."""
    if not 0 < len(name) <= 63 or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise Invalid(Fault(f"{kind}.name", f"{name!r} is not 1 to 63 letters, digits, dots, hyphens or underscores"))
