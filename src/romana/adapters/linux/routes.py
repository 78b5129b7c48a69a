"""The routes of our protocol number in the main table: spans' blackholes, other hosts' spans, endpoints' routes.

Owns no route of another protocol, and never changes one. Answers endpoints' routes too, which `links` makes; what
should be there is decided elsewhere. Invariant: the kernel's answer decides, not what was asked before.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Mapping
from typing import Self

from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.names import is_ours
from romana.adapters.linux.netlink import Netlink, Refusal, Request, fail
from romana.core.diff import Changes
from romana.model.address import Family, Prefix
from romana.model.errors import NotFound
from romana.model.route import Route, RouteKind

_LINK_LOCAL = 0xFE80 >> 6


class KernelRoutes:
    """Our routes in the network namespace in which it was made. Threads may share it."""

    def __init__(self) -> None:
        self._netlink = Netlink()

    @property
    def port(self) -> int:
        """The netlink port that changes of routes come from (see `route_events`)."""
        return self._netlink.port

    def close(self) -> None:
        """Release the socket; routes stay."""
        self._netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> Mapping[Prefix, Route]:
        """All routes of our protocol in the main table, endpoints' included, by prefix."""
        links = {link.index: link.name for link in map(rtnl.read_link, self._netlink.dump(rtnl.get_links()))}
        found = {}
        for family in Family:
            for route in read_routes(self._netlink, family, protocol=rtnl.ROUTE_PROTOCOL):
                found[route.prefix] = _route(route, links)
        return found

    def learned(self, within: Collection[Prefix]) -> Mapping[Prefix, Route]:
        """The routes of other protocols in the main table that lie in these CIDRs, by prefix; of several the one that
        the kernel prefers.
        """
        links = {link.index: link.name for link in map(rtnl.read_link, self._netlink.dump(rtnl.get_links()))}
        found: dict[Prefix, rtnl.KernelRoute] = {}
        for family in {one.family for one in within}:
            for route in read_routes(self._netlink, family):
                if route.protocol == rtnl.ROUTE_PROTOCOL or not any(one.contains(route.prefix) for one in within):
                    continue
                known = found.get(route.prefix)
                if known is None or route.metric < known.metric:
                    found[route.prefix] = route
        return {prefix: _route(route, links) for prefix, route in found.items()}

    def connected(self) -> Mapping[Prefix, frozenset[str]]:
        """The networks of the addresses on interfaces that are up and not ours, each with its interfaces."""
        links = map(rtnl.read_link, self._netlink.dump(rtnl.get_links()))
        usable = {link.index: link.name for link in links if link.up and not is_ours(link.name)}
        addresses = map(rtnl.read_address, self._netlink.dump(rtnl.get_addresses()))
        found: dict[Prefix, frozenset[str]] = {}
        for one in addresses:
            if one.index in usable and one.scope == rtnl.SCOPE_UNIVERSE and one.length < one.address.family.bits:
                network = one.address.supernet(one.length)
                found[network] = found.get(network, frozenset()) | {usable[one.index]}
        return found

    def apply(self, changes: Changes[Prefix, Route]) -> None:
        """Remove, replace and add. Removed already, or there already, is success.

        Raises the first refusal after all was tried: NotFound for a link that does not exist, AlreadyExists when
        another program has a route to that prefix.
        """
        wanted = {**changes.replace, **changes.add}
        indexes = self._indexes(wanted.values())
        removals = [rtnl.delete_route(_removal(prefix)) for prefix in changes.remove]
        refused = self._netlink.execute(removals)
        failures = [
            (f"removing route {prefix}", refused[place])
            for place, prefix in enumerate(changes.remove)
            if place in refused and refused[place].errno not in (errno.ESRCH, errno.ENODEV)
        ]
        requests: list[Request] = []
        prefixes: list[Prefix] = []
        for prefix, route in wanted.items():
            steps = _put(route, indexes, replace=prefix in changes.replace)
            requests += steps
            prefixes += [prefix] * len(steps)
        refused = self._netlink.execute(requests)
        for place, refusal in sorted(refused.items()):
            if requests[place].kind == rtnl.RTM_DELROUTE and refusal.errno == errno.ESRCH:
                continue
            if refusal.errno == errno.EEXIST and self._present(wanted[prefixes[place]]):
                continue
            failures.append((f"setting route {prefixes[place]}", refusal))
        if failures:
            doing, refusal = failures[0]
            fail(refusal, doing if len(failures) == 1 else f"{doing} (and {len(failures) - 1} more)")

    def _indexes(self, routes: Iterable[Route]) -> dict[str, int]:
        names = {route.link for route in routes if route.link}
        indexes = {}
        for name in sorted(names):
            found = self._netlink.get(rtnl.get_link(name))
            if isinstance(found, Refusal):
                raise NotFound(f"no link {name!r} on this host for a route")
            indexes[name] = rtnl.read_link(found).index
        return indexes

    def _present(self, route: Route) -> bool:
        return self.read().get(route.prefix) == route


def read_routes(netlink: Netlink, family: Family, *, protocol: int = 0, index: int = 0) -> list[rtnl.KernelRoute]:
    """Routes of the main table, of one protocol or through one interface where asked."""
    try:
        replies = netlink.dump(rtnl.get_routes(family, protocol=protocol, index=index))
    except NotFound:
        return []  # a namespace that never had a route has no main table
    routes = (rtnl.read_route(reply) for reply in replies)
    return [route for route in routes if route.table == rtnl.MAIN_TABLE and protocol in (0, route.protocol)]


def _put(route: Route, indexes: Mapping[str, int], *, replace: bool) -> list[Request]:
    return [rtnl.new_route(_kernel_route(route, indexes), replace=replace)]


def _removal(prefix: Prefix) -> rtnl.KernelRoute:
    return rtnl.KernelRoute(prefix=prefix, kind=rtnl.ANY_KIND, scope=rtnl.SCOPE_ANY)


def _kernel_route(route: Route, indexes: Mapping[str, int]) -> rtnl.KernelRoute:
    if route.kind is RouteKind.BLACKHOLE:
        return rtnl.KernelRoute(prefix=route.prefix, kind=rtnl.RTN_BLACKHOLE)
    index = indexes.get(route.link, 0)
    hops = tuple(rtnl.NextHop(index=index, gateway=gateway) for gateway in route.next_hops)
    return rtnl.KernelRoute(
        prefix=route.prefix,
        scope=rtnl.SCOPE_UNIVERSE if hops else rtnl.SCOPE_LINK,
        hops=hops or (rtnl.NextHop(index=index),),
        source=route.source,
    )


def _route(route: rtnl.KernelRoute, links: Mapping[int, str]) -> Route:
    if route.kind != rtnl.RTN_UNICAST:
        return Route(prefix=route.prefix, kind=RouteKind.BLACKHOLE)  # unreachable and prohibit discard, too
    gateways = tuple(hop.gateway for hop in route.hops if hop.gateway is not None)
    named = not gateways or any(gateway.value >> 118 == _LINK_LOCAL for gateway in gateways)
    return Route(
        prefix=route.prefix,
        link=links.get(route.hops[0].index, "") if named else "",
        next_hops=tuple(sorted(gateways)),
        source=route.source,
    )
