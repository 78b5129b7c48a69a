"""Which prefixes are occupied, kept so that the next free part of a range is found without looking at what is taken.

Owns the aggregates: two full halves make a full whole. Refuses to know who occupies what. Invariants: a prefix counts
as full exactly when every address in it lies in something that was added and not removed; one that something smaller
lies in is never said to be untouched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from romana.model.address import Family, Prefix


class Occupied:
    """A multiset of prefixes of both families; what is added twice has to be removed twice."""

    def __init__(self) -> None:
        self._members: Counter[Prefix] = Counter()
        self._full: set[Prefix] = set()
        self._lengths: dict[Family, Counter[int]] = {family: Counter() for family in Family}  # of members
        self._around: dict[tuple[Family, int], Counter[Prefix]] = {}  # prefixes of a length -> longer members in them

    def add(self, prefix: Prefix) -> None:
        """Something occupies all of a prefix."""
        self._members[prefix] += 1
        self._lengths[prefix.family][prefix.length] += 1
        if self._members[prefix] == 1:
            self._fill(prefix)
            self._count_around(prefix, 1)

    def remove(self, prefix: Prefix) -> None:
        """It does so no longer; KeyError when it did not."""
        if not self._members[prefix]:
            raise KeyError(prefix)
        self._members[prefix] -= 1
        lengths = self._lengths[prefix.family]
        lengths[prefix.length] -= 1
        if not lengths[prefix.length]:
            del lengths[prefix.length]
        if not self._members[prefix]:
            del self._members[prefix]
            self._empty(prefix)
            self._count_around(prefix, -1)

    def over(self, candidate: Prefix) -> Prefix | None:
        """The widest prefix around a candidate that is full, so that nothing in it needs to be asked about; None when
        nothing covers the candidate whole.
        """
        found = self._member_over(candidate) or (candidate if candidate in self._full else None)
        if found is None:
            return None
        while found.length and (wider := found.supernet(found.length - 1)) in self._full:
            found = wider
        return found

    def touching(self, candidate: Prefix) -> Prefix | None:
        """As `over`, or the candidate itself when something occupies a part of it; None when all of it is free."""
        found = self.over(candidate)
        if found is not None:
            return found
        place = (candidate.family, candidate.length)
        if place not in self._around:  # few lengths are ever asked about
            self._around[place] = Counter()
            for member in self._members:
                self._count_around(member, 1, (place,))
        return candidate if candidate in self._around[place] else None

    def _count_around(self, member: Prefix, by: int, places: Iterable[tuple[Family, int]] | None = None) -> None:
        for place in self._around if places is None else places:
            family, length = place
            if family is member.family and length < member.length:
                counts, wider = self._around[place], member.supernet(length)
                counts[wider] += by
                if not counts[wider]:
                    del counts[wider]

    def _member_over(self, candidate: Prefix) -> Prefix | None:
        for length in sorted(self._lengths[candidate.family]):
            if length < candidate.length:
                wider = candidate.supernet(length)
                if wider in self._members:
                    return wider
        return None

    def _fill(self, prefix: Prefix) -> None:
        while prefix not in self._full:
            self._full.add(prefix)
            if not prefix.length or _other_half(prefix) not in self._full:
                return
            prefix = prefix.supernet(prefix.length - 1)

    def _empty(self, prefix: Prefix) -> None:
        while prefix in self._full and prefix not in self._members and not self._halves_are_full(prefix):
            self._full.discard(prefix)
            if not prefix.length:
                return
            prefix = prefix.supernet(prefix.length - 1)

    def _halves_are_full(self, prefix: Prefix) -> bool:
        if prefix.is_address:
            return False
        return all(half in self._full for half in prefix.subnets(prefix.length + 1))


def _other_half(prefix: Prefix) -> Prefix:
    """The prefix that makes a whole together with this one."""
    bit = 1 << (prefix.family.bits - prefix.length)
    return Prefix(prefix.family, prefix.value ^ bit, prefix.length)
