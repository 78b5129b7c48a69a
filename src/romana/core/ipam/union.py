"""Addresses that some CIDRs of one family have together.

Owns the counting: an address that lies in several of them counts once. Refuses to change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate

from romana.model.address import Prefix


class Union:
    """The addresses of some CIDRs, each counted once."""

    def __init__(self, cidrs: Iterable[Prefix]) -> None:
        self._cidrs = outermost(sorted(cidrs))
        self._starts = [cidr.value for cidr in self._cidrs]
        self._before = [0, *accumulate(cidr.size for cidr in self._cidrs)]

    def within(self, cidr: Prefix) -> int:
        """How many of them are in a CIDR."""
        first, last = bisect_left(self._starts, cidr.value), bisect_right(self._starts, cidr.last)
        if first and self._cidrs[first - 1].contains(cidr):
            return cidr.size
        if first < last and self._cidrs[first].contains(cidr):
            return cidr.size
        return self._before[last] - self._before[first]


def outermost(cidrs: Iterable[Prefix]) -> list[Prefix]:
    """Sorted CIDRs without those inside others."""
    found: list[Prefix] = []
    for cidr in cidrs:
        if not found or not found[-1].contains(cidr):
            found.append(cidr)
    return found
