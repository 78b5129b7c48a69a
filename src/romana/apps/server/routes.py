"""The part of the table that is about routes: the plan of every device, exceptions, and what hosts really have."""

from __future__ import annotations

import asyncio

from romana.apps.server.http import Call, Endpoint
from romana.apps.server.ipam import LONGEST_WAIT
from romana.codec.document import convert
from romana.model.errors import Fault, Invalid
from romana.model.route import DevicePlan, DeviceRoutes, RouteCheck, RouteException
from romana.services.control.audit import Auditor, CheckRequest
from romana.services.control.core import Core
from romana.services.control.hosts import known_host
from romana.services.control.routes import route_check, routers_heard


def route_endpoints(core: Core, auditor: Auditor) -> list[Endpoint]:
    """The lines of the table."""
    state = core.state

    def named(call: Call) -> tuple[str, ...]:
        wanted = call.query.get("device")
        return (wanted,) if wanted else state.routes.devices()

    async def plans(call: Call) -> list[DevicePlan]:
        return [state.routes.device_plan(name) for name in named(call)]

    async def counts(call: Call) -> list[DeviceRoutes]:
        return [state.routes.counts(name) for name in named(call)]

    async def exceptions(call: Call) -> list[RouteException]:
        host = call.query.get("host")
        if host is not None:
            known_host(state, host)
        return [one for one in state.routes.exceptions() if host in (None, one.host)]

    async def check(call: Call) -> RouteCheck:
        request = convert(call.document(), CheckRequest)
        if not 0 <= request.wait <= LONGEST_WAIT:
            raise Invalid(Fault("wait", f"is from 0 to {LONGEST_WAIT:g} seconds, not {request.wait:g}"))
        loop = asyncio.get_running_loop()
        until = loop.time() + request.wait
        number, asked, heard = await auditor.ask(request.wait)
        expected = set(state.routes.fabric.devices) & state.peerings.keys()
        while expected - routers_heard(state, number) and loop.time() < until:
            await core.newer(state.revision, at_most=until - loop.time())
        return route_check(state, asked, heard, number)

    return [
        Endpoint(
            method="GET",
            path="/v1/routes",
            summary="The route plan of all devices, or of one",
            handler=plans,
            gives=list[DevicePlan],
            query=("device",),
            rel="routes",
        ),
        Endpoint(
            method="GET",
            path="/v1/routes/counts",
            summary="How many routes devices should hold",
            handler=counts,
            gives=list[DeviceRoutes],
            query=("device",),
            rel="route-counts",
        ),
        Endpoint(
            method="GET",
            path="/v1/routes/exceptions",
            summary="What lives away from its aggregates, and the devices that hold a route of its own for it",
            handler=exceptions,
            gives=list[RouteException],
            query=("host",),
            rel="route-exceptions",
        ),
        Endpoint(
            method="POST",
            path="/v1/routes/check",
            summary="Compare the plan with the kernel and the routing daemon of every host",
            handler=check,
            takes=CheckRequest,
            gives=RouteCheck,
            rel="route-check",
        ),
    ]
