"""The address plan: putting a plan in force whole, or refusing it whole."""

from __future__ import annotations

from romana.codec.json import encode
from romana.codec.records import HOST, PLAN, PLAN_KEY, ROSTER_KEY, SPAN, StoredPlan
from romana.codec.topology import read_plan
from romana.core.topology import carve, check_change, settle_host
from romana.model.errors import Invalid
from romana.model.topology import AddressPlan, Host
from romana.services.control.core import Core, Draft
from romana.services.control.state import State


class PlanVerbs:
    """The topology."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def set_topology(self, document: object, *, dry_run: bool = False) -> AddressPlan:
        """Put a topology document in force, or with `dry_run` only say what it carves. Invalid with every fault."""
        plan = carve(read_plan(document))
        text = encode(document).decode()

        def decide(state: State, draft: Draft) -> None:
            found = check_change(
                state.plan, plan, state.hosts, spans=state.spans, blocks=state.blocks, endpoints=state.endpoints
            )
            if found:
                raise Invalid(*found)
            if dry_run:
                return
            draft.read(ROSTER_KEY)
            draft.put(PLAN, PLAN_KEY, StoredPlan(plan=plan, document=text))
            settled: dict[str, Host] = {}
            for name, host in sorted(state.hosts.items()):
                held = [span for span in state.spans.values() if span.host == name]
                settled[name] = settle_host(plan, settled, host, spans=held)
                draft.put(HOST, HOST.key(name), settled[name])
                draft.read(*(SPAN.key(span.cidr) for span in held))

        await self._core.commit(decide)
        return plan
