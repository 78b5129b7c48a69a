"""What the CIDR of a group holds: spans, blocks, and addresses for endpoints.

Owns the count, for empty groups as for full ones. Refuses to know a load. Invariant: the parts of a group's addresses
(`usable`, `reserved`, `static`, `spare`, `kept`) sum to the whole, and those of its children to its own, but for what
lies between explicit CIDRs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import msgspec

from romana.core.ipam.bits import capacity as endpoints_of_block
from romana.core.topology.lengths import taken_in, unusable
from romana.model.address import Prefix
from romana.model.topology import Group, Network


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of one group in one network.

    `spans` can be claimed by hosts, `blocks` lie in them. Of all `addresses`, endpoints may have `usable`; `spare` are
    in closed groups or between explicit CIDRs, and `kept` are neither: they lie in a span with a static range, or are
    no endpoint's in a network with bits placement.
    """

    addresses: int
    spans: int
    blocks: int
    usable: int
    reserved: int
    static: int
    spare: int
    kept: int


class Capacities:
    """The capacities of all groups in one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._reserved = _apart(network.reserved)
        self._static = _apart(network.static)
        self._no_span = unusable(network, network.span_length)
        self._inside = [cidr for cidr in self._reserved if not _covered(self._no_span, cidr)]
        self._no_block = [cidr for cidr in self._inside if cidr.length <= network.block_length]

    def of(self, group: Group) -> Capacity:
        """The capacity of a group with a CIDR in the network; of an inner one, that of everything below it."""
        cidr = group.cidrs[self.network.name]
        if group.is_leaf:
            return self._closed(cidr) if group.closed else self._leaf(cidr, whole=bool(group.sole_host))
        parts = [self.of(child) for child in group.groups if self.network.name in child.cidrs]
        reserved, static = _in(self._reserved, cidr), _in(self._static, cidr)
        between = cidr.size - sum(part.addresses for part in parts)
        listed = reserved - sum(part.reserved for part in parts) + static - sum(part.static for part in parts)
        return Capacity(
            addresses=cidr.size,
            spans=sum(part.spans for part in parts),
            blocks=sum(part.blocks for part in parts),
            usable=sum(part.usable for part in parts),
            reserved=reserved,
            static=static,
            spare=sum(part.spare for part in parts) + between - listed,
            kept=sum(part.kept for part in parts),
        )

    def _closed(self, cidr: Prefix) -> Capacity:
        reserved, static = _in(self._reserved, cidr), _in(self._static, cidr)
        spare = cidr.size - reserved - static
        return Capacity(
            addresses=cidr.size, spans=0, blocks=0, usable=0, reserved=reserved, static=static, spare=spare, kept=0
        )

    def _leaf(self, cidr: Prefix, *, whole: bool) -> Capacity:
        """An open leaf; one that is a host's own is one span, except where spans are computed."""
        network, bits = self.network, cidr.family.bits
        whole = whole and network.bits is None
        spans = 1 if whole else 1 << (network.span_length - cidr.length)
        spans -= 0 if whole else taken_in(cidr, self._no_span, network.span_length)
        room = cidr.size - taken_in(cidr, self._no_span, bits)
        blocks = (room >> (bits - network.block_length)) - taken_in(cidr, self._no_block, network.block_length)
        usable = room - _in(self._inside, cidr)
        if network.bits is not None:
            usable = min(usable, blocks * endpoints_of_block(network, cidr.subnet(network.block_length, 0)))
        reserved, static = _in(self._reserved, cidr), _in(self._static, cidr)
        return Capacity(
            addresses=cidr.size,
            spans=spans,
            blocks=blocks,
            usable=usable,
            reserved=reserved,
            static=static,
            spare=0,
            kept=cidr.size - usable - reserved - static,
        )


def _apart(ranges: Iterable[Prefix]) -> list[Prefix]:
    """Without those that lie in others, in order."""
    found: list[Prefix] = []
    for cidr in sorted(ranges):
        if not found or not found[-1].contains(cidr):
            found.append(cidr)
    return found


def _in(ranges: Sequence[Prefix], cidr: Prefix) -> int:
    """How many addresses of `cidr` are in ranges that are apart and in order."""
    return taken_in(cidr, ranges, cidr.family.bits)


def _covered(ranges: Sequence[Prefix], cidr: Prefix) -> bool:
    index = bisect_left(ranges, cidr)
    beside = ranges[max(0, index - 1) : index + 1]
    return any(one.contains(cidr) for one in beside)
