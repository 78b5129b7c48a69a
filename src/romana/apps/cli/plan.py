"""`romana plan`: what an address plan holds, before anything is built, and beside what runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from romana.apps.cli.plan_load import LoadOptions, load_of
from romana.apps.cli.plan_table import print_comparison, print_report
from romana.apps.cli.session import Session, command, in_file, read_document
from romana.apps.cli.waiting import busy
from romana.codec.daemons import Configuration, Daemon, configured
from romana.codec.json import decode, encode
from romana.codec.svg_plan import draw_plan
from romana.codec.topology import carved
from romana.core.planner.compare import compare
from romana.core.planner.load import ENOUGH, draw
from romana.core.planner.report import PlanReport, plan_report
from romana.core.planner.usage import Usage, modelled, recorded
from romana.core.routing import RoutePlan
from romana.core.topology import PlanChange, listed_hosts
from romana.model.errors import Fault, Invalid, NotFound
from romana.model.ipam import Block, Span
from romana.model.topology import AddressPlan, Host


def add_plan(app: typer.Typer) -> None:
    """Declare `plan` on the program itself."""
    command(app, "plan")(_plan)


def _plan(
    session: Session,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A topology document, ours or Romana v2's; - is stdin.")
    ] = None,
    current: Annotated[bool, typer.Option("--current", help="The plan in force, with what is in use now.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Compare FILE with the plan in force.")] = False,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write a drawing of the plan.")] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Print what a router's or host's daemon is to do; without FILE as in force.",
        ),
    ] = None,
    form: Annotated[Daemon, typer.Option("--format", help="For which daemon, with --device.")] = Daemon.BIRD,
    hosts: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Default: those the plan lists, or 16 a rack.")
    ] = None,
    pods: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Endpoints in all. Default: 49 a host.")
    ] = None,
    tenants: Annotated[int | None, typer.Option(min=1, max=100_000, help="Default: one for 200 endpoints.")] = None,
    pods_per_tenant: Annotated[int | None, typer.Option(min=1, help="Instead of --tenants or --pods.")] = None,
    apart: Annotated[float, typer.Option(min=0, max=1, help="Share of tenants whose workloads share no blocks.")] = 0.0,
    spread: Annotated[bool, typer.Option("--spread", help="Workloads spread over hosts, instead of anywhere.")] = False,
    churn: Annotated[float, typer.Option(min=0, max=1_000, help="Endpoints a host starts in an hour.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Another number draws other tenants and places.")] = 1,
) -> None:
    """Show what an address plan holds under a load: groups, spans, blocks, spare room, routes."""
    options = LoadOptions(
        hosts=hosts,
        pods=pods,
        tenants=tenants,
        pods_per_tenant=pods_per_tenant,
        apart=apart,
        spread=spread,
        churn=churn,
        seed=seed,
    )
    if file is None and not current and device is None:
        raise typer.BadParameter("give a FILE, or --current for the plan in force")
    if diff and (file is None or current):
        raise typer.BadParameter("--diff compares a FILE with the plan in force; give a FILE, and not --current")
    if file is not None and current:
        raise typer.BadParameter("--current is the plan in force; for a FILE beside it use --diff")
    if device is not None:
        if diff or svg is not None:
            raise typer.BadParameter("--device prints one device's configuration; leave out --diff and --svg")
        found = _configuration(session, file, device, form)
        session.say(found.text.rstrip("\n"), _plain(found))
        return
    if diff and file is not None:
        _show_difference(session, file)
        return
    report, title = _current(session) if file is None else (_of_file(file, options), f"Address plan of {_name(file)}")
    if svg is not None:
        _draw(svg, report, title)
    if session.is_table:
        print_report(report, title)
    else:
        session.say("", _plain(report))


def _configuration(session: Session, file: str | None, device: str, form: Daemon) -> Configuration:
    """What a device's daemon is to do by a document, or by the plan in force with its spans and exceptions."""
    if file is None:
        asked = session.get("routes/configuration", device=device, format=form.value)
        return Configuration(device=asked["device"], format=form, text=asked["text"])
    plan = _carved(file, read_document(file))
    return configured(RoutePlan(plan, listed_hosts(plan)), device, form.value)


def _of_file(file: str, options: LoadOptions) -> PlanReport:
    """The report on a document under a load; nothing of it needs romanad."""
    plan = _carved(file, read_document(file))
    load = load_of(plan, options)
    with busy(f"placing {load.pods:,} endpoints"):
        return plan_report(plan, modelled(plan, draw(load, ENOUGH)), load)


def _carved(file: str, document: object) -> AddressPlan:
    try:
        return carved(document)
    except Invalid as error:
        raise in_file(file, error) from error


def _current(session: Session) -> tuple[PlanReport, str]:
    """The report on the plan in force, with the records' spans, blocks and endpoints."""
    plan = _read(session.get("topology")["plan"], AddressPlan)
    if not plan.networks:
        raise NotFound("no address plan is in force; load one with `romana topology apply`")
    return plan_report(plan, _usage(session, plan)), "Address plan in force"


def _usage(session: Session, plan: AddressPlan) -> Usage:
    endpoints = session.items("endpoints")
    used: dict[str, int] = {}
    for endpoint in endpoints:
        for allocation in endpoint["allocations"]:
            used[allocation["block"]] = used.get(allocation["block"], 0) + 1
    return recorded(
        plan,
        [_read(item, Host) for item in session.items("hosts")],
        [_read(item, Span) for item in session.items("spans")],
        [_read(item, Block) for item in session.items("blocks")],
        used,
        len(endpoints),
    )


def _show_difference(session: Session, file: str) -> None:
    """What putting a document in force would change, and what the plan in force and it would hold."""
    document = read_document(file)
    new = _carved(file, document)
    old = _read(session.get("topology")["plan"], AddressPlan)
    answer = session.put("topology", document, dry_run="true")
    change = _read(answer["change"], PlanChange)
    found = compare(old, new, change)
    if session.is_table:
        print_comparison(found, f"{_name(file)} beside the plan in force")
    else:
        session.say("", _plain(found))
    if change.refusals:
        raise in_file(file, Invalid(*change.refusals))


def _draw(path: Path, report: PlanReport, title: str) -> None:
    try:
        path.write_text(draw_plan(report, title))
    except OSError as error:
        raise Invalid(Fault("--svg", f"{path} cannot be written: {error.strerror}")) from error


def _name(file: str) -> str:
    return "standard input" if file == "-" else Path(file).name


def _plain(value: object) -> Any:
    return msgspec.json.decode(encode(value))


def _read(value: Mapping[str, Any], kind: type[Any]) -> Any:
    return decode(msgspec.json.encode(value), kind)
