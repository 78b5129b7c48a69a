"""`romana block`: who holds which addresses."""

from __future__ import annotations

from collections import Counter

import typer

from romana.apps.cli.arguments import OnHost
from romana.apps.cli.session import Session, command
from romana.apps.cli.table import Column
from romana.apps.cli.tenancy import owner_text

block_app = typer.Typer(help="Blocks: the unit of ownership and of policy.", no_args_is_help=True)

BLOCK = (
    Column("block", "cidr"),
    Column("owner", lambda item: owner_text(item.get("owner")) or ("(mixed)" if item.get("mixed") else "(stock)")),
    Column("host", "host"),
    Column("network", "network"),
    Column("span", "span"),
    Column("used", "used"),
    Column("identities", lambda item: len(item.get("identities", []))),
)


@command(block_app, "list")
def block_list(session: Session, host: OnHost = None) -> None:
    """All blocks with their owners and the number of addresses in use."""
    used = _addresses_in_use(session)
    found = [{**block, "used": used[block["cidr"]]} for block in session.items("blocks", host=host)]
    session.show(found, BLOCK, empty="no blocks; hosts claim them when endpoints start")


def _addresses_in_use(session: Session) -> Counter[str]:
    endpoints = session.items("endpoints")
    return Counter(allocation["block"] for endpoint in endpoints for allocation in endpoint["allocations"])
