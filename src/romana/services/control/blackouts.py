"""Blackouts: putting a CIDR out of use, and back.

Owns the order in which a blackout and the control plane's own addresses are decided. Invariant: no address that the
control plane gave to a reservation is in a blackout. An agent may still allocate in one until its view has it; then
`romana ipam check` says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from romana.codec.document import convert
from romana.codec.records import BLACKOUT, PLAN, PLAN_KEY, StoredPlan
from romana.core.topology.blackouts import black_out, known_blackout
from romana.model.address import Prefix
from romana.model.errors import Conflict
from romana.model.ipam import SERVER, Blackout
from romana.services.control.core import Core, Draft
from romana.services.control.state import State

MOST_EXAMPLES = 5


class BlackoutDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A CIDR to put out of use; the network may be left out, since CIDRs of networks never overlap."""

    cidr: Prefix
    network: str = ""
    reason: str = ""


class BlackoutVerbs:
    """Blackouts, as people see them."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def add(self, document: object) -> Blackout:
        """Put a CIDR out of use; answers the blackout that has it now. Invalid for a CIDR that is no part of a network,
        Conflict when it holds addresses in use.
        """
        wanted = convert(document, BlackoutDocument)

        def decide(state: State, draft: Draft) -> tuple[Blackout, bool]:
            change = black_out(
                state.plan.networks, state.blackouts, wanted.cidr, network=wanted.network, reason=wanted.reason
            )
            if change.present:
                return change.blackout, False
            _refuse_in_use(state, wanted.cidr)
            _touch_plan(state, draft)
            draft.put(BLACKOUT, BLACKOUT.key(wanted.cidr), change.blackout)
            for cidr in change.replaced:
                draft.delete(BLACKOUT.key(cidr))
            return change.blackout, True

        _, (blackout, new) = await self._core.commit(decide)
        if new:
            await self._confirm(blackout)
        return blackout

    async def _confirm(self, blackout: Blackout) -> None:
        """Take a blackout back if an address in it was given out while it was decided: nobody gives any after it."""
        try:
            _refuse_in_use(self._core.state, blackout.cidr)
        except Conflict:
            await self.remove(blackout.cidr)
            raise

    async def remove(self, cidr: Prefix) -> None:
        """Put a CIDR back in use; NotFound unless it is exactly that of a blackout."""

        def decide(state: State, draft: Draft) -> None:
            known_blackout(state.blackouts, cidr)
            draft.delete(BLACKOUT.key(cidr))

        await self._core.commit(decide)


def _touch_plan(state: State, draft: Draft) -> None:
    """Write the plan as it is: every decision about addresses compares it, so none is made without the blackout."""
    draft.put(PLAN, PLAN_KEY, StoredPlan(plan=state.plan, document=state.plan_document))


def _refuse_in_use(state: State, cidr: Prefix) -> None:
    held = sorted(set(_in_use(state, cidr)))
    if held:
        rest = f" and {len(held) - MOST_EXAMPLES} more" if len(held) > MOST_EXAMPLES else ""
        listed = ", ".join(f"{address} of {name}" for address, name in held[:MOST_EXAMPLES])
        raise Conflict(f"{cidr} holds addresses in use: {listed}{rest}; it can be blacked out when they are gone")


def _in_use(state: State, cidr: Prefix) -> Iterator[tuple[Prefix, str]]:
    """Addresses in a CIDR that somebody has, with who that is."""
    hosts = {span.host for one, span in state.spans.items() if one.overlaps(cidr)}
    for host in hosts | {SERVER}:
        for block in state.blocks_on(host):
            for endpoint in state.endpoints_in(block) if block.overlaps(cidr) else ():
                yield from ((one, endpoint.name) for one in endpoint.addresses if cidr.contains(one))
    for name, reservation in state.reservations.items():
        for allocation in reservation.allocations:
            if cidr.contains(allocation.address):
                yield allocation.address, f"reservation {name}"
