"""The routes that agents set themselves, because no daemon does: on a layer 2 network.

Owns which routes these are, and which of a neighbour's addresses is a next hop. Refuses to know interfaces' names.
Invariants: what a daemon announces to a device is not set beside it; a next hop is an address that a network of the
device itself has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from romana.core.routing.neighbors import Neighborhood
from romana.core.routing.plan import RoutePlan
from romana.model.address import Address, Prefix
from romana.model.route import Reach, Route
from romana.model.speaker import Relation

Via = dict[Prefix, tuple[Address, ...]]
"""Prefix -> the addresses of whom it leads to; none where nobody knows any."""


def segment_routes(routes: RoutePlan, device: str) -> Via:
    """The routes of a named device to what is on its layer 2 network, by prefix; NotFound for an unknown device."""
    around = Neighborhood(routes)
    if routes.seat(device) is not None:
        return _of_host(routes, around, device)
    return _of_router(routes, around, device)


def private_discards(routes: RoutePlan, host: str) -> tuple[Prefix, ...]:
    """What a host discards and announces to nobody; NotFound for an unknown one."""
    seat = routes.seat(host)
    if seat is not None and not seat.is_flat:
        return ()
    return tuple(route.prefix for route in routes.device_plan(host).routes if route.private)


def _of_host(routes: RoutePlan, around: Neighborhood, host: str) -> Via:
    """Other hosts' spans directly; the rest through routers that have addresses, unless they announce it."""
    seat = routes.seat(host)
    if seat is None or not seat.domains:
        return {}
    told = any(one.relation is Relation.ABOVE for one in around.of(host))
    found: Via = {}
    for route in routes.device_plan(host).routes:
        if route.reach is Reach.BESIDE:
            found[route.prefix] = _alike(route.prefix, around.addresses_of(route.toward))
        elif route.reach is Reach.ABOVE and not told and route.toward in seat.domains:
            hops = _alike(route.prefix, _members(routes, around, route.toward))
            if hops:  # else people's own default route leads there
                found[route.prefix] = hops
    return found


def _of_router(routes: RoutePlan, around: Neighborhood, router: str) -> Via:
    """The spans of hosts on its network that announce nothing themselves."""
    place = routes.place_of(router)
    found: Via = {}
    for route in routes.device_plan(router).routes:
        seat = routes.seat(route.toward)
        if (
            route.reach is Reach.BELOW
            and seat is not None
            and place in seat.domains
            and not around.speaks(route.toward)
        ):
            found[route.prefix] = _alike(route.prefix, around.addresses_of(route.toward))
    return found


def _members(routes: RoutePlan, around: Neighborhood, path: str) -> list[Address]:
    return [one for name in routes.fabric.routers[path].members for one in around.addresses_of(name)]


def _alike(prefix: Prefix, addresses: Iterable[Address]) -> tuple[Address, ...]:
    """The addresses of a prefix's family, in order."""
    return tuple(sorted(one for one in addresses if one.family is prefix.family))


def routes_via(via: Mapping[Prefix, tuple[Address, ...]], connected: Iterable[Prefix]) -> dict[Prefix, Route]:
    """The kernel's routes: over every next hop that is in a network of this device. Without one there is no route."""
    networks = list(connected)
    near = {hop: any(network.contains(hop) for network in networks) for hops in set(via.values()) for hop in hops}
    found: dict[Prefix, Route] = {}
    for prefix, hops in via.items():
        usable = tuple(hop for hop in hops if near[hop])
        if usable:
            found[prefix] = Route(prefix=prefix, next_hops=usable)
    return found
