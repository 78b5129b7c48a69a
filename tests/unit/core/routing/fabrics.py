"""Fabrics of spines, racks and hosts, and BGP as their sessions would run it: who ends up with which routes.

A small model of BGP, by other code than what makes the sessions: RFC 4271's choice as far as it matters here, RFC
4456's reflection, NO_ADVERTISE, and equal routes together. A cut link takes its sessions down.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from romana.apps.lab.equip import equipped
from romana.apps.lab.file import FabricKind, LabFile, Rack
from romana.apps.lab.wiring import wire
from romana.codec.text import parse_prefix
from romana.codec.topology import carved
from romana.core.routing import RoutePlan
from romana.core.routing.speakers import speaker
from romana.core.topology import leaf_groups, listed_hosts
from romana.model.address import Address, Prefix
from romana.model.ipam import Span
from romana.model.route import Away, RouteException
from romana.model.speaker import Relation, Session, Speaker

Cut = frozenset[frozenset[str]]
NETWORKS = [
    {"name": "v4", "cidr": "10.112.0.0/12", "span_length": 24, "static": ["10.112.255.0/24"]},
    {"name": "v6", "cidr": "fd00:10:112::/48", "span_length": 117},
]


def document(racks: tuple[Rack, ...]) -> dict[str, Any]:
    groups = [{"name": rack.name, "hosts": list(rack.hosts)} for rack in racks]
    topology = {"name": "dc", "networks": ["v4", "v6"], "groups": groups}
    return {"version": 1, "networks": NETWORKS, "topologies": [topology]}


def lab_file(
    kind: FabricKind, spines: int, racks: list[tuple[int, int]], *, layer2: frozenset[int] = frozenset()
) -> LabFile:
    """So many spines, and for each rack so many routers and hosts."""
    built = tuple(
        Rack(
            name=f"rack{number}",
            routers=tuple(f"r{number}{letter}" for letter in "abc"[:routers]),
            hosts=tuple(f"h{number}{index}" for index in range(1, hosts + 1)),
            layer2=number in layer2,
        )
        for number, (routers, hosts) in enumerate(racks, 1)
    )
    return LabFile(
        version=1,
        name="x",
        underlay=(parse_prefix("192.168.0.0/16"), parse_prefix("fd00:192:168::/48")),
        fabric=kind,
        spines=tuple(f"s{number}" for number in range(1, spines + 1)),
        racks=built,
        topology=("t",),
    )


def fabric(
    kind: FabricKind, spines: int, racks: list[tuple[int, int]], *, layer2: frozenset[int] = frozenset()
) -> RoutePlan:
    """The plan of such a lab. Every host has a span of each family."""
    file = lab_file(kind, spines, racks, layer2=layer2)
    plan = carved(equipped(document(file.racks), file, wire(file)))
    hosts = listed_hosts(plan)
    spans = []
    for host in hosts:
        for network, group in leaf_groups(plan, host).items():
            length = next(one.span_length for one in plan.networks if one.name == network)
            place = [one.name for one in hosts if one.groups == host.groups].index(host.name)
            cidr = group.cidrs[network].subnet(
                max(length, group.cidrs[network].length), 0 if group.sole_host else place
            )
            spans.append(Span(cidr=cidr, network=network, host=host.name))
    return RoutePlan(plan, hosts, spans)


def go_away(draw: random.Random, routes: RoutePlan) -> RouteException:
    """An address of some host's span, or a fixed one, that is on another host."""
    hosts = [name for name in routes.devices() if routes.seat(name) is not None]
    spans = [
        route.prefix for name in hosts for route in routes.device_plan(name).routes if route.prefix.length in (24, 117)
    ]
    within = draw.choice([*spans, parse_prefix("10.112.255.0/24")])
    address = within.address(draw.randrange(within.size))
    return RouteException(prefix=address, host=draw.choice(hosts), reason=Away.ENDPOINT, name="x")


class Known(msgspec.Struct, frozen=True, order=True):
    """A route that a device has: larger is preferred, as far as `key` goes; equal keys are used together."""

    key: tuple[int, int, int]
    by: str
    path: tuple[int, ...]
    beside: bool
    client: bool
    internal: bool


class Network:
    """The devices of a plan, after BGP settled, without the links that are cut."""

    def __init__(self, routes: RoutePlan, cut: Cut = frozenset()) -> None:
        self.routes = routes
        found = {name: speaker(routes, name) for name in routes.devices()}
        self.speakers: dict[str, Speaker] = {name: one for name, one in found.items() if one is not None}
        self.cut = cut
        self.own = {name: self._own(one) for name, one in self.speakers.items()}
        self.known: dict[str, dict[Prefix, dict[str, Known]]] = {name: {} for name in self.speakers}
        for _ in range(40):
            if not self._exchange():
                return
        raise AssertionError("BGP does not settle")

    def _own(self, one: Speaker) -> set[Prefix]:
        loopbacks = {address.supernet(address.length) for address in one.loopbacks}
        spans = self.routes.device_plan(one.name).originates if one.is_host else ()
        return {*one.originates, *spans, *loopbacks}

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset({one, other}) in self.cut

    def _exchange(self) -> bool:
        """Everybody tells everybody once; whether anything changed."""
        new: dict[str, dict[Prefix, dict[str, Known]]] = {name: {} for name in self.speakers}
        for name, one in self.speakers.items():
            for session in one.sessions:
                if self.is_cut(name, session.neighbor):
                    continue
                other = self.speakers[session.neighbor]
                (back,) = [
                    each for each in other.sessions if each.neighbor == name and each.families == session.families
                ]
                for prefix, path in self._told(one, session):
                    taken = _taken(other, back, prefix, path)
                    if taken is not None:
                        new[other.name].setdefault(prefix, {})[name] = taken
        changed = new != self.known
        self.known = new
        return changed

    def _told(self, one: Speaker, session: Session) -> Iterator[tuple[Prefix, tuple[int, ...]]]:
        for prefix in {*self.own[one.name], *self.known[one.name]}:
            if not any(pattern.matches(prefix) for pattern in session.tells):
                continue
            internal = session.asn == one.asn
            if prefix in self.own[one.name]:
                yield prefix, () if internal else (one.asn,)
                continue
            best = max(self.known[one.name][prefix].values())
            if best.beside or best.by == session.neighbor:
                continue
            if best.internal and internal and not (session.reflects or best.client):
                continue
            yield prefix, best.path if internal else (one.asn, *best.path)

    def table(self, name: str) -> dict[Prefix, frozenset[str]]:
        """A device's routes: the devices that each leads to, none for what is discarded."""
        found = {prefix: frozenset[str]() for prefix in self.own[name]}
        for prefix, ways in self.known[name].items():
            if prefix not in found:
                best = max(ways.values()).key
                found[prefix] = frozenset(by for by, way in ways.items() if way.key == best)
        return found

    def ends(self, source: str, address: Address) -> set[str]:
        """Every device at which packets may end, whatever equal routes are chosen; a loop fails."""
        ends: set[str] = set()
        self._follow(source, address, (), ends)
        return ends

    def _follow(self, device: str, address: Address, passed: tuple[str, ...], ends: set[str]) -> None:
        assert device not in passed, f"{address} loops: {(*passed, device)}"
        table = self.table(device)
        matching = [prefix for prefix in table if prefix.contains(address)]
        if not matching:
            ends.add(f"no route at {device}")
            return
        best = max(matching, key=lambda prefix: prefix.length)
        if not table[best]:
            ends.add(device)
        for following in table[best]:
            self._follow(following, address, (*passed, device), ends)


def _taken(one: Speaker, session: Session, prefix: Prefix, path: tuple[int, ...]) -> Known | None:
    if not any(pattern.matches(prefix) for pattern in session.accepts):
        return None
    if path.count(one.asn) > (1 if one.is_host else 0):
        return None
    beside, internal = session.relation is Relation.BESIDE, session.asn == one.asn
    return Known(
        key=(50 if beside else 100, -len(path), 0 if internal else 1),
        by=session.neighbor,
        path=path,
        beside=beside,
        client=session.reflects,
        internal=internal,
    )
