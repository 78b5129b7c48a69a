"""Which prefixes a VPC has to know: one a group and family, and what lives away from its group.

Owns the choice of groups: of a host's leaf and the groups around it, the innermost that is marked for VPCs, else the
leaf. Refuses to know instances and subnets. Invariants: whatever a host announces is in a route that the host is in; an
exception has a route only where the routes around it lead to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from romana.model.address import Prefix
from romana.model.route import RouteException
from romana.model.topology import AddressPlan, Group, Host
from romana.model.vpc import ANNOUNCED_TO_VPC, VpcRoute


def vpc_routes(
    plan: AddressPlan, hosts: Iterable[Host], exceptions: Iterable[RouteException] = ()
) -> tuple[VpcRoute, ...]:
    """The routes, by prefix. Groups without hosts have none."""
    known = {host.name: host for host in hosts}
    found: dict[Prefix, VpcRoute] = {}
    for topology in plan.topologies:
        announced = dict(_announced(topology.root, None))
        members: dict[str, list[str]] = {}
        for host in known.values():
            group = announced.get(host.groups.get(topology.name, ""))
            if group is not None:
                members.setdefault(group.path, []).append(host.name)
        for group in {group.path: group for group in announced.values()}.values():
            for prefix in group.cidrs.values() if group.path in members else ():
                name = f"{topology.name}:{group.path}"
                found[prefix] = VpcRoute(prefix=prefix, hosts=tuple(sorted(members[group.path])), group=name)
    for one in sorted(exceptions, key=lambda one: (one.prefix.length, one.prefix)):
        around = around_prefix(found, one.prefix)
        if one.host in known and (around is None or one.host not in around.hosts):
            plain = one.prefix.supernet(one.prefix.length)  # an address is written as a prefix in a table
            found[plain] = VpcRoute(prefix=plain, hosts=(one.host,))
    return tuple(found[prefix] for prefix in sorted(found))


def around_prefix(routes: dict[Prefix, VpcRoute], prefix: Prefix) -> VpcRoute | None:
    """The longest route around a prefix, itself included."""
    return next((routes[one] for one in prefix.supernets() if one in routes), None)


def _announced(group: Group, marked: Group | None) -> Iterator[tuple[str, Group]]:
    """The path of each leaf below a group, and the group by which a VPC knows it."""
    if ANNOUNCED_TO_VPC in (word.strip() for word in group.routing.split(",")):
        marked = group
    if group.is_leaf:
        yield group.path, marked or group
    for child in group.groups:
        yield from _announced(child, marked)
