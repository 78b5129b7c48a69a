"""`romana host`: machines that run endpoints and an agent, and what people say of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from romana.apps.cli.arguments import Labels, Name, labels_from_options
from romana.apps.cli.session import Session, changed, command, name_in_path
from romana.apps.cli.table import Column

host_app = typer.Typer(help="Hosts: machines that run endpoints and an agent.", no_args_is_help=True)


def _state(host: Any) -> str:
    """How the host is, with what people have to know besides."""
    life = host.get("life", {})
    words = [life.get("state", "")]
    if life.get("silent"):
        words[0] += f" for {_span(life['silent'])}"
    return ", ".join([*words, *(word for word in ("draining", "unsettled", "behind") if life.get(word))])


def _span(seconds: int) -> str:
    """A length of time as people say it."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {word}"
    return f"{seconds} s"


HOST = (
    Column("host", "name"),
    Column("state", _state),
    Column("addresses", "addresses"),
    Column("groups", "groups"),
    Column("labels", "labels"),
    Column("agent", "instance"),
    Column("epoch", "epoch"),
)


def _hosts(session: Session) -> list[Any]:
    """Hosts, each with how it is under `life`."""
    lives = {life["host"]: life for life in session.items("liveness")}
    return [{**host, "life": lives.get(host["name"], {})} for host in session.items("hosts")]


@command(host_app, "list")
def host_list(session: Session) -> None:
    """All hosts, and how they are: connected, silent, fenced (its lease is over), absent; behind what waits for it."""
    session.show(_hosts(session), HOST, empty="no hosts; add one with `romana host add`")


@command(host_app, "show")
def host_show(session: Session, name: Name) -> None:
    """One host."""
    host = session.get(f"hosts/{name_in_path(name)}")
    lives = [life for life in session.items("liveness") if life["host"] == host["name"]]
    session.show_one({**host, "life": lives[0] if lives else {}}, HOST)


@command(host_app, "add")
def host_add(
    session: Session,
    name: Name,
    addresses: Annotated[list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="Its own addresses.")] = None,
    label: Labels = None,
) -> None:
    """Add a host, or change its addresses or labels: those that are given replace what it has, else they stay. A group
    with fitting assignment takes it.
    """
    path = f"hosts/{name_in_path(name)}"
    said = {"addresses": addresses or None, "labels": labels_from_options(label) if label else None}
    host = session.put(path, changed(session.find(path), said))
    groups = ", ".join(host["groups"].values())
    session.say(f"host {name} is in {groups or 'no group'}", host)


@command(host_app, "drain")
def host_drain(
    session: Session,
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let it have room again.")] = False,
) -> None:
    """Give a host no more room, and have it give back what it does not use; then `romana host remove` works."""
    path = f"hosts/{name_in_path(name)}/drain"
    if undo:
        session.say(f"host {name} gets room again", session.delete(path))
        return
    host = session.put(path, None)
    session.say(f"host {name} gets no more room, and gives back what it does not use", host)


@command(host_app, "lost")
def host_lost(
    session: Session,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, this machine is off, and stays off as it is.")] = False,
) -> None:
    """Say that a host's machine is off, so that others may have its addresses. Wrong, it gives them out twice."""
    if not yes:
        raise typer.BadParameter(
            f"if {name} still runs, its addresses are given out twice; look that it is off, and say --yes",
            param_hint="--yes",
        )
    taken = session.post(f"hosts/{name_in_path(name)}/lost", None)
    if not taken["held"]:
        session.say(f"host {name} has no agent and holds nothing, so there is nothing to give up", taken)
        return
    spans = ", ".join(taken["spans"]) or "no span"
    session.say(f"host {name} is given up: {spans} retired, {taken['endpoints']} endpoint(s) gone", taken)


@command(host_app, "remove")
def host_remove(session: Session, name: Name) -> None:
    """Remove a host that holds no span any more."""
    session.delete(f"hosts/{name_in_path(name)}")
    session.say(f"host {name} removed")
