"""What a new plan changes, said in one typed answer; and which hosts the change depends on.

Owns the comparison of two plans and of the hosts' places in them. Refuses to know what is in use. Invariant: whatever
room a host that is not `affected` gets under the old plan, the new one has a place for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from romana.core.topology.settle import Leaves
from romana.model.address import Prefix
from romana.model.errors import Fault
from romana.model.topology import AddressPlan, Group, Host, Network, Topology

FIELDS = ("cidr", "block_length", "span_length", "placement", "bits", "tenants", "reserved", "static", "mixed", "stock")
"""Fields of a network whose change is worth a line, in the order of the lines."""
CONNECTING = ("routing", "layer2", "routers", "underlay", "asn", "area")
"""The same of a group, about how its devices are connected."""


class NetworkChange(msgspec.Struct, frozen=True, kw_only=True):
    """A network that comes (`before` is empty), goes (`after` is empty), or has another value of a field."""

    network: str
    field: str
    before: str
    after: str


class GroupChange(msgspec.Struct, frozen=True, kw_only=True):
    """A group's CIDR in one network; None where the group, or its part of the network, is not there."""

    topology: str
    group: str
    network: str
    before: Prefix | None
    after: Prefix | None


class HostMove(msgspec.Struct, frozen=True, kw_only=True):
    """A host's group in one topology; empty for none."""

    host: str
    topology: str
    before: str
    after: str


class ConnectionChange(msgspec.Struct, frozen=True, kw_only=True):
    """How devices are connected: a `field` of `what` is meant (`routing`, a `link`, a `peer`, a `group`, a `host`) by
    its name; no field: it comes (`before` is empty) or goes (`after` is empty) as a whole.
    """

    what: str
    name: str
    field: str
    before: str
    after: str


class PlanChange(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a plan changes, and why it is refused, if it is: each refusal names what would be orphaned."""

    networks: tuple[NetworkChange, ...] = ()
    groups: tuple[GroupChange, ...] = ()
    hosts: tuple[HostMove, ...] = ()
    connections: tuple[ConnectionChange, ...] = ()
    refusals: tuple[Fault, ...] = ()


def plan_change(
    old: AddressPlan,
    new: AddressPlan,
    hosts: Mapping[str, Host],
    settled: Mapping[str, Host],
    refusals: tuple[Fault, ...] = (),
) -> PlanChange:
    """The difference of two plans; `hosts` have their places in the old one, `settled` in the new one."""
    return PlanChange(
        networks=tuple(_network_changes(old, new)),
        groups=tuple(_group_changes(old, new)),
        hosts=tuple(_host_moves(hosts, settled)),
        connections=tuple(_connection_changes(old, new)),
        refusals=refusals,
    )


def affected(
    old: AddressPlan, new: AddressPlan, hosts: Mapping[str, Host], settled: Mapping[str, Host]
) -> frozenset[str]:
    """The hosts whose room in the old plan is not all room in the new one: if one of them gets some meanwhile, the
    change has to be judged again.
    """
    was = {network.name: network for network in old.networks}
    now = {network.name: network for network in new.networks}
    before, after = Leaves(old), Leaves(new)

    def stays(name: str, network: str) -> bool:
        own = before.of(hosts[name], network)
        if own is None:
            return True
        leaf = after.of(settled[name], network) if name in settled and network in now else None
        if leaf is None or not leaf.cidrs[network].contains(own.cidrs[network]):
            return False
        if leaf.sole_host != own.sole_host or not _same_room(was[network], now[network]):
            return False
        return not any(static.overlaps(own.cidrs[network]) for static in fresh[network])

    fresh = {name: set(now[name].static) - set(was[name].static) for name in was.keys() & now.keys()}
    return frozenset(name for name in hosts if not all(stays(name, network) for network in was))


def _same_room(was: Network, now: Network) -> bool:
    shape = (was.block_length, was.span_length, was.bits) == (now.block_length, now.span_length, now.bits)
    if not shape or (now.bits is not None and was.cidr != now.cidr):
        return False
    return not now.tenants or (bool(was.tenants) and set(was.tenants) <= set(now.tenants))


def _network_changes(old: AddressPlan, new: AddressPlan) -> Iterator[NetworkChange]:
    before = {network.name: network for network in old.networks}
    after = {network.name: network for network in new.networks}
    for name in dict.fromkeys((*before, *after)):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            yield NetworkChange(
                network=name, field="", before=str(was.cidr) if was else "", after=str(now.cidr) if now else ""
            )
            continue
        for field in FIELDS:
            old_value, new_value = getattr(was, field), getattr(now, field)
            if old_value != new_value:
                yield NetworkChange(network=name, field=field, before=_words(old_value), after=_words(new_value))


def _group_changes(old: AddressPlan, new: AddressPlan) -> Iterator[GroupChange]:
    before, after = dict(_cidrs(old)), dict(_cidrs(new))
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            topology, group, network = key
            yield GroupChange(
                topology=topology, group=group, network=network, before=before.get(key), after=after.get(key)
            )


def _host_moves(hosts: Mapping[str, Host], settled: Mapping[str, Host]) -> Iterator[HostMove]:
    for name, host in sorted(hosts.items()):
        now = settled[name].groups if name in settled else {}
        for topology in dict.fromkeys((*host.groups, *now)):
            was, will = host.groups.get(topology, ""), now.get(topology, "")
            if was != will:
                yield HostMove(host=name, topology=topology, before=was, after=will)


def _connection_changes(old: AddressPlan, new: AddressPlan) -> Iterator[ConnectionChange]:
    before, after = _connections(old), _connections(new)
    for what, name in dict.fromkeys((*before, *after)):
        was, now = before.get((what, name)), after.get((what, name))
        if was is None or now is None:
            if what in ("group", "host"):  # told as a group's CIDR, or as a host's move
                continue
            words = ["" if one is None else _words(one.get("addresses") or "there") for one in (was, now)]
            yield ConnectionChange(what=what, name=name, field="", before=words[0], after=words[1])
            continue
        for field in was:
            if was[field] != now[field]:
                yield ConnectionChange(
                    what=what, name=name, field=field, before=_words(was[field]), after=_words(now[field])
                )


def _connections(plan: AddressPlan) -> dict[tuple[str, str], dict[str, object]]:
    """Everything that says how devices are connected, each with its fields."""
    routing = plan.routing
    found: dict[tuple[str, str], dict[str, object]] = {
        ("routing", ""): {field: getattr(routing, field) for field in ("protocol", "asn", "sessions")}
    }
    found |= {("link", " - ".join(one.ends)): msgspec.structs.asdict(one) for one in routing.links}
    found |= {("peer", one.name): msgspec.structs.asdict(one) for one in routing.peers}
    for topology, group in _all_groups(plan):
        found["group", f"{topology.name}:{group.path}"] = {field: getattr(group, field) for field in CONNECTING}
    for topology in plan.topologies:
        found |= {("host", one.name): {"addresses": one.addresses} for one in topology.hosts}
    return found


def _all_groups(plan: AddressPlan) -> Iterator[tuple[Topology, Group]]:
    for topology in plan.topologies:
        waiting: list[Group] = [topology.root]
        while waiting:
            group = waiting.pop()
            yield topology, group
            waiting.extend(reversed(group.groups))


def _cidrs(plan: AddressPlan) -> Iterator[tuple[tuple[str, str, str], Prefix]]:
    for topology, group in _all_groups(plan):
        yield from (((topology.name, group.path, network), cidr) for network, cidr in group.cidrs.items())


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_words, value))
    if isinstance(value, msgspec.Struct):
        said = msgspec.structs.asdict(value)
        return ",".join(f"{key}={_words(inner)}" for key, inner in said.items() if inner not in (None, ()))
    if isinstance(value, dict):
        return ",".join(f"{key}={inner}" for key, inner in value.items())
    return "" if value is None else str(value)
