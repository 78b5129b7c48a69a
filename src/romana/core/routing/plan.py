"""The routes of every device, from the address plan, hosts and spans.

Owns the level rule: a device originates the aggregate of the group it serves, with a discard route, and never more; a
host originates its spans. So a new endpoint, block, span or host changes no route above its rack. Refuses to know
routing daemons and underlay addresses. Invariant: what a device holds from below is what the devices below it
originate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from romana.core.topology.place import find_group
from romana.model.address import Prefix
from romana.model.errors import NotFound
from romana.model.ipam import Span
from romana.model.route import DevicePlan, DeviceRoute, Reach
from romana.model.topology import AddressPlan, Group, Host


def devices(plan: AddressPlan, hosts: Mapping[str, Host]) -> tuple[str, ...]:
    """The names of all devices: routers by the path of their group, from the top, then hosts."""
    paths = {group.path for topology in plan.topologies for group in served(topology.root)}
    return (*sorted(paths), *sorted(hosts))


def device_plan(plan: AddressPlan, hosts: Mapping[str, Host], spans: Iterable[Span], device: str) -> DevicePlan:
    """What the device originates and holds; `device` is a host's name, or the path of a router's group.

    NotFound when it is neither. A path that several topologies have is one router, which serves all of them.
    """
    held = sorted(spans, key=lambda span: span.cidr)
    if device in hosts:
        return _host_plan(plan, hosts[device], held)
    routes: dict[Prefix, DeviceRoute] = {}
    found = False
    for topology in plan.topologies:
        group = find_group(topology.root, device)
        if group is None or without_router(group):
            continue
        found = True
        routes.update(_above(_way(topology.root, group.path)[:-1]))
        routes.update(_below(topology.name, group, hosts, held))
        routes.update(_discards(originated(group)))
    if not found:
        known = ", ".join(devices(plan, hosts)) or "none; load an address plan first"
        raise NotFound(f"no device {device!r}; known are {known}")
    return _plan(device, device, routes)


def originated(group: Group) -> tuple[Prefix, ...]:
    """The aggregates that the router of a group announces upward.

    A group whose only child has its whole CIDR has nothing of its own to say: the child's announcement is passed on.
    """
    inherited = {cidr for child in group.groups for cidr in child.cidrs.values()}
    return tuple(sorted(cidr for cidr in group.cidrs.values() if cidr not in inherited))


def served(group: Group) -> Iterator[Group]:
    """Groups that have a router of their own: neither spare parts nor those that one host is alone in."""
    if without_router(group):
        return
    yield group
    for child in group.groups:
        yield from served(child)


def without_router(group: Group) -> bool:
    return bool(group.sole_host) or (group.closed and group.is_leaf)


def _host_plan(plan: AddressPlan, host: Host, spans: Iterable[Span]) -> DevicePlan:
    own = [span.cidr for span in spans if span.host == host.name]
    routes: dict[Prefix, DeviceRoute] = {}
    serves = ""
    for topology in plan.topologies:
        leaf = find_group(topology.root, host.groups.get(topology.name, ""))
        if leaf is not None:
            serves = serves or leaf.path
            routes.update(_above(_way(topology.root, leaf.path)))
    routes.update(_discards(own))
    return _plan(host.name, serves, routes)


def _way(root: Group, path: str) -> list[Group]:
    """The groups with routers from the root down to a path, itself included."""
    return [group for group in served(root) if f"{path}/".startswith(group.path.rstrip("/") + "/")]


def _above(way: Sequence[Group]) -> dict[Prefix, DeviceRoute]:
    """The aggregates of these groups, learned from the nearest of them, the last."""
    routes: dict[Prefix, DeviceRoute] = {}
    for group in way:
        routes.update(_toward(originated(group), Reach.ABOVE, way[-1].path))
    return routes


def _below(topology: str, group: Group, hosts: Mapping[str, Host], spans: Iterable[Span]) -> dict[Prefix, DeviceRoute]:
    """What the devices directly below announce: child groups their aggregates, hosts their spans."""
    routes: dict[Prefix, DeviceRoute] = {}
    below = {group.path, *(child.path for child in group.groups if child.sole_host)}
    here = {name for name, host in hosts.items() if host.groups.get(topology) in below}
    networks = set(group.cidrs)
    for span in spans:
        if span.host in here and span.network in networks:
            routes.update(_toward([span.cidr], Reach.BELOW, span.host))
    for child in group.groups:
        if not without_router(child):
            routes.update(_toward(announced(child), Reach.BELOW, child.path))
    return routes


def announced(group: Group) -> set[Prefix]:
    """What the router of a group tells the one above: its own aggregates, and those it passes on."""
    own = set(originated(group))
    passed_on = {cidr for child in group.groups for cidr in announced(child)}
    return own | (passed_on & set(group.cidrs.values()))


def _toward(prefixes: Iterable[Prefix], reach: Reach, device: str) -> dict[Prefix, DeviceRoute]:
    return {prefix: DeviceRoute(prefix=prefix, reach=reach, toward=device) for prefix in prefixes}


def _discards(prefixes: Iterable[Prefix]) -> dict[Prefix, DeviceRoute]:
    return {prefix: DeviceRoute(prefix=prefix, reach=Reach.DISCARD) for prefix in prefixes}


def _plan(device: str, serves: str, routes: Mapping[Prefix, DeviceRoute]) -> DevicePlan:
    ordered = tuple(routes[prefix] for prefix in sorted(routes))
    originates = tuple(route.prefix for route in ordered if route.reach is Reach.DISCARD)
    return DevicePlan(device=device, serves=serves, originates=originates, routes=ordered)
