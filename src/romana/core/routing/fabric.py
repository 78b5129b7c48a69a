"""The routers of an address plan: one tree, in which every group that has a router is where its path says.

Owns which groups have routers and which aggregates each of them originates, which groups are one layer 2 network, and
which routers of one group exchange what is below them. Refuses to know hosts and spans. Invariant: all CIDRs of a
router's groups are announced upward and downward, each originated by it or by one router below.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import msgspec

from romana.model.address import Family, Prefix
from romana.model.fabric import Link, RouterDevice
from romana.model.topology import AddressPlan, Group

ROOT = "/"


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """The router at a path, for all topologies that have the path; or several `members`, each of which is as this says.

    It originates `own` and has `below` from other routers (aggregate -> the path of the router it comes from); what it
    has from the routers above it, other than these, is `above`. It tells these what it `announces`, its own and what is
    passed on; `aggregates` the devices below, and `specifics` the routers among them beside that.
    """

    path: str
    members: tuple[str, ...]
    own: tuple[Prefix, ...]
    above: tuple[Prefix, ...]
    below: dict[Prefix, str]
    announces: tuple[Prefix, ...]
    aggregates: tuple[Prefix, ...]
    specifics: tuple[Prefix, ...] = ()


class Home(msgspec.Struct, frozen=True):
    """The innermost group around a prefix, and the router that discards what nobody in the group has."""

    topology: str
    group: str
    router: str
    length: int


class Fabric:
    """The routers of a plan, and where its groups are among them."""

    def __init__(self, plan: AddressPlan) -> None:
        self.topologies = tuple(topology.name for topology in plan.topologies)
        self.topology_of = {name: topology.name for topology in plan.topologies for name in topology.networks}
        self.routing = plan.routing
        self.routers: dict[str, Router] = {}
        """By path, from the top."""
        self.devices: dict[str, RouterDevice] = {}
        """Routers that have a name of their own, by it."""
        self.place_of: dict[str, str] = {}
        """Path of each of these."""
        self.listed = {host.name: host.addresses for topology in plan.topologies for host in topology.hosts}
        """Addresses of the hosts that the plan lists."""
        self.links_of: dict[str, list[Link]] = {}
        """Device -> its links."""
        self._groups: dict[tuple[str, str], Group] = {}
        self._homes: dict[Family, dict[int, dict[int, Home]]] = {family: {} for family in Family}
        served_by: dict[str, list[Group]] = {}
        for topology in plan.topologies:
            for group in _walk(topology.root):
                self._groups[topology.name, group.path] = group
                if not without_router(group):
                    served_by.setdefault(group.path, []).append(group)
        for link in plan.routing.links:
            for end in link.ends:
                self.links_of.setdefault(end, []).append(link)
        for path in sorted(served_by):
            for device in served_by[path][0].routers:
                self.devices[device.name], self.place_of[device.name] = device, path
            self.routers[path] = self._router(path, served_by)
        for topology in plan.topologies:
            for group in _walk(topology.root):
                self._place(topology.name, group)

    def group(self, topology: str, path: str) -> Group | None:
        """The group at a path of a topology, or None."""
        return self._groups.get((topology, path))

    def router_of(self, group: Group) -> str:
        """The path of the router that a group's hosts are connected to; empty when there is none."""
        start = parent(group.path) if without_router(group) else group.path
        return next((path for path in way_up(start) if path in self.routers), "")

    def domains_of(self, groups: Mapping[str, str]) -> tuple[str, ...]:
        """The layer 2 networks of a host that is in these groups (by topology), each by the path of its group."""
        found = (self.group(topology, path) for topology, path in groups.items())
        return tuple(sorted({group.layer2 for group in found if group is not None and group.layer2}))

    def cidrs_at(self, path: str) -> list[Prefix]:
        """The CIDRs of the groups at a path, in all topologies."""
        found = (self._groups.get((topology, path)) for topology in self.topologies)
        return sorted({cidr for group in found if group is not None for cidr in group.cidrs.values()})

    def underlay_at(self, path: str) -> tuple[Prefix, ...]:
        """The CIDRs of the addresses of the devices of a group."""
        found = (self._groups.get((topology, path)) for topology in self.topologies)
        return next((tuple(sorted(group.underlay)) for group in found if group is not None), ())

    def exchange(self, path: str) -> bool:
        """Whether every two routers of a group have a link, over which each knows what the others have from below."""
        pairs = itertools.combinations(self.routers[path].members, 2)
        return all(any(link.other(one) == other for link in self.links_of.get(one, ())) for one, other in pairs)

    def cut_off(self, path: str) -> bool:
        """Whether a router of the group may lose something below that another one still has, and nobody would know."""
        return len(self.routers[path].members) > 1 and path != ROOT and not self.exchange(path)

    def leaves(self) -> Iterator[Group]:
        """All groups without groups in them, spare parts included."""
        return (group for group in self._groups.values() if group.is_leaf)

    def area_of(self, path: str) -> int:
        """The OSPF area of the links below the routers of a group."""
        found = (self._groups.get((topology, path)) for topology in self.topologies)
        return next((group.area for group in found if group is not None), 0)

    def is_area_border(self, path: str) -> bool:
        """Whether the routers of a group are between its area and another one above, so that they hide its parts."""
        return path != ROOT and self.area_of(path) != self.area_of(parent(path))

    def flooded_to(self, prefix: Prefix, uplink: str) -> list[str]:
        """The routers that OSPF brings a prefix of a host to: all, unless the border of its area hides it."""
        border = next((path for path in way_up(uplink) if self.is_area_border(path)), ROOT)
        inside = [path for path in self.routers if path == border or path.startswith(f"{border}/")]
        return inside if any(cidr.contains(prefix) for cidr in self.cidrs_at(border)) else list(self.routers)

    def home(self, prefix: Prefix) -> Home | None:
        """The innermost group around a prefix; None when it is in no group."""
        tables = self._homes[prefix.family]
        bits = prefix.family.bits
        for length in sorted(tables, reverse=True):
            if length <= prefix.length:
                found = tables[length].get(prefix.value >> (bits - length))
                if found is not None:
                    return found
        return None

    def _router(self, path: str, served_by: dict[str, list[Group]]) -> Router:
        own = {cidr for group in served_by[path] for cidr in originated(group)}
        above = {cidr for over in _over(path) for group in served_by.get(over, ()) for cidr in group.cidrs.values()}
        below = {
            cidr: child.path
            for group in served_by[path]
            for child in group.groups
            if not without_router(child)
            for cidr in announced(child)
        }
        here = {cidr for group in served_by[path] for cidr in group.cidrs.values()}
        told = self.routers[parent(path)].specifics if parent(path) in self.routers else ()
        router = Router(
            path=path,
            members=tuple(device.name for device in served_by[path][0].routers) or (path,),
            own=tuple(sorted(own)),
            above=tuple(sorted(above.union(told) - own - below.keys())),
            below=below,
            announces=tuple(sorted(here)),
            aggregates=tuple(sorted(above | here)),
        )
        self.routers[path] = router
        if path == ROOT and len(router.members) > 1 and not self.exchange(path):
            return msgspec.structs.replace(router, specifics=tuple(sorted(below)))
        return router

    def _place(self, topology: str, group: Group) -> None:
        """Inner groups come after those around them, so of groups with one CIDR the innermost stays."""
        for cidr in group.cidrs.values():
            table = self._homes[cidr.family].setdefault(cidr.length, {})
            key = cidr.value >> (cidr.family.bits - cidr.length)
            table[key] = Home(topology, group.path, self.router_of(group), cidr.length)


def originated(group: Group) -> tuple[Prefix, ...]:
    """The aggregates that the router of a group originates.

    What a child with a router has whole is that one's: its announcement is passed on.
    """
    inherited = {cidr for child in group.groups if not without_router(child) for cidr in child.cidrs.values()}
    return tuple(sorted(cidr for cidr in group.cidrs.values() if cidr not in inherited))


def announced(group: Group) -> set[Prefix]:
    """What the router of a group tells the one above: its own aggregates, and those it passes on."""
    return set(group.cidrs.values())


def served(group: Group) -> Iterator[Group]:
    """Groups that have a router of their own."""
    return (one for one in _walk(group) if not without_router(one))


def without_router(group: Group) -> bool:
    """Whether nothing but the router above serves a group: a spare part, one host's own, or a part of a layer 2
    network. Nor has such a network one where nothing is above it and it names none.
    """
    if group.layer2 not in ("", group.path):
        return True
    alone = bool(group.layer2) and group.path == ROOT and not group.routers
    return alone or bool(group.sole_host) or (group.closed and group.is_leaf)


def parent(path: str) -> str:
    """The path of the router above one; empty above the root."""
    return "" if path == ROOT else path.rpartition("/")[0] or ROOT


def way_up(path: str) -> Iterator[str]:
    """A router's path, and those of the routers above it, up to the root."""
    while path:
        yield path
        path = parent(path)


def _over(path: str) -> Iterator[str]:
    return way_up(parent(path))


def _walk(group: Group) -> Iterator[Group]:
    yield group
    for child in group.groups:
        yield from _walk(child)
