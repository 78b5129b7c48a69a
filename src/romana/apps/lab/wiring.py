"""The fabric of a lab: nodes, links and underlay addresses.

Owns the numbering. Decides no route and no session, and touches nothing. Invariant: the same lab gives the same fabric;
the underlay follows the level rule too, so a spine holds one underlay route per rack and family.

The underlay is cut into parts, the first for spines and control, then one per rack. In a part routers' own addresses
are the first, hosts follow, and links take pairs from offset 128 on (/31 and /127: RFC 3021, RFC 6164). Nodes on a
switch are in the lower half of their part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

from romana.apps.lab.file import PART_BITS, LabFile, Rack
from romana.model.address import Address, Prefix

LINKS_AT = 128
BRIDGE = "bridge"
"""The interface of a switch that all others are ports of."""


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a link: its node, its name there, its addresses (IPv4, IPv6), and how many bits their network has
    less than an address.
    """

    node: str
    name: str
    addresses: tuple[Address, ...] = ()
    shared: tuple[int, ...] = (1, 1)


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link between two nodes; `above` is nearer to the spine, or a switch, or the first of two routers of a rack."""

    above: Interface
    below: Interface

    @property
    def ends(self) -> tuple[Interface, Interface]:
        """Both ends."""
        return self.above, self.below


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node with its own addresses: on its loopback, or where it is on a switch (`is_switched`) there."""

    name: str
    role: str
    loopbacks: tuple[Address, ...] = ()
    rack: str = ""
    group: str = ""
    is_switched: bool = False
    gateways: tuple[Address, ...] = ()
    """Where it sends what it knows no route to."""


class Fabric(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes by name, and all links; the underlay's parts, the spines' first."""

    nodes: dict[str, Node]
    links: tuple[Link, ...]
    parts: tuple[tuple[Prefix, ...], ...]

    def roles(self, *roles: str) -> list[Node]:
        """The nodes with one of these roles, in order."""
        return [node for node in self.nodes.values() if node.role in roles]

    def interfaces(self, node: str) -> list[Interface]:
        """The interfaces of a node."""
        return [end for link in self.links for end in link.ends if end.node == node]

    def links_between(self, *roles: str) -> list[Link]:
        """The links whose ends both have one of these roles."""
        return [link for link in self.links if all(self.nodes[end.node].role in roles for end in link.ends)]

    @property
    def api(self) -> Address:
        """The IPv4 address that romanad listens on."""
        (control,) = self.roles("control")
        return control.loopbacks[0]


def wire(file: LabFile) -> Fabric:
    """The fabric of a lab whose file has no faults."""
    parts = tuple(_parts(file.underlay, index) for index in range(len(file.racks) + 1))
    return _flat(file, parts) if file.is_flat else _routed(file, parts)


def _parts(underlay: Iterable[Prefix], index: int) -> tuple[Prefix, ...]:
    return tuple(prefix.subnet(prefix.length + PART_BITS[prefix.family], index) for prefix in sorted(underlay))


def _own(parts: Iterable[Prefix], number: int) -> tuple[Address, ...]:
    return tuple(part.address(number) for part in parts)


def _flat(file: LabFile, parts: tuple[tuple[Prefix, ...], ...]) -> Fabric:
    """Everything on one switch."""
    nodes = {file.switch: Node(name=file.switch, role="switch")}
    nodes[file.control] = Node(name=file.control, role="control", loopbacks=_own(parts[0], 1), is_switched=True)
    number = itertools.count(2)
    for rack in file.racks:
        for host in rack.hosts:
            own = _own(parts[0], next(number))
            node = Node(name=host, role="host", loopbacks=own, rack=rack.name, group=rack.path, is_switched=True)
            nodes[host] = node
    links = [_port(file.switch, node, parts[0]) for node in nodes.values() if node.is_switched]
    return Fabric(nodes=nodes, links=tuple(links), parts=parts)


def _routed(file: LabFile, parts: tuple[tuple[Prefix, ...], ...]) -> Fabric:
    spines = file.all_spines
    uplinks = [_link(spine, file.control, parts[0], number) for number, spine in enumerate(spines)]
    gateways = tuple(address for link in uplinks for address in link.above.addresses)
    own = _own(parts[0], len(spines) + 1)
    nodes = {file.control: Node(name=file.control, role="control", loopbacks=own, gateways=gateways)}
    for number, spine in enumerate(spines, 1):
        nodes[spine] = Node(name=spine, role="spine", loopbacks=_own(parts[0], number), group="/")
    links = [*uplinks]
    switches = iter(file.switches)
    for index, rack in enumerate(file.racks, 1):
        switch = next(switches) if rack.layer2 else ""
        more, wires = _rack(rack, spines, parts[index], switch)
        nodes |= more
        links += wires
    return Fabric(nodes=nodes, links=tuple(links), parts=parts)


def _rack(
    rack: Rack, spines: tuple[str, ...], parts: tuple[Prefix, ...], switch: str
) -> tuple[dict[str, Node], list[Link]]:
    """A rack's routers and hosts, with their links: to spines, to each other, to hosts or the switch. Those of a host
    come after those of the hosts before it, so that one more at the end changes no other.
    """
    routers = rack.all_routers
    own = {name: _own(parts, number) for number, name in enumerate((*routers, *rack.hosts), 1)}
    gateways = tuple(address for router in routers for address in own[router]) if switch else ()
    nodes = {
        name: Node(
            name=name,
            role="router" if name in routers else "host",
            loopbacks=own[name],
            rack=rack.name,
            group=rack.path,
            is_switched=bool(switch),
            gateways=() if name in routers else gateways,
        )
        for name in own
    }
    number = itertools.count()
    links = [_link(spine, router, parts, next(number)) for router in routers for spine in spines]
    links += [_link(one, other, parts, next(number)) for one, other in itertools.combinations(routers, 2)]
    if switch:
        links += [_port(switch, node, parts) for node in nodes.values()]
        nodes = {switch: Node(name=switch, role="switch", rack=rack.name), **nodes}
    else:
        links += [_link(router, host, parts, next(number)) for host in rack.hosts for router in routers]
    return nodes, links


def _link(above: str, below: str, parts: Iterable[Prefix], number: int) -> Link:
    first = LINKS_AT + 2 * number
    return Link(
        above=Interface(node=above, name=f"to-{below}", addresses=_own(parts, first)),
        below=Interface(node=below, name=f"to-{above}", addresses=_own(parts, first + 1)),
    )


def _port(switch: str, node: Node, parts: Iterable[Prefix]) -> Link:
    half = tuple(part.family.bits - part.length - 1 for part in parts)
    return Link(
        above=Interface(node=switch, name=f"to-{node.name}"),
        below=Interface(node=node.name, name=f"to-{switch}", addresses=node.loopbacks, shared=half),
    )
