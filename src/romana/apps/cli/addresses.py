"""`romana block`, `romana route`: who holds which addresses, and which devices hold which routes."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from romana.apps.cli.arguments import OnHost
from romana.apps.cli.session import Session, command
from romana.apps.cli.table import Column
from romana.apps.cli.tenancy import owner_text

block_app = typer.Typer(help="Blocks: the unit of ownership and of policy.", no_args_is_help=True)
route_app = typer.Typer(help="The route plan: which device holds which routes.", no_args_is_help=True)

BLOCK = (
    Column("block", "cidr"),
    Column("owner", lambda item: owner_text(item.get("owner")) or ("(mixed)" if item.get("mixed") else "(stock)")),
    Column("host", "host"),
    Column("network", "network"),
    Column("span", "span"),
    Column("used", "used"),
    Column("identities", lambda item: len(item.get("identities", []))),
)
DEVICE = (
    Column("device", "device"),
    Column("serves", "serves"),
    Column("originates", "originates"),
    Column("routes", lambda item: len(item["routes"])),
    Column("to endpoints", lambda item: sum(route["reach"] == "below" for route in item["routes"])),
)
ROUTE = (
    Column("device", "device"),
    Column("prefix", "prefix"),
    Column("reach", "reach"),
    Column("toward", "toward"),
)
Device = Annotated[
    str | None,
    typer.Option("--device", help="Only this device: a host, or the path of a router's group (/ is a spine)."),
]


@command(block_app, "list")
def block_list(session: Session, host: OnHost = None) -> None:
    """All blocks with their owners and the number of addresses in use."""
    used = _addresses_in_use(session)
    found = [{**block, "used": used[block["cidr"]]} for block in session.items("blocks", host=host)]
    session.show(found, BLOCK, empty="no blocks; hosts claim them when endpoints start")


def _addresses_in_use(session: Session) -> Counter[str]:
    endpoints = session.items("endpoints")
    return Counter(allocation["block"] for endpoint in endpoints for allocation in endpoint["allocations"])


@command(route_app, "plan")
def route_plan(session: Session, device: Device = None) -> None:
    """Every device: what it originates, how many routes it holds, and how many of them lead to endpoints."""
    session.show(session.get("routes", device=device), DEVICE, empty="no devices; load an address plan first")


@command(route_app, "list")
def route_list(session: Session, device: Device = None) -> None:
    """Every route that every device should hold."""
    plans = session.get("routes", device=device)
    found = [{"device": plan["device"], **route} for plan in plans for route in plan["routes"]]
    session.show(found, ROUTE, empty="no routes; hosts announce spans when endpoints start")
