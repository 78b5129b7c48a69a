"""The part of the table that is about fixed addresses."""

from __future__ import annotations

import msgspec

from romana.apps.server.http import Call, Endpoint, Page, page
from romana.model.ipam import Reservation
from romana.services.control.addresses import AddressVerbs
from romana.services.control.core import Core
from romana.services.control.reservations import AddressDocument, UseDocument, known_reservation


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """Whether fixed addresses were held back until now."""

    held: bool


def address_endpoints(core: Core, verbs: AddressVerbs) -> list[Endpoint]:
    """The lines of the table."""
    state = core.state

    async def every(call: Call) -> Page[Reservation]:
        host, tenant = call.query.get("host"), call.query.get("tenant")
        found = state.reservations.values() if host is None else state.reservations_on(host).values()
        items = [one for one in found if tenant in (None, one.identity.owner.tenant)]
        return page(items, call, lambda one: one.name)

    async def one(call: Call) -> Reservation:
        return known_reservation(state, call.path["name"])

    async def give(call: Call) -> Reservation:
        return await verbs.give_wanted(call.wanted(AddressDocument))

    async def release(call: Call) -> None:
        await verbs.release(call.path["name"])

    async def use(call: Call) -> Reservation:
        return await verbs.use(call.path["name"], call.document())

    async def end_use(call: Call) -> None:
        await verbs.end_use(call.path["name"], call.query.get("endpoint", ""))

    async def confirm(_call: Call) -> Confirmed:
        return Confirmed(held=await verbs.confirm())

    def line(method: str, path: str, summary: str, handler: object, **more: object) -> Endpoint:
        fields = {"method": method, "path": f"/v1/addresses{path}", "summary": summary, "handler": handler, **more}
        return Endpoint(**fields)  # type: ignore[arg-type]

    return [
        line(
            "GET",
            "",
            "All fixed addresses",
            every,
            gives=Page[Reservation],
            query=("limit", "after", "host", "tenant"),
            rel="addresses",
        ),
        line("POST", "", "Give fixed addresses to a name", give, takes=AddressDocument, gives=Reservation),
        line("POST", "/confirm", "Say that after a restore all fixed addresses are known", confirm, gives=Confirmed),
        line("GET", "/{name}", "The fixed addresses of a name", one, gives=Reservation),
        line("DELETE", "/{name}", "Take the fixed addresses of a name back", release),
        line("PUT", "/{name}/use", "Say which endpoint uses them", use, takes=UseDocument, gives=Reservation),
        line("DELETE", "/{name}/use", "Say that they are used no more", end_use, query=("endpoint",)),
    ]
