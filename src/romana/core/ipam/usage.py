"""How full networks are: every address of a network counted once, by group and host.

Owns what an address counts as. Refuses to look at endpoints: what it costs grows with groups, spans and blocks alone.
Invariant: the kinds of addresses add up to all of them, and parts to the whole they are parts of.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import sub
from typing import Any, Generic, TypeVar

import msgspec

from romana.core.ipam.union import Union, outermost
from romana.model.address import Prefix
from romana.model.ipam import SERVER, Block, Span
from romana.model.topology import AddressPlan, Group, Network
from romana.model.usage import Usage

KINDS = ("used", "resting", "reserved", "blacked_out", "static", "idle", "stock", "retired", "spare")
"""What an address can count as."""
SUMS = ("addresses", *KINDS, "spans", "blocks", "mixed_blocks", "stock_blocks", "retired_cidrs")
"""The fields that a whole has from its parts."""
NETWORK, GROUP, HOST = "network", "group", "host"
T = TypeVar("T")


class UsageSource(msgspec.Struct, frozen=True, kw_only=True):
    """What usage is counted from. `used` has the number of addresses of a block that endpoints have, `resting` how many
    of a host's addresses rest, by network, as far as was reported.
    """

    plan: AddressPlan
    spans: Iterable[Span]
    blocks: Iterable[Block]
    used: Mapping[Prefix, int]
    resting: Mapping[str, Mapping[str, int]] = {}
    retired: Iterable[Prefix] = ()
    blackouts: Iterable[Prefix] = ()


def usage(source: UsageSource) -> list[Usage]:
    """All networks, in the plan's order."""
    spans, blocks = list(source.spans), list(source.blocks)
    retired, dark = sorted(source.retired), sorted(source.blackouts)
    found = []
    for network in source.plan.networks:
        inside = _Counter(
            network,
            source,
            spans=[one for one in spans if one.network == network.name],
            blocks=[one for one in blocks if one.network == network.name],
            retired=[one for one in retired if network.cidr.contains(one)],
            dark=[one for one in dark if network.cidr.contains(one)],
        )
        found.append(inside.network())
    return found


def pruned(whole: Usage, depth: int) -> Usage:
    """The same with at most `depth` levels of parts."""
    parts = tuple(pruned(part, depth - 1) for part in whole.parts) if depth > 0 else ()
    return msgspec.structs.replace(whole, parts=parts)


def on_host(whole: Usage, host: str) -> Usage | None:
    """The same with only the parts that lead to a host, None where it has nothing."""
    if whole.kind == HOST:
        return whole if whole.name == host else None
    parts = tuple(found for found in (on_host(part, host) for part in whole.parts) if found is not None)
    return msgspec.structs.replace(whole, parts=parts) if parts else None


class _Counter:
    """One network."""

    def __init__(
        self,
        network: Network,
        source: UsageSource,
        *,
        spans: Iterable[Span],
        blocks: Iterable[Block],
        retired: Sequence[Prefix],
        dark: Sequence[Prefix],
    ) -> None:
        self._network = network
        self._source = source
        self._blocks: dict[Prefix, list[Block]] = {}
        places = [span for span in spans if span.host != SERVER]
        for block in blocks:
            if block.host == SERVER:  # its spans are whole static ranges, which may lie over many groups
                places.append(Span(cidr=block.cidr, network=network.name, host=SERVER))
            self._blocks.setdefault(block.cidr if block.host == SERVER else block.span, []).append(block)
        self._spans = _Sorted(places, lambda one: one.cidr)
        self._retired = _Sorted(outermost(retired), lambda one: one)
        self._withheld = _Withheld(network, dark)
        self._rested: set[str] = set()

    def network(self) -> Usage:
        """The whole."""
        name = self._network.name
        root = next((one.root for one in self._source.plan.topologies if name in one.root.cidrs), None)
        groups = root.groups if root is not None else ()
        return self._node(NETWORK, name, self._network.cidr, groups)

    def _node(self, kind: str, name: str, cidr: Prefix, groups: Iterable[Group]) -> Usage:
        """A network or group: the groups in it, the hosts with spans outside those, and what is left."""
        inner = [group for group in groups if self._network.name in group.cidrs]
        taken = [group.cidrs[self._network.name] for group in inner]
        parts = [self._node(GROUP, group.path, each, group.groups) for group, each in zip(inner, taken, strict=True)]
        by_host: dict[str, list[Span]] = {}
        for span in self._spans.within(cidr, taken):
            by_host.setdefault(span.host, []).append(span)
            taken.append(span.cidr)
        parts += [self._host(host, spans) for host, spans in sorted(by_host.items())]
        left = self._left(cidr, taken, cidr.size - sum(part.addresses for part in parts))
        return _whole(Usage(kind=kind, name=name, cidr=cidr, addresses=0), [*parts, left], parts)

    def _host(self, host: str, spans: Iterable[Span]) -> Usage:
        pieces = [piece for span in spans for piece in self._in_span(span)]
        whole = _whole(Usage(kind=HOST, name=host, addresses=0), pieces, ())
        if host in self._rested:
            return whole
        self._rested.add(host)
        rest = self._source.resting.get(host, {}).get(self._network.name, 0)
        resting = min(rest, whole.idle)
        return msgspec.structs.replace(whole, resting=resting, idle=whole.idle - resting)

    def _in_span(self, span: Span) -> Iterator[Usage]:
        blocks = self._blocks.get(span.cidr, [])
        yield from map(self._block, blocks)
        taken = [block.cidr for block in blocks]
        yield self._left(
            span.cidr, taken, span.cidr.size - sum(cidr.size for cidr in taken), spans=int(span.host != SERVER)
        )

    def _block(self, block: Block) -> Usage:
        size = block.cidr.size
        used = min(size, self._source.used.get(block.cidr, 0))
        reserved, dark, static = _at_most(size - used, self._withheld.within(block.cidr))
        free = size - used - reserved - dark - static
        return Usage(
            kind=HOST,
            name=block.host,
            addresses=size,
            used=used,
            reserved=reserved,
            blacked_out=dark,
            static=static,
            idle=0 if block.is_stock else free,
            stock=free if block.is_stock else 0,
            blocks=int(block.owner is not None),
            mixed_blocks=int(block.mixed),
            stock_blocks=int(block.is_stock),
        )

    def _left(self, cidr: Prefix, taken: Sequence[Prefix], size: int, *, spans: int = 0) -> Usage:
        """What of a CIDR nothing has taken: of that size."""
        withheld = self._withheld.within(cidr)
        for each in taken:
            withheld = tuple(map(sub, withheld, self._withheld.within(each)))
        reserved, dark, static = _at_most(max(0, size), withheld)
        free = max(0, size) - reserved - dark - static
        retired = self._retired.within(cidr, taken)
        gone = min(free, sum(one.size - sum(self._withheld.within(one)) for one in retired))
        return Usage(
            kind="",
            name="",
            addresses=max(0, size),
            reserved=reserved,
            blacked_out=dark,
            static=static,
            retired=gone,
            spare=free - gone,
            spans=spans,
            retired_cidrs=len(retired),
        )


class _Sorted(Generic[T]):
    """Things with CIDRs that do not overlap, found by where they are."""

    def __init__(self, things: Iterable[T], cidr_of: Callable[[T], Prefix]) -> None:
        self._things = sorted(things, key=lambda one: cidr_of(one).value)
        self._cidrs = [cidr_of(one) for one in self._things]
        self._starts = [cidr.value for cidr in self._cidrs]

    def within(self, cidr: Prefix, without: Sequence[Prefix] = ()) -> list[T]:
        """Those in a CIDR that are in none of some others, which do not overlap."""
        others = sorted(without)
        starts = [one.value for one in others]
        found = []
        for index in range(bisect_left(self._starts, cidr.value), bisect_right(self._starts, cidr.last)):
            own = self._cidrs[index]
            place = bisect_right(starts, own.value) - 1
            if cidr.contains(own) and not (place >= 0 and others[place].contains(own)):
                found.append(self._things[index])
        return found


class _Withheld:
    """What is not handed out: reserved, blacked out beyond that, static beyond both."""

    def __init__(self, network: Network, dark: Sequence[Prefix]) -> None:
        reserved = list(network.reserved)
        self._unions = [
            Union(reserved),
            Union([*reserved, *dark]),
            Union([*reserved, *dark, *network.static]),
        ]

    def within(self, cidr: Prefix) -> tuple[int, ...]:
        """How many addresses of a CIDR are reserved, blacked out, static."""
        first, second, third = (union.within(cidr) for union in self._unions)
        return first, second - first, third - second


def _at_most(most: int, counts: Iterable[int]) -> list[int]:
    """Counts that add up to no more than that, the first ones first."""
    found = []
    for count in counts:
        found.append(max(0, min(count, most)))
        most -= found[-1]
    return found


def _whole(head: Usage, pieces: Sequence[Usage], parts: Sequence[Usage]) -> Usage:
    sums: dict[str, Any] = {name: sum(getattr(piece, name) for piece in pieces) for name in SUMS}
    return msgspec.structs.replace(head, parts=tuple(parts), **sums)
