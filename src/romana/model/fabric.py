"""What an address plan says of the devices that route it: routers, links between devices, peers, and their sessions."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from romana.model.address import Address, Prefix


class Protocol(StrEnum):
    """How devices tell each other their routes; `none` leaves it to people, or to agents on a layer 2 network."""

    NONE = "none"
    EBGP = "ebgp"
    IBGP = "ibgp"
    OSPF = "ospf"


class Pattern(msgspec.Struct, frozen=True, order=True):
    """Prefixes inside `within` whose length is between `shortest` and `longest`."""

    within: Prefix
    shortest: int
    longest: int

    @classmethod
    def exactly(cls, prefix: Prefix) -> Pattern:
        """That prefix alone; an address as the prefix of full length."""
        return cls(prefix.supernet(prefix.length), prefix.length, prefix.length)

    @classmethod
    def specifics(cls, prefix: Prefix) -> Pattern:
        """All parts of a prefix, without itself."""
        return cls(prefix, prefix.length + 1, prefix.family.bits)

    def matches(self, prefix: Prefix) -> bool:
        """Whether a prefix is one of them."""
        return self.within.contains(prefix) and self.shortest <= prefix.length <= self.longest


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one BGP session, or OSPF on one link, is like; None where the plan's `sessions` decide, then our defaults.

    `password_file` is a path on the device that uses it: its content is a BGP session's TCP MD5 key (RFC 2385), or the
    key of OSPF's HMAC-SHA-256 (RFC 5709, RFC 7166). `ttl_security` is GTSM (RFC 5082). `accepts` and `announces` go
    beside what the plan itself lets in and out. `communities` (RFC 1997, RFC 8092) are put on what is announced.
    """

    password_file: str | None = None
    ttl_security: bool | None = None
    graceful_restart: bool | None = None
    bfd: bool | None = None
    hold_seconds: int | None = None
    keepalive_seconds: int | None = None
    communities: tuple[str, ...] = ()
    accepts: tuple[Pattern, ...] = ()
    announces: tuple[Pattern, ...] = ()

    def over(self, defaults: SessionOptions) -> SessionOptions:
        """These where they say something, and the defaults elsewhere; lists are put together."""
        merged: dict[str, Any] = {}
        for name in self.__struct_fields__:
            own, other = getattr(self, name), getattr(defaults, name)
            merged[name] = (*other, *own) if isinstance(own, tuple) else other if own is None else own
        return SessionOptions(**merged)


class RouterDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A router that serves a group.

    `addresses` are its own, one a family: on its loopback where it has `links`, else in the network that it shares with
    its hosts. `listen` are CIDRs from which hosts may connect to it that the plan does not know the addresses of.
    """

    name: str
    asn: int = 0
    addresses: tuple[Address, ...] = ()
    listen: tuple[Prefix, ...] = ()


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A link between two devices next to each other in the tree, or between two routers of one group.

    `addresses` has a pair for each family, in the order of the `ends`; without one of them, sessions are between the
    link-local addresses of the `interfaces`. `cost` is OSPF's.
    """

    ends: tuple[str, str]
    addresses: tuple[tuple[Address, Address], ...] = ()
    interfaces: tuple[str, str] = ("", "")
    cost: int = 10
    options: SessionOptions = SessionOptions()

    def other(self, device: str) -> str:
        """The device at the other end."""
        return self.ends[self.ends[0] == device]


class Peer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A BGP speaker that the plan does not describe, above the devices that have it: hosts of a `group` (a path, with
    all below it) or whose labels match the `selector`, or both where both are given; and the named `routers`.

    It has `addresses`, one a family, or is what answers on the `interface` by link-local addresses.
    """

    name: str
    group: str = ""
    selector: dict[str, str] = {}
    routers: tuple[str, ...] = ()
    asn: int = 0
    addresses: tuple[Address, ...] = ()
    interface: str = ""
    multihop: bool = False
    options: SessionOptions = SessionOptions()


class Routing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the devices of a plan are connected. `asn` is everybody's with iBGP. `sessions` are the defaults of all."""

    protocol: Protocol = Protocol.NONE
    asn: int = 0
    sessions: SessionOptions = SessionOptions()
    links: tuple[Link, ...] = ()
    peers: tuple[Peer, ...] = ()
