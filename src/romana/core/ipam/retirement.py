"""What was given back or lost, and when others may have it.

Owns the two rules: which spans a host can do without, and which retired CIDRs no host can take for their old owner's
any more. Refuses to know clocks, leases and how a host acknowledges. Invariant: an address that some host may still
have in a rule, a route or a connection is not free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from romana.model.address import Prefix
from romana.model.ipam import Block, Retired, Span


def acknowledged(retired: Iterable[Retired], applied: Mapping[str, int]) -> list[Retired]:
    """The retired that every reader has acknowledged, in order; `applied` has each host that may hold a view, with the
    revision of the view that it is known to have.
    """
    floor = min(applied.values(), default=None)
    return sorted((one for one in retired if floor is None or one.revision <= floor), key=lambda one: one.cidr)


def waiting_for(retired: Iterable[Retired], applied: Mapping[str, int]) -> tuple[str, ...]:
    """The hosts that something retired waits for."""
    newest = max((one.revision for one in retired), default=0)
    return tuple(sorted(name for name, revision in applied.items() if revision < newest))


def empty_spans(
    spans: Mapping[Prefix, Span], blocks: Iterable[Block], retired: Iterable[Prefix], draining: Collection[str]
) -> list[Span]:
    """Spans without a block, in order, that their hosts can do without: a host that is not `draining` keeps the first
    of its spans in each network. A block that is still retired keeps its span.
    """
    used = {block.span for block in blocks}
    lengths = {(cidr.family, cidr.length) for cidr in spans}
    for cidr in retired:
        used |= {cidr.supernet(length) for family, length in lengths if family is cidr.family and length <= cidr.length}
    kept: set[tuple[str, str]] = set()
    for cidr in sorted(spans):
        if cidr in used:
            kept.add((spans[cidr].host, spans[cidr].network))
    found = []
    for cidr, span in sorted(spans.items()):
        place = (span.host, span.network)
        if cidr in used:
            continue
        if span.host in draining or place in kept:
            found.append(span)
        kept.add(place)
    return found
