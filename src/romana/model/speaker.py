"""What a device's routing daemon is to do: its sessions or links, and what goes in and out of each."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.model.address import Address, Family, Prefix
from romana.model.fabric import Pattern, Protocol, SessionOptions

STUB_COST = 10
"""What OSPF counts from a host to its own prefixes."""


class Relation(StrEnum):
    """Where a neighbour is, seen from the device: nearer to the spine, further from it, or in the same group."""

    ABOVE = "above"
    BELOW = "below"
    BESIDE = "beside"


class Session(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A BGP session.

    It is between `local` and `remote`; or with whoever connects from `listen`; or, with neither, with the link-local
    address that answers on the `interface`. `accepts` and `tells` are all that goes in and out. A device `reflects` to
    a neighbour what it has from others of one AS. `options` has a value everywhere but for a password.
    """

    name: str
    neighbor: str
    relation: Relation
    asn: int
    families: tuple[Family, ...]
    local: Address | None = None
    remote: Address | None = None
    listen: Prefix | None = None
    interface: str = ""
    multihop: bool = False
    reflects: bool = False
    accepts: tuple[Pattern, ...] = ()
    tells: tuple[Pattern, ...] = ()
    options: SessionOptions = SessionOptions()

    @property
    def is_found_out(self) -> bool:
        """Whether the neighbour is whoever answers on the interface."""
        return self.remote is None and self.listen is None


class OspfLink(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A point-to-point link on which a device speaks OSPF, in an area."""

    neighbor: str
    interface: str
    area: int
    cost: int
    options: SessionOptions = SessionOptions()


class Ospf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OSPF on a device, alike for both families.

    `accepts` is what of all that is flooded enters the device's table. `ranges` has, by area, the CIDRs whose parts do
    not leave the area. A host's own prefixes are parts of its `area`; a router's aggregates are external. `nearest` has
    the largest cost at which one of these is accepted: from further away it would have come down and up again.
    """

    links: tuple[OspfLink, ...]
    area: int
    accepts: tuple[Pattern, ...] = ()
    nearest: dict[Prefix, int] = {}
    ranges: dict[int, tuple[Prefix, ...]] = {}


class Speaker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device that runs a routing daemon.

    A router has a discard route under what it `originates`, and announces it; a host announces what its agent says.
    `loopbacks` are its own addresses, where it has links; packets that it sends itself have them as source. Under
    `fallbacks` it has discard routes for the time in which it has no other, and announces none of them.
    """

    name: str
    is_host: bool
    protocol: Protocol
    asn: int
    router_id: Address
    loopbacks: tuple[Address, ...] = ()
    originates: tuple[Prefix, ...] = ()
    fallbacks: tuple[Prefix, ...] = ()
    sessions: tuple[Session, ...] = ()
    ospf: Ospf | None = None

    @property
    def password_files(self) -> tuple[str, ...]:
        """The files on the device that it needs."""
        options = [one.options for one in self.sessions]
        options += [one.options for one in self.ospf.links] if self.ospf is not None else []
        return tuple(sorted({one.password_file for one in options if one.password_file}))

    @property
    def learned_interfaces(self) -> tuple[str, ...]:
        """The interfaces on which a neighbour's link-local address has to be found out."""
        return tuple(sorted({one.interface for one in self.sessions if one.is_found_out}))


class DaemonPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a host's daemon needs beside prefixes: what it is to do, where the plan says it, and the CIDR of the host's
    group in each network.
    """

    speaker: Speaker | None = None
    groups: dict[str, Prefix] = {}
