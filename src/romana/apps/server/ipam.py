"""The part of the table that is about addresses in use: how many there are, checks and repairs."""

from __future__ import annotations

from romana.apps.server.http import Call, Endpoint
from romana.codec.document import convert
from romana.core.ipam.usage import on_host, pruned
from romana.model.errors import Fault, Invalid, NotFound
from romana.model.report import Observation, Repair, Report
from romana.model.usage import Usage
from romana.services.control.audit import Auditor, CheckRequest, count_usage
from romana.services.control.core import Core
from romana.services.control.hosts import known_host
from romana.services.control.repair import RepairRequest, Repairs

DEEPEST = 100
LONGEST_WAIT = 25.0
"""Seconds; a client waits for an answer a little longer."""


def ipam_endpoints(core: Core, auditor: Auditor) -> list[Endpoint]:
    """The lines of the table."""
    repairs = Repairs(core, auditor)

    async def show(call: Call) -> list[Usage]:
        found = await count_usage(core.state)
        name, host = call.query.get("network"), call.query.get("host")
        if name is not None and not any(one.name == name for one in found):
            raise NotFound(f"no network {name!r}; `romana network list` shows them")
        if host is not None:
            known_host(core.state, host)
            found = [part for part in (on_host(one, host) for one in found) if part is not None]
        depth = call.number("depth", DEEPEST)
        return [pruned(one, depth) for one in found if name in (None, one.name)]

    async def check(call: Call) -> Report:
        request = convert(call.document(), CheckRequest)
        if not 0 <= request.wait <= LONGEST_WAIT:
            raise Invalid(Fault("wait", f"is from 0 to {LONGEST_WAIT:g} seconds, not {request.wait:g}"))
        return await auditor.check(request)

    async def repair(call: Call) -> Repair:
        return await repairs.repair(convert(call.document(), RepairRequest))

    async def observe(call: Call) -> int:
        observation: Observation = call.message(Observation)
        if observation.host != call.path["host"]:
            raise Invalid(Fault("host", f"is {observation.host!r}, the address says {call.path['host']!r}"))
        return await auditor.observe(observation)

    return [
        Endpoint(
            method="GET",
            path="/v1/ipam",
            summary="How full networks, their groups and hosts are",
            handler=show,
            gives=list[Usage],
            query=("network", "host", "depth"),
            rel="ipam",
        ),
        Endpoint(
            method="POST",
            path="/v1/ipam/check",
            summary="Compare the records with what every agent has",
            handler=check,
            takes=CheckRequest,
            gives=Report,
            rel="check",
        ),
        Endpoint(
            method="POST",
            path="/v1/ipam/repair",
            summary="Act on exactly what a report of a check says",
            handler=repair,
            takes=RepairRequest,
            gives=Repair,
            rel="repair",
        ),
        Endpoint(
            method="POST",
            path="/v1/hosts/{host}/observations",
            summary="An agent says what it has",
            handler=observe,
            takes=Observation,
            gives=int,
        ),
    ]
