"""How many routes every device holds, without computing them, and what other ways of routing would need.

Owns the counts. Refuses to know prefixes of hosts. Invariant: they are those of `core.routing.plan.device_plan` (a test
walks it).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from romana.core.planner.usage import Usage, open_leaves
from romana.core.routing.fabric import Fabric, Router, announced, originated, served, without_router
from romana.core.topology.place import leaves
from romana.model.topology import AddressPlan, Group, Topology


class Kind(StrEnum):
    """What a device serves."""

    SPINE = "spine"
    MIDDLE = "router between"
    RACK = "rack router"
    HOST = "host"
    VPC = "VPC route table"


class DeviceCount(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of a device, or of each of several that are alike: learned from above and below, beside them on a
    layer 2 network, and discards.

    `device` is the path of a router's group, or of the leaf that hosts are in (of each topology). `most` is the total
    of the one that holds most, where they differ.
    """

    device: str
    kind: Kind
    above: int
    below: int
    discards: int
    beside: int = 0
    devices: int = 1
    most: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.above + self.below + self.beside + self.discards


class Alternatives(msgspec.Struct, frozen=True, kw_only=True):
    """What every device would hold with a route for each node, block or endpoint, of each family."""

    per_node: int
    per_block: int
    per_endpoint: int


def device_counts(plan: AddressPlan, usage: Usage) -> list[DeviceCount]:
    """Routers from the top, then the hosts of each leaf, then a VPC's route table."""
    fabric = Fabric(plan)
    routers: dict[str, DeviceCount] = {}
    for topology in plan.topologies:
        for group in served(topology.root):
            one = _router(topology, group, fabric.routers[group.path], usage)
            other = routers.get(one.device)
            routers[one.device] = one if other is None else _both(one, other)
    return [*(routers[path] for path in sorted(routers)), *_hosts(fabric, usage), _vpc(plan)]


def alternatives(usage: Usage) -> Alternatives:
    """The same endpoints without aggregates."""
    nodes = sum(use.hosts for use in usage.at.values())
    blocks = sum(use.owned + use.mixed for use in usage.at.values())
    endpoints = sum(use.endpoints for use in usage.at.values())
    return Alternatives(per_node=nodes, per_block=blocks, per_endpoint=endpoints)


def _router(topology: Topology, group: Group, router: Router, usage: Usage) -> DeviceCount:
    below = {leaf.path for leaf in leaves(group) if group.layer2 or leaf is group or _is_child(group, leaf)}
    spans = sum(_spans(usage, topology, path, group.cidrs) for path in below)
    aggregates = sum(len(announced(child)) for child in group.groups if not without_router(child))
    kind = Kind.RACK if group.is_leaf else Kind.SPINE if group.path == topology.root.path else Kind.MIDDLE
    return DeviceCount(
        device=group.path,
        kind=kind,
        above=len(router.above),
        below=spans + aggregates,
        discards=len(originated(group)),
        devices=len(router.members),
    )


def _is_child(group: Group, leaf: Group) -> bool:
    """Whether a leaf without a router of its own is right below a group."""
    return bool(leaf.sole_host) and any(child is leaf for child in group.groups)


def _spans(usage: Usage, topology: Topology, path: str, networks: Mapping[str, object]) -> int:
    found = (usage.at.get((topology.name, path, network)) for network in networks)
    return sum(use.spans for use in found if use is not None)


def _both(one: DeviceCount, other: DeviceCount) -> DeviceCount:
    """A router that serves the same path in two topologies."""
    return msgspec.structs.replace(
        one,
        kind=one.kind if one.kind is not Kind.RACK else other.kind,
        above=one.above,
        below=one.below + other.below,
        discards=one.discards + other.discards,
    )


def _hosts(fabric: Fabric, usage: Usage) -> Iterator[DeviceCount]:
    """The hosts that are in the same leaves: the aggregates above them, and a discard for each of their own spans."""
    members = usage.members()
    segments = _segments(fabric, usage)
    for seat, hosts in usage.seats.items():
        uses = [(place, use) for place, use in usage.at.items() if place[:2] in seat]
        a_host = sum(use.spans / members[place[:2]] for place, use in uses)
        groups = [group for leaf in seat if (group := fabric.group(*leaf)) is not None]
        routers = {router for group in groups if (router := fabric.router_of(group))}
        learned = len({cidr for router in routers for cidr in fabric.routers[router].aggregates})
        domains = fabric.domains_of(dict(seat))
        ends = 0 if routers else len({cidr for domain in domains for cidr in fabric.cidrs_at(domain)})
        around = sum(segments[domain] for domain in domains)
        yield DeviceCount(
            device=" ".join(path for _, path in seat),
            kind=Kind.HOST,
            above=learned,
            below=0,
            discards=ends + math.ceil(a_host - 1e-9),
            beside=max(0, around - math.floor(a_host + 1e-9)),
            devices=hosts,
            most=learned + ends + max(around, sum(use.most_spans for _, use in uses)),
        )


def _segments(fabric: Fabric, usage: Usage) -> Counter[str]:
    """The spans on each layer 2 network."""
    found: Counter[str] = Counter()
    for (topology, path, _), use in usage.at.items():
        group = fabric.group(topology, path)
        if group is not None and group.layer2:
            found[group.layer2] += use.spans
    return found


def _vpc(plan: AddressPlan) -> DeviceCount:
    """One route for each leaf group and network, with a host of the group as next hop."""
    routes = sum(len(leaf.cidrs) for topology in plan.topologies for leaf in open_leaves(topology))
    return DeviceCount(device="VPC", kind=Kind.VPC, above=0, below=routes, discards=0)


def by_kind(counts: Sequence[DeviceCount]) -> list[DeviceCount]:
    """One line a kind: the one that holds most of it stands for all."""
    found: dict[Kind, list[DeviceCount]] = {}
    for one in counts:
        found.setdefault(one.kind, []).append(one)
    lines = []
    for members in found.values():
        largest = max(members, key=lambda one: max(one.total, one.most))
        devices = sum(one.devices for one in members)
        lines.append(msgspec.structs.replace(largest, devices=devices, most=max(largest.total, largest.most)))
    return lines
