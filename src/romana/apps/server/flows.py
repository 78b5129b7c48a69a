"""The part of the table that is about packets that were told of."""

from __future__ import annotations

import math
from typing import Any

from romana.apps.server.http import Call, Endpoint, Stream
from romana.model.view import ToldFlows
from romana.services.control.flows import FlowLine, FlowVerbs


def flow_endpoints(verbs: FlowVerbs) -> list[Endpoint]:
    """The lines of the table."""

    async def follow(call: Call) -> Stream:
        seconds = call.number("seconds", 0)
        return Stream(verbs.follow(call.query.get("host", ""), seconds or math.inf))

    async def tell(call: Call) -> None:
        told: Any = call.message(ToldFlows)
        await verbs.tell(call.path["host"], told.epoch, told.flows)

    return [
        Endpoint(
            method="GET",
            path="/v1/flows",
            summary="Denied packets, and those that staged policies would decide about, as hosts tell of them",
            handler=follow,
            gives=FlowLine,
            query=("host", "seconds"),
            streams=True,
            rel="flows",
        ),
        Endpoint(
            method="POST",
            path="/v1/hosts/{host}/flows",
            summary="An agent tells of packets",
            handler=tell,
            takes=ToldFlows,
        ),
    ]
