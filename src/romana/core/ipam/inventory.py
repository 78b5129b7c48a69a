"""What a host of a restored store holds, against what the store says.

Owns whose word counts: the host's about itself, unless another host, that said so before, has the same addresses.
Refuses to know how it is stored. Invariant: afterwards spans do not overlap, and what the store gave to the host and
the host does not hold is retired, not free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from romana.model.address import Family, Prefix
from romana.model.ipam import Block, Retired, Span
from romana.model.topology import Network
from romana.model.view import Inventory


class InventoryState(msgspec.Struct, frozen=True, kw_only=True):
    """What the store says: `networks` by name, `spans` of all hosts, the `blocks` of this one, what is retired, and the
    hosts that did not say yet what they hold.
    """

    networks: Mapping[str, Network]
    spans: Mapping[Prefix, Span]
    blocks: Mapping[Prefix, Block]
    retired: Mapping[Prefix, Retired]
    unsettled: Collection[str] = ()


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """What the host holds no longer: spans and blocks to delete, and what is retired for it."""

    spans: tuple[Prefix, ...] = ()
    blocks: tuple[Prefix, ...] = ()
    retired: tuple[Retired, ...] = ()


class TakenOver(msgspec.Struct, frozen=True, kw_only=True):
    """What the host holds and the store did not know: to be stored, retired no longer, or (with why) not the host's.

    `waiting` are hosts that may hold some of it; while there is one, nothing can be said.
    """

    spans: tuple[Span, ...] = ()
    blocks: tuple[Block, ...] = ()
    revived: tuple[Prefix, ...] = ()
    refused: dict[Prefix, str] = {}
    waiting: tuple[str, ...] = ()


def drop(state: InventoryState, inventory: Inventory) -> Dropped:
    """What of the store's the host does not hold any more."""
    held = {span.cidr for span in inventory.spans}
    kept = {block.cidr for block in inventory.blocks}
    spans = [span for cidr, span in sorted(state.spans.items()) if span.host == inventory.host and cidr not in held]
    gone = {span.cidr for span in spans}
    blocks = [block for cidr, block in sorted(state.blocks.items()) if block.span in gone or cidr not in kept]
    places = [(span.cidr, span.network) for span in spans]
    places += [(block.cidr, block.network) for block in blocks if block.span not in gone]
    return Dropped(
        spans=tuple(span.cidr for span in spans),
        blocks=tuple(block.cidr for block in blocks),
        retired=tuple(Retired(cidr=cidr, network=network, host=inventory.host) for cidr, network in places),
    )


def take_over(state: InventoryState, inventory: Inventory) -> TakenOver:
    """What the store takes over from the host, once `drop` was stored."""
    table = _Table(state.spans)
    spans: list[Span] = []
    refused: dict[Prefix, str] = {}
    waiting: set[str] = set()
    for span in sorted(inventory.spans, key=lambda one: one.cidr):
        others = [other for other in table.over(span.cidr) if other != span]
        owners = {other.host for other in others} - {inventory.host}
        waiting |= owners & set(state.unsettled)
        why = _fault(state, inventory, span, others)
        if why:
            refused[span.cidr] = why
        elif span.cidr not in state.spans:
            spans.append(span)
            table.add(span)
    held = {span.cidr for span in inventory.spans if span.cidr not in refused}
    blocks = []
    for block in sorted(inventory.blocks, key=lambda one: one.cidr):
        if block.span not in held or not block.span.contains(block.cidr) or block.host != inventory.host:
            refused[block.cidr] = f"block {block.cidr} lies in no span that host {inventory.host} may keep"
        elif state.blocks.get(block.cidr) != block:
            blocks.append(block)
    new = [*(span.cidr for span in spans), *(block.cidr for block in inventory.blocks if block.cidr not in refused)]
    return TakenOver(
        spans=tuple(spans),
        blocks=tuple(blocks),
        revived=tuple(sorted({cidr for one in new for cidr in _around(one, state.retired)})),
        refused=refused,
        waiting=tuple(sorted(waiting)),
    )


def _fault(state: InventoryState, inventory: Inventory, span: Span, others: list[Span]) -> str:
    network = state.networks.get(span.network)
    if span.host != inventory.host:
        return f"span {span.cidr} is of host {span.host}, not of {inventory.host}"
    if network is None or not network.cidr.contains(span.cidr):
        return f"span {span.cidr} of host {span.host} lies in no network {span.network} of the plan"
    if others:
        held = ", ".join(f"{other.cidr} of host {other.host}" for other in others)
        return f"span {span.cidr} of host {span.host} overlaps {held}"
    return ""


def _around(cidr: Prefix, table: Mapping[Prefix, Retired]) -> Iterator[Prefix]:
    """The entries of a table that have all of a prefix in them."""
    return (wider for wider in (cidr.supernet(length) for length in range(cidr.length + 1)) if wider in table)


class _Table:
    """Spans by CIDR, and the question which of them overlap a prefix."""

    def __init__(self, spans: Mapping[Prefix, Span]) -> None:
        self._spans = dict(spans)
        self._lengths: set[tuple[Family, int]] = {(cidr.family, cidr.length) for cidr in spans}

    def add(self, span: Span) -> None:
        self._spans[span.cidr] = span
        self._lengths.add((span.cidr.family, span.cidr.length))

    def over(self, cidr: Prefix) -> list[Span]:
        """In no order that means anything, but always the same."""
        lengths = sorted(length for family, length in self._lengths if family is cidr.family)
        wider = [cidr.supernet(length) for length in lengths if length <= cidr.length]
        found = [self._spans[one] for one in wider if one in self._spans]
        if lengths and lengths[-1] > cidr.length:
            found += [span for one, span in sorted(self._spans.items()) if cidr.contains(one) and one != cidr]
        return found
