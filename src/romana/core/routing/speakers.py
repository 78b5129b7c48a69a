"""What every device's routing daemon is to do, from the route plan.

Owns the level rule said in filters: upward goes only what the device's group announces, downward that and what came
from above, to another router of the group what is below and above; from each neighbour comes only what the plan says
is there. Exceptions go to the next device on their way alone. Refuses to know daemons and their text. Invariant: what
a device tells a neighbour of the plan, that neighbour accepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from romana.core.routing.fabric import ROOT, parent, way_up
from romana.core.routing.neighbors import Neighbor, Neighborhood, session_name
from romana.core.routing.plan import RoutePlan
from romana.core.routing.segment import segment_routes
from romana.model.address import Address, Family, Prefix
from romana.model.fabric import Pattern, Protocol
from romana.model.route import DevicePlan, Reach
from romana.model.speaker import STUB_COST, Ospf, OspfLink, Relation, Session, Speaker
from romana.model.topology import Group


def speaker(routes: RoutePlan, device: str) -> Speaker | None:
    """What the daemon of a named router or a host is to do. None for a host that has nobody to speak to, and where no
    protocol is spoken; NotFound for an unknown device.
    """
    around = Neighborhood(routes)
    neighbors = around.of(device)
    if device in routes.fabric.devices and around.routing.protocol is not Protocol.NONE:
        return _Router(around, routes.device_plan(device)).speaker(neighbors)
    if not neighbors and routes.seat(device) is not None:
        return None
    plan = routes.device_plan(device)
    return _Host(around, plan).speaker(neighbors) if neighbors else None


class _Device:
    """A device's plan, said to its neighbours."""

    is_host = False

    def __init__(self, around: Neighborhood, plan: DevicePlan) -> None:
        self.around = around
        self.routes = around.routes
        self.fabric = around.fabric
        self.plan = plan
        self.name = plan.device
        self.protocol = around.routing.protocol
        self.own = around.addresses_of(self.name) if around.is_linked(self.name) else ()

    def speaker(self, neighbors: Iterable[Neighbor]) -> Speaker:
        bgp = self.protocol is not Protocol.OSPF
        return Speaker(
            name=self.name,
            is_host=self.is_host,
            protocol=self.protocol,
            asn=self.around.asn_of(self.name),
            router_id=_router_id(self.name, self.around.addresses_of(self.name)),
            loopbacks=self.own,
            originates=self.originates(),
            fallbacks=self.fallbacks(),
            sessions=tuple(one for each in neighbors for one in self.sessions(each)) if bgp else (),
            ospf=None if bgp else self.ospf(neighbors),
        )

    def sessions(self, neighbor: Neighbor) -> Iterator[Session]:
        accepts = {*self.accepts(neighbor), *neighbor.options.accepts}
        tells = {*self.tells(neighbor), *neighbor.options.announces}
        ends: list[tuple[Address | None, Address | None]] = list(neighbor.pairs)
        ends += [(None, one) for one in neighbor.remotes]
        for local, remote in ends or [(None, None)]:
            families = tuple(Family) if remote is None else (remote.family,)
            if neighbor.listen is not None:
                families = (neighbor.listen.family,)
            yield Session(
                name=session_name(neighbor.name, neighbor.relation, families[0] if len(families) == 1 else None),
                neighbor=neighbor.name,
                relation=neighbor.relation,
                asn=neighbor.asn,
                families=families,
                local=local,
                remote=remote,
                listen=neighbor.listen,
                interface=neighbor.interface if remote is None else "",
                multihop=neighbor.multihop,
                reflects=self.protocol is Protocol.IBGP and neighbor.relation is Relation.BELOW,
                accepts=_of(accepts, families),
                tells=_of(tells, families),
                options=neighbor.options,
            )

    def originates(self) -> tuple[Prefix, ...]:
        raise NotImplementedError

    def fallbacks(self) -> tuple[Prefix, ...]:
        return ()

    def accepts(self, neighbor: Neighbor) -> Iterator[Pattern]:
        raise NotImplementedError

    def tells(self, neighbor: Neighbor) -> Iterator[Pattern]:
        raise NotImplementedError

    def ospf(self, neighbors: Iterable[Neighbor]) -> Ospf:
        raise NotImplementedError

    def ospf_links(self, neighbors: Iterable[Neighbor]) -> tuple[OspfLink, ...]:
        return tuple(
            OspfLink(
                neighbor=one.name,
                interface=one.interface,
                area=self.area_at(one.place if one.relation is Relation.ABOVE else self.place),
                cost=one.cost,
                options=one.options,
            )
            for one in neighbors
        )

    @property
    def place(self) -> str:
        return self.routes.place_of(self.name)

    def area_at(self, path: str) -> int:
        return self.fabric.area_of(path)

    def groups_at(self, path: str) -> Iterator[Group]:
        found = (self.fabric.group(topology, path) for topology in self.fabric.topologies)
        return (group for group in found if group is not None)

    def underlay_over(self, path: str) -> set[Prefix]:
        """The underlay's aggregates of a group and those above it."""
        return {one for over in way_up(path) for one in self.fabric.underlay_at(over)}

    def handed_down(self, path: str) -> set[Prefix]:
        """What routers of a group that do not know of each other's neighbours tell the routers below, beside
        aggregates: the underlay of each of these, and their own addresses.
        """
        if not self.fabric.routers[path].specifics:
            return set()
        children = {child for child in self.fabric.routers if child != ROOT and parent(child) == path}
        own = {_whole(one) for name in self.fabric.routers[path].members for one in self.around.addresses_of(name)}
        return own.union(one for child in children for one in self.fabric.underlay_at(child))


class _Host(_Device):
    is_host = True

    def originates(self) -> tuple[Prefix, ...]:
        return ()

    def accepts(self, neighbor: Neighbor) -> Iterator[Pattern]:
        """The aggregates that lead to this router; to all, from a peer that the plan does not describe."""
        for route in self.plan.routes:
            if route.reach is Reach.ABOVE and neighbor.place in ("", route.toward):
                yield Pattern.exactly(route.prefix)
        for path in self.uplinks(neighbor):
            yield from map(Pattern.exactly, self.underlay_over(path))

    def tells(self, neighbor: Neighbor) -> Iterator[Pattern]:
        for route in self.plan.routes:
            alone = route.exception and neighbor.place not in ("", route.onward)
            if route.reach is Reach.DISCARD and not route.private and not alone:
                yield Pattern.exactly(route.prefix)
        yield from map(Pattern.exactly, self.own)

    def uplinks(self, neighbor: Neighbor) -> list[str]:
        seat = self.routes.seat(self.name)
        uplinks = list(seat.uplinks.values()) if seat is not None else []
        return [neighbor.place] if neighbor.place in uplinks else [] if neighbor.place else uplinks

    def ospf(self, neighbors: Iterable[Neighbor]) -> Ospf:
        links = self.ospf_links(neighbors)
        accepts = {one for neighbor in neighbors for one in self.accepts(neighbor)}
        return Ospf(links=links, area=links[0].area, accepts=tuple(sorted(accepts)))


class _Router(_Device):
    def __init__(self, around: Neighborhood, plan: DevicePlan) -> None:
        super().__init__(around, plan)
        self.router = self.fabric.routers[self.place]

    def originates(self) -> tuple[Prefix, ...]:
        return (*self.plan.originates, *self.fabric.underlay_at(self.place))

    def fallbacks(self) -> tuple[Prefix, ...]:
        """Exceptions on hosts right below. When such a host is gone nobody else has them, and the aggregates would lead
        their packets up again, to whoever still sends them here. Further up they lead home, which may know another way.
        """
        own = segment_routes(self.routes, self.name)
        hosts = self.hosts()
        away = (one for one in self.plan.routes if one.exception and one.toward in hosts)
        return tuple(one.prefix for one in away if one.prefix not in own)

    def accepts(self, neighbor: Neighbor) -> Iterator[Pattern]:
        match neighbor.relation:
            case Relation.ABOVE:
                yield from map(Pattern.exactly, self.from_above(neighbor.place))
            case Relation.BESIDE:
                yield from self.shared()
            case Relation.BELOW if neighbor.place in self.fabric.routers:
                yield from map(Pattern.exactly, self.from_router(neighbor.place))
            case Relation.BELOW:
                yield from self.from_host(neighbor)

    def tells(self, neighbor: Neighbor) -> Iterator[Pattern]:
        match neighbor.relation:
            case Relation.BESIDE:
                yield from self.shared()
                yield from map(Pattern.exactly, self.own)
                return
            case Relation.ABOVE:
                told = {*self.router.announces, *self.fabric.underlay_at(self.place)}
            case Relation.BELOW:
                told = {*self.router.aggregates, *self.underlay_over(self.place)}
                if neighbor.place in self.fabric.routers:
                    told |= {*self.router.specifics, *self.handed_down(self.place)}
        yield from map(Pattern.exactly, told)
        anybody = neighbor.listen is not None  # hosts accept only what leads to them
        for route in self.plan.routes:
            if route.exception and route.onward and (route.onward == neighbor.place or anybody):
                yield Pattern.exactly(route.prefix)

    def from_above(self, path: str) -> set[Prefix]:
        if not path:
            return set()
        routes = {one.prefix for one in self.plan.routes if one.reach is Reach.ABOVE and one.toward == path}
        handed = self.handed_down(path) - set(self.fabric.underlay_at(self.place))
        return routes | self.underlay_over(path) | handed

    def from_router(self, path: str) -> set[Prefix]:
        below = {prefix for prefix, child in self.router.below.items() if child == path}
        away = {one.prefix for one in self.plan.routes if one.exception and one.toward == path}
        return below | away | set(self.fabric.underlay_at(path))

    def from_host(self, neighbor: Neighbor) -> Iterator[Pattern]:
        """Parts of the host's groups, what lives there away from its aggregates, and its own addresses.

        Of one that the plan does not know, or that connects from a range, parts of all groups with hosts here.
        """
        seat = self.routes.seat(neighbor.name)
        leaves = [one for one in seat.leaves.values() if self.fabric.router_of(one) == self.place] if seat else []
        for leaf in leaves or self.leaves():
            yield from parts_of(leaf)
        hosts = self.hosts() if neighbor.listen is not None else {neighbor.name}
        for route in self.plan.routes:
            if route.exception and route.toward in hosts and route.reach is Reach.BELOW:
                yield Pattern.exactly(route.prefix)
        if self.around.is_linked(neighbor.name):
            yield from map(Pattern.exactly, self.around.addresses_of(neighbor.name))

    def shared(self) -> Iterator[Pattern]:
        """What the routers of a group know from their neighbours: all but what each of them originates."""
        leaves = list(self.leaves())
        for route in self.plan.routes:
            spans = route.reach is Reach.BELOW and not route.exception and route.prefix not in self.router.below
            if route.reach is not Reach.DISCARD and not spans:
                yield Pattern.exactly(route.prefix)
        for leaf in leaves:
            yield from parts_of(leaf)
        own = set(self.fabric.underlay_at(self.place))
        for path in self.children():
            yield from map(Pattern.exactly, self.fabric.underlay_at(path))
        yield from map(Pattern.exactly, self.underlay_over(parent(self.place)) - own)
        yield from map(Pattern.specifics, own)

    def children(self) -> set[str]:
        """The paths of the routers right below."""
        return {path for path in self.fabric.routers if path != ROOT and parent(path) == self.place}

    def hosts(self) -> set[str]:
        return set(self.routes.hosts_under(self.place))

    def leaves(self) -> Iterator[Group]:
        """The groups whose hosts are right below."""
        for group in self.groups_at(self.place):
            yield from _leaves_right_below(group)

    def ospf(self, neighbors: Iterable[Neighbor]) -> Ospf:
        """What lives away is flooded to all routers, and all accept it whenever it comes: parts of leaves that are not
        theirs are nothing else, because the borders of areas hide spans.
        """
        area = self.area_at(self.place)
        hidden = (*self.router.announces, *self.fabric.underlay_at(self.place))
        accepts = {*self.shared(), *(part for leaf in self.fabric.leaves() for part in parts_of(leaf))}
        for path in {one.place for one in neighbors if one.relation is Relation.ABOVE}:
            accepts |= set(map(Pattern.exactly, self.from_above(path)))
        return Ospf(
            links=self.ospf_links(neighbors),
            area=area,
            accepts=tuple(sorted(accepts)),
            nearest=self.nearest(),
            ranges={area: tuple(sorted(hidden))} if self.fabric.is_area_border(self.place) else {},
        )

    def nearest(self) -> dict[Prefix, int]:
        """What routers below originate, and what lives away on hosts right below, with the cost of the way down to
        them, directly or by another router of this group. While OSPF is not of one mind, a way over a third group, or
        up and down again, would be a loop.
        """
        across = {self.name: 0}
        for link in self.fabric.links_of.get(self.name, ()):
            other = link.other(self.name)
            if self.fabric.place_of.get(other) == self.place:
                across[other] = link.cost
        costs: dict[str, int] = {}
        for member, cost in across.items():
            for link in self.fabric.links_of.get(member, ()):
                below = self.routes.place_of(link.other(member))
                costs[below] = max(costs.get(below, 0), cost + link.cost)
        hosts = self.hosts()
        away = {one.prefix: one.toward for one in self.plan.routes if one.exception and one.toward in hosts}
        children = self.children()
        found = {one: costs[host] + STUB_COST for one, host in away.items() if host in costs}
        costs = {path: cost for path, cost in costs.items() if path in children}
        found |= {prefix: costs[path] for prefix, path in self.router.below.items() if path in costs}
        return found | {prefix: cost for path, cost in costs.items() for prefix in self.fabric.underlay_at(path)}


def parts_of(leaf: Group) -> Iterator[Pattern]:
    """What the hosts of a leaf may announce: parts of it, and one that is alone there all of it."""
    for cidr in leaf.cidrs.values():
        if cidr.length < cidr.family.bits:
            yield Pattern.specifics(cidr)
        if leaf.sole_host or cidr.length == cidr.family.bits:
            yield Pattern.exactly(cidr)


def _leaves_right_below(group: Group) -> Iterator[Group]:
    if group.is_leaf:
        yield group
    for child in group.groups:
        if child.sole_host:
            yield child
        elif group.layer2:
            yield from _leaves_right_below(child)


def _of(patterns: Iterable[Pattern], families: tuple[Family, ...]) -> tuple[Pattern, ...]:
    return tuple(sorted(one for one in patterns if one.within.family in families))


def _whole(address: Address) -> Prefix:
    return address.supernet(address.length)


def _router_id(name: str, addresses: Iterable[Address]) -> Address:
    """The device's IPv4 address; for one that has none, a number that its name gives."""
    own = next((one for one in addresses if one.family is Family.V4), None)
    return own or Address(Family.V4, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") or 1)
