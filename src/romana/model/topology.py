"""Networks, and the tree of prefix groups that decides which part of a network a host draws from."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.model.address import Address, Prefix
from romana.model.fabric import RouterDevice, Routing
from romana.model.policy import Failsafe


class Placement(StrEnum):
    """How spans and blocks are placed in a network: next free one in the host's group, or computed from id bits."""

    TOPOLOGY = "topology"
    BITS = "bits"


class BitPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Widths, in bits, of the ids in an address of a network with bits placement (Romana v1's formula).

    An address is prefix | host | tenant | segment | endpoint | space; with the network's own length the widths make a
    whole address. A host's span fixes everything down to `host`, a block everything down to `segment`.
    """

    host: int
    tenant: int
    segment: int
    endpoint: int
    space: int = 0


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A CIDR, of one family, that endpoint addresses come from.

    `tenants` empty means open to all. `reserved` are CIDRs never handed out. A span is the unit of routing, a block the
    unit of ownership; both are lengths in bits, `cidr.length <= span_length <= block_length <= address length`.
    `order` is its position in the plan, which decides between networks that serve one tenant. `static` are CIDRs that
    are never delegated to a host: the control plane itself gives fixed and sticky addresses from them. `mixed` is the
    number of an owner's first endpoints on a host that share a mixed block, 0 for none; `stock` the number of ownerless
    blocks that a host keeps. `bits` is set exactly with bits placement.
    """

    name: str
    cidr: Prefix
    block_length: int
    span_length: int
    tenants: tuple[str, ...] = ()
    reserved: tuple[Prefix, ...] = ()
    placement: Placement = Placement.TOPOLOGY
    order: int = 0
    static: tuple[Prefix, ...] = ()
    mixed: int = 0
    stock: int = 2
    bits: BitPlan | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the tree; everything below it shares its prefix in each network.

    `path` is the slash-separated place in the tree, unique in the topology; `cidrs` has the group's CIDR by network
    name. A leaf has no `groups` and holds hosts. `closed` marks padding and spare parts: no host may join.
    `sole_host` is set where the plan gives a group to one host alone: nobody else joins, and the host's span is the
    whole group. `layer2` is the path of the group, this one or one above, all of whose hosts are on one layer 2
    network. `routers` serve it, `underlay` are the CIDRs of its devices' own addresses. `asn` is its hosts' AS number,
    `area` the OSPF area of its routers' links downward.
    """

    path: str
    name: str
    cidrs: dict[str, Prefix]
    groups: tuple[Group, ...] = ()
    assignment: dict[str, str] = {}
    routing: str = ""
    closed: bool = False
    sole_host: str = ""
    layer2: str = ""
    routers: tuple[RouterDevice, ...] = ()
    underlay: tuple[Prefix, ...] = ()
    asn: int = 0
    area: int = 0

    @property
    def is_leaf(self) -> bool:
        """Whether hosts join this group."""
        return not self.groups


class PlannedHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host that the topology document itself places in a leaf group."""

    name: str
    addresses: tuple[Address, ...]
    group: str


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """A carved tree of groups over one or several networks (dual stack: one of each family)."""

    name: str
    networks: tuple[str, ...]
    root: Group
    hosts: tuple[PlannedHost, ...] = ()


class AddressPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a topology document says, carved: all networks, all topologies, and how devices are connected."""

    networks: tuple[Network, ...]
    topologies: tuple[Topology, ...]
    routing: Routing = Routing()


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that runs endpoints and an agent.

    `groups` has the path of its leaf group by topology name. `instance` is the agent's random id (empty until it
    reported), `epoch` counts the instances that were accepted for this host. A host that is `draining` gets no more
    room, and its agent gives back what it does not use. `machine` tells the machine that the agent runs on from others
    (empty: not known), `failsafe` is what its agent lets no policy close (None: not known).
    """

    name: str
    addresses: tuple[Address, ...] = ()
    labels: dict[str, str] = {}
    groups: dict[str, str] = {}
    instance: str = ""
    epoch: int = 0
    draining: bool = False
    machine: str = ""
    failsafe: Failsafe | None = None


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A network as a document asks for it; lengths that are None get a default.

    In this and the following requests, `place` is where in the document it was written, for the sentences about it.
    """

    name: str
    cidr: Prefix
    block_length: int | None = None
    span_length: int | None = None
    tenants: tuple[str, ...] = ()
    reserved: tuple[Prefix, ...] = ()
    static: tuple[Prefix, ...] = ()
    mixed: int | None = None
    stock: int | None = None
    bits: BitPlan | None = None
    place: str = ""


class HostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A host that a document places in a group."""

    name: str
    addresses: tuple[Address, ...] = ()
    place: str = ""


class GroupRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A group before carving: it has groups or hosts, never both.

    `cidrs` are explicit CIDRs by network name; without one the group gets a part of its parent's, in proportion to its
    `weight` (rounded up to a power of two). `spare` is the number of parts beside its groups that stay empty; `closed`
    keeps hosts out. `layer2` says that all hosts below are on one layer 2 network; `asn` and `area` go for all groups
    below that do not say.
    """

    name: str
    groups: tuple[GroupRequest, ...] = ()
    hosts: tuple[HostRequest, ...] = ()
    assignment: dict[str, str] = {}
    cidrs: dict[str, Prefix] = {}
    routing: str = ""
    weight: int = 1
    spare: int = 0
    closed: bool = False
    layer2: bool = False
    routers: tuple[RouterDevice, ...] = ()
    underlay: tuple[Prefix, ...] = ()
    asn: int | None = None
    area: int | None = None
    place: str = ""


class TopologyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A tree of groups over some networks, before carving."""

    name: str
    networks: tuple[str, ...]
    root: GroupRequest
    place: str = ""


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What any topology document says, in one neutral form: the input of carving."""

    networks: tuple[NetworkRequest, ...]
    topologies: tuple[TopologyRequest, ...]
    routing: Routing = Routing()
