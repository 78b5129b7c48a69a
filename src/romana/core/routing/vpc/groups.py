"""Which prefixes a VPC has to know: one a group and family, and what lives away from its group.

Owns the choice of groups: of a host's leaf and the groups around it, the innermost that is marked for VPCs, else the
leaf. Refuses to know instances and subnets. Invariants: whatever a host announces is in a route that the host is in;
what one host holds has a route of its own only where the routes around it lead to others.
"""

from __future__ import annotations

import operator
from bisect import insort
from collections.abc import Iterable, Iterator

import msgspec

from romana.model.address import Family, Prefix
from romana.model.topology import AddressPlan, Group, Host
from romana.model.vpc import ANNOUNCED_TO_VPC, VpcRoute


def vpc_routes(
    plan: AddressPlan, hosts: Iterable[Host], held: Iterable[tuple[Prefix, str]] = ()
) -> tuple[VpcRoute, ...]:
    """The routes, by prefix. Groups without hosts have none. `held` has what leads to one host, with its name."""
    known = {host.name: host for host in hosts}
    found = RouteIndex()
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
                found.put(VpcRoute(prefix=prefix, hosts=tuple(sorted(members[group.path])), group=name))
    for prefix, name in sorted(held, key=lambda one: (one[0].length, one)):
        around = found.around(prefix)
        if name in known and (around is None or name not in around.hosts):
            found.put(VpcRoute(prefix=prefix, hosts=(name,)))
    return tuple(found.routes[prefix] for prefix in sorted(found.routes))


class RouteIndex:
    """Routes by prefix, found by what they contain."""

    def __init__(self) -> None:
        self.routes: dict[Prefix, VpcRoute] = {}
        self._lengths: dict[Family, list[int]] = {family: [] for family in Family}  # the longest first

    def put(self, route: VpcRoute) -> None:
        """Have a route, in the place of one to the same prefix; an address is written as a prefix."""
        prefix = route.prefix.supernet(route.prefix.length)
        self.routes[prefix] = msgspec.structs.replace(route, prefix=prefix)
        lengths = self._lengths[prefix.family]
        if prefix.length not in lengths:
            insort(lengths, prefix.length, key=operator.neg)

    def around(self, prefix: Prefix) -> VpcRoute | None:
        """The longest route around a prefix, itself included."""
        lengths = (length for length in self._lengths[prefix.family] if length <= prefix.length)
        found = (self.routes.get(prefix.supernet(length)) for length in lengths)
        return next((route for route in found if route is not None), None)


def _announced(group: Group, marked: Group | None) -> Iterator[tuple[str, Group]]:
    """The path of each leaf below a group, and the group by which a VPC knows it."""
    if ANNOUNCED_TO_VPC in (word.strip() for word in group.routing.split(",")):
        marked = group
    if group.is_leaf:
        yield group.path, marked or group
    for child in group.groups:
        yield from _announced(child, marked)
