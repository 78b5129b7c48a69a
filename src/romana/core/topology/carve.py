"""Carving: from what a document asks for to a plan in which every group has its CIDR in every network.

Owns the arithmetic of the tree and everything that can be wrong with a plan. Refuses to know document formats and
running hosts. Invariant: sibling groups never overlap, a child lies inside its parent, and every open leaf holds at
least one span of every network it has a CIDR in.

Equal parts are as Romana v2 cut them: the number of children is padded to the next power of two, and a single child
keeps its parent's CIDR.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from romana.core.topology.networks import read_networks
from romana.model.address import Prefix
from romana.model.errors import Fault, Invalid
from romana.model.topology import (
    AddressPlan,
    Group,
    GroupRequest,
    HostRequest,
    Network,
    NetworkRequest,
    PlannedHost,
    PlanRequest,
    Topology,
    TopologyRequest,
)

SPAN_BITS = 5
"""A span has 2 ** 5 blocks unless the network says otherwise or its groups are too small for that."""
LEAST_SPAN_BITS = 4
"""By default a group that hosts may join has room for 2 ** 4 spans, where its size allows it."""

MOST_SPARE = 4096
"""Spare parts that one group may ask for."""


def carve(request: PlanRequest) -> AddressPlan:
    """The plan that a request describes; Invalid with every fault."""
    faults: list[Fault] = []
    networks = read_networks(request.networks, faults)
    _check_topologies(request, networks, faults)
    carver = _Carver(networks, faults)
    topologies = tuple(carver.topology(topology) for topology in request.topologies)
    finished = tuple(carver.finish(network, order) for order, network in enumerate(networks.values()))
    _check_hosts(request.topologies, faults)
    if faults:
        raise Invalid(*faults)
    return AddressPlan(networks=finished, topologies=topologies)


class _Leaf(msgspec.Struct, frozen=True):
    """A leaf that was carved, with the place it was written at and the number of hosts it lists."""

    group: Group
    place: str
    hosts: int


class _Carver:
    """Walks the trees of a plan, collecting faults, leaves and planned hosts."""

    def __init__(self, networks: Mapping[str, NetworkRequest], faults: list[Fault]) -> None:
        self.networks = networks
        self.faults = faults
        self.leaves: list[_Leaf] = []
        self.planned: list[PlannedHost] = []
        self.known: set[str] = set()

    def topology(self, request: TopologyRequest) -> Topology:
        self.planned = []
        self.known = set(request.networks)
        whole = {name: self.networks[name].cidr for name in request.networks if name in self.networks}
        cidrs = {name: self.explicit(request.root, name, cidr) for name, cidr in whole.items()}
        root = self.group(request.root, cidrs, "/", alone=True)
        return Topology(name=request.name, networks=request.networks, root=root, hosts=tuple(self.planned))

    def group(self, request: GroupRequest, cidrs: dict[str, Prefix], path: str, *, alone: bool) -> Group:
        """`alone` says that the group has no siblings, so that one host in it does not make it that host's own."""
        for network in sorted(request.cidrs.keys() - self.known):
            sentence = f"{network!r} is no network of this topology"
            self.faults.append(Fault(_at(request, f"cidrs.{network}"), sentence))
        if request.groups and request.hosts:
            self.faults.append(Fault(request.place, "has groups and hosts; hosts belong in a group of their own"))
        groups = self.children(request, cidrs, path) if request.groups else ()
        sole = request.hosts[0].name if len(request.hosts) == 1 and not alone else ""
        group = Group(
            path=path,
            name=request.name,
            cidrs=cidrs,
            groups=groups,
            assignment=request.assignment,
            routing=request.routing,
            closed=request.closed,
            sole_host=sole,
        )
        if group.is_leaf and not group.closed:
            self.leaves.append(_Leaf(group, request.place, len(request.hosts)))
        if request.closed and request.hosts:
            self.faults.append(Fault(request.place, f"is closed, but lists {len(request.hosts)} host(s)"))
        for host in request.hosts:
            self.planned.append(PlannedHost(name=host.name, addresses=host.addresses, group=path))
        return group

    def children(self, request: GroupRequest, cidrs: Mapping[str, Prefix], path: str) -> tuple[Group, ...]:
        self.check_names(request.groups)
        if not 0 <= request.spare <= MOST_SPARE:
            self.faults.append(Fault(_at(request, "spare"), f"must be between 0 and {MOST_SPARE}, got {request.spare}"))
            return ()
        slots = 1 << (len(request.groups) + request.spare - 1).bit_length()
        parts: list[dict[str, Prefix]] = [{} for _ in range(slots)]
        for network, cidr in cidrs.items():
            for part, child in zip(parts, self.cut(request, network, cidr, slots), strict=False):
                part[network] = child
        base = path.rstrip("/")
        alone = slots == 1
        groups = [
            self.group(child, part, f"{base}/{child.name}", alone=alone)
            for child, part in zip(request.groups, parts, strict=False)
        ]
        taken = {child.name for child in request.groups}
        for slot in range(len(groups), slots):
            name = f"spare-{slot + 1}"
            while name in taken:
                name += "-"
            groups.append(Group(path=f"{base}/{name}", name=name, cidrs=parts[slot], closed=True))
        return tuple(groups)

    def cut(self, request: GroupRequest, network: str, cidr: Prefix, slots: int) -> list[Prefix]:
        """The children's parts of one network: all explicit, or equal ones; empty after a fault."""
        if any(network in child.cidrs for child in request.groups):
            return self.cut_explicitly(request, network, cidr)
        length = cidr.length + (slots - 1).bit_length()
        if length > self.networks[network].cidr.family.bits:
            sentence = (
                f"{len(request.groups)} groups need {slots} parts of {cidr} in network {network}, which has "
                f"{cidr.size} address(es); use a larger network or fewer groups"
            )
            self.faults.append(Fault(_at(request, "groups"), sentence))
            return []
        return [cidr.subnet(length, index) for index in range(slots)]

    def cut_explicitly(self, request: GroupRequest, network: str, cidr: Prefix) -> list[Prefix]:
        parts: list[Prefix] = []
        before = len(self.faults)
        for child in request.groups:
            if network not in child.cidrs:
                sentence = f"has no CIDR in network {network}, but a group beside it has one; give all of them or none"
                self.faults.append(Fault(_at(child, "cidrs"), sentence))
                continue
            part = self.explicit(child, network, cidr)
            for sibling, other in zip(request.groups, parts, strict=False):
                if other.overlaps(part):
                    sentence = f"{part} overlaps {other} of group {sibling.name!r}"
                    self.faults.append(Fault(_at(child, f"cidrs.{network}"), sentence))
            parts.append(part)
        return parts if len(self.faults) == before else []

    def explicit(self, request: GroupRequest, network: str, parent: Prefix) -> Prefix:
        cidr = request.cidrs.get(network, parent)
        if not parent.contains(cidr):
            sentence = f"{cidr} is not inside {parent}, the CIDR of what is above it"
            self.faults.append(Fault(_at(request, f"cidrs.{network}"), sentence))
        return cidr

    def check_names(self, groups: Sequence[GroupRequest]) -> None:
        seen: set[str] = set()
        for group in groups:
            if not group.name or "/" in group.name:
                self.faults.append(Fault(_at(group, "name"), "a group's name is text without a slash"))
            elif group.name in seen:
                self.faults.append(Fault(_at(group, "name"), f"two groups beside each other are named {group.name!r}"))
            seen.add(group.name)

    def finish(self, request: NetworkRequest, order: int) -> Network:
        """The network with its lengths, once all leaves are known."""
        leaves = [leaf for leaf in self.leaves if request.name in leaf.group.cidrs]
        block = request.block_length or request.cidr.length
        span = request.span_length
        if span is None:
            joined = [leaf for leaf in leaves if not leaf.group.sole_host]
            wanted = (leaf.group.cidrs[request.name].length + _spans_bits(leaf.hosts) for leaf in joined)
            span = min(block, max([block - SPAN_BITS, request.cidr.length, *wanted]))
        self.check_room(request.name, leaves, block, span)
        return Network(
            name=request.name,
            cidr=request.cidr,
            block_length=block,
            span_length=span,
            tenants=request.tenants,
            reserved=tuple(sorted(request.reserved)),
            order=order,
        )

    def check_room(self, network: str, leaves: Iterable[_Leaf], block: int, span: int) -> None:
        """Every leaf must hold a span for each of its hosts; leaves of one size share one sentence."""
        small: dict[str, list[_Leaf]] = {}
        for leaf in leaves:
            cidr = leaf.group.cidrs[network]
            unit, length = ("block", block) if leaf.group.sole_host else ("span", span)
            if cidr.length > length:
                sentence = f"is a /{cidr.length} in network {network}, smaller than one {unit} (/{length})"
                small.setdefault(sentence, []).append(leaf)
            elif leaf.hosts > 1 << (length - cidr.length):
                room = 1 << (length - cidr.length)
                sentence = f"lists {leaf.hosts} hosts, but its {cidr} in network {network} has {room} span(s) (/{span})"
                self.faults.append(Fault(leaf.place, f"{sentence}; a host needs one"))
        for sentence, group in small.items():
            more = f"; {len(group) - 1} more group(s) are as small" if len(group) > 1 else ""
            advice = "use a larger network, fewer groups, or longer blocks and spans"
            self.faults.append(Fault(group[0].place, f"group {group[0].group.path} {sentence}{more}; {advice}"))


def _spans_bits(hosts: int) -> int:
    return max(LEAST_SPAN_BITS, (hosts - 1).bit_length() if hosts else 0)


def _at(request: GroupRequest | TopologyRequest | HostRequest, field: str) -> str:
    return f"{request.place}.{field}" if request.place else field


def _check_topologies(request: PlanRequest, networks: Mapping[str, NetworkRequest], faults: list[Fault]) -> None:
    used: dict[str, str] = {}
    names = Counter(topology.name for topology in request.topologies)
    for topology in request.topologies:
        if not topology.name or names[topology.name] > 1:
            faults.append(
                Fault(_at(topology, "name"), f"a topology needs a name of its own, this is {topology.name!r}")
            )
        if not topology.networks:
            faults.append(Fault(_at(topology, "networks"), "names no network"))
        for index, name in enumerate(topology.networks):
            place = _at(topology, f"networks[{index}]")
            if name not in {network.name for network in request.networks}:
                known = ", ".join(networks) or "none"
                faults.append(Fault(place, f"there is no network {name!r}; the document has: {known}"))
            elif name in used:
                faults.append(Fault(place, f"network {name!r} appears more than once, first at {used[name]}"))
            used.setdefault(name, place)


def _check_hosts(topologies: Iterable[TopologyRequest], faults: list[Fault]) -> None:
    """A host's name is one host: once a topology, with the same addresses everywhere, which nobody else has."""
    first: dict[str, HostRequest] = {}
    holders: dict[Prefix, str] = {}
    for topology in topologies:
        seen: set[str] = set()
        for host in _hosts(topology.root):
            if not host.name:
                faults.append(Fault(_at(host, "name"), "a host needs a name"))
                continue
            if host.name in seen:
                faults.append(Fault(host.place, f"host {host.name!r} is in this topology twice"))
            elif first.setdefault(host.name, host).addresses != host.addresses:
                faults.append(Fault(host.place, f"host {host.name!r} has other addresses at {first[host.name].place}"))
            seen.add(host.name)
            faults += [
                Fault(host.place, f"{address} is also an address of host {holders[address]!r}")
                for address in host.addresses
                if holders.setdefault(address, host.name) != host.name
            ]


def _hosts(group: GroupRequest) -> Iterable[HostRequest]:
    yield from group.hosts
    for child in group.groups:
        yield from _hosts(child)
