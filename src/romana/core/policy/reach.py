"""What a program accepts between sets of addresses: the sums and the differences that proofs are made of.

Owns the walk along a row's entries. Refuses to know policies. Invariant: every address of a region is in exactly one of
its parts, so what is said of all parts is said of all addresses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from romana.core.policy.profile import intersection
from romana.model.address import Address, Family, Prefix
from romana.model.policy import Direction, Traffic
from romana.model.program import ACCEPT, DROP, Profile, Program, Row


class Region(msgspec.Struct, frozen=True):
    """Addresses: those of `prefixes` without those of `without`."""

    prefixes: tuple[Prefix, ...]
    without: tuple[Prefix, ...] = ()


class Party(msgspec.Struct, frozen=True):
    """Who may be at an end: a class with the places of its members that are meant, or a region where no rules apply
    because nobody of ours is there (`class_id` empty).
    """

    class_id: str
    region: Region


class Path(msgspec.Struct, frozen=True):
    """Traffic that can pass, with one source and one destination as an example."""

    source: Address
    destination: Address
    accepted: Profile


class _Part(msgspec.Struct, frozen=True):
    """Some addresses for which a row has one profile, and one of them."""

    profile: Profile
    example: Address


class Reach:
    """What one program lets pass. Keeps rows sorted, so that a part of one is found quickly."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._sorted: dict[str, list[tuple[Family, int, int]]] = {}

    def paths(self, sources: Sequence[Party], destinations: Sequence[Party]) -> Iterator[Path]:
        """What passes, be it nothing: for each pair of parties, family and pair of profiles, one example."""
        for source in sources:
            for destination in destinations:
                for family in Family:
                    outs = self._parts(Direction.EGRESS, source.class_id, destination.region, family)
                    ins = self._parts(Direction.INGRESS, destination.class_id, source.region, family)
                    for out in outs:
                        for into in ins:
                            yield Path(into.example, out.example, intersection(out.profile, into.profile))

    def accepted(self, destination: Party, sources: Sequence[Party]) -> Iterator[Path]:
        """What a destination accepts from sources, whatever these may send."""
        for family in Family:
            there = self._parts(Direction.INGRESS, "", destination.region, family)
            for source in sources if there else ():
                for part in self._parts(Direction.INGRESS, destination.class_id, source.region, family):
                    if part.profile != DROP:
                        yield Path(part.example, there[0].example, part.profile)

    def _parts(self, direction: Direction, class_id: str, region: Region, family: Family) -> list[_Part]:
        """The profiles that a class's row has for addresses of a region, each once; everything where no row applies."""
        row = self._program.row(class_id, direction)
        found: dict[Profile, _Part] = {}
        for prefix in region.prefixes:
            if prefix.family is not family:
                continue
            inner = self._inside(row, prefix)
            for piece, profile in self._pieces(row, prefix, inner):
                if profile in found:
                    continue
                more = [one for one in inner if one.length > piece.length and piece.contains(one)]
                example = _free_address(piece, (*region.without, *more))
                if example is not None:
                    found[profile] = _Part(profile, example)
        return list(found.values())

    def _pieces(self, row: Row | None, prefix: Prefix, inner: Iterable[Prefix]) -> Iterator[tuple[Prefix, Profile]]:
        """A prefix, and the more specific entries of a row inside it, with their profiles."""
        if row is None:
            yield prefix, ACCEPT
            return
        cover = next(cover for cover in prefix.supernets() if cover in row.entries)
        yield prefix, self._program.profile(row.entries[cover])
        for entry in inner:
            yield entry, self._program.profile(row.entries[entry])

    def _inside(self, row: Row | None, prefix: Prefix) -> list[Prefix]:
        """The entries of a row inside a prefix, without itself."""
        if row is None:
            return []
        entries = self._sorted.get(row.id)
        if entries is None:
            entries = self._sorted[row.id] = sorted((one.family, one.value, one.length) for one in row.entries)
        first = bisect_left(entries, (prefix.family, prefix.value, prefix.length + 1))
        last = bisect_left(entries, (prefix.family, prefix.last + 1, 0))
        return [Prefix(*entry) for entry in entries[first:last]]


def example_of(profile: Profile) -> Traffic:
    """One kind of traffic that a profile accepts, the most telling one."""
    for protocol, intervals in profile.protocols:
        if intervals:
            return Traffic(protocol, intervals[0][0], intervals[0][0])
    listed = {protocol for protocol, _ in profile.protocols}
    protocol = next(number for number in (6, 17, 1, *range(256)) if number not in listed)
    return Traffic(protocol, 80, 80) if protocol in (6, 17) else Traffic(protocol)


def outside(networks: Iterable[Prefix]) -> Region:
    """Every address that is in no network."""
    return Region(tuple(Prefix(family, 0, 0) for family in Family), tuple(sorted(networks)))


def _free_address(prefix: Prefix, without: Iterable[Prefix]) -> Address | None:
    """The first address of a prefix that lies in none of the others; None when there is none."""
    blocking = sorted((one for one in without if one.overlaps(prefix)), key=lambda one: (one.value, one.length))
    value = prefix.value
    for one in blocking:
        if one.value > value:
            break
        value = max(value, one.last + 1)
    return Address(prefix.family, value) if value <= prefix.last else None
