"""What the leaf groups of a plan hold: under a load, by the placement model, or as records say.

Owns which hosts join which leaf, and which tenants draw from which network. Refuses to judge. Invariant: every host is
in one leaf of a topology at most, and what it needs of a network is counted at that leaf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from romana.core.ipam.bits import capacity as endpoints_of_block
from romana.core.ipam.networks import candidate_networks
from romana.core.planner.load import Course
from romana.core.planner.placement import Rules, needs
from romana.core.topology.place import Places, leaf_groups, leaves
from romana.model.errors import NotFound
from romana.model.ipam import Block, Span
from romana.model.topology import AddressPlan, Group, Host, Network, Topology

Place = tuple[str, str, str]
"""A topology, the path of a leaf in it, and a network."""
Seat = tuple[tuple[str, str], ...]
"""The leaves that a host is in: a topology and a path each."""


class LeafUse(msgspec.Struct, frozen=True, kw_only=True):
    """What is in use of one network in one leaf, or wanted there: it may be more than there is.

    `owned`, `mixed` and `stock` count blocks. `most_spans` is the largest number that one host has.
    """

    hosts: int = 0
    spans: int = 0
    owned: int = 0
    mixed: int = 0
    stock: int = 0
    endpoints: int = 0
    resting: int = 0
    most_spans: int = 0

    @property
    def blocks(self) -> int:
        """All blocks."""
        return self.owned + self.mixed + self.stock

    def plus(self, other: LeafUse) -> LeafUse:
        """Both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in LeafUse.__struct_fields__[:-1]}
        return LeafUse(**sums, most_spans=max(self.most_spans, other.most_spans))


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The use of every leaf, and the number of hosts by the leaves they are in: pairs of a topology and a path.

    `homeless` counts the endpoints of tenants that no network serves on their host.
    """

    hosts: int
    endpoints: int
    at: Mapping[Place, LeafUse]
    seats: Mapping[Seat, int]
    homeless: int = 0

    def members(self) -> Counter[tuple[str, str]]:
        """The number of hosts by leaf."""
        found: Counter[tuple[str, str]] = Counter()
        for seat, hosts in self.seats.items():
            for leaf in seat:
                found[leaf] += hosts
        return found


def rules_of(network: Network, group: Group) -> Rules:
    """How blocks are placed in a leaf's part of a network."""
    bits, length = network.cidr.family.bits, network.span_length
    if network.bits is not None:
        size = endpoints_of_block(network, network.cidr.subnet(network.block_length, 0))
        return Rules(block=max(1, size), span=1 << (network.block_length - length), mixed=0, stock=0, low=0)
    if group.sole_host:
        length = group.cidrs[network.name].length
    return Rules(
        block=1 << (bits - network.block_length),
        span=1 << (network.block_length - length),
        mixed=network.mixed,
        stock=network.stock,
    )


def modelled(plan: AddressPlan, course: Course) -> Usage:
    """The use under a load: the plan's own hosts where it lists them, others where there are fewest.

    Where a course has the events of some hosts only, the others are taken to be like these, in turn.
    """
    hosts = joined(plan, course.load.hosts)
    networks = {network.name: network for network in plan.networks}
    names = tenant_names(plan.networks, course.load.tenants)
    chosen: dict[frozenset[str], dict[str, frozenset[int]]] = {}
    found: dict[tuple[int, str, frozenset[int], Rules], LeafUse] = {}
    at: dict[Place, LeafUse] = {}
    endpoints = homeless = 0
    for index, host in enumerate(hosts):
        number = index % len(course.events)
        places = leaf_groups(plan, host)
        reachable = frozenset(places)
        if reachable not in chosen:
            chosen[reachable] = _by_network([networks[name] for name in networks if name in reachable], names)
        served = chosen[reachable]
        here, lost = _endpoints(course, number, frozenset().union(*served.values()))
        endpoints += here
        homeless += lost
        for name, group in places.items():
            key = (number, name, served.get(name, frozenset()), rules_of(networks[name], group))
            if key not in found:
                found[key] = _host_use(course, key)
            place = (_topology_of(plan, name), group.path, name)
            at[place] = at.get(place, LeafUse()).plus(found[key])
    return Usage(
        hosts=len(hosts),
        endpoints=endpoints,
        at=at,
        seats=Counter(tuple(host.groups.items()) for host in hosts),
        homeless=homeless,
    )


def _host_use(course: Course, key: tuple[int, str, frozenset[int], Rules]) -> LeafUse:
    number, _, tenants, rules = key
    found = needs(course, rules, host=number, only=tenants)
    return LeafUse(
        hosts=1,
        spans=found.spans,
        owned=found.owned,
        mixed=found.mixed,
        stock=found.stock,
        endpoints=found.endpoints,
        resting=found.resting,
        most_spans=found.spans,
    )


def recorded(
    plan: AddressPlan,
    hosts: Collection[Host],
    spans: Iterable[Span],
    blocks: Iterable[Block],
    used: Mapping[str, int],
    endpoints: int,
) -> Usage:
    """The use that the control plane's records say; `used` is the number of addresses in use by block (as text)."""
    at: dict[Place, LeafUse] = {}
    place_of: dict[tuple[str, str], Place] = {}
    for host in hosts:
        for name, group in leaf_groups(plan, host).items():
            place = place_of[host.name, name] = (_topology_of(plan, name), group.path, name)
            at[place] = at.get(place, LeafUse()).plus(LeafUse(hosts=1))
    held = Counter((span.host, span.network) for span in spans)
    for key, count in held.items():
        if key in place_of:
            at[place_of[key]] = at[place_of[key]].plus(LeafUse(spans=count, most_spans=count))
    for block in blocks:
        found = place_of.get((block.host, block.network))
        if found is not None:
            at[found] = at[found].plus(
                LeafUse(
                    owned=block.owner is not None,
                    mixed=block.mixed,
                    stock=block.is_stock,
                    endpoints=used.get(str(block.cidr), 0),
                )
            )
    return Usage(
        hosts=len(hosts), endpoints=endpoints, at=at, seats=Counter(tuple(host.groups.items()) for host in hosts)
    )


def joined(plan: AddressPlan, count: int) -> list[Host]:
    """The hosts that a plan lists, and more up to `count`, each with the labels that the emptiest leaf asks for."""
    places = Places(plan)
    members: Counter[tuple[str, str]] = Counter()
    hosts: list[Host] = []

    def join(host: Host) -> None:
        placed = places.place(host)
        places.add(placed)
        members.update(placed.groups.items())
        hosts.append(placed)

    for name in dict.fromkeys(planned.name for topology in plan.topologies for planned in topology.hosts):
        join(Host(name=name))
    seats = [(topology.name, path, labels) for topology in plan.topologies for path, labels in _seats(topology)]
    for number in range(len(hosts), count if seats else 0):
        _, _, labels = min(seats, key=lambda seat: members[seat[:2]])
        join(Host(name=f"host {number + 1}", labels=labels))
    return hosts


def tenant_names(networks: Sequence[Network], count: int) -> list[str]:
    """Names for a load's tenants: those that networks list, evenly among the large and the small ones."""
    listed = list(dict.fromkeys(name for network in networks for name in network.tenants))[:count]
    names = [f"tenant {number + 1}" for number in range(count)]
    for index, name in enumerate(listed):
        names[index * count // len(listed)] = name
    return names


def _by_network(networks: Sequence[Network], names: Sequence[str]) -> dict[str, frozenset[int]]:
    """The tenants whose endpoints take an address from each network: the first that serves them, of each family."""
    known = {network.name: network for network in networks}
    found: dict[str, set[int]] = {}
    for number, name in enumerate(names):
        try:
            candidates = candidate_networks(known, name)
        except NotFound:
            continue
        for choice in candidates.values():
            found.setdefault(choice[0].name, set()).add(number)
    return {name: frozenset(tenants) for name, tenants in found.items()}


def _endpoints(course: Course, host: int, served: frozenset[int]) -> tuple[int, int]:
    """The endpoints on a host at the end of the load's hours: of tenants that are served, and of the others."""
    until = round(course.load.hours * 3600)
    found = [0, 0]
    for event in course.events[host]:
        if event.at < until:
            found[course.tenant_of[event.workload] not in served] += 1 if event.starts else -1
    return found[0], found[1]


def _seats(topology: Topology) -> Iterable[tuple[str, dict[str, str]]]:
    """The leaves that hosts may join, with the labels they ask for."""

    def walk(group: Group, labels: dict[str, str]) -> Iterable[tuple[str, dict[str, str]]]:
        own = {**labels, **group.assignment}
        if group.is_leaf and not group.closed and not group.sole_host and group.cidrs:
            yield group.path, own
        for child in group.groups:
            yield from walk(child, own)

    return walk(topology.root, {})


def _topology_of(plan: AddressPlan, network: str) -> str:
    return next(topology.name for topology in plan.topologies if network in topology.networks)


def open_leaves(topology: Topology) -> list[Group]:
    """The leaves that hosts may be in."""
    return [leaf for leaf in leaves(topology.root) if not leaf.closed and leaf.cidrs]
