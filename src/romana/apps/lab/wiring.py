"""The fabric of a lab: nodes, links, underlay addresses, AS numbers and BIRD configurations.

Owns the numbering. Decides no route of the plan (`core.routing` does) and touches nothing. Invariant: the same lab
gives the same fabric; the underlay follows the level rule too, so a spine holds one underlay route per rack and family.

The underlay is cut into parts, the first for the spine, then one per rack. In a part the router's own address is the
first, hosts follow, and links take pairs from offset 128 on (/31 and /127: RFC 3021, RFC 6164).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from romana.apps.lab.file import PART_BITS, LabFile, Rack
from romana.codec.bird_router import Accepted, Device, Neighbor
from romana.core.routing.plan import device_plan
from romana.model.address import Address, Prefix
from romana.model.route import DevicePlan, Reach
from romana.model.topology import AddressPlan, Group

SPINE_AS = 4_200_000_000
"""Private 32-bit AS numbers (RFC 6996): the spine's, then one a rack for its router ..."""
HOSTS_AS = 4_200_100_000
"""... and one a rack for its hosts."""
LINKS_AT = 128
BIRD_INCLUDE = "/etc/bird/romana.conf"


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a link: its node, its name there, its addresses (IPv4, IPv6)."""

    node: str
    name: str
    addresses: tuple[Address, ...]


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A point-to-point link; `above` is nearer to the spine."""

    above: Interface
    below: Interface


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node with its own addresses (on `lo`), and its BIRD device; the control node runs none."""

    name: str
    role: str
    loopbacks: tuple[Address, ...]
    rack: str = ""
    group: str = ""
    device: Device | None = None


class Fabric(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes by name, and all links."""

    nodes: dict[str, Node]
    links: tuple[Link, ...]

    def roles(self, *roles: str) -> list[Node]:
        """The nodes with one of these roles, in order."""
        return [node for node in self.nodes.values() if node.role in roles]

    def interfaces(self, node: str) -> list[Interface]:
        """The interfaces of a node."""
        return [end for link in self.links for end in (link.above, link.below) if end.node == node]

    @property
    def api(self) -> Address:
        """The IPv4 address that romanad listens on."""
        (control,) = self.roles("control")
        return self.interfaces(control.name)[0].addresses[0]


def wire(file: LabFile, plan: AddressPlan) -> Fabric:
    """The fabric of a lab whose topology is carved as `plan`; its racks' groups are in it."""
    parts = [_parts(file.underlay, index) for index in range(len(file.racks) + 1)]
    uplinks = [_link(file.spine, rack.router, parts[index], 0) for index, rack in enumerate(file.racks, 1)]
    control = _link(file.spine, file.control, parts[0], 0)
    spine = device_plan(plan, {}, [], "/")
    nodes = {
        file.control: Node(name=file.control, role="control", loopbacks=()),
        file.spine: _spine(file, spine, parts, uplinks),
    }
    links = [control, *uplinks]
    for index, rack in enumerate(file.racks, 1):
        downlinks = [_link(rack.router, host, parts[index], number) for number, host in enumerate(rack.hosts, 1)]
        nodes |= _rack(file, plan, rack, index, [uplinks[index - 1], *downlinks])
        links += downlinks
    return Fabric(nodes=nodes, links=tuple(links))


def _parts(underlay: Iterable[Prefix], index: int) -> tuple[Prefix, ...]:
    return tuple(prefix.subnet(prefix.length + PART_BITS[prefix.family], index) for prefix in sorted(underlay))


def _own(parts: Iterable[Prefix], number: int) -> tuple[Address, ...]:
    return tuple(part.address(number) for part in parts)


def _link(above: str, below: str, parts: Iterable[Prefix], number: int) -> Link:
    first = LINKS_AT + 2 * number
    return Link(
        above=Interface(node=above, name=f"to-{below}", addresses=_own(parts, first)),
        below=Interface(node=below, name=f"to-{above}", addresses=_own(parts, first + 1)),
    )


def _spine(file: LabFile, plan: DevicePlan, parts: Sequence[tuple[Prefix, ...]], uplinks: Iterable[Link]) -> Node:
    below = {
        rack.path: [route.prefix for route in plan.routes if route.reach is Reach.BELOW and route.toward == rack.path]
        for rack in file.racks
    }
    neighbors = [
        _neighbor(link, SPINE_AS + index, [Accepted.exactly(prefix) for prefix in (*below[rack.path], *parts[index])])
        for index, (rack, link) in enumerate(zip(file.racks, uplinks, strict=True), 1)
    ]
    device = Device(
        name=file.spine,
        asn=SPINE_AS,
        loopbacks=_own(parts[0], 1),
        neighbors=tuple(neighbors),
        originates=(*plan.originates, *sorted(file.underlay)),
    )
    return Node(name=file.spine, role="spine", loopbacks=device.loopbacks, group="/", device=device)


def _rack(file: LabFile, plan: AddressPlan, rack: Rack, index: int, links: Sequence[Link]) -> dict[str, Node]:
    """The rack's router and hosts; `links` are the router's, its uplink first."""
    parts = _parts(file.underlay, index)
    routes = device_plan(plan, {}, [], rack.path)
    above = [route.prefix for route in routes.routes if route.reach is Reach.ABOVE] + sorted(file.underlay)
    originates = (*routes.originates, *parts)
    cidrs = _group_cidrs(plan, rack.path)
    neighbors = [_neighbor(links[0], SPINE_AS, map(Accepted.exactly, above), above=True)]
    hosts: dict[str, Node] = {}
    for number, (host, link) in enumerate(zip(rack.hosts, links[1:], strict=True), 2):
        own = _own(parts, number)
        accepted = [*map(Accepted.specifics, cidrs), *map(Accepted.exactly, own)]
        neighbors.append(_neighbor(link, HOSTS_AS + index, accepted))
        up = _neighbor(link, SPINE_AS + index, map(Accepted.exactly, [*originates, *above]), above=True)
        device = Device(name=host, asn=HOSTS_AS + index, loopbacks=own, neighbors=(up,), include=BIRD_INCLUDE)
        hosts[host] = Node(name=host, role="host", loopbacks=own, rack=rack.name, group=rack.path, device=device)
    router = Device(
        name=rack.router,
        asn=SPINE_AS + index,
        loopbacks=_own(parts, 1),
        neighbors=tuple(neighbors),
        originates=originates,
    )
    node = Node(
        name=rack.router, role="router", loopbacks=router.loopbacks, rack=rack.name, group=rack.path, device=router
    )
    return {rack.router: node, **hosts}


def _neighbor(link: Link, asn: int, accepted: Iterable[Accepted], *, above: bool = False) -> Neighbor:
    ours, theirs = (link.below, link.above) if above else (link.above, link.below)
    return Neighbor(
        name=theirs.node,
        asn=asn,
        above=above,
        addresses=tuple(zip(ours.addresses, theirs.addresses, strict=True)),
        accepted=tuple(accepted),
    )


def _group_cidrs(plan: AddressPlan, path: str) -> list[Prefix]:
    found: list[Prefix] = []
    pending: list[Group] = [topology.root for topology in plan.topologies]
    while pending:
        group = pending.pop()
        pending += group.groups
        if group.path == path:
            found += group.cidrs.values()
    return sorted(found)
