"""Everything about VPC route tables in one decision: how hosts are, who relays what, what to change.

Owns the order in which the parts of this package are asked. Refuses to read or write anything. Invariant: the same
tables, instances, plan and knowledge of hosts give the same decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from romana.core.routing.vpc.changes import TableChanges, table_changes
from romana.core.routing.vpc.health import Health, HealthTimes, Level, follow, judge
from romana.core.routing.vpc.places import Place, place_hosts
from romana.core.routing.vpc.reach import Reach, reach_of
from romana.core.routing.vpc.relays import choose, preference
from romana.model.address import Prefix
from romana.model.vpc import Instance, RouteTable, VpcPlan, VpcRoute

MOST_NAMED = 5
"""Hosts that a sentence names."""


class VpcRules(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator says: the label that names a host's instance, the routes of a family that a table may have, and
    times.
    """

    label: str
    quota: int
    times: HealthTimes


class NextHop(msgspec.Struct, frozen=True, kw_only=True):
    """Who relays a prefix in a table, of the `hosts` that could, the preferred first. Empty: nobody can."""

    prefix: Prefix
    group: str
    hosts: tuple[str, ...]
    host: str = ""
    interface: str = ""


class TableDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One table: its next hops, and what to change so that it has them."""

    table: RouteTable
    next_hops: tuple[NextHop, ...]
    changes: TableChanges


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """All tables. `checked` are interfaces whose source/destination check is to be turned off, by host."""

    plan: VpcPlan
    places: dict[str, Place]
    health: dict[str, Health]
    tables: tuple[TableDecision, ...]
    checked: dict[str, str]
    problems: tuple[str, ...]


class VpcWorld(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: the plan, the tables, the instances in their VPCs, and who does not answer probes."""

    plan: VpcPlan
    tables: tuple[RouteTable, ...]
    instances: dict[str, Instance]
    unanswered: dict[str, int] = {}


def decide(world: VpcWorld, known: Mapping[str, Health], now: int, rules: VpcRules, *, adopt: bool = False) -> Decision:
    """What to do. `known` is the health of the decision before this one, `now` a second of a clock that only grows."""
    plan = world.plan
    found = place_hosts(plan.hosts, world.instances, rules.label)
    verdicts = {
        host.name: judge(host, found.by_host[host.name], world.unanswered.get(host.name, 0), rules.times)
        for host in plan.hosts
        if host.name in found.by_host
    }
    health = follow(known, verdicts, now, rules.times)
    draining = {host.name for host in plan.hosts if host.draining}
    reaches = {vpc: reach_of(plan, found.by_host, vpc) for vpc in sorted({one.vpc for one in world.tables})}
    tables = []
    for table in world.tables:
        next_hops = tuple(
            _next_hop(table, route, found.by_host, health, draining) for route in reaches[table.vpc].routes.values()
        )
        wanted = {**_unplaced(plan, found.by_host), **{one.prefix: one.interface for one in next_hops}}
        changes = table_changes(table, wanted, plan.owned.get(table.id, ()), rules.quota, adopt=adopt)
        tables.append(TableDecision(table=table, next_hops=next_hops, changes=changes))
    needed = {name for route in plan.routes for name in route.hosts}
    problems = [
        *(found.problems[name] for name in sorted(needed & found.problems.keys())),
        *_unled(plan, reaches, tables, health),
        *(problem for one in tables for problem in one.changes.problems),
    ]
    return Decision(
        plan=plan,
        places=found.by_host,
        health=health,
        tables=tuple(tables),
        checked={name: place.interface.id for name, place in found.by_host.items() if place.interface.checked},
        problems=tuple(problems),
    )


def _unplaced(plan: VpcPlan, places: Mapping[str, Place]) -> dict[Prefix, str]:
    """What belongs to hosts that nobody knows the place of: a route to it stays as it is, a new one is not made."""
    lost = {host.name: host for host in plan.hosts if host.name not in places}
    found = {route.prefix for route in plan.routes if not lost.keys().isdisjoint(route.hosts)}
    found |= {prefix.supernet(prefix.length) for host in lost.values() for prefix in host.announced}
    return dict.fromkeys(sorted(found), "")


def _next_hop(
    table: RouteTable,
    route: VpcRoute,
    places: Mapping[str, Place],
    health: Mapping[str, Health],
    draining: set[str],
) -> NextHop:
    order = preference(table.id, route)
    there = table.routes.get(route.prefix)
    current = next((name for name in order if there is not None and places[name].interface.id == there.target), "")
    chosen = choose(order, current, {name: health[name].level for name in order}, draining)
    return NextHop(
        prefix=route.prefix,
        group=route.group,
        hosts=tuple(order),
        host=chosen,
        interface=places[chosen].interface.id if chosen else "",
    )


def _unled(
    plan: VpcPlan, reaches: Mapping[str, Reach], tables: Iterable[TableDecision], health: Mapping[str, Health]
) -> Iterator[str]:
    """What of the plan no table leads anywhere, or only to hosts that are not well."""
    if not plan.routes:
        yield "the address plan has no group with hosts, so there is nothing to route; `romana topology show` shows it"
    for route in plan.routes:
        name = f"{route.prefix} ({route.group or 'an exception'})"
        vpcs = [vpc for vpc, reach in reaches.items() if route.prefix in reach.routes]
        if not vpcs and reaches:
            yield f"{name} is led nowhere: none of its hosts ({_some(route.hosts)}) is in the VPC of a table"
        if len(vpcs) > 1:
            yield f"{name} has hosts in {', '.join(vpcs)}; each of these VPCs reaches only its own"
    for one in tables:
        for hop in one.next_hops:
            name = f"route table {one.table.id}: {hop.prefix} ({hop.group or 'an exception'})"
            if not hop.host:
                yield f"{name} is led nowhere, because all who could relay it ({_some(hop.hosts)}) are down"
            elif health[hop.host].level < Level.WELL:
                yield f"{name} stays with {hop.host}, although {health[hop.host].why}: no other host is better"


def _some(hosts: Sequence[str]) -> str:
    more = f" and {len(hosts) - MOST_NAMED} more" if len(hosts) > MOST_NAMED else ""
    return ", ".join(hosts[:MOST_NAMED]) + more
