"""The part of the table that is about routing daemons: what each is to do, and how it says it is."""

from __future__ import annotations

from collections.abc import Callable

from romana.apps.server.http import Call, Endpoint, Stream
from romana.codec.daemons import Configuration, configured
from romana.model.daemon import DaemonReport, Peering
from romana.model.errors import Fault, Invalid
from romana.model.view import RouterView
from romana.services.control.core import Core
from romana.services.control.peering import PeeringVerbs, peerings
from romana.services.control.views import ViewVerbs


def daemon_endpoints(core: Core, views: ViewVerbs, is_connected: Callable[[str], bool]) -> list[Endpoint]:
    """The lines of the table; `is_connected` says whether a host's agent is heard from."""
    state, verbs = core.state, PeeringVerbs(core)

    async def peers(call: Call) -> list[Peering]:
        return peerings(state, call.query.get("device"), is_connected)

    async def configuration(call: Call) -> Configuration:
        return configured(state.routes, call.query.get("device", ""), call.query.get("format", "bird"))

    async def report(call: Call) -> bool:
        sent: DaemonReport = call.message(DaemonReport)
        if sent.device != call.path["device"]:
            raise Invalid(Fault("device", f"is {sent.device!r}, the address says {call.path['device']!r}"))
        await verbs.report(sent)
        return True

    async def router_view(call: Call) -> Stream:
        return Stream(views.router_view(call.path["router"]))

    return [
        Endpoint(
            method="GET",
            path="/v1/routes/peers",
            summary="How the sessions of every device are",
            handler=peers,
            gives=list[Peering],
            query=("device",),
            rel="route-peers",
        ),
        Endpoint(
            method="GET",
            path="/v1/routes/configuration",
            summary="What a device's routing daemon is to do, as text for BIRD or FRR",
            handler=configuration,
            gives=Configuration,
            query=("device", "format"),
            rel="route-configuration",
        ),
        Endpoint(
            method="POST",
            path="/v1/devices/{device}/report",
            summary="An agent says how its device's routing daemon is",
            handler=report,
            takes=DaemonReport,
            gives=bool,
        ),
        Endpoint(
            method="GET",
            path="/v1/routers/{router}/view",
            summary="What a router needs, as it changes",
            handler=router_view,
            gives=RouterView,
            streams=True,
        ),
    ]
