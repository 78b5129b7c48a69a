"""The lengths of a network's spans, and whether every leaf has room for them.

Owns the count of the spans that a leaf can give away. Invariant: an open leaf has a span for each host that it lists,
and for one at least, that is neither wholly reserved nor touched by a static range.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import msgspec

from romana.model.address import Family, Prefix
from romana.model.errors import Fault
from romana.model.topology import Group, Network, NetworkRequest, Placement

SPAN_BITS = {Family.V4: 5, Family.V6: 6}
"""A span has 2 ** 5 or 2 ** 6 blocks unless the network says otherwise or its groups are too small for that."""
LEAST_SPAN_BITS = 4
"""By default a group that hosts may join has room for 2 ** 4 spans, where its size allows it."""


class Leaf(msgspec.Struct, frozen=True):
    """A leaf that was carved, with the place it was written at and the number of hosts it lists."""

    group: Group
    place: str
    hosts: int


def finish_network(request: NetworkRequest, order: int, leaves: Sequence[Leaf], faults: list[Fault]) -> Network:
    """The network with all its lengths; `leaves` are those open to hosts that have a CIDR in it."""
    block = request.block_length or request.cidr.length
    span = request.span_length
    if span is None:
        joined = [leaf for leaf in leaves if not leaf.group.sole_host]
        wanted = (leaf.group.cidrs[request.name].length + _spans_bits(leaf.hosts) for leaf in joined)
        span = min(block, max([block - SPAN_BITS[request.cidr.family], request.cidr.length, *wanted]))
    network = Network(
        name=request.name,
        cidr=request.cidr,
        block_length=block,
        span_length=span,
        tenants=request.tenants,
        reserved=tuple(sorted(request.reserved)),
        placement=Placement.BITS if request.bits else Placement.TOPOLOGY,
        order=order,
        static=tuple(sorted(request.static)),
        mixed=request.mixed or 0,
        stock=request.stock or 0,
        bits=request.bits,
    )
    _check_room(network, leaves, faults)
    return network


def _check_room(network: Network, leaves: Iterable[Leaf], faults: list[Fault]) -> None:
    """Every leaf must hold a span for each of its hosts; leaves of one size share one sentence."""
    closed = unusable(network, network.span_length)
    closed_blocks = unusable(network, network.block_length)
    small: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        cidr = leaf.group.cidrs[network.name]
        own = bool(leaf.group.sole_host) and network.bits is None  # its one span is the whole group
        unit, length = ("block", network.block_length) if own else ("span", network.span_length)
        if cidr.length > length:
            sentence = f"is a /{cidr.length} in network {network.name}, smaller than one {unit} (/{length})"
            small.setdefault(sentence, []).append(leaf)
            continue
        taken = taken_in(cidr, closed_blocks if own else closed, length)
        room = (1 << (length - cidr.length)) - taken
        if own and any(cidr.overlaps(static) for static in network.static):
            sentence = f"is host {leaf.group.sole_host}'s own, but has a static range of network {network.name} in it"
            faults.append(Fault(leaf.place, f"{sentence}; put the range beside it"))
        elif room < max(1, leaf.hosts):
            need = f"lists {leaf.hosts} hosts" if leaf.hosts else "is open to hosts"
            but = f"but its {cidr} in network {network.name} has {room} {unit}(s) (/{length})"
            less = f" without the {taken} that are reserved or static" if taken else ""
            faults.append(Fault(leaf.place, f"{need}, {but}{less}; a host needs one"))
    for sentence, group in small.items():
        more = f"; {len(group) - 1} more group(s) are as small" if len(group) > 1 else ""
        advice = "use a larger network, fewer groups, or longer blocks and spans"
        if network.bits is not None:
            advice = "groups cut host bits only; use fewer groups, or more host bits"
        faults.append(Fault(group[0].place, f"group {group[0].group.path} {sentence}{more}; {advice}"))


def unusable(network: Network, length: int) -> list[Prefix]:
    """What no unit of a length is claimed from, apart and in order: the wholly reserved, and what static ranges
    touch.
    """
    static = [cidr.supernet(min(cidr.length, length)) for cidr in network.static if cidr != network.cidr]
    found: list[Prefix] = []
    for cidr in sorted([*static, *(cidr for cidr in network.reserved if cidr.length <= length)]):
        if not found or not found[-1].contains(cidr):
            found.append(cidr)
    return found


def taken_in(cidr: Prefix, ranges: Sequence[Prefix], length: int) -> int:
    """How many units of a length in `cidr` are in these ranges, which are apart and in order."""
    index = bisect_left(ranges, cidr)
    if index and ranges[index - 1].contains(cidr):
        return 1 << (length - cidr.length)
    taken = 0
    while index < len(ranges) and cidr.contains(ranges[index]):
        taken += 1 << (length - ranges[index].length)
        index += 1
    return taken


def _spans_bits(hosts: int) -> int:
    return max(LEAST_SPAN_BITS, (hosts - 1).bit_length() if hosts else 0)
