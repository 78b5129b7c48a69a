"""The routers of an address plan: one tree, in which every group that has a router is where its path says.

Owns which groups have routers and which aggregates each of them originates. Refuses to know hosts and spans. Invariant:
all CIDRs of a router's groups are announced upward and downward, each originated by it or by one router below.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from romana.model.address import Family, Prefix
from romana.model.topology import AddressPlan, Group

ROOT = "/"


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """The router at a path, for all topologies that have the path.

    It originates `own` and has `below` from other routers (aggregate -> the path of the router it comes from); the
    aggregates of the routers above it, other than these, are `above`. `aggregates` is what it tells the devices below.
    """

    path: str
    own: tuple[Prefix, ...]
    above: tuple[Prefix, ...]
    below: dict[Prefix, str]
    aggregates: tuple[Prefix, ...]


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
        self.routers: dict[str, Router] = {}
        """By path, from the top."""
        self._groups: dict[tuple[str, str], Group] = {}
        self._homes: dict[Family, dict[int, dict[int, Home]]] = {family: {} for family in Family}
        served_by: dict[str, list[Group]] = {}
        for topology in plan.topologies:
            for group in _walk(topology.root):
                self._groups[topology.name, group.path] = group
                if not without_router(group):
                    served_by.setdefault(group.path, []).append(group)
        for path in sorted(served_by):
            self.routers[path] = self._router(path, served_by)
        for topology in plan.topologies:
            for group in _walk(topology.root):
                self._place(topology.name, group)

    def group(self, topology: str, path: str) -> Group | None:
        """The group at a path of a topology, or None."""
        return self._groups.get((topology, path))

    def router_of(self, group: Group) -> str:
        """The path of the router that a group's hosts are connected to; empty when there is none."""
        path = parent(group.path) if without_router(group) else group.path
        return path if path in self.routers else ""

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
        return Router(
            path=path,
            own=tuple(sorted(own)),
            above=tuple(sorted(above - own - below.keys())),
            below=below,
            aggregates=tuple(sorted(above | here)),
        )

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
    """Groups that have a router of their own: neither spare parts nor those that one host is alone in."""
    return (one for one in _walk(group) if not without_router(one))


def without_router(group: Group) -> bool:
    """Whether nothing but the router above serves a group: a spare part, or one host's own."""
    return bool(group.sole_host) or (group.closed and group.is_leaf)


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
