"""What a device says of its routing daemon: the daemon, its neighbours, and the kernel's routes."""

from __future__ import annotations

import msgspec

from romana.model.address import Address, Prefix
from romana.model.route import RouteDifference


class SessionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session, or a neighbour on a link, as the daemon has it.

    `protocol` is bgp, ospf or bfd; `state` is the daemon's own word. `sentence` says why it is not `up`.
    """

    name: str
    protocol: str
    up: bool
    state: str
    neighbor: str = ""
    address: str = ""
    sentence: str = ""


class DaemonState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A daemon by name and version, and everything that it speaks to."""

    daemon: str = ""
    sessions: tuple[SessionState, ...] = ()


class HeldRoute(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a kernel does with a prefix: to these next hops, or to nowhere."""

    prefix: Prefix
    next_hops: tuple[Address, ...] = ()
    discard: bool = False


class DaemonReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device says of itself. A router adds its kernel's routes inside the plan's networks (`held`), as an answer
    to the check `audit`, at the view's `revision`.
    """

    device: str
    state: DaemonState
    problem: str = ""
    audit: int = 0
    revision: int = 0
    held: tuple[HeldRoute, ...] | None = None


class Peering(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a device's daemon: what it said last, and, for a router, what a check showed. A host is `silent`
    when its agent is not heard from, so that what it said may be over.
    """

    device: str
    state: DaemonState
    problem: str = ""
    audit: int = 0
    differences: tuple[RouteDifference, ...] = ()
    silent: bool = False
