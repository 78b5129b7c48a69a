"""What romana-aws tells people: tables of routes, and sentences on stderr for what is not as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import typer

from romana.codec.json import encode
from romana.core.routing.vpc.decision import TableDecision
from romana.model.address import Prefix
from romana.services.vpc.status import Status
from romana.services.vpc.writer import Outcome, Removal


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a route table. `target` is where a route leads after it, `was` before it."""

    table: str
    change: str
    prefix: Prefix
    host: str = ""
    target: str = ""
    was: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a round did, or would do: changes of routes, and hosts whose source/destination check is turned off."""

    dry_run: bool
    changed: int
    changes: tuple[Change, ...]
    checks_off: dict[str, str]
    problems: tuple[str, ...]


def outcome(found: Outcome, *, dry_run: bool, as_json: bool) -> None:
    """A round."""
    decision = found.decision
    changes = tuple(change for one in decision.tables for change in changes_of(one))
    told = Told(
        dry_run=dry_run,
        changed=found.changed,
        changes=changes,
        checks_off=decision.checked,
        problems=found.problems,
    )
    if as_json:
        _json(told)
        return
    if changes:
        rows = [(one.table, one.change, str(one.prefix), one.host, one.target, one.was) for one in changes]
        _table(("table", "change", "prefix", "host", "to", "from"), rows)
    for host, interface in sorted(decision.checked.items()):
        typer.echo(f"source/destination check of {interface} ({host}) off")
    if changes or decision.checked:
        if dry_run:
            typer.echo("nothing was written")
    elif found.problems:
        typer.echo("nothing to change in the route tables, but not all is as it should be")
    else:
        typer.echo("the route tables are as the plan says")
    _problems(found.problems)


def removed(found: Removal, *, as_json: bool) -> None:
    """What `remove` did."""
    if as_json:
        _json(found)
        return
    typer.echo(f"{found.removed} routes removed")
    _problems(found.problems)


def status(found: Status) -> None:
    """The running program."""
    last = "never" if found.last_success is None else f"{found.last_success} s ago"
    turn = f"{found.turn} ({found.why})" if found.why else found.turn
    for name, value in (
        ("holder", found.holder),
        ("region", found.region),
        ("turn", turn),
        ("plan of revision", str(found.revision)),
        ("last success", last),
        ("problem", found.problem or "-"),
    ):
        typer.echo(f"{name + ':':18} {value}")
    routes = [
        (one.table, str(route.prefix), route.group or "exception", route.host or "-", route.target or "-")
        for one in found.tables
        for route in one.routes
    ]
    if routes:
        _table(("table", "prefix", "group", "next hop", "target"), routes)
        counts = [(one.table, one.vpc, f"{one.ipv4}/{one.quota}", f"{one.ipv6}/{one.quota}") for one in found.tables]
        _table(("table", "VPC", "IPv4 routes", "IPv6 routes"), counts)
    if found.hosts:
        hosts = [(one.host, one.instance, one.interface, one.level, f"{one.seconds} s", one.why) for one in found.hosts]
        _table(("host", "instance", "interface", "is", "for", "because"), hosts)
    _problems(found.problems)


def changes_of(one: TableDecision) -> Iterable[Change]:
    """The changes of a table, in the order in which they are made."""
    hosts = {hop.prefix: hop.host for hop in one.next_hops}
    routes, changes = one.table.routes, one.changes
    for prefix, target in changes.replace.items():
        was = routes[prefix].target
        yield Change(
            table=one.table.id, change="replace", prefix=prefix, host=hosts.get(prefix, ""), target=target, was=was
        )
    for prefix, target in changes.add.items():
        yield Change(table=one.table.id, change="add", prefix=prefix, host=hosts.get(prefix, ""), target=target)
    for prefix in (*changes.unused, *changes.remove):
        yield Change(table=one.table.id, change="remove", prefix=prefix, was=routes[prefix].target)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A line for each row, columns as wide as what is in them; nothing is cut off."""
    widths = [max(len(row[index]) for row in (titles, *rows)) for index in range(len(titles))]
    for number, row in enumerate((titles, *rows)):
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        typer.secho(line, bold=number == 0)


def _problems(problems: Iterable[str]) -> None:
    for problem in problems:
        typer.echo(f"romana-aws: {problem}", err=True)


def _json(value: object) -> None:
    typer.echo(msgspec.json.format(encode(value), indent=2).decode())
