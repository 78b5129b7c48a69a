"""`romana span` and `romana block`: who holds which addresses."""

from __future__ import annotations

from collections import Counter

import typer

from romana.apps.cli.arguments import OnHost
from romana.apps.cli.session import Session, command
from romana.apps.cli.table import Column
from romana.apps.cli.tenancy import owner_text

span_app = typer.Typer(help="Spans: the unit of routing, claimed by hosts.", no_args_is_help=True)
block_app = typer.Typer(help="Blocks: the unit of ownership and of policy.", no_args_is_help=True)

SPAN = (
    Column("span", "cidr"),
    Column("host", "host"),
    Column("network", "network"),
    Column("blocks", "blocks"),
    Column("used", "used"),
)
BLOCK = (
    Column("block", "cidr"),
    Column("owner", lambda item: owner_text(item.get("owner")) or ("(mixed)" if item.get("mixed") else "(stock)")),
    Column("host", "host"),
    Column("network", "network"),
    Column("span", "span"),
    Column("used", "used"),
    Column("identities", lambda item: len(item.get("identities", []))),
)


@command(span_app, "list")
def span_list(session: Session, host: OnHost = None) -> None:
    """All spans with their hosts, the number of blocks in them, and of addresses in use."""
    used = _addresses_in_use(session)
    blocks: Counter[str] = Counter()
    addresses: Counter[str] = Counter()
    for block in session.items("blocks", host=host):
        blocks[block["span"]] += 1
        addresses[block["span"]] += used[block["cidr"]]
    found = [
        {**span, "blocks": blocks[span["cidr"]], "used": addresses[span["cidr"]]}
        for span in session.items("spans", host=host)
    ]
    session.show(found, SPAN, empty="no spans; hosts claim them when endpoints start")


@command(block_app, "list")
def block_list(session: Session, host: OnHost = None) -> None:
    """All blocks with their owners and the number of addresses in use."""
    used = _addresses_in_use(session)
    found = [{**block, "used": used[block["cidr"]]} for block in session.items("blocks", host=host)]
    session.show(found, BLOCK, empty="no blocks; hosts claim them when endpoints start")


def _addresses_in_use(session: Session) -> Counter[str]:
    endpoints = session.items("endpoints")
    return Counter(allocation["block"] for endpoint in endpoints for allocation in endpoint["allocations"])
