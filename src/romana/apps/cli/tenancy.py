"""`romana tenant`, `romana segment`, `romana endpoint`: who is there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from romana.apps.cli.arguments import Labels, Name, OfSegment, OfTenant, OnHost, labels_from_options
from romana.apps.cli.session import Session, changed, command, name_in_path
from romana.apps.cli.table import Column
from romana.model.errors import Fault, Invalid, NotFound
from romana.model.tenancy import Isolation

tenant_app = typer.Typer(help="Tenants: isolation domains.", no_args_is_help=True)
segment_app = typer.Typer(help="Segments: parts of tenants, usually one microservice each.", no_args_is_help=True)
endpoint_app = typer.Typer(help="Endpoints: the network interfaces of workloads.", no_args_is_help=True)

TENANT = (
    Column("tenant", "name"),
    Column("isolation", "isolation"),
    Column("own host", lambda item: bool(item.get("own_host"))),
    Column("labels", "labels"),
)
SEGMENT = (Column("tenant", "tenant"), Column("segment", "name"))
ENDPOINT = (
    Column("endpoint", lambda item: item["name"] or item["id"]),
    Column("owner", lambda item: owner_text(item["identity"]["owner"])),
    Column("host", "host"),
    Column("addresses", lambda item: [allocation["address"] for allocation in item["allocations"]]),
    Column("labels", lambda item: item["identity"].get("labels", {})),
    Column("id", "id"),
)
ENDPOINT_DETAILS = (
    *ENDPOINT,
    Column("blocks", lambda item: [allocation["block"] for allocation in item["allocations"]]),
    Column("link", "link"),
    Column("interface", "interface"),
    Column("namespace", "netns"),
    Column("mac", "mac"),
    Column("mtu", "mtu"),
)


def owner_text(owner: Any) -> str:
    """`tenant/segment`, or nothing where there is no owner."""
    return f"{owner['tenant']}/{owner['segment']}" if owner else ""


@command(tenant_app, "list")
def tenant_list(session: Session) -> None:
    """All tenants."""
    session.show(session.items("tenants"), TENANT, empty="no tenants; make one with `romana tenant add`")


@command(tenant_app, "show")
def tenant_show(session: Session, name: Name) -> None:
    """One tenant."""
    session.show_one(session.get(f"tenants/{name_in_path(name)}"), TENANT)


@command(tenant_app, "add")
def tenant_add(
    session: Session,
    name: Name,
    isolation: Annotated[
        Isolation | None,
        typer.Option(help="Who may reach its endpoints where no policy says otherwise; `tenant` for a new one."),
    ] = None,
    label: Labels = None,
    own_host: Annotated[
        bool | None,
        typer.Option(
            "--own-host/--no-own-host", help="Its endpoints and the host they are on always reach each other."
        ),
    ] = None,
) -> None:
    """Make a tenant, or change one: what no option says stays as it is; labels are replaced by those that are given."""
    path = f"tenants/{name_in_path(name)}"
    said = {
        "isolation": None if isolation is None else isolation.value,
        "labels": labels_from_options(label) if label else None,
        "own_host": own_host,
    }
    tenant = session.put(path, changed(session.find(path), said))
    session.say(f"tenant {name}, isolation {tenant['isolation']}", tenant)


@command(tenant_app, "remove")
def tenant_remove(session: Session, name: Name) -> None:
    """Remove a tenant that has no endpoints any more, with its segments."""
    session.delete(f"tenants/{name_in_path(name)}")
    session.say(f"tenant {name} removed")


Tenant = Annotated[str, typer.Argument(metavar="TENANT", show_default=False)]


@command(segment_app, "list")
def segment_list(session: Session, tenant: OfTenant = None) -> None:
    """All segments, or those of one tenant."""
    session.show(
        session.items("segments", tenant=tenant), SEGMENT, empty="no segments; make one with `romana segment add`"
    )


@command(segment_app, "add")
def segment_add(session: Session, tenant: Tenant, name: Name) -> None:
    """Make a segment of a tenant."""
    segment = session.put(f"tenants/{name_in_path(tenant)}/segments/{name_in_path(name)}", {})
    session.say(f"segment {tenant}/{name}", segment)


@command(segment_app, "remove")
def segment_remove(session: Session, tenant: Tenant, name: Name) -> None:
    """Remove a segment that has no endpoints any more."""
    session.delete(f"tenants/{name_in_path(tenant)}/segments/{name_in_path(name)}")
    session.say(f"segment {tenant}/{name} removed")


@command(endpoint_app, "list")
def endpoint_list(session: Session, host: OnHost = None, tenant: OfTenant = None, segment: OfSegment = None) -> None:
    """All endpoints, or those of a host, a tenant, a segment."""
    found = session.items("endpoints", host=host, tenant=tenant, segment=segment)
    session.show(found, ENDPOINT, empty="no endpoints")


@command(endpoint_app, "show")
def endpoint_show(
    session: Session, name: Annotated[str, typer.Argument(metavar="NAME|ID|ADDRESS", show_default=False)]
) -> None:
    """One endpoint, by its name, id or an address."""
    fitting = [endpoint for endpoint in session.items("endpoints") if name in _handles(endpoint)]
    if not fitting:
        raise NotFound(f"no endpoint {name!r}; `romana endpoint list` shows them")
    if len(fitting) > 1:
        ids = ", ".join(sorted(endpoint["id"] for endpoint in fitting))
        raise Invalid(Fault("NAME", f"{name!r} is the name of {len(fitting)} endpoints; give one of their ids: {ids}"))
    session.show_one(fitting[0], ENDPOINT_DETAILS)


def _handles(endpoint: Any) -> list[str]:
    return [endpoint["id"], endpoint["name"], *(allocation["address"] for allocation in endpoint["allocations"])]
