"""Random worlds for the route plan: address plans of any shape, hosts in them, spans, and what lives elsewhere.

Some groups are layer 2 networks, some have several routers, which have a link where they need one.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from romana.codec.topology import read_plan
from romana.core.routing.plan import RoutePlan
from romana.core.topology import carve, leaf_groups
from romana.model.address import Address, Prefix
from romana.model.errors import Invalid
from romana.model.ipam import Span
from romana.model.route import Away, DevicePlan, Reach, RouteException
from romana.model.topology import AddressPlan, Host

NETWORKS = [
    {"name": "v4", "cidr": "10.0.0.0/14", "span_length": 26},
    {"name": "v6", "cidr": "fd00::/56", "span_length": 120},
    {"name": "other", "cidr": "10.8.0.0/16", "span_length": 27},
]


class World(msgspec.Struct):
    """What a route plan is made from, and who really has which address."""

    plan: AddressPlan
    hosts: dict[str, Host]
    spans: dict[Prefix, Span]
    away: dict[Prefix, RouteException]

    def routes(self) -> RoutePlan:
        """The plan, from nothing."""
        return RoutePlan(self.plan, self.hosts.values(), self.spans.values(), self.away.values())

    def holder(self, address: Address) -> str:
        """The host that has the longest prefix around an address; empty when nobody has."""
        around = [(cidr.length, 0, span.host) for cidr, span in self.spans.items() if cidr.contains(address)]
        around += [(cidr.length, 1, one.host) for cidr, one in self.away.items() if cidr.contains(address)]
        return max(around, default=(0, 0, ""))[2]


def world(seed: int, *, ospf: bool = False) -> World:
    """A world that a seed gives; a document that cannot be carved is drawn again."""
    draw = random.Random(seed)
    while True:
        try:
            plan = carve(read_plan(_document(draw, ospf=ospf)))
        except Invalid:
            continue
        found = World(plan, {}, {}, {})
        for topology in plan.topologies:
            for planned in topology.hosts:
                known = found.hosts.get(planned.name, Host(name=planned.name))
                groups = {**known.groups, topology.name: planned.group}
                found.hosts[planned.name] = msgspec.structs.replace(known, groups=groups)
        if found.hosts:
            for name in found.hosts:
                for _ in range(draw.randint(0, 3)):
                    claim(draw, found, name)
            for name in [name for name in found.hosts if draw.random() < 0.15]:
                move(draw, found, name)
            for _ in range(draw.randint(0, 6)):
                go_away(draw, found)
            return found


def _document(draw: random.Random, *, ospf: bool) -> dict[str, Any]:
    numbers = iter(range(1000))
    links: list[Any] = []
    two = draw.random() < 0.5
    flat = draw.random() < 0.12
    spines = [] if flat and draw.random() < 0.7 else _routers(draw, numbers, links if draw.random() < 0.5 else [])
    hosts = [f"h{index}" for index in range(draw.randint(2, 9))]
    trees = [("a", ["v4", "v6"]), *([("b", ["other"])] if two else [])]
    topologies = []
    for name, networks in trees:
        left = draw.sample(hosts, k=draw.randint(1, len(hosts))) if two else list(hosts)
        groups = [_tree(draw, 3, left, numbers, links) for _ in range(draw.randint(1, 3))]
        if left:
            groups.append({"name": f"g{next(numbers)}", "hosts": left})
        spare = draw.choice((0, 0, 1, 2))
        head: dict[str, Any] = {"name": name, "networks": networks, "layer2": flat, "routers": spines}
        topologies.append({**head, "groups": groups, "spare": spare})
    routing: dict[str, Any] = {"protocol": "ibgp", "asn": 65000, "links": links} if links else {}
    if ospf:
        routing = {"protocol": "ospf", "links": links}
    return {"version": 1, "networks": NETWORKS if two else NETWORKS[:2], "topologies": topologies, "routing": routing}


def _tree(draw: random.Random, depth: int, left: list[str], numbers: Any, links: list[Any]) -> dict[str, Any]:
    head: dict[str, Any] = {"name": draw.choice(("x", "y", "g")) + str(next(numbers)), "weight": draw.choice((1, 1, 2))}
    head["layer2"] = draw.random() < 0.12
    if draw.random() < 0.3:
        head["area"] = next(numbers)
    if draw.random() < 0.2:
        head["routers"] = _routers(draw, numbers, links)
    if depth and draw.random() < 0.45:
        groups = [_tree(draw, depth - 1, left, numbers, links) for _ in range(draw.randint(1, 3))]
        return {**head, "groups": groups, "spare": draw.choice((0, 0, 1))}
    count = min(len(left), draw.choice((0, 1, 1, 2, 3)))
    return {**head, "hosts": [left.pop() for _ in range(count)]}


def _routers(draw: random.Random, numbers: Any, links: list[Any]) -> list[str]:
    """None, one or two routers, with a link between the two."""
    names = [f"r{next(numbers)}" for _ in range(draw.choice((0, 1, 2, 2)))]
    if len(names) == 2:
        links.append({"ends": names, "interfaces": ["a", "b"]})
    return names


def claim(draw: random.Random, world: World, name: str) -> Span | None:
    """A free span for a host from its leaf in one of its networks, or None."""
    lengths = {network.name: network.span_length for network in world.plan.networks}
    groups = leaf_groups(world.plan, world.hosts[name])
    if not groups:
        return None
    network = draw.choice(sorted(groups))
    cidr = groups[network].cidrs[network]
    if groups[network].sole_host != name:
        places = 1 << max(0, lengths[network] - cidr.length)
        cidr = cidr.subnet(max(lengths[network], cidr.length), draw.randrange(min(places, 64)))
    if any(cidr.overlaps(other) for other in (*world.spans, *world.away)):
        return None
    span = world.spans[cidr] = Span(cidr=cidr, network=network, host=name)
    return span


def move(draw: random.Random, world: World, name: str) -> Host:
    """A host is in the groups of another one; its spans stay as they are."""
    groups = world.hosts[draw.choice(sorted(world.hosts))].groups
    moved = world.hosts[name] = msgspec.structs.replace(world.hosts[name], groups=groups)
    return moved


def some_address(draw: random.Random, world: World) -> Address:
    """An address in a topology's root: often in a span, or in what lives elsewhere."""
    roots = [cidr for topology in world.plan.topologies for cidr in topology.root.cidrs.values()]
    within = draw.choice([roots, list(world.spans) or roots, list(world.away) or roots])
    cidr = draw.choice(within)
    return cidr.address(draw.randrange(cidr.size))


def go_away(draw: random.Random, world: World) -> RouteException:
    """Something, often inside something else, is on any host: an address, or a little more."""
    cidr: Prefix = some_address(draw, world)
    if draw.random() < 0.3:
        cidr = cidr.supernet(cidr.length - draw.randint(1, 4))
    host = draw.choice(sorted(world.hosts))
    reason = draw.choice(list(Away))
    one = world.away[cidr] = RouteException(prefix=cidr, host=host, reason=reason, name=f"of {cidr}")
    return one


class Plans(dict[str, DevicePlan]):
    """The plans of all devices by name, and which routers are at a path."""

    members: dict[str, tuple[str, ...]]

    def device(self, place: str, turn: int) -> str:
        """A device at a place: another one of several in another turn."""
        names = self.members.get(place, (place,))
        return names[turn % len(names)]


def walk(plans: Plans, source: str, address: Address) -> tuple[str, list[str]]:
    """Where a packet from a device ends (empty: no route), and the devices that it passes; a loop fails."""
    passed: list[str] = []
    device = source
    while True:
        assert device not in passed, f"{address} loops: {[*passed, device]}"
        passed.append(device)
        matching = [route for route in plans[device].routes if route.prefix.contains(address)]
        if not matching:
            return "", passed
        route = max(matching, key=lambda one: one.prefix.length)
        if route.reach is Reach.DISCARD:
            return device, passed
        device = plans.device(route.toward, address.value + len(passed))


def all_plans(routes: RoutePlan) -> Plans:
    """The plans of all devices."""
    found = Plans({device: routes.device_plan(device) for device in routes.devices()})
    found.members = {path: router.members for path, router in routes.fabric.routers.items()}
    return found
