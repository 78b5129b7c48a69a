"""What a VPC has to know of the plan, and what it has: route tables, instances, and who may be a next hop."""

from __future__ import annotations

import msgspec

from romana.model.address import Address, Family, Prefix

ANNOUNCED_TO_VPC = "prefix-announce-vpc"
"""The word in a group's `routing` that has a VPC know the group by one route (Romana v2's word)."""

VPC_LEASE = "aws"
"""The lease of the one program that writes to VPC route tables, where nobody names another one."""


class VpcRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that a VPC has to know, and the hosts that can take its packets.

    `group` is the topology and path of the group that has the prefix, such as `site:/zone-a`; empty for an exception,
    which one host has.
    """

    prefix: Prefix
    hosts: tuple[str, ...]
    group: str = ""


class VpcHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host as far as a VPC is concerned: its underlay addresses and labels, what it announces, and how it is.

    One that is not `joined` has no agent. `silent` is for how many seconds nobody heard from its agent, None when
    nobody can say; when it is `fenced`, its own lease must be over.
    """

    name: str
    addresses: tuple[Address, ...] = ()
    labels: dict[str, str] = {}
    announced: tuple[Prefix, ...] = ()
    joined: bool = True
    silent: int | None = None
    fenced: bool = False
    draining: bool = False


class VpcPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a writer of VPC route tables needs, as of one `revision`.

    `owned` has, by the id of a route table, the destinations that were written there for the plan under its lease.
    """

    revision: int
    routes: tuple[VpcRoute, ...] = ()
    hosts: tuple[VpcHost, ...] = ()
    owned: dict[str, tuple[Prefix, ...]] = {}


class OwnedRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """All destinations in a route table that are there for the plan, as the program that writes them says: `holder`,
    which has the `lease`.
    """

    lease: str = VPC_LEASE
    holder: str
    routes: tuple[Prefix, ...]


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface of an instance; `index` 0 is the primary one. With `checked` the VPC drops what is neither
    from nor to its own addresses.
    """

    id: str
    subnet: str
    addresses: tuple[Address, ...] = ()
    index: int = 0
    checked: bool = True


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance: its state (`running`, `stopped`, ...), and the worse of its two status checks, empty where there is
    none.
    """

    id: str
    vpc: str
    state: str
    status: str = ""
    interfaces: tuple[Interface, ...] = ()


class TableRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route that a table has. `target` is the id of whatever it leads to, a network interface's where it is one.

    `blackhole`: nobody takes its packets. `local`: the VPC's own.
    """

    target: str
    blackhole: bool = False
    local: bool = False


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """A VPC's route table: its routes by destination, and how many of each family count against its quota."""

    id: str
    vpc: str
    routes: dict[Prefix, TableRoute] = {}
    counted: dict[Family, int] = {}
