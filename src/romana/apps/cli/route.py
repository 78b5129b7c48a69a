"""`romana route`: which devices hold which routes, what is routed by itself, and whether hosts are as planned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from romana.apps.cli.arguments import OnHost
from romana.apps.cli.failure import ExitStatus
from romana.apps.cli.session import Session, command
from romana.apps.cli.table import Column
from romana.codec.daemons import Daemon
from romana.codec.json import decode, encode
from romana.codec.svg_fabric import draw_fabric
from romana.core.routing import RoutePlan
from romana.model.errors import Fault, Invalid
from romana.model.ipam import Span
from romana.model.route import RouteException
from romana.model.topology import AddressPlan, Host

route_app = typer.Typer(help="The route plan: which device holds which routes.", no_args_is_help=True)

DEVICE = (
    Column("device", "device"),
    Column("serves", "serves"),
    Column("originates", "originates"),
    Column("from above", "above"),
    Column("from below", "below"),
    Column("beside", lambda item: item.get("beside", 0)),
    Column("discards", "discards"),
    Column("exceptions", "exceptions"),
    Column("routes", "total"),
)
ROUTE = (
    Column("device", "device"),
    Column("prefix", "prefix"),
    Column("reach", "reach"),
    Column("toward", "toward"),
    Column("exception", lambda item: "yes" if item.get("exception") else ""),
)
PEER = (
    Column("device", "device"),
    Column("session", "name"),
    Column("protocol", "protocol"),
    Column("neighbor", "neighbor"),
    Column("address", "address"),
    Column("state", "state"),
    Column("why", "sentence"),
)
EXCEPTION = (
    Column("prefix", "prefix"),
    Column("host", "host"),
    Column("home", "home"),
    Column("reason", "reason"),
    Column("of", "name"),
    Column("held by", "devices"),
)
DIFFERENCE = (
    Column("device", "host"),
    Column("difference", "kind"),
    Column("prefix", "prefix"),
    Column("what", "sentence"),
)
VPC = (
    Column("prefix", "prefix"),
    Column("group", "group"),
    Column("hosts", "hosts"),
)
DEVICE_HELP = "A host, a router, or the path of routers' group (/ is a spine)."
Device = Annotated[str | None, typer.Option("--device", help=f"Only this device. {DEVICE_HELP}")]


@command(route_app, "show")
def route_show(session: Session, device: Annotated[str, typer.Argument(metavar="DEVICE", help=DEVICE_HELP)]) -> None:
    """Every route that one device should hold."""
    _show_routes(session, device)


@command(route_app, "list")
def route_list(session: Session, device: Device = None) -> None:
    """Every route that every device should hold."""
    _show_routes(session, device)


@command(route_app, "plan")
def route_plan(session: Session, device: Device = None) -> None:
    """Every device: how many routes it should hold, and why."""
    session.show(session.get("routes/counts", device=device), DEVICE, empty="no devices; load an address plan first")


@command(route_app, "exceptions")
def route_exceptions(session: Session, host: OnHost = None) -> None:
    """What lives away from its aggregates, so that devices hold a route of its own for it."""
    found = session.get("routes/exceptions", host=host)
    session.show(found, EXCEPTION, empty="no exceptions: everything lives where its aggregates lead")


@command(route_app, "vpc")
def route_vpc(session: Session) -> None:
    """What a VPC has to know, and which hosts can take it; `romana-aws` writes it into route tables."""
    found = session.get("routes/vpc")["routes"]
    session.show(found, VPC, empty="no routes: no group has a host")


@command(route_app, "peers")
def route_peers(
    session: Session,
    device: Device = None,
    down: Annotated[bool, typer.Option("--down", help="Only sessions that are down.")] = False,
) -> None:
    """The sessions of every device that runs a routing daemon, and why one is down."""
    found = session.get("routes/peers", device=device)
    if not session.is_table:
        session.show(found, ())
        return
    rows = [{"device": one["device"], **each} for one in found for each in one["state"].get("sessions", ())]
    session.show([row for row in rows if not (down and row["up"])], PEER, empty="no sessions")
    for one in found:
        if one.get("silent"):
            typer.echo(f"romana: {one['device']}: its agent is silent; this is what it said last", err=True)
        if one.get("problem"):
            typer.echo(f"romana: {one['device']}: {one['problem']}", err=True)


@command(route_app, "config")
def route_config(
    session: Session,
    device: Annotated[str, typer.Argument(metavar="NAME", help="A router or a host.")],
    form: Annotated[Daemon, typer.Option("--format", help="For which daemon.")] = Daemon.BIRD,
) -> None:
    """Print what a device's routing daemon is to do, for a person to load; it never has a password in it."""
    found = session.get("routes/configuration", device=device, format=form.value)
    session.say(found["text"].rstrip("\n"), found)


@command(route_app, "check")
def route_check(
    session: Session,
    wait: Annotated[float, typer.Option(min=0, max=25, help="Seconds to wait for agents.")] = 10.0,
) -> None:
    """Compare plan, kernel and routing daemon of every device. Exit status 0 when all is right, 1 when it is not, or is
    not known.
    """
    report = session.post("routes/check", {"wait": wait})
    if session.is_table:
        found = report["differences"]
        session.show(found, DIFFERENCE, empty=f"nothing differs; {report['observed']} agents answered")
    else:
        session.show(report, ())
    if report["unreachable"]:
        names = ", ".join(report["unreachable"])
        typer.echo(f"romana: nothing is known about devices whose agents did not answer: {names}", err=True)
    if report["differences"] or report["unreachable"]:
        raise typer.Exit(ExitStatus.FAILED)


@command(route_app, "draw")
def route_draw(
    session: Session,
    svg: Annotated[Path, typer.Option("--svg", metavar="FILE", help="Where the drawing is written.")],
) -> None:
    """Draw the routers with the aggregates that they originate, and what they hold."""
    plan = decode(encode(session.get("topology")["plan"]), AddressPlan)
    hosts = [decode(encode(one), Host) for one in session.items("hosts")]
    spans = [decode(encode(one), Span) for one in session.items("spans")]
    exceptions = [decode(encode(one), RouteException) for one in session.get("routes/exceptions")]
    drawing = draw_fabric(RoutePlan(plan, hosts, spans, exceptions), "Route plan")
    try:
        svg.write_text(drawing)
    except OSError as error:
        raise Invalid(Fault(str(svg), f"cannot be written: {error.strerror}")) from error
    session.say(f"drawn in {svg}", {"svg": str(svg)})


def _show_routes(session: Session, device: str | None) -> None:
    plans = session.get("routes", device=device)
    found = [{"device": plan["device"], **route} for plan in plans for route in plan["routes"]]
    session.show(found, ROUTE, empty="no routes; hosts announce spans when endpoints start")
