"""`romana network`, `romana topology`: the address plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer

from romana.apps.cli.arguments import File, Name
from romana.apps.cli.session import Session, command, in_file, name_in_path, read_document
from romana.apps.cli.table import Column
from romana.codec.json import encode
from romana.codec.text import parse_prefix
from romana.codec.topology import carved
from romana.model.errors import Fault, Invalid

network_app = typer.Typer(help="Networks: the CIDRs that endpoint addresses come from.", no_args_is_help=True)
blackout_app = typer.Typer(
    help="Blackouts: CIDRs that are not used, whatever the plan says; they stay when it changes.", no_args_is_help=True
)
network_app.add_typer(blackout_app, name="blackout")
topology_app = typer.Typer(help="The tree of prefix groups that mirrors racks and zones.", no_args_is_help=True)


def _placement(network: Any) -> str:
    """The placement, with the widths of bits placement."""
    bits = network.get("bits")
    if not bits:
        return str(network.get("placement", "topology"))
    widths = "+".join(str(bits.get(key, 0)) for key in ("host", "tenant", "segment", "endpoint", "space"))
    return f"bits {widths}"


NETWORK = (
    Column("network", "name"),
    Column("cidr", "cidr"),
    Column("span", lambda item: f"/{item['span_length']}"),
    Column("block", lambda item: f"/{item['block_length']}"),
    Column("tenants", lambda item: item.get("tenants") or "all"),
    Column("reserved", "reserved"),
    Column("static", "static"),
    Column("mixed", lambda item: item.get("mixed", 0)),
    Column("stock", lambda item: item.get("stock", 0)),
    Column("placement", _placement),
)
Cidr = Annotated[str, typer.Argument(metavar="CIDR", show_default=False)]
BLACKOUT = (
    Column("blackout", "cidr"),
    Column("network", "network"),
    Column("reason", "reason"),
)
CHANGE = (
    Column("what", "what"),
    Column("name", "name"),
    Column("before", "before"),
    Column("after", "after"),
)
GROUP = (
    Column("topology", "topology"),
    Column("group", "path"),
    Column("cidrs", "cidrs"),
    Column("planned hosts", "planned"),
    Column("joined", "hosts"),
    Column("assignment", "assignment"),
)


@command(network_app, "list")
def network_list(session: Session) -> None:
    """All networks."""
    session.show(
        session.items("networks"), NETWORK, empty="no networks; load an address plan with `romana topology apply`"
    )


@command(network_app, "show")
def network_show(session: Session, name: Name) -> None:
    """One network."""
    session.show_one(session.get(f"networks/{name_in_path(name)}"), NETWORK)


@command(blackout_app, "list")
def blackout_list(session: Session) -> None:
    """All blackouts."""
    session.show(session.items("blackouts"), BLACKOUT, empty="no blackouts")


@command(blackout_app, "add")
def blackout_add(
    session: Session,
    cidr: Cidr,
    network: Annotated[str, typer.Option("--network", help="The network that the CIDR must be in.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever lists them.")] = "",
) -> None:
    """Put a CIDR inside one network out of use. Refused while an address in it is in use."""
    wanted = _cidr(cidr)
    found = session.post("blackouts", {"cidr": wanted, "network": network, "reason": reason})
    words = f"{wanted} is blacked out in network {found['network']}"
    session.say(words if found["cidr"] == wanted else f"{words}, as part of {found['cidr']}", found)


@command(blackout_app, "remove")
def blackout_remove(session: Session, cidr: Cidr) -> None:
    """Put exactly the CIDR of a blackout back in use."""
    wanted = _cidr(cidr)
    session.delete(f"blackouts/{name_in_path(wanted)}")
    session.say(f"{wanted} is in use again")


def _cidr(text: str) -> str:
    """The canonical text of a CIDR; Invalid when it is none."""
    try:
        return str(parse_prefix(text))
    except ValueError as error:
        raise Invalid(Fault("CIDR", str(error))) from error


@command(topology_app, "show")
def topology_show(session: Session) -> None:
    """The carved plan: every group with its CIDRs and the number of its hosts."""
    plan = session.get("topology")["plan"]
    hosts = Counter(
        (topology, path) for host in session.items("hosts") for topology, path in host.get("groups", {}).items()
    )
    _show_plan(session, plan, hosts)


@command(topology_app, "apply")
def topology_apply(
    session: Session,
    file: File,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would change, and what forbids it.")
    ] = False,
    move: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="A host that goes to its group in it with the spans it holds; may be repeated."
        ),
    ] = None,
) -> None:
    """Put a topology document in force: ours (`version: 1`) or Romana v2's. All of it, or nothing."""
    document = read_document(file)
    try:
        moving = ",".join(move or ()) or None
        answer = session.put("topology", document, dry_run="true" if dry_run else None, moving=moving)
    except Invalid as error:
        raise in_file(file, error) from error
    plan, change = answer["plan"], answer["change"]
    if dry_run:
        _show_change(session, change)
        return
    groups = sum(1 for topology in plan["topologies"] for _ in _groups(topology["root"]))
    moved = len({move["host"] for move in change.get("hosts", [])})
    words = f"{len(plan['networks'])} networks, {groups} groups, {moved} host(s) moved"
    session.say(f"topology in force: {words}", change)


def _show_change(session: Session, change: Any) -> None:
    """A line for each thing that would change; then Invalid when it would be refused."""
    rows = [
        *(
            {"what": one["field"] or "network", "name": one["network"], **_ends(one)}
            for one in change.get("networks", [])
        ),
        *(
            {"what": "group", "name": f"{one['topology']}:{one['group']} in {one['network']}", **_ends(one)}
            for one in change.get("groups", [])
        ),
        *(
            {"what": "host", "name": f"{one['host']} in {one['topology']}", **_ends(one)}
            for one in change.get("hosts", [])
        ),
        *(
            {"what": f"{one['what']} {one['field']}".strip(), "name": one["name"], **_ends(one)}
            for one in change.get("connections", [])
        ),
    ]
    session.show(rows if session.is_table else change, CHANGE, empty="nothing would change")
    refusals = change.get("refusals", [])
    if refusals:
        raise Invalid(*(Fault(fault["path"], fault["sentence"]) for fault in refusals))


def _ends(change: Any) -> dict[str, str]:
    return {"before": change.get("before") or "", "after": change.get("after") or ""}


@command(topology_app, "check")
def topology_check(session: Session, file: File) -> None:
    """Carve a topology document here, without romanad, and show every CIDR, or every fault."""
    document = read_document(file)
    try:
        plan = carved(document)
    except Invalid as error:
        raise in_file(file, error) from error
    _show_plan(session, msgspec.json.decode(encode(plan)), None)


def _show_plan(session: Session, plan: Any, hosts: Counter[tuple[str, str]] | None) -> None:
    rows = [
        {
            "topology": topology["name"],
            "path": group["path"],
            "cidrs": list(group["cidrs"].values()),
            "hosts": "" if hosts is None or group.get("groups") else hosts[topology["name"], group["path"]],
            "planned": [host["name"] for host in topology.get("hosts", []) if host["group"] == group["path"]],
            "assignment": "closed" if group.get("closed") else group.get("assignment", {}),
        }
        for topology in plan["topologies"]
        for group in _groups(topology["root"])
    ]
    columns = GROUP if hosts is not None else [column for column in GROUP if column.value != "hosts"]
    session.show(
        rows if session.is_table else plan, columns, empty="no topology; load one with `romana topology apply`"
    )


def _groups(group: Any) -> Iterator[Any]:
    yield group
    for child in group.get("groups", []):
        yield from _groups(child)
