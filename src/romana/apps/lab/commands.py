"""`romana lab`: a whole data centre in network namespaces on this machine.

Owns the words of the command line. Invariant: a lab whose building fails or is interrupted is taken down again, unless
the person asked to keep it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from romana.apps.lab import build
from romana.apps.lab import record as records
from romana.apps.lab.demo import demo as run_demo
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.nodes import entering, environment
from romana.apps.lab.pods import add_pod, pods_on, remove_pod
from romana.apps.lab.reading import read_lab
from romana.apps.lab.record import LabRecord
from romana.model.errors import Fault, Invalid, NotFound

app = typer.Typer(no_args_is_help=True, help="A whole data centre in network namespaces on this machine (root).")
endpoint_app = typer.Typer(no_args_is_help=True, help="Start and end endpoints of a lab by the real CNI plugin.")
app.add_typer(endpoint_app, name="endpoint")

LabName = Annotated[str, typer.Option("--lab", help="Which lab; not needed when there is one.")]


@app.command()
def up(
    file: Annotated[Path, typer.Argument(help="The lab file, such as examples/demo/lab.yaml.")],
    keep: Annotated[bool, typer.Option("--keep", help="Leave what was built when building fails.")] = False,
) -> None:
    """Build a lab: nodes, links, BIRD, romanad, agents, tenants, endpoints, policies."""
    _need_root()
    lab = read_lab(file)
    started = time.monotonic()

    def report(line: str) -> None:
        typer.echo(f"  {time.monotonic() - started:6.1f} s  {line}")

    with _taken_down(lab.file.name, keep=keep):
        record = build.build(lab, file, report).record
        build.make_tenants(record, lab.file.tenants, report)
        build.make_endpoints(record, lab, report)
        build.make_policies(record, lab, report)
        build.finish(record)
    typer.echo(f"lab {lab.file.name} is up; `romana lab status` shows it, `romana lab down {lab.file.name}` ends it")


@app.command()
def down(
    name: Annotated[str, typer.Argument(help="Which lab; not needed when there is one.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All labs of this machine; none is fine.")] = False,
) -> None:
    """Take a lab away with everything in it, also after a crash."""
    _need_root()
    if every and name:
        raise Invalid(Fault("--all", f"cannot be said together with the name {name!r}"))
    for one in records.names() if every else [records.read(name).name]:
        build.take_down(records.read(one))
        typer.echo(f"lab {one} is gone")


@app.command()
def status(name: Annotated[str, typer.Argument(help="Which lab; not needed when there is one.")] = "") -> None:
    """Nodes, their programs and endpoints."""
    record = records.read(name)
    state = "up" if record.ready else "not complete; `romana lab down` takes it away"
    typer.echo(f"lab {record.name} ({record.file}): {state}; romanad at {record.api} inside")
    table = Table(box=None, pad_edge=False)
    for head in ("node", "role", "pid", "programs", "endpoints"):
        table.add_column(head, no_wrap=head != "endpoints")
    for node, process in record.nodes.items():
        table.add_row(node, record.roles[node], *_node_cells(record, node, alive=process.alive))
    Console(markup=False, emoji=False).print(table)


def _node_cells(record: LabRecord, node: str, *, alive: bool) -> list[str]:
    if not alive:
        return ["ended", "", ""]
    programs = [
        f"{key.partition('/')[2]}{'' if process.alive else ' (ended)'}"
        for key, process in record.programs.items()
        if key.startswith(f"{node}/")
    ]
    return [str(record.nodes[node].pid), ", ".join(programs), ", ".join(pods_on(record, node))]


@app.command(name="exec", context_settings={"ignore_unknown_options": True})
def execute(
    node: Annotated[str, typer.Argument(help="A node's name, as in `romana lab status`.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after --.")],
    lab: LabName = "",
) -> None:
    """Run a command inside a node; its status is ours."""
    _need_root()
    line = entering(records.read(lab).process(node), command)
    os.execvpe(line[0], line, environment())  # noqa: S606 - a list of arguments, no shell


@endpoint_app.command()
def add(
    host: Annotated[str, typer.Argument(help="The host to start it on.")],
    name: Annotated[str, typer.Argument(help="Its name, and that of its network namespace there.")],
    tenant: Annotated[str, typer.Option(help="Its tenant.")],
    segment: Annotated[str, typer.Option(help="Its segment.")],
    label: Annotated[list[str] | None, typer.Option(help="A label, key=value; may be repeated.")] = None,
    lab: LabName = "",
) -> None:
    """Start an endpoint: a network namespace on a host, and CNI ADD on it."""
    _need_root()
    labels = dict(_label(text) for text in label or ())
    endpoint = LabEndpoint(name=name, host=host, tenant=tenant, segment=segment, labels=labels)
    pod = add_pod(_with_host(lab, host), endpoint)
    typer.echo(f"{name} on {host} has {', '.join(address.text for address in pod.addresses)}")


@endpoint_app.command()
def remove(
    host: Annotated[str, typer.Argument(help="Its host.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    lab: LabName = "",
) -> None:
    """End an endpoint: CNI DEL, then its network namespace."""
    _need_root()
    remove_pod(_with_host(lab, host), host, name)
    typer.echo(f"{name} on {host} is gone")


@app.command()
def demo(
    file: Annotated[Path, typer.Argument(help="The lab file.")],
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up at the end.")] = False,
) -> None:
    """Run the main job on a lab, with real packets, and say what holds."""
    _need_root()
    run_demo(file, Console(width=None if Console().is_terminal else 100, emoji=False), keep=keep)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Invalid(Fault("--label", f"{text!r} is not key=value"))
    return key, value


def _with_host(lab: str, host: str) -> LabRecord:
    record = records.read(lab)
    hosts = [name for name, role in record.roles.items() if role == "host"]
    if host not in hosts:
        raise NotFound(f"lab {record.name} has no host {host!r}; it has {', '.join(hosts)}")
    return record


@contextmanager
def _taken_down(name: str, *, keep: bool) -> Iterator[None]:
    """Take the lab down when something goes wrong; one that was there before is not touched."""
    before = name in records.names()
    try:
        yield
    except BaseException:
        if not before and not keep and name in records.names():
            build.take_down(records.read(name))
        raise


def _need_root() -> None:
    if os.geteuid() != 0:
        raise Invalid(Fault("", "the lab makes network namespaces and needs root"))
