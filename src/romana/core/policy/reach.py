"""What a program accepts between sets of addresses: the sums and the differences that proofs are made of.

Owns the walk along a row's entries. Refuses to know policies. Invariant: every address of a region is in exactly one of
its parts, so what is said of all parts is said of all addresses.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from romana.core.policy.profile import intersection
from romana.model.address import Address, Family, Prefix
from romana.model.policy import Direction, Traffic
from romana.model.program import ACCEPT, DROP, Profile, Program, Row

_EXAMPLES = 2
"""Addresses of a part that are shown: two, so that a connection has two ends."""


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


class Part(msgspec.Struct, frozen=True):
    """Some addresses for which each of several rows has one profile, and two of them where there are as many."""

    profiles: tuple[Profile, ...]
    examples: tuple[Address, ...]


class Reader:
    """A row with the program that it is of; no row, where nobody of ours decides, accepts everything."""

    def __init__(self, program: Program, row: Row | None) -> None:
        self._program = program
        self._row = row
        self._sorted = sorted((one.family, one.value, one.length) for one in row.entries) if row is not None else []

    def at(self, prefix: Prefix) -> Profile:
        """What is accepted at the addresses of a prefix that no entry inside it is about."""
        if self._row is None:
            return ACCEPT
        entries = self._row.entries
        return self._program.profile(entries[next(cover for cover in prefix.supernets() if cover in entries)])

    def inside(self, prefix: Prefix) -> list[Prefix]:
        """The entries inside a prefix, without itself."""
        first = bisect_left(self._sorted, (prefix.family, prefix.value, prefix.length + 1))
        last = bisect_left(self._sorted, (prefix.family, prefix.last + 1, 0))
        return [Prefix(*entry) for entry in self._sorted[first:last]]


def parts(readers: Sequence[Reader], region: Region, family: Family) -> list[Part]:
    """The profiles that rows have for the addresses of a region, each combination once."""
    found: dict[tuple[Profile, ...], list[Address]] = {}
    for prefix in region.prefixes:
        if prefix.family is not family:
            continue
        inner = list(dict.fromkeys(entry for reader in readers for entry in reader.inside(prefix)))
        for piece in (prefix, *inner):
            known = found.setdefault(tuple(reader.at(piece) for reader in readers), [])
            if len(known) < _EXAMPLES:
                more = [one for one in inner if one.length > piece.length and piece.contains(one)]
                free = _free_addresses(piece, (*region.without, *more))
                known += itertools.islice((one for one in free if one not in known), _EXAMPLES - len(known))
    return [Part(profiles, tuple(examples)) for profiles, examples in found.items() if examples]


def pair(source: Part, destination: Part) -> tuple[Address, Address] | None:
    """An example of both ends; None when there is only one address, since an endpoint always reaches itself."""
    both = itertools.product(source.examples, destination.examples)
    return next(((one, other) for one, other in both if one != other), None)


class Reach:
    """What one program lets pass. Keeps rows sorted, so that a part of one is found quickly."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._readers: dict[str, Reader] = {}

    def paths(self, sources: Sequence[Party], destinations: Sequence[Party]) -> Iterator[Path]:
        """What passes, be it nothing: for each pair of parties, family and pair of profiles, one example."""
        for source in sources:
            for destination in destinations:
                for family in Family:
                    outs = self._parts(Direction.EGRESS, source.class_id, destination.region, family)
                    ins = self._parts(Direction.INGRESS, destination.class_id, source.region, family)
                    for out in outs:
                        for into in ins:
                            found = pair(into, out)
                            if found is not None:
                                yield Path(*found, intersection(*out.profiles, *into.profiles))

    def accepted(self, destination: Party, sources: Sequence[Party]) -> Iterator[Path]:
        """What a destination accepts from sources, whatever these may send."""
        for family in Family:
            there = self._parts(Direction.INGRESS, "", destination.region, family)
            for source in sources if there else ():
                for part in self._parts(Direction.INGRESS, destination.class_id, source.region, family):
                    found = pair(part, there[0])
                    if found is not None and part.profiles != (DROP,):
                        yield Path(*found, *part.profiles)

    def reader(self, row: Row | None) -> Reader:
        """A row of this program."""
        id_ = row.id if row is not None else ""
        if id_ not in self._readers:
            self._readers[id_] = Reader(self._program, row)
        return self._readers[id_]

    def _parts(self, direction: Direction, class_id: str, region: Region, family: Family) -> list[Part]:
        return parts([self.reader(self._program.row(class_id, direction))], region, family)


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


def _free_addresses(prefix: Prefix, without: Iterable[Prefix]) -> Iterator[Address]:
    """The addresses of a prefix that lie in none of the others, in order; a gap between two of them gives two."""
    blocking = sorted((one for one in without if one.overlaps(prefix)), key=lambda one: (one.value, one.length))
    value = prefix.value
    for one in blocking:
        for free in range(value, min(one.value, value + _EXAMPLES)):
            yield Address(prefix.family, free)
        value = max(value, one.last + 1)
    for free in range(value, min(prefix.last + 1, value + _EXAMPLES)):
        yield Address(prefix.family, free)
