"""Bits placement: where the block of an owner is, computed from the ids of host, tenant and segment.

Owns Romana v1's formula, prefix | host | tenant | segment | endpoint | space, and the numbers of tenants and segments.
Refuses to know which blocks exist. Invariants: an id fits its width, so that no id ever changes the bits of another
one; a name keeps its id as long as it exists or a block of it is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from romana.model.address import Prefix
from romana.model.errors import Exhausted
from romana.model.ipam import Numbers
from romana.model.tenancy import Owner
from romana.model.topology import BitPlan, Network

FIRST_OFFSET = 3
"""The first address of a block that an endpoint gets: before it are the network's, the gateway's and DHCP's."""


def offsets(network: Network) -> tuple[int, int]:
    """The offset of the first usable address in a block, and the distance to the next."""
    return (0, 1) if network.bits is None else (FIRST_OFFSET, 1 << network.bits.space)


def capacity(network: Network, block: Prefix) -> int:
    """How many addresses of a block endpoints may have."""
    first, step = offsets(network)
    return max(0, (block.size - first + step - 1) // step)


def block_of(network: Network, span: Prefix, numbers: Numbers, owner: Owner) -> Prefix:
    """The block of an owner in a host's span; its tenant and segment must be numbered."""
    bits = _bits(network)
    tenant, segment = numbers.tenants[owner.tenant], numbers.segments[str(owner)]
    return span.subnet(span.length + bits.tenant + bits.segment, tenant << bits.segment | segment)


def numbered(network: Network, numbers: Numbers, owner: Owner) -> Numbers:
    """Numbers that have an owner's tenant and segment, the same object when they had; Exhausted, naming the width."""
    if owner.tenant in numbers.tenants and str(owner) in numbers.segments:
        return numbers
    bits = _bits(network)
    tenants, segments = dict(numbers.tenants), dict(numbers.segments)
    if owner.tenant not in tenants:
        subject = f"tenant {owner.tenant} in network {network.name}"
        tenants[owner.tenant] = _next_id(subject, "tenants", bits.tenant, tenants.values())
    if str(owner) not in segments:
        beside = [number for name, number in segments.items() if name.startswith(f"{owner.tenant}/")]
        subject = f"segment {owner} in network {network.name}"
        segments[str(owner)] = _next_id(subject, f"segments of tenant {owner.tenant}", bits.segment, beside)
    return Numbers(tenants=tenants, segments=segments)


def without_gone(
    network: Network,
    numbers: Numbers,
    *,
    tenants: Collection[str],
    segments: Collection[tuple[str, str]],
    blocks: Iterable[Prefix],
) -> Numbers:
    """Numbers without those of tenants and segments that exist no longer, the same object when there are none.

    `blocks` are all of the network, retired ones too; it is looked at only when something is gone.
    """
    lost = [name for name in numbers.segments if tuple(name.split("/", 1)) not in segments]
    lost_tenants = [name for name in numbers.tenants if name not in tenants]
    if not lost and not lost_tenants:
        return numbers
    places = {ids(network, block) for block in blocks if network.cidr.contains(block)}
    kept = {
        name: number
        for name, number in numbers.segments.items()
        if name not in lost or (numbers.tenants[name.split("/", 1)[0]], number) in places
    }
    needed = {name.split("/", 1)[0] for name in kept}
    kept_tenants = {
        name: number for name, number in numbers.tenants.items() if name not in lost_tenants or name in needed
    }
    if kept == numbers.segments and kept_tenants == numbers.tenants:
        return numbers
    return Numbers(tenants=kept_tenants, segments=kept)


def ids(network: Network, block: Prefix) -> tuple[int, int]:
    """The ids of tenant and segment whose place a block is."""
    bits = _bits(network)
    below = block.value >> (bits.endpoint + bits.space)
    return below >> bits.segment & _mask(bits.tenant), below & _mask(bits.segment)


def host_number(network: Network, span: Prefix) -> int:
    """The number, from 1, of the host that has a span."""
    return ((span.value - network.cidr.value) >> (span.family.bits - span.length)) + 1


def _next_id(subject: str, kind: str, width: int, present: Iterable[int]) -> int:
    taken = set(present)
    number = next(number for number in range(len(taken) + 1) if number not in taken)
    if number > _mask(width):
        raise Exhausted(
            f"no id is left for {subject}: {width} bit(s) number {1 << width} {kind}, and all are given; "
            "remove one that is not needed, or plan another network with a wider field"
        )
    return number


def _mask(width: int) -> int:
    return (1 << width) - 1


def _bits(network: Network) -> BitPlan:
    if network.bits is None:
        raise ValueError(f"network {network.name} has no bits placement")
    return network.bits
