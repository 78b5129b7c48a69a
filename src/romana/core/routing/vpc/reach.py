"""Which hosts can take a prefix's packets in each VPC, subnet by subnet.

Owns the rule that a relay passes packets on only within its own subnet: what it would send to a host of another subnet
comes back to it by the same route table. So a group is led to the subnet in which most of its hosts are, and what hosts
elsewhere announce has routes of its own. Invariant: the answer depends on where hosts are, never on how they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from romana.core.routing.vpc.groups import RouteIndex
from romana.core.routing.vpc.places import Place
from romana.model.address import Prefix
from romana.model.vpc import VpcPlan, VpcRoute


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of one VPC, each with the hosts that can be its next hop, all on one subnet.

    `apart` are prefixes with routes of their own only because their host is on another subnet than most of its group.
    """

    routes: dict[Prefix, VpcRoute]
    apart: tuple[Prefix, ...] = ()


def reach_of(plan: VpcPlan, places: Mapping[str, Place], vpc: str) -> Reach:
    """The routes that a VPC needs; none for what has no host in it."""
    here = {name: place for name, place in places.items() if place.instance.vpc == vpc}
    found = RouteIndex()
    for route in plan.routes:
        placed = [name for name in route.hosts if name in here]
        if placed:
            home = _home([here[name].interface.subnet for name in placed])
            taking = tuple(name for name in placed if here[name].interface.subnet == home)
            found.put(msgspec.structs.replace(route, hosts=taking))
    apart = []
    announced = sorted(
        (one.length, one, host.name) for host in plan.hosts if host.name in here for one in host.announced
    )
    for _, prefix, name in announced:
        around = found.around(prefix)
        if around is not None and _subnet(here, around) != here[name].interface.subnet:
            found.put(VpcRoute(prefix=prefix, hosts=(name,)))
            apart.append(prefix)
    return Reach(routes={prefix: found.routes[prefix] for prefix in sorted(found.routes)}, apart=tuple(sorted(apart)))


def _home(subnets: list[str]) -> str:
    """The subnet of most, the first by name among equals."""
    counts = Counter(subnets)
    return min(counts, key=lambda subnet: (-counts[subnet], subnet))


def _subnet(here: Mapping[str, Place], route: VpcRoute) -> str:
    return here[route.hosts[0]].interface.subnet
