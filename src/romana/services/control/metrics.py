"""romanad's numbers for monitoring. Owns which records are counted; changes none.

What grows with hosts is summed here; each host's agent tells its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from romana.model.metric import Metric, Sample, by, single
from romana.services.control.state import State

REACHES = ("above", "below", "beside", "discards", "exceptions")


async def control_metrics(state: State, hosts: Iterable[str]) -> list[Metric]:
    """All of them; `hosts` is the state of each host, as a word. Others have their turn between two routers."""
    routes: list[Sample] = []
    for device in state.routes.fabric.devices:
        counts = state.routes.counts(device)
        routes += [Sample(getattr(counts, reach), {"device": device, "reach": reach}) for reach in REACHES]
        await asyncio.sleep(0)
    ups = Counter(one.up for known in state.peerings.values() for one in known.state.sessions)
    differing = {name: len(known.differences) for name, known in state.peerings.items() if known.differences}
    return [
        single("revision", "The last change's number.", state.revision),
        by("state", "hosts", "Hosts, by how they are.", dict(Counter(hosts))),
        single("networks", "Networks of the address plan.", len(state.plan.networks)),
        single("spans", "Spans that hosts have.", len(state.spans)),
        single("blocks", "Blocks that hosts have.", len(state.blocks)),
        single("retired", "Spans and blocks that some host may still believe in.", len(state.retired)),
        single("endpoints", "Endpoints.", len(state.endpoints)),
        single("identities", "Tenants, segments and labels that are told apart.", len(state.identities)),
        single("policies", "Policies.", len(state.policies)),
        Metric("device_routes", "Routes that a router should hold, by where they lead.", tuple(routes)),
        single("route_exceptions", "What lives away from its aggregates.", sum(1 for _ in state.routes.exceptions())),
        by("up", "sessions", "Sessions of all routing daemons.", {"yes": ups[True], "no": ups[False]}),
        by("device", "route_differences", "Routes that a router's kernel or daemon has otherwise.", differing),
    ]
