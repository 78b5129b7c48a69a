"""The route plan of a lab beside what its kernels hold.

Owns the comparison. Invariant: a difference is named with its device, in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from romana.apps.lab import api
from romana.apps.lab.observe import RouteCounts, routes
from romana.apps.lab.record import LabRecord
from romana.apps.lab.wiring import Fabric
from romana.codec.json import decode
from romana.core.routing.plan import RoutePlan
from romana.model.address import Prefix
from romana.model.ipam import Span
from romana.model.route import DevicePlan, RouteException
from romana.model.topology import AddressPlan, Host


def all_routes(record: LabRecord, fabric: Fabric, networks: Iterable[Prefix]) -> dict[str, RouteCounts]:
    """The routes of spine, routers and hosts inside the networks."""
    inside = list(networks)
    return {node.name: routes(record, node.name, inside) for node in fabric.roles("spine", "router", "host")}


def device_plans(record: LabRecord, fabric: Fabric, plan: AddressPlan) -> dict[str, DevicePlan]:
    """What the plan says of spine, routers and hosts, from the spans and hosts that romanad knows."""
    spans = decode(msgspec.json.encode(api.items(record, "/v1/spans")), list[Span])
    hosts = decode(msgspec.json.encode(api.items(record, "/v1/hosts")), list[Host])
    away = decode(msgspec.json.encode(api.get(record, "/v1/routes/exceptions")), list[RouteException])
    routes = RoutePlan(plan, hosts, spans, away)
    return {node.name: routes.device_plan(node.name) for node in fabric.roles("spine", "router", "host")}


def differences(plans: Mapping[str, DevicePlan], held: Mapping[str, RouteCounts]) -> list[str]:
    """Where kernels are not as planned, each as a sentence."""
    found: list[str] = []
    for name, plan in plans.items():
        planned = {route.prefix for route in plan.routes}
        kernel = held[name].learned | held[name].discards
        found += [f"{name} lacks {prefix}" for prefix in sorted(planned - kernel - held[name].endpoints)]
        found += [f"{name} has {prefix}, which is not planned" for prefix in sorted(kernel - planned)]
        single = held[name].endpoints
        found += [
            f"{name} does not discard {prefix}" for prefix in plan.originates if prefix in held[name].learned - single
        ]
    return found
