"""What becomes of the control plane's own spans and blocks when static ranges change.

Owns their records in a change of plan. Refuses to judge it: `core.topology.check_change` has. Invariants: the control
plane's spans are static ranges of the plan; a block that has reservations goes with the range around it, one without is
retired; nothing that is given from a range meanwhile is lost, because whoever makes a block there writes its span.
"""

from __future__ import annotations

import msgspec

from romana.codec.records import BLOCK, SPAN
from romana.core.ipam.reservations import static_range
from romana.model.address import Prefix
from romana.model.errors import Fault, Invalid
from romana.model.ipam import SERVER, Block, Span
from romana.model.topology import AddressPlan, Network
from romana.services.control.core import Draft
from romana.services.control.reservations import put_retired
from romana.services.control.settled import check_not_held
from romana.services.control.state import State

MOST_RETIRED = 1024
"""Addresses of a block that goes with its range, at most: each one's record is compared."""


def move_static_ranges(state: State, draft: Draft, new: AddressPlan) -> None:
    """Fit the control plane's spans and blocks to a new plan. Invalid when a block is too large to be given back;
    Unavailable for a range that goes while it may have addresses that nobody knows.
    """
    before = {network.name: network for network in state.plan.networks}
    after = {network.name: network for network in new.networks}
    for name, network in before.items():
        now = after.get(name)
        kept = () if now is None or now.block_length != network.block_length else now.static
        for static in network.static:
            if static not in kept:
                if not any(one.contains(static) for one in kept):
                    check_not_held(state)
                _leave(state, draft, static, now)


def _leave(state: State, draft: Draft, static: Prefix, now: Network | None) -> None:
    """A static range is to be another one, or none."""
    if static not in state.spans:
        draft.read(SPAN.key(static))
        return
    stays = now is not None and static in now.static
    if stays:
        draft.read(SPAN.key(static))
    else:
        draft.delete(SPAN.key(static))
    for block in state.blocks_on(SERVER).values():
        if block.span == static:
            _move(state, draft, block, now)


def _move(state: State, draft: Draft, block: Block, now: Network | None) -> None:
    around = static_range(now, block.cidr) if now is not None and now.block_length == block.cidr.length else None
    if now is not None and around is not None:
        draft.put(SPAN, SPAN.key(around), Span(cidr=around, network=now.name, host=SERVER))
        draft.put(BLOCK, BLOCK.key(block.cidr), msgspec.structs.replace(block, span=around))
        return
    if block.cidr.size > MOST_RETIRED:
        sentence = f"{block.cidr} is a block of the control plane, too large to be given back with its range"
        raise Invalid(Fault(f"networks.{block.network}.static", f"{sentence}; keep {block.span}"))
    put_retired(block.cidr, state, draft)
