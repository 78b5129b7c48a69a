"""The routes of every device, from the address plan, hosts, spans and exceptions.

Owns the level rule: a device originates the aggregate of the group it serves, with a discard route, and never more; a
host originates its spans. So a new endpoint, block, span or host changes no route above its rack. What lives away from
its aggregates is an exception (`core.routing.away`). Hosts on one layer 2 network have routes to one another's spans.
Refuses to know routing daemons and underlay addresses.
Invariants: what a device holds from below is what the devices below it originate; the plan depends on what is there,
not on the order in which it came; a device's plan costs what the device holds, a change what it touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from romana.core.routing.away import Exceptions, Lengths, way_between
from romana.core.routing.fabric import Fabric, parent, way_up
from romana.model.address import Prefix
from romana.model.errors import NotFound
from romana.model.fabric import Protocol
from romana.model.ipam import Span
from romana.model.route import Away, DevicePlan, DeviceRoute, DeviceRoutes, Reach, RouteException
from romana.model.topology import AddressPlan, Group, Host

MOST_NAMED = 12
"""Devices that a sentence about an unknown one lists."""
ALL_OF = "*"
"""Begins what stands for all hosts of a layer 2 network among the devices that a change touches."""


class Seat(msgspec.Struct, frozen=True):
    """Where hosts of the same groups are: their leaves and routers by topology, in the plan's order; the layer 2
    networks that they are on.
    """

    leaves: dict[str, Group]
    uplinks: dict[str, str]
    domains: tuple[str, ...] = ()

    @property
    def is_flat(self) -> bool:
        """Whether a layer 2 network is all there is: no router is above."""
        return bool(self.domains) and not self.uplinks


class RoutePlan:
    """The routes of all devices, kept up with the world.

    Every change answers the devices whose routes, or whose neighbours' addresses, may differ now. A span or an
    exception of a host that is not known counts from when the host is.
    """

    def __init__(
        self,
        plan: AddressPlan,
        hosts: Iterable[Host] = (),
        spans: Iterable[Span] = (),
        exceptions: Iterable[RouteException] = (),
    ) -> None:
        self._hosts = {host.name: host for host in hosts}
        self._spans = {span.cidr: span for span in spans}
        self._asked = {one.prefix: one for one in map(_plain, exceptions)}
        self._start(plan)

    def set_plan(self, plan: AddressPlan) -> None:
        """Another address plan: everything is placed anew."""
        self._start(plan)

    def put_host(self, host: Host) -> set[str]:
        """A host that is new, or has other groups, addresses or labels."""
        known = self._hosts.get(host.name)
        self._hosts[host.name] = host
        if known is None or known.groups != host.groups:
            return self._by_name(self._reseat(host.name, self._seat(host)))
        if (known.addresses, known.labels) == (host.addresses, host.labels):
            return set()
        return self._by_name(self._around_seat(host.name))

    def drop_host(self, name: str) -> set[str]:
        """A host is gone."""
        if self._hosts.pop(name, None) is None:
            return set()
        return self._by_name(self._reseat(name, None))

    def put_span(self, span: Span) -> set[str]:
        """A span that is new, or has another host."""
        if self._spans.get(span.cidr) == span:
            return set()
        touched = self.drop_span(span.cidr)
        self._spans[span.cidr] = span
        self._of_host.setdefault(span.host, {})[span.cidr] = None
        if span.host in self._seats:
            touched |= self._by_name(self._attach(span))
        return touched

    def drop_span(self, cidr: Prefix) -> set[str]:
        """A span is gone."""
        span = self._spans.pop(cidr, None)
        if span is None:
            return set()
        del self._of_host[span.host][cidr]
        return self._by_name(self._detach(span)) if span.host in self._seats else set()

    def put_exception(self, one: RouteException) -> set[str]:
        """Such a prefix is on such a host, wherever its aggregates lead; one that its host's spans cover is none."""
        self._asked[one.prefix] = _plain(one)
        return self._by_name(self._place_within(one.prefix))

    def drop_exception(self, prefix: Prefix) -> set[str]:
        """It is where its aggregates lead."""
        self._asked.pop(prefix, None)
        return self._by_name(self._place_within(prefix))

    def devices(self) -> tuple[str, ...]:
        """The names of all devices: routers from the top, by name or else the path of their group, then hosts."""
        return (*(name for router in self.fabric.routers.values() for name in router.members), *sorted(self._seats))

    def host(self, name: str) -> Host | None:
        """A host as the plan knows it."""
        return self._hosts.get(name)

    def seat(self, host: str) -> Seat | None:
        """Where a host is; None for one that is not known."""
        return self._seats.get(host)

    def place_of(self, device: str) -> str:
        """What other devices' routes call a device: the path of a router's group, a host's name."""
        return self.fabric.place_of.get(device, device)

    def hosts_under(self, path: str) -> list[str]:
        """The hosts right below the routers of a group, by name."""
        return sorted(self._below.get(path, ()))

    def exceptions(self) -> Iterator[RouteException]:
        """All that lives away from its aggregates, by prefix."""
        return self._exceptions.all()

    def held(self) -> Iterator[tuple[Prefix, str]]:
        """All that leads to one host by itself, with that host: spans of known hosts, and exceptions."""
        for host in self._seats:
            yield from ((cidr, host) for cidr in self._of_host.get(host, ()))
        yield from ((one.prefix, one.host) for one in self._exceptions.all())

    def exceptions_of(self, host: str) -> tuple[Prefix, ...]:
        """What a host announces beside its spans."""
        return self._exceptions.of(host)

    def device_plan(self, device: str) -> DevicePlan:
        """What a device originates and holds; `device` is a host's or a router's name, or the path of a router's group.

        NotFound when it is none of these.
        """
        routes = self._routes(device)
        ordered = tuple(routes[prefix] for prefix in sorted(routes))
        originates = tuple(route.prefix for route in ordered if _is_told(route))
        return DevicePlan(device=device, serves=self._serves(device), originates=originates, routes=ordered)

    def counts(self, device: str) -> DeviceRoutes:
        """How many routes a device should hold; NotFound as `device_plan`."""
        routes = self._routes(device).values()
        originates = sorted(route.prefix for route in routes if _is_told(route))
        reaches = [route.reach for route in routes]
        return DeviceRoutes(
            device=device,
            serves=self._serves(device),
            originates=tuple(originates),
            above=reaches.count(Reach.ABOVE),
            below=reaches.count(Reach.BELOW),
            discards=reaches.count(Reach.DISCARD),
            exceptions=sum(route.exception for route in routes),
            total=len(reaches),
            beside=reaches.count(Reach.BESIDE),
        )

    def _start(self, plan: AddressPlan) -> None:
        self.fabric = Fabric(plan)
        self._known_seats: dict[tuple[tuple[str, str], ...], Seat] = {}
        self._seats: dict[str, Seat] = {}
        self._of_host: dict[str, dict[Prefix, None]] = {}
        self._around = Lengths()  # spans and exceptions of known hosts that lead packets to them
        self._around_away = Lengths()
        self._here: dict[str, dict[Prefix, str]] = {}  # router -> span -> host, in its group
        self._below: dict[str, dict[str, None]] = {}  # router -> hosts right below it
        self._domains: dict[str, dict[str, None]] = {}  # layer 2 network -> hosts on it
        self._lone: dict[str, dict[Prefix, None]] = {}  # layer 2 network without routers -> exceptions on its hosts
        self._misplaced: dict[Prefix, RouteException] = {}
        self._exceptions = Exceptions()
        self._from_above: dict[tuple[tuple[str, str], ...], dict[Prefix, DeviceRoute]] = {}
        self._fixed: dict[str, dict[Prefix, DeviceRoute]] = {}
        for cidr, span in self._spans.items():
            self._of_host.setdefault(span.host, {})[cidr] = None
        for name, host in self._hosts.items():
            self._reseat(name, self._seat(host))
        for prefix in self._asked:
            self._place_within(prefix)

    def _seat(self, host: Host) -> Seat:
        key = tuple(host.groups.items())
        seat = self._known_seats.get(key)
        if seat is None:
            found = [(name, self.fabric.group(name, host.groups.get(name, ""))) for name in self.fabric.topologies]
            leaves = {name: group for name, group in found if group is not None}
            uplinks = {name: router for name, group in leaves.items() if (router := self.fabric.router_of(group))}
            seat = self._known_seats[key] = Seat(leaves, uplinks, self.fabric.domains_of(host.groups))
        return seat

    def _by_name(self, touched: set[str]) -> set[str]:
        """Devices by their names: routers' paths stand for all routers of the group."""
        named: set[str] = set()
        for one in touched:
            if one.startswith(ALL_OF):
                named.update(self._domains.get(one.removeprefix(ALL_OF), ()))
            elif one in self.fabric.routers:
                named.update(self.fabric.routers[one].members)
            else:
                named.add(one)
        return named

    def _around_seat(self, name: str) -> set[str]:
        """A known host, and whoever sends to its addresses."""
        seat = self._seats[name]
        return {name, *seat.uplinks.values(), *(ALL_OF + domain for domain in seat.domains)}

    def _reseat(self, name: str, seat: Seat | None) -> set[str]:
        touched = {name}
        spans = [self._spans[cidr] for cidr in self._of_host.get(name, ())]
        old = self._seats.get(name)
        if old is not None:
            for span in spans:
                touched |= self._detach(span)
            touched |= self._around_seat(name)
            _forget(self._below, old.uplinks.values(), name)
            _forget(self._domains, old.domains, name)
            del self._seats[name]
        if seat is not None:
            self._seats[name] = seat
            for path in seat.uplinks.values():
                self._below.setdefault(path, {})[name] = None
            for domain in seat.domains:
                self._domains.setdefault(domain, {})[name] = None
            touched |= self._around_seat(name)
            for span in spans:
                touched |= self._attach(span)
        near = {domain for one in (old, seat) if one is not None and one.is_flat for domain in one.domains}
        for prefix in dict.fromkeys((*self._exceptions.about(name), *self._known_by_all(near))):
            touched |= self._place_within(prefix)
        return touched

    def _known_by_all(self, domains: Iterable[str]) -> list[Prefix]:
        return [prefix for domain in domains for prefix in self._lone.get(domain, ())]

    def _attach(self, span: Span) -> set[str]:
        """A known host has a span."""
        seat, cidr = self._seats[span.host], span.cidr
        topology = self.fabric.topology_of.get(span.network, "")
        leaf, uplink = seat.leaves.get(topology), seat.uplinks.get(topology, "")
        touched = {span.host, *(ALL_OF + domain for domain in seat.domains)}
        self._around.put(cidr, span.host)
        if seat.is_flat:
            return touched | self._place_within(cidr)
        if leaf is not None and uplink and span.network in leaf.cidrs and leaf.cidrs[span.network].contains(cidr):
            self._here.setdefault(uplink, {})[cidr] = span.host
            touched.add(uplink)
        else:
            self._misplaced[cidr] = RouteException(prefix=cidr, host=span.host, reason=Away.SPAN)
        return touched | self._place_within(cidr)

    def _detach(self, span: Span) -> set[str]:
        seat = self._seats[span.host]
        touched = {span.host, *(ALL_OF + domain for domain in seat.domains)}
        self._around.drop(span.cidr)
        if seat.is_flat:
            return touched | self._place_within(span.cidr)
        if self._misplaced.pop(span.cidr, None) is None:
            uplink = seat.uplinks[self.fabric.topology_of.get(span.network, "")]
            del self._here[uplink][span.cidr]
            touched.add(uplink)
        return touched | self._place_within(span.cidr)

    def _place_within(self, prefix: Prefix) -> set[str]:
        """What may be an exception, and then those inside, whose packets it may draw."""
        touched = self._place(prefix)
        for inner in self._exceptions.inside(prefix):
            if inner != prefix:
                touched |= self._place(inner)
        return touched

    def _place(self, prefix: Prefix) -> set[str]:
        old = self._exceptions.drop(prefix)
        if old is not None:
            self._around_away.drop(prefix)
            for known in self._lone.values():
                known.pop(prefix, None)
        wanted = self._asked.get(prefix) or self._misplaced.get(prefix)
        if wanted is None:
            return set(old.devices) if old is not None else set()
        new = self._way(wanted)
        seat = self._seats.get(new.host)
        if seat is not None and seat.is_flat:
            self._exceptions.put_beside(new)
            for domain in seat.domains:
                self._lone.setdefault(domain, {})[prefix] = None
        elif new.devices and self.fabric.routing.protocol is Protocol.OSPF:
            new = self._put_flooded(new)
        else:
            self._exceptions.put(new)
        if seat is not None:
            self._around_away.put(prefix, new.host)
        if old is not None and old.devices == new.devices:
            return set()
        return {*new.devices, *(old.devices if old is not None else ())}

    def _put_flooded(self, one: RouteException) -> RouteException:
        """OSPF tells more than the way: a router that left it out would send back what others send by it."""
        uplink = one.devices[1] if len(one.devices) > 1 else ""
        others = [path for path in self.fabric.flooded_to(one.prefix, uplink) if path not in one.devices]
        flooded = msgspec.structs.replace(one, devices=(*one.devices, *others))
        self._exceptions.put_flooded(flooded, len(one.devices), uplink)
        return flooded

    def _way(self, wanted: RouteException) -> RouteException:
        """An exception with its home and its devices, as everything is now."""
        prefix, host = wanted.prefix, wanted.host
        home = self.fabric.home(prefix)
        path = home.group if home is not None else ""
        if host not in self._seats:
            return msgspec.structs.replace(wanted, home=path, devices=())
        topology = home.topology if home is not None else ""
        there = self._up(host, topology)
        found = self._drawn_to(wanted)
        if found is not None and (home is None or found[0] >= home.length):
            back = self._up(found[1], topology)
        else:
            back = tuple(way_up(home.router)) if home is not None else ()
        if back[:1] == (host,):
            devices: tuple[str, ...] = ()
        elif self._seats[host].is_flat:
            near = self._beside(host)
            devices = (host, back[0]) if back and back[0] in near else (host, *near)
        else:
            devices = way_between(there, back)
        return msgspec.structs.replace(wanted, home=path, devices=devices)

    def _drawn_to(self, wanted: RouteException) -> tuple[int, str] | None:
        """The host that packets to a prefix would reach without this exception, and how many bits lead there."""
        length = wanted.prefix.length
        spans = self._around.around(wanted.prefix, length if wanted.prefix not in self._misplaced else length - 1)
        others = self._around_away.around(wanted.prefix, length - 1)
        return max((one for one in (others, spans) if one is not None), default=None, key=lambda one: one[0])

    def _up(self, host: str, topology: str) -> tuple[str, ...]:
        """A host and the routers over it."""
        uplinks = self._seats[host].uplinks
        return (host, *way_up(uplinks.get(topology) or next(iter(uplinks.values()), "")))

    def _beside(self, host: str) -> list[str]:
        """The other hosts on the layer 2 networks of a known one, by name."""
        domains = self._seats[host].domains
        found = {other for domain in domains for other in self._domains[domain]} if domains else set()
        return sorted(found - {host})

    def _serves(self, device: str) -> str:
        if device in self._seats:
            return next((leaf.path for leaf in self._seats[device].leaves.values()), "")
        return self.place_of(device)

    def _routes(self, device: str) -> dict[Prefix, DeviceRoute]:
        place = self.place_of(device)
        if device in self._seats:
            routes = dict(self._above(self._seats[device]))
            for other in self._beside(device):
                for cidr in self._of_host.get(other, ()):
                    routes[cidr] = DeviceRoute(prefix=cidr, reach=Reach.BESIDE, toward=other)
            for cidr in self._of_host.get(device, ()):
                routes[cidr] = DeviceRoute(prefix=cidr, reach=Reach.DISCARD)
        else:
            routes = dict(self._aggregates(place))
            for cidr, host in self._here.get(place, {}).items():
                routes[cidr] = DeviceRoute(prefix=cidr, reach=Reach.BELOW, toward=host)
        for route in self._exceptions.routes(place):
            routes[route.prefix] = route
        return routes

    def _above(self, seat: Seat) -> Mapping[Prefix, DeviceRoute]:
        """The aggregates that hosts of a seat learn, each from the router of its own topology where they have it; where
        there is none, what they discard themselves.
        """
        if seat.is_flat:
            cidrs = {cidr for domain in seat.domains for cidr in self.fabric.cidrs_at(domain)}
            return {one: DeviceRoute(prefix=one, reach=Reach.DISCARD, private=True) for one in cidrs}
        key = tuple(seat.uplinks.items())
        known = self._from_above.get(key)
        if known is None:
            toward: dict[Prefix, str] = {}
            for topology, uplink in key:
                for path in way_up(uplink):
                    group = self.fabric.group(topology, path)
                    toward |= dict.fromkeys(group.cidrs.values() if group is not None else (), uplink)
            for _, uplink in key:
                for prefix in self.fabric.routers[uplink].aggregates:
                    toward.setdefault(prefix, uplink)
            known = self._from_above[key] = {
                prefix: DeviceRoute(prefix=prefix, reach=Reach.ABOVE, toward=device)
                for prefix, device in toward.items()
            }
        return known

    def _aggregates(self, path: str) -> Mapping[Prefix, DeviceRoute]:
        """What a router holds whatever its hosts do."""
        known = self._fixed.get(path)
        if known is None:
            router = self.fabric.routers.get(path)
            if router is None:
                raise NotFound(f"no device {path!r}; known are {self._named()}")
            over = parent(path)
            known = self._fixed[path] = {
                **{one: DeviceRoute(prefix=one, reach=Reach.ABOVE, toward=over) for one in router.above},
                **{one: DeviceRoute(prefix=one, reach=Reach.DISCARD) for one in router.own},
                **{
                    one: DeviceRoute(prefix=one, reach=Reach.BELOW, toward=child) for one, child in router.below.items()
                },
            }
        return known

    def _named(self) -> str:
        found = self.devices()
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return ", ".join(found[:MOST_NAMED]) + more or "none; load an address plan first"


def _is_told(route: DeviceRoute) -> bool:
    return route.reach is Reach.DISCARD and not route.private


def _forget(table: dict[str, dict[str, None]], keys: Iterable[str], name: str) -> None:
    for key in set(keys):
        del table[key][name]
        if not table[key]:
            del table[key]


def _plain(one: RouteException) -> RouteException:
    """The same with an address written as a prefix, as everything else in the plan is."""
    return msgspec.structs.replace(one, prefix=one.prefix.supernet(one.prefix.length))


def devices(plan: AddressPlan, hosts: Mapping[str, Host]) -> tuple[str, ...]:
    """The names of all devices, as `RoutePlan.devices`."""
    return RoutePlan(plan, hosts.values()).devices()


def device_plan(plan: AddressPlan, hosts: Mapping[str, Host], spans: Iterable[Span], device: str) -> DevicePlan:
    """The plan of one device of a world without exceptions that anybody asked for; NotFound for an unknown device."""
    return RoutePlan(plan, hosts.values(), spans).device_plan(device)
