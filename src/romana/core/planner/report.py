"""A report on an address plan: what it holds, what a load or the present use makes of it, and what routes it costs.

Owns the choice of what is worth knowing. Refuses to know how it is shown. Invariant: the groups are in the order of
the tree, each with a line for each network it has a CIDR in.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from romana.core.planner.capacity import Capacities, Capacity
from romana.core.planner.load import Load
from romana.core.planner.routes import Alternatives, DeviceCount, alternatives, by_kind, device_counts
from romana.core.planner.usage import LeafUse, Usage
from romana.core.routing.fabric import announced, originated, without_router
from romana.model.address import Prefix
from romana.model.topology import AddressPlan, Group, Network, Placement, Topology


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A group's part of one network: what it holds, what of that is in use or wanted, and who announces it.

    `fill` is the share of spans that is in use; more than 1 is more than there is. `announced_by` is the path of a
    router's group or a host's name; it is empty where nobody announces the CIDR.
    """

    network: str
    cidr: Prefix
    capacity: Capacity
    use: LeafUse
    fill: float
    announced_by: str = ""


class GroupReport(msgspec.Struct, frozen=True, kw_only=True):
    """A group of a topology. `room_for` is how many hosts more would fit, each like those there are."""

    topology: str
    path: str
    depth: int
    kind: str
    hosts: int
    parts: tuple[Part, ...]
    assignment: dict[str, str] = {}
    room_for: int | None = None


class NetworkReport(msgspec.Struct, frozen=True, kw_only=True):
    """A network as a whole. `claimed` are the addresses in blocks and in spans that are in use."""

    name: str
    cidr: Prefix
    block_length: int
    span_length: int
    mixed: int
    stock: int
    placement: Placement
    tenants: tuple[str, ...]
    capacity: Capacity
    use: LeafUse
    claimed_in_blocks: int
    claimed_in_spans: int
    endpoints_that_fit: int


class Spare(msgspec.Struct, frozen=True, kw_only=True):
    """What is left: the groups that fill up first, the parts that no group has yet, and hosts that still fit."""

    first_full: tuple[str, ...] = ()
    too_small: tuple[str, ...] = ()
    spare_parts: int = 0
    room_for: int = 0


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. `load` is None for the present use; `devices` has one line a kind, `all_devices` one each."""

    hosts: int
    endpoints: int
    homeless: int
    networks: tuple[NetworkReport, ...]
    groups: tuple[GroupReport, ...]
    spare: Spare
    devices: tuple[DeviceCount, ...]
    all_devices: tuple[DeviceCount, ...]
    beside: Alternatives
    load: Load | None = None


def plan_report(plan: AddressPlan, usage: Usage, load: Load | None = None) -> PlanReport:
    """The report on a plan under a use, and the load that the use was made from, if any."""
    counted = {network.name: Capacities(network) for network in plan.networks}
    groups = tuple(
        _group(topology, group, depth, counted, usage)
        for topology in plan.topologies
        for group, depth in _walk(topology.root, 0)
    )
    all_devices = tuple(device_counts(plan, usage))
    return PlanReport(
        hosts=usage.hosts,
        endpoints=usage.endpoints,
        homeless=usage.homeless,
        networks=tuple(_network(network, groups) for network in plan.networks),
        groups=groups,
        spare=_spare(groups),
        devices=tuple(by_kind(all_devices)),
        all_devices=all_devices,
        beside=alternatives(usage),
        load=load,
    )


def _walk(group: Group, depth: int) -> Iterator[tuple[Group, int]]:
    yield group, depth
    for child in group.groups:
        yield from _walk(child, depth + 1)


def _group(topology: Topology, group: Group, depth: int, counted: dict[str, Capacities], usage: Usage) -> GroupReport:
    parts = tuple(
        _part(topology, group, name, counted[name].of(group), usage)
        for name in topology.networks
        if name in group.cidrs
    )
    return GroupReport(
        topology=topology.name,
        path=group.path,
        depth=depth,
        kind=_kind(group),
        hosts=max((part.use.hosts for part in parts), default=0),
        parts=parts,
        assignment=group.assignment,
        room_for=_room_for(group, parts, usage) if group.is_leaf and not group.closed else None,
    )


def _part(topology: Topology, group: Group, network: str, capacity: Capacity, usage: Usage) -> Part:
    use = LeafUse()
    for leaf in _leaves(group):
        use = use.plus(usage.at.get((topology.name, leaf.path, network), LeafUse()))
    return Part(
        network=network,
        cidr=group.cidrs[network],
        capacity=capacity,
        use=use,
        fill=round(use.spans / capacity.spans, 4) if capacity.spans else 0.0,
        announced_by=_announcer(group, group.cidrs[network]),
    )


def _announcer(group: Group, cidr: Prefix) -> str:
    """Who originates a group's aggregate. A child with the whole CIDR speaks for its parent."""
    if group.sole_host:
        return group.sole_host
    if without_router(group):
        return ""
    if cidr in originated(group):
        return group.path
    child = next((child for child in group.groups if cidr in child.cidrs.values()), None)
    return _announcer(child, cidr) if child is not None and (child.sole_host or cidr in announced(child)) else ""


def _kind(group: Group) -> str:
    if group.closed and group.is_leaf:
        return "spare"
    if group.sole_host:
        return "host"
    return "rack" if group.is_leaf else "inner"


def _leaves(group: Group) -> Iterator[Group]:
    if group.is_leaf:
        yield group
    for child in group.groups:
        yield from _leaves(child)


def _room_for(group: Group, parts: tuple[Part, ...], usage: Usage) -> int:
    """Hosts more, each with as many spans as those of this leaf have, or those of all leaves where it is empty."""
    if group.sole_host:
        return 0
    room = []
    for part in parts:
        use = part.use if part.use.hosts else _all(usage, part.network)
        hosts, spans = max(1, use.hosts), max(1, use.spans)
        room.append(max(0, (part.capacity.spans - part.use.spans) * hosts // max(hosts, spans)))
    return min(room, default=0)


def _all(usage: Usage, network: str) -> LeafUse:
    total = LeafUse()
    for (_, _, name), use in usage.at.items():
        if name == network:
            total = total.plus(use)
    return total


def _network(network: Network, groups: tuple[GroupReport, ...]) -> NetworkReport:
    roots = [part for group in groups if group.depth == 0 for part in group.parts if part.network == network.name]
    capacity = roots[0].capacity if roots else _nothing(network)
    leaves = [
        part
        for group in groups
        if group.kind in ("rack", "host")
        for part in group.parts
        if part.network == network.name
    ]
    use = roots[0].use if roots else LeafUse()
    block = 1 << (network.cidr.family.bits - network.block_length)
    in_spans = sum(
        part.cidr.size if group.kind == "host" else part.use.spans << (network.cidr.family.bits - network.span_length)
        for group in groups
        if group.kind in ("rack", "host")
        for part in group.parts
        if part.network == network.name and part.use.hosts
    )
    a_span = use.endpoints / use.spans if use.spans else 0.0
    return NetworkReport(
        name=network.name,
        cidr=network.cidr,
        block_length=network.block_length,
        span_length=network.span_length,
        mixed=network.mixed,
        stock=network.stock,
        placement=network.placement,
        tenants=network.tenants,
        capacity=capacity,
        use=use,
        claimed_in_blocks=use.blocks * block,
        claimed_in_spans=in_spans,
        endpoints_that_fit=min(capacity.usable, round(sum(part.capacity.spans for part in leaves) * a_span)),
    )


def _nothing(network: Network) -> Capacity:
    """A network that no topology has: nobody draws from it."""
    return Capacity(
        addresses=network.cidr.size, spans=0, blocks=0, usable=0, reserved=0, static=0, spare=network.cidr.size, kept=0
    )


def _spare(groups: tuple[GroupReport, ...]) -> Spare:
    filled = sorted(
        (
            (max(part.fill for part in group.parts), group.path)
            for group in groups
            if group.kind == "rack" and group.parts
        ),
        key=lambda pair: (-pair[0], pair[1]),
    )
    most = filled[0][0] if filled else 0.0
    return Spare(
        first_full=tuple(path for fill, path in filled if fill == most) if most else (),
        too_small=tuple(path for fill, path in filled if fill > 1),
        spare_parts=sum(group.kind == "spare" for group in groups),
        room_for=sum(group.room_for or 0 for group in groups),
    )
