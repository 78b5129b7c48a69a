"""The command line without the lab: nouns, then verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from romana import __version__
from romana.apps.cli.addresses import block_app, span_app
from romana.apps.cli.backup import add_backup
from romana.apps.cli.fixed import address_app
from romana.apps.cli.flow import add_flow
from romana.apps.cli.hosts import host_app
from romana.apps.cli.ipam import ipam_app
from romana.apps.cli.plan import add_plan
from romana.apps.cli.policy import add_trace, policy_app
from romana.apps.cli.route import route_app
from romana.apps.cli.tenancy import endpoint_app, segment_app, tenant_app
from romana.apps.cli.topology import network_app, topology_app
from romana.apps.plain import PlainGroup

NOUNS = {
    "network": network_app,
    "topology": topology_app,
    "host": host_app,
    "tenant": tenant_app,
    "segment": segment_app,
    "endpoint": endpoint_app,
    "span": span_app,
    "block": block_app,
    "address": address_app,
    "policy": policy_app,
    "route": route_app,
    "ipam": ipam_app,
}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"romana {__version__}")
        raise typer.Exit


def _start(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Isolated networks with nothing but layer 3: see them, change them, explain them."""


def command_line() -> typer.Typer:
    """A new program with every noun."""
    app = typer.Typer(
        name="romana",
        cls=PlainGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_start)
    for noun, commands in NOUNS.items():
        app.add_typer(commands, name=noun)
    add_plan(app)
    add_trace(app)
    add_flow(app)
    add_backup(app)
    return app
