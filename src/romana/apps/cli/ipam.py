"""`romana ipam`: how full networks, groups and hosts are, what is wrong with addresses, and repairing it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from romana.apps.cli.arguments import OnHost
from romana.apps.cli.failure import ExitStatus
from romana.apps.cli.session import Session, command, read_document
from romana.apps.cli.table import GAP, Column, print_table
from romana.apps.cli.waiting import busy

ipam_app = typer.Typer(help="How full networks are, and whether everything about addresses is right.")
AT_ONCE = 500
"""Findings in one request of a repair."""
AFTER_TWO = ("leaked", "unallocated-in-use")
"""Findings that a repair acts on once two observations showed them."""
NARROWEST, WIDEST = 10, 40
"""Characters of a bar."""
SHARES = (
    ("#", "used", ("used",), typer.colors.GREEN),
    ("~", "resting", ("resting",), typer.colors.YELLOW),
    ("=", "claimed", ("idle", "stock"), typer.colors.CYAN),
    ("x", "not to be used", ("reserved", "blacked_out", "static", "retired"), typer.colors.RED),
    (".", "spare", ("spare",), None),
)
"""What a bar shows: a sign, its meaning, the kinds of addresses it stands for, and its colour on a terminal."""


def short(number: int) -> str:
    """A number of addresses in at most six characters: `4096`, `1.5M`, `2^80`."""
    if number < 100_000:
        return str(number)
    for letter, unit in (("k", 10**3), ("M", 10**6), ("G", 10**9)):
        if number < 999.5 * unit:
            return f"{number / unit:.3g}{letter}"
    return f"2^{number.bit_length() - 1}"


def shares(item: Any, width: int) -> list[int]:
    """How many characters of a bar each share gets: what there is at all gets one, and together they fill it."""
    counts = [sum(item[kind] for kind in kinds) for _, _, kinds, _ in SHARES]
    whole = sum(counts)
    if not whole:
        return [0] * len(counts)
    found = [max(1, count * width // whole) if count else 0 for count in counts]
    while sum(found) != width:
        largest = max(range(len(found)), key=found.__getitem__)
        found[largest] += 1 if sum(found) < width else -1
    return found


def bar(item: Any, width: int) -> str:
    """The shares of a network, group or host as a line of signs."""
    signs = zip(SHARES, shares(item, width), strict=True)
    return "".join(typer.style(sign * size, fg=colour) for (sign, _, _, colour), size in signs if size)


def _withheld(item: Any) -> str:
    return short(item["reserved"] + item["blacked_out"] + item["static"] + item["retired"])


def _name(item: Any) -> str:
    name = str(item["name"]) or "(control plane)"
    shown = name.rsplit("/", 1)[-1] if item["kind"] == "group" else name
    return f"{'  ' * item['depth']}{shown}"


ASKING = "asking the agents"
USAGE = (
    Column("network", _name),
    Column("cidr", "cidr"),
    Column("used", lambda item: short(item["used"])),
    Column("resting", lambda item: short(item["resting"])),
    Column("withheld", _withheld),
    Column("idle", lambda item: short(item["idle"])),
    Column("stock", lambda item: short(item["stock"])),
    Column("spare", lambda item: short(item["spare"])),
    Column("spans", "spans"),
    Column("blocks", lambda item: f"{item['blocks']}+{item['mixed_blocks']}+{item['stock_blocks']}"),
)
FINDING = (
    Column("finding", "kind"),
    Column("address", "cidr"),
    Column("host", "host"),
    Column("endpoint", lambda item: item["endpoint"] or item["link"]),
    Column("use", lambda item: item["sequence"] or ""),
    Column("seen over", lambda item: f"{item['seconds']} s" if item["observed"] else ""),
    Column("repair", lambda item: item["actionable"] or ("not yet" if item["kind"] in AFTER_TWO else False)),
    Column("what", "sentence"),
)
OUTCOME = (
    Column("finding", lambda item: item["finding"]["kind"]),
    Column("address", lambda item: item["finding"]["cidr"]),
    Column("host", lambda item: item["finding"]["host"]),
    Column("done", "done"),
    Column("what", "sentence"),
)


@command(ipam_app, "show")
def ipam_show(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", help="Only this network.")] = None,
    host: OnHost = None,
    depth: Annotated[int | None, typer.Option("--depth", min=0, help="Levels below the networks.")] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the agents first what rests; else as of the last check.")] = (
        False
    ),
) -> None:
    """Networks, the groups in them and their hosts: what is used, rests, is withheld, and is left."""
    if ask:
        with busy(ASKING):
            session.post("ipam/check", {})
    found = session.get("ipam", network=network, host=host, depth=None if depth is None else str(depth))
    if not session.is_table:
        session.show(found, ())
        return
    rows = [row for one in found for row in _rows(one, 0)]
    if not rows:
        typer.echo("no networks; load an address plan with `romana topology apply`", err=True)
        return
    width = _bar_width(rows)
    print_table(rows, [*USAGE, Column("share", lambda item: bar(item, width))])
    typer.echo("share: " + ", ".join(f"{sign} {words}" for sign, words, _, _ in SHARES), err=True)
    typer.echo("blocks: with an owner + mixed + stock", err=True)


def _rows(item: Any, depth: int) -> Iterator[Any]:
    yield {**item, "depth": depth}
    for part in item["parts"]:
        yield from _rows(part, depth + 1)


def _bar_width(rows: Sequence[Any]) -> int:
    """What is left of the terminal beside the other columns."""
    taken = sum(max(len(column.title), *(len(column.cell(row)) for row in rows)) + len(GAP) for column in USAGE)
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((120, 24)).columns - taken))


@command(ipam_app, "check")
def ipam_check(
    session: Session,
    wait: Annotated[float, typer.Option(min=0, max=25, help="Seconds to wait for agents.")] = 10.0,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="Where something was seen, look again after two minutes (`\\[hosts] check_seconds`).",
        ),
    ] = False,
) -> None:
    """Compare the records with what every agent has. Exit status 0 when all is right, 1 when something was found."""
    with busy(ASKING):
        report = session.post("ipam/check", {"wait": wait})
    if confirm and any(one["observed"] for one in report["findings"]):
        patience = report["patience"]
        typer.echo(f"{len(report['findings'])} finding(s); looking again in {patience} s", err=True)
        with busy(f"waiting {patience} s"):
            time.sleep(patience)
        with busy(ASKING):
            report = session.post("ipam/check", {"wait": wait})
    if session.is_table:
        session.show(report["findings"], FINDING, empty=f"nothing found; {report['observed']} agents answered")
    else:
        session.show(report, ())
    if report["unreachable"]:
        names = ", ".join(report["unreachable"])
        typer.echo(f"romana: nothing is known about hosts whose agents did not answer: {names}", err=True)
    if report["findings"]:
        raise typer.Exit(ExitStatus.FAILED)


@command(ipam_app, "repair")
def ipam_repair(
    session: Session,
    report: Annotated[
        str,
        typer.Option("--from", metavar="REPORT", help="What `romana ipam check --json` printed; - is standard input."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    cut: Annotated[
        bool, typer.Option("--cut", help="Also cut off workloads whose addresses nobody allocated.")
    ] = False,
) -> None:
    """Act on exactly this report, as far as it still holds. Exit status 1 when something was left as it is."""
    document: Any = read_document(report)
    outcomes: list[Any] = []
    findings = document.get("findings", ()) if isinstance(document, dict) else ()
    parts = [findings[first : first + AT_ONCE] for first in range(0, len(findings), AT_ONCE)] or [findings]
    for part in parts:
        asked = {**document, "findings": part} if isinstance(document, dict) else document
        outcomes += session.post("ipam/repair", {"report": asked, "dry_run": dry_run, "cut": cut})["outcomes"]
    session.show(outcomes, OUTCOME, empty="the report has no findings; nothing to do")
    if not all(outcome["done"] for outcome in outcomes):
        raise typer.Exit(ExitStatus.FAILED)
