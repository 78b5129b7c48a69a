"""Carving: from what a document asks for to a plan in which every group has its CIDR in every network.

Owns the walk of the tree and everything that can be wrong with it. Refuses to know document formats and running hosts.
Invariant: sibling groups never overlap, a child lies inside its parent, and every open leaf holds a span for each of
its hosts, of every network it has a CIDR in.

Equal parts are as Romana v2 cut them: the number of children is padded to the next power of two, and a single child
keeps its parent's CIDR.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from romana.core.topology.fabric import fabric_faults
from romana.core.topology.lengths import Leaf, finish_network
from romana.core.topology.networks import NAME, NAME_WORDS, read_networks
from romana.core.topology.parts import Parts, cut, units_of
from romana.core.topology.places import Inherited, Place, equipped, read_places
from romana.model.address import Prefix
from romana.model.errors import Fault, Invalid, first_faults
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

MOST_NETWORKS = 256
MOST_DEPTH = 20
"""Levels of groups below a topology's root."""
MOST_GROUPS = 10_000
"""Groups of a plan, with those that padding and spare parts make."""
MOST_CIDRS = 40_000
"""CIDRs of all these groups: one for each network of a topology."""
MOST_HOSTS = 10_000
"""Hosts that a plan lists; more may join by their labels."""
MOST_SPARE = 4096
"""Spare parts that one group may ask for."""
MOST_WEIGHT = 1 << 16
MOST_NAME = 63
"""Characters of a group's name."""


def carve(request: PlanRequest) -> AddressPlan:
    """The plan that a request describes; Invalid with every fault."""
    faults = list(_size_faults(request))
    if faults:
        raise Invalid(*faults)
    networks = read_networks(request.networks, faults)
    _check_topologies(request, networks, faults)
    places = read_places(request.topologies, faults)
    carver = _Carver(networks, places, faults)
    topologies = tuple(carver.topology(topology) for topology in request.topologies)
    finished = tuple(carver.finish(network, order) for order, network in enumerate(networks.values()))
    _check_hosts(request.topologies, faults)
    plan = AddressPlan(networks=finished, topologies=topologies, routing=request.routing)
    faults += fabric_faults(plan, places)
    if faults:
        raise Invalid(*first_faults(faults))
    return plan


def _size_faults(request: PlanRequest) -> Iterable[Fault]:
    """What is too large to be looked at any closer. No recursion: the depth is one of the limits."""
    if len(request.networks) > MOST_NETWORKS:
        yield Fault("networks", f"a plan has at most {MOST_NETWORKS} networks, this one has {len(request.networks)}")
    groups = hosts = cidrs = 0
    for topology in request.topologies:
        level, depth, before = [topology.root], 0, groups
        while level:
            if depth > MOST_DEPTH:
                yield Fault(level[0].place, f"groups are nested at most {MOST_DEPTH} levels deep")
                return
            groups += sum(_slots(group) for group in level)
            hosts += sum(len(group.hosts) for group in level)
            level = [child for group in level for child in group.groups]
            depth += 1
        cidrs += (groups - before) * len(topology.networks)
    if groups > MOST_GROUPS:
        yield Fault("topologies", f"a plan has at most {MOST_GROUPS} groups with spare parts, this one has {groups}")
    elif cidrs > MOST_CIDRS:
        sentence = f"all groups have at most {MOST_CIDRS} CIDRs together, these have {cidrs}"
        yield Fault("topologies", f"{sentence}; use fewer networks in a topology, or fewer groups")
    if hosts > MOST_HOSTS:
        sentence = f"a plan lists at most {MOST_HOSTS} hosts, this one has {hosts}; let hosts join by their labels"
        yield Fault("topologies", sentence)


def _slots(group: GroupRequest) -> int:
    """About how many parts a group's own are cut into."""
    return len(group.groups) + max(0, min(group.spare, MOST_SPARE + 1))


class _Carver:
    """Walks the trees of a plan, collecting faults, leaves and planned hosts."""

    def __init__(
        self, networks: Mapping[str, NetworkRequest], places: Mapping[str, Place], faults: list[Fault]
    ) -> None:
        self.networks = networks
        self.places = places
        self.faults = faults
        self.leaves: list[Leaf] = []
        self.planned: list[PlannedHost] = []
        self.known: set[str] = set()

    def topology(self, request: TopologyRequest) -> Topology:
        self.planned = []
        self.known = set(request.networks)
        whole = {name: self.networks[name].cidr for name in request.networks if name in self.networks}
        cidrs = {name: self.explicit(request.root, name, cidr) for name, cidr in whole.items()}
        root = self.group(request.root, cidrs, "/", Inherited(), alone=True)
        return Topology(name=request.name, networks=request.networks, root=root, hosts=tuple(self.planned))

    def group(
        self, request: GroupRequest, cidrs: dict[str, Prefix], path: str, around: Inherited, *, alone: bool
    ) -> Group:
        """`alone` says that the group has no siblings, so that one host in it does not make it that host's own; nor
        does it where the group has a router.
        """
        for network in sorted(request.cidrs.keys() - self.known):
            sentence = f"{network!r} is no network of this topology"
            self.faults.append(Fault(_at(request, f"cidrs.{network}"), sentence))
        if request.groups and request.hosts:
            self.faults.append(Fault(request.place, "has groups and hosts; hosts belong in a group of their own"))
        inherited = around.at(path, self.places[path])
        groups = self.children(request, cidrs, path, inherited) if request.groups else ()
        shared = alone or bool(self.places[path].routers)
        sole = request.hosts[0].name if len(request.hosts) == 1 and not shared else ""
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
        group = equipped(group, self.places[path], inherited)
        if group.is_leaf and not group.closed:
            self.leaves.append(Leaf(group, request.place, len(request.hosts)))
        if request.closed and request.hosts:
            self.faults.append(Fault(request.place, f"is closed, but lists {len(request.hosts)} host(s)"))
        for host in request.hosts:
            self.planned.append(PlannedHost(name=host.name, addresses=host.addresses, group=path))
        return group

    def children(
        self, request: GroupRequest, cidrs: Mapping[str, Prefix], path: str, inherited: Inherited
    ) -> tuple[Group, ...]:
        self.check_names(request.groups)
        if not self.weights_fit(request):
            cidrs = {}  # the groups are looked at all the same
        parts = {network: self.parts(request, network, cidr) for network, cidr in cidrs.items()}
        spare = max((len(part.spare) for part in parts.values()), default=0)
        alone = len(request.groups) == 1 and not spare
        base = path.rstrip("/")
        groups = [
            self.group(
                child,
                {network: part.children[index] for network, part in parts.items() if part.children},
                f"{base}/{child.name}",
                inherited,
                alone=alone,
            )
            for index, child in enumerate(request.groups)
        ]
        taken = {child.name for child in request.groups}
        for index in range(spare):
            name = f"spare-{len(groups) + 1}"
            while name in taken:
                name += "-"
            left = {network: part.spare[index] for network, part in parts.items() if index < len(part.spare)}
            spare_part = Group(path=f"{base}/{name}", name=name, cidrs=left, closed=True)
            groups.append(equipped(spare_part, Place(), inherited))
        return tuple(groups)

    def weights_fit(self, request: GroupRequest) -> bool:
        """Whether spare parts and weights are numbers that can be used, each other fault of theirs aside."""
        before = len(self.faults)
        if not 0 <= request.spare <= MOST_SPARE:
            self.faults.append(Fault(_at(request, "spare"), f"must be between 0 and {MOST_SPARE}, got {request.spare}"))
        explicit = next((child for child in request.groups if child.cidrs), None)
        for child in request.groups:
            place = _at(child, "weight")
            if not 1 <= child.weight <= MOST_WEIGHT:
                self.faults.append(Fault(place, f"must be between 1 and {MOST_WEIGHT}, got {child.weight}"))
            elif child.weight != 1 and explicit is not None:
                sentence = f"this level has explicit cidrs (group {explicit.name!r}); give weights or cidrs, not both"
                self.faults.append(Fault(place, sentence))
        return len(self.faults) == before

    def parts(self, request: GroupRequest, network: str, cidr: Prefix) -> Parts:
        """The children's parts of one network: all explicit, or by weight; none after a fault."""
        if any(network in child.cidrs for child in request.groups):
            return Parts(tuple(self.cut_explicitly(request, network, cidr)), ())
        found = cut(cidr, [child.weight for child in request.groups], request.spare)
        if found is not None:
            return found
        units = sum(units_of(child.weight) for child in request.groups) + request.spare
        sentence = (
            f"{len(request.groups)} groups need {1 << (units - 1).bit_length()} parts of {cidr} in network {network}, "
            f"which has {cidr.size} address(es); use a larger network or fewer groups"
        )
        self.faults.append(Fault(_at(request, "groups"), sentence))
        return Parts((), ())

    def cut_explicitly(self, request: GroupRequest, network: str, cidr: Prefix) -> list[Prefix]:
        before = len(self.faults)
        parts: list[tuple[Prefix, GroupRequest]] = []
        for child in request.groups:
            if network in child.cidrs:
                parts.append((self.explicit(child, network, cidr), child))
            else:
                sentence = f"has no CIDR in network {network}, but a group beside it has one; give all of them or none"
                self.faults.append(Fault(_at(child, "cidrs"), sentence))
        widest: tuple[Prefix, GroupRequest] | None = None  # in sorted order, only it can overlap what follows
        for part, child in sorted(parts, key=lambda one: one[0]):
            if widest is not None and widest[0].overlaps(part):
                sentence = f"{part} overlaps {widest[0]} of group {widest[1].name!r}"
                self.faults.append(Fault(_at(child, f"cidrs.{network}"), sentence))
            else:
                widest = part, child
        return [part for part, _ in parts] if len(self.faults) == before else []

    def explicit(self, request: GroupRequest, network: str, parent: Prefix) -> Prefix:
        cidr = request.cidrs.get(network, parent)
        if not parent.contains(cidr):
            sentence = f"{cidr} is not inside {parent}, the CIDR of what is above it"
            self.faults.append(Fault(_at(request, f"cidrs.{network}"), sentence))
        return cidr

    def check_names(self, groups: Sequence[GroupRequest]) -> None:
        seen: set[str] = set()
        for group in groups:
            if not group.name or "/" in group.name or len(group.name) > MOST_NAME or not group.name.isprintable():
                sentence = f"a group's name is text without a slash, of {MOST_NAME} characters at most"
                self.faults.append(Fault(_at(group, "name"), sentence))
            elif group.name in seen:
                self.faults.append(Fault(_at(group, "name"), f"two groups beside each other are named {group.name!r}"))
            seen.add(group.name)

    def finish(self, request: NetworkRequest, order: int) -> Network:
        """The network with its lengths, once all leaves are known."""
        leaves = [leaf for leaf in self.leaves if request.name in leaf.group.cidrs]
        return finish_network(request, order, leaves, self.faults)


def _at(request: GroupRequest | TopologyRequest | HostRequest, field: str) -> str:
    return f"{request.place}.{field}" if request.place else field


def _check_topologies(request: PlanRequest, networks: Mapping[str, NetworkRequest], faults: list[Fault]) -> None:
    used: dict[str, str] = {}
    names = Counter(topology.name for topology in request.topologies)
    present = {network.name for network in request.networks}
    for topology in request.topologies:
        if not topology.name or names[topology.name] > 1:
            faults.append(
                Fault(_at(topology, "name"), f"a topology needs a name of its own, this is {topology.name!r}")
            )
        if not topology.networks:
            faults.append(Fault(_at(topology, "networks"), "names no network"))
        for index, name in enumerate(topology.networks):
            place = _at(topology, f"networks[{index}]")
            if name not in present:
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
            if not NAME.fullmatch(host.name):
                sentence = f"a host's name is {NAME_WORDS}" if host.name else "a host needs a name"
                faults.append(Fault(_at(host, "name"), sentence))
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
