"""The address plan: putting a plan in force whole, or refusing it whole.

Owns which records a change of plan depends on. Invariant: a refused change writes nothing, and one that is put in force
writes the plan, the hosts whose groups change, and what lies in static ranges that change.
"""

from __future__ import annotations

from collections.abc import Collection

from romana.codec.json import encode
from romana.codec.records import HOST, NUMBERS, PLAN, PLAN_KEY, ROSTER_KEY, StoredPlan
from romana.codec.topology import carved
from romana.core.topology import InUse, PlanChange, affected, check_change, plan_change
from romana.model.errors import Fault, Invalid
from romana.model.topology import AddressPlan
from romana.services.control.core import Core, Draft
from romana.services.control.state import State
from romana.services.control.static_ranges import move_static_ranges

MOST_BYTES = 1 << 20
"""Bytes of a plan's record: what every store takes as one value."""


class PlanVerbs:
    """The topology."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def set_topology(self, document: object, moving: Collection[str] = ()) -> tuple[AddressPlan, PlanChange]:
        """Put a topology document in force, and say what that changed. Invalid with every fault.

        Hosts that are `moving` take the spans that they hold to their group in it.
        """
        plan, stored = _carved(document)

        def decide(state: State, draft: Draft) -> PlanChange:
            verdict = check_change(state.plan, plan, in_use(state), moving)
            if verdict.faults:
                raise Invalid(*verdict.faults)
            draft.read(ROSTER_KEY)
            draft.put(PLAN, PLAN_KEY, stored)
            for name in sorted(affected(state.plan, plan, state.hosts, verdict.hosts)):
                draft.read(HOST.key(name))
            for name, host in sorted(verdict.hosts.items()):
                if host != state.hosts[name]:
                    draft.put(HOST, HOST.key(name), host)
            move_static_ranges(state, draft, plan)
            for name in sorted(renumbered(state.plan, plan) & state.numbers.keys()):
                draft.delete(NUMBERS.key(name))
            return plan_change(state.plan, plan, state.hosts, verdict.hosts)

        _, change = await self._core.commit(decide)
        return plan, change

    def preview(self, document: object, moving: Collection[str] = ()) -> tuple[AddressPlan, PlanChange]:
        """What a topology document would carve and change, and why it would be refused; Invalid for one that carves
        nothing.
        """
        plan, _ = _carved(document)
        state = self._core.state
        verdict = check_change(state.plan, plan, in_use(state), moving)
        return plan, plan_change(state.plan, plan, state.hosts, verdict.hosts, verdict.faults)


def in_use(state: State) -> InUse:
    """What a new plan has to have a place for."""
    return InUse(
        hosts=state.hosts,
        spans=state.spans,
        blocks=state.blocks,
        endpoints_in=state.endpoints_in,
        retired=state.retired,
        reservations=state.reservations,
        blackouts=state.blackouts,
    )


def renumbered(old: AddressPlan, new: AddressPlan) -> set[str]:
    """Networks whose tenants and segments lose their ids: they go, or have other widths, so nothing of them lives."""
    now = {network.name: network for network in new.networks}
    return {
        network.name
        for network in old.networks
        if network.bits is not None and (network.name not in now or now[network.name].bits != network.bits)
    }


def _carved(document: object) -> tuple[AddressPlan, StoredPlan]:
    plan = carved(document)
    stored = StoredPlan(plan=plan, document=encode(document).decode())
    size = len(PLAN.encode(stored))
    if size > MOST_BYTES:
        sentence = f"is {size >> 10} KiB with its document, at most {MOST_BYTES >> 10} are possible"
        raise Invalid(Fault("", f"the plan {sentence}; list fewer hosts, and let them join by their labels"))
    return plan, stored
