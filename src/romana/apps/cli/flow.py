"""`romana flow`: packets that hosts' kernels told of, with names."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer

from romana.apps.cli.session import Session, command
from romana.model.flow import FlowReason
from romana.model.policy import ICMP_PROTOCOLS, Traffic

SECONDS = 3
"""How long it is listened for what hosts remember, without `--follow`."""
STAGED = frozenset({FlowReason.WOULD_DENY, FlowReason.WOULD_ALLOW})


def add_flow(app: typer.Typer) -> None:
    """Declare `flow` on the program itself."""
    command(app, "flow")(_flow)


def _flow(
    session: Session,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was dropped.")] = False,
    staged: Annotated[bool, typer.Option("--staged", help="Only what staged policies would decide otherwise.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    host: Annotated[str | None, typer.Option(help="Only what this host tells.")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="How long to listen, without --follow.")] = SECONDS,
) -> None:
    """Show denied packets, and those that staged policies would decide about: who, where to, why.

    Each host remembers the last thousand kinds of packets, and tells of at most a hundred packets a second and reason.
    """
    if denied and staged:
        raise typer.BadParameter("what is only staged was not dropped; leave one out", param_hint="--staged")
    shown = False
    for line in session.lines("flows", host=host, seconds=None if follow else str(seconds)):
        if line.get("lost"):
            typer.echo(f"romana: {line['lost']} flows came too quickly to be shown", err=True)
        flow = line.get("flow")
        if flow is None:
            _say_hosts(line, host)
        elif not (denied and flow["reason"] in STAGED) and not (staged and flow["reason"] not in STAGED):
            typer.echo(_words(flow) if session.is_table else msgspec.json.encode(flow))
            shown = True
    if not shown:
        typer.echo("no host remembers any such packet", err=True)


def _say_hosts(line: Any, host: str | None) -> None:
    hosts = line.get("hosts", [])
    if host is not None and host not in hosts:
        typer.echo(f"romana: the agent of {host} is not connected to this romanad, so it tells nothing", err=True)
    elif not hosts:
        typer.echo("romana: no agent is connected to this romanad", err=True)


def _words(flow: Any) -> str:
    packet = flow["packet"]
    protocol, port = packet["protocol"], packet.get("port", 0)
    traffic = Traffic(protocol, port, port) if port or protocol in ICMP_PROTOCOLS else Traffic(protocol)
    when = time.strftime("%H:%M:%S", time.localtime(flow["last"]))
    colour = "yellow" if flow["reason"] in STAGED else "red"
    count = flow.get("count", 1)
    parts = [
        when,
        flow["host"],
        typer.style(flow["reason"], fg=colour),
        " -> ".join(_end(packet[end], flow.get(f"{end}_name")) for end in ("source", "destination")),
        str(traffic),
        f"x{count}" if count > 1 else "",
        f"({flow['policies']}; {flow['matched']} is accepted: {flow['accepts']})" if flow.get("row") else "",
    ]
    return "  ".join(part for part in parts if part)


def _end(address: str, name: str | None) -> str:
    return f"{name} ({address})" if name else address
