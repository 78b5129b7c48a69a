"""The part of the table that is about the address plan: the topology, and blackouts."""

from __future__ import annotations

from typing import Any

import msgspec

from romana.apps.server.http import Call, Endpoint, Page, page
from romana.codec.text import parse_prefix
from romana.core.topology import PlanChange
from romana.model.errors import Fault, Invalid
from romana.model.ipam import Blackout
from romana.model.topology import AddressPlan
from romana.services.control.blackouts import BlackoutDocument, BlackoutVerbs
from romana.services.control.core import Core
from romana.services.control.plan import PlanVerbs


class TopologyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The carved plan, and the document it came from as JSON text (empty in a dry run)."""

    plan: AddressPlan
    document: str


class TopologyChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was put in force, or in a dry run would be unless `change` has refusals, and what it changes."""

    plan: AddressPlan
    document: str
    change: PlanChange


def plan_endpoints(core: Core) -> list[Endpoint]:
    """The lines of the table."""
    return [*_topology(core), *_blackouts(core)]


def _topology(core: Core) -> list[Endpoint]:
    verbs = PlanVerbs(core)

    async def put_topology(call: Call) -> TopologyChanged:
        moving = call.words("moving")
        if call.flag("dry_run"):
            plan, change = verbs.preview(call.document(), moving)
            return TopologyChanged(plan=plan, document="", change=change)
        plan, change = await verbs.set_topology(call.document(), moving)
        return TopologyChanged(plan=plan, document=core.state.plan_document, change=change)

    async def get_topology(_call: Call) -> TopologyAnswer:
        return TopologyAnswer(plan=core.state.plan, document=core.state.plan_document)

    return [
        Endpoint(
            method="GET",
            path="/v1/topology",
            summary="The address plan",
            handler=get_topology,
            gives=TopologyAnswer,
            rel="topology",
        ),
        Endpoint(
            method="PUT",
            path="/v1/topology",
            summary="Put a topology document in force, or with dry_run say what it would change; hosts that are moving "
            "(names with commas between them) take their spans to their group in it",
            handler=put_topology,
            takes=dict[str, Any],
            gives=TopologyChanged,
            query=("dry_run", "moving"),
        ),
    ]


def _blackouts(core: Core) -> list[Endpoint]:
    verbs = BlackoutVerbs(core)

    async def listed(call: Call) -> Page[Blackout]:
        return page(list(core.state.blackouts.values()), call, lambda one: str(one.cidr))

    async def add(call: Call) -> Blackout:
        return await verbs.add(call.document())

    async def remove(call: Call) -> None:
        try:
            cidr = parse_prefix(call.path["cidr"])
        except ValueError as error:
            raise Invalid(Fault("cidr", str(error))) from error
        await verbs.remove(cidr)

    return [
        Endpoint(
            method="GET",
            path="/v1/blackouts",
            summary="All blackouts: CIDRs that are not used, whatever the plan says",
            handler=listed,
            gives=Page[Blackout],
            query=("limit", "after"),
            rel="blackouts",
        ),
        Endpoint(
            method="POST",
            path="/v1/blackouts",
            summary="Put a CIDR out of use",
            handler=add,
            takes=BlackoutDocument,
            gives=Blackout,
        ),
        Endpoint(
            method="DELETE",
            path="/v1/blackouts/{cidr:path}",
            summary="Put a CIDR back in use",
            handler=remove,
        ),
    ]
