"""How the program that writes VPC route tables is, as it tells those who ask."""

from __future__ import annotations

import msgspec

from romana.core.routing.vpc.decision import Decision, TableDecision
from romana.core.routing.vpc.health import Level
from romana.model.address import Family, Prefix


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One route of the plan in a table: who is to relay it (empty: nobody can), of which `hosts`, the preferred first.

    `target` is what the table had when it was last read, empty when it had no such route.
    """

    prefix: Prefix
    group: str
    host: str
    interface: str
    target: str
    hosts: tuple[str, ...]


class TableStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A route table: how many routes of each family it had, all told, of how many that it may have; and ours."""

    table: str
    vpc: str
    ipv4: int
    ipv6: int
    quota: int
    routes: tuple[RouteStatus, ...]


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A host: where it is, how good it is as a next hop (`settled` is the best), for how many seconds, and why."""

    host: str
    instance: str
    interface: str
    subnet: str
    level: str
    seconds: int
    why: str
    failures: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The program as a whole. `turn` is whether it writes; `problem` why the last round failed, empty when it did not;
    `problems` everything that is not as it should be although the round worked. `last_success` is how many seconds ago
    a round worked, None when none did. `revision` is that of the plan.
    """

    version: str
    holder: str
    region: str
    turn: str
    why: str
    revision: int
    last_success: int | None
    problem: str
    problems: tuple[str, ...]
    tables: tuple[TableStatus, ...]
    hosts: tuple[HostStatus, ...]


def table_statuses(decision: Decision, quota: int) -> tuple[TableStatus, ...]:
    """What was found and decided about all tables."""
    return tuple(_table(one, quota) for one in decision.tables)


def host_statuses(decision: Decision, now: int) -> tuple[HostStatus, ...]:
    """What is known of all hosts that have a place."""
    return tuple(
        HostStatus(
            host=name,
            instance=place.instance.id,
            interface=place.interface.id,
            subnet=place.interface.subnet,
            level=Level(decision.health[name].level).name.lower(),
            seconds=now - decision.health[name].since,
            why=decision.health[name].why,
            failures=decision.health[name].failures,
        )
        for name, place in sorted(decision.places.items())
    )


def _table(one: TableDecision, quota: int) -> TableStatus:
    routes = one.table.routes
    counted = one.table.counted
    return TableStatus(
        table=one.table.id,
        vpc=one.table.vpc,
        ipv4=counted.get(Family.V4, 0),
        ipv6=counted.get(Family.V6, 0),
        quota=quota,
        routes=tuple(
            RouteStatus(
                prefix=hop.prefix,
                group=hop.group,
                host=hop.host,
                interface=hop.interface,
                target=routes[hop.prefix].target if hop.prefix in routes else "",
                hosts=hop.hosts,
            )
            for hop in one.next_hops
        ),
    )
