"""`romana address`: addresses that the control plane itself gives to a name, from the static ranges."""

from __future__ import annotations

from typing import Annotated

import typer

from romana.apps.cli.arguments import Labels, Name, OfTenant, OnHost, labels_from_options
from romana.apps.cli.session import Session, command, name_in_path
from romana.apps.cli.table import Column
from romana.apps.cli.tenancy import owner_text

address_app = typer.Typer(
    help="Fixed addresses: given to a name by the control plane, from static ranges.", no_args_is_help=True
)

ADDRESS = (
    Column("name", "name"),
    Column("addresses", lambda item: ", ".join(one["address"] for one in item["allocations"])),
    Column("owner", lambda item: owner_text(item["identity"]["owner"])),
    Column("sticky", "sticky"),
    Column("host", "host"),
    Column("endpoint", "endpoint"),
)


@command(address_app, "list")
def address_list(
    session: Session,
    host: OnHost = None,
    tenant: OfTenant = None,
) -> None:
    """All fixed addresses, with who uses them."""
    found = session.items("addresses", host=host, tenant=tenant)
    session.show(found, ADDRESS, empty="no fixed addresses; `romana address add` gives some")


@command(address_app, "show")
def address_show(session: Session, name: Name) -> None:
    """The fixed addresses of a name."""
    session.show_one(session.get(f"addresses/{name_in_path(name)}"), ADDRESS)


@command(address_app, "add")
def address_add(
    session: Session,
    name: Name,
    tenant: Annotated[str, typer.Option(help="The tenant who has the addresses.")],
    segment: Annotated[str, typer.Option(help="Its segment.")],
    label: Labels = None,
    network: Annotated[list[str] | None, typer.Option(help="From this network; one of each family.")] = None,
    address: Annotated[list[str] | None, typer.Option(help="Exactly this one; one of each family.")] = None,
    sticky: Annotated[bool, typer.Option("--sticky", help="Keep them when their use ends.")] = False,
) -> None:
    """Give fixed addresses to a name; repeating it gives the same answer."""
    labels = labels_from_options(label)
    wanted: dict[str, object] = {"name": name, "tenant": tenant, "segment": segment, "sticky": sticky, "labels": labels}
    wanted |= {"networks": network} if network else {}
    wanted |= {"addresses": address} if address else {}
    given = session.post("addresses", wanted)
    session.say(f"address {name}: {', '.join(one['address'] for one in given['allocations'])}", given)


@command(address_app, "confirm")
def address_confirm(
    session: Session,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, every fixed address that was given is in the list.")] = False,
) -> None:
    """Say, after a restore, that all fixed addresses are in the list. Wrong, it has them given out twice."""
    if not yes:
        raise typer.BadParameter(
            "an address that was given after the backup, and is not in `romana address list`, is given out twice; add "
            "it first (`romana address add NAME --address ADDRESS`), and then say --yes",
            param_hint="--yes",
        )
    done = session.post("addresses/confirm", None)
    session.say("fixed addresses are given again" if done["held"] else "no fixed addresses were held back", done)


@command(address_app, "remove")
def address_remove(session: Session, name: Name) -> None:
    """Take the fixed addresses of a name back; refused while an endpoint uses them."""
    session.delete(f"addresses/{name_in_path(name)}")
    session.say(f"address {name} removed")


@command(address_app, "use")
def address_use(
    session: Session,
    name: Name,
    host: Annotated[str, typer.Option(help="The host on which it runs.")],
    endpoint: Annotated[str, typer.Option(help="The id of the endpoint.")],
) -> None:
    """Say which endpoint uses the addresses of a name."""
    used = session.put(f"addresses/{name_in_path(name)}/use", {"host": host, "endpoint": endpoint})
    session.say(f"address {name} is used by {endpoint} on host {host}", used)


@command(address_app, "end")
def address_end(session: Session, name: Name) -> None:
    """Say that the addresses of a name are used no more: sticky ones stay, others go."""
    session.delete(f"addresses/{name_in_path(name)}/use")
    session.say(f"the use of address {name} ended")
