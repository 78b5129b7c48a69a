"""What a change of policy opens and closes, by pairs of owners, before it is in force.

Owns the comparison of two programs. Refuses to know documents and stores. Invariant: a pair that is not named reaches
each other exactly as before, as far as both its ends decide; `Impact.complete` says when not all pairs were looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from romana.core.policy.classes import classify
from romana.core.policy.compile import HOST, compile_program
from romana.core.policy.places import find_places
from romana.core.policy.profile import intersection, minus, profile_words, union
from romana.core.policy.reach import Reach, Reader, Region, outside, pair, parts
from romana.core.policy.verify import places_of_identities
from romana.core.policy.world import PolicyWorld
from romana.model.address import Family, Prefix
from romana.model.policy import Direction
from romana.model.program import DROP, Profile, RowIds

OUTSIDE = "outside"
MOST = 50_000
"""Pairs of owners that are compared at most."""


class PairChange(msgspec.Struct, frozen=True, kw_only=True):
    """What one owner can send to another one (or `outside`) that it could not before, and the reverse; in words."""

    source: str
    destination: str
    opened: str = ""
    closed: str = ""


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """All pairs that a change concerns, in order."""

    pairs: tuple[PairChange, ...]
    complete: bool


def impact(before: PolicyWorld, after: PolicyWorld) -> Impact:
    """What changes between two worlds that differ in their policies or tenants.

    Endpoints of an owner that differ in their labels are looked at apart, and told as one. Hosts that a policy selects
    are pairs of their own, all others are outside. Whom an endpoint's own host reaches because it is that is left out.
    """
    both = _Both(before, after)
    opened: dict[tuple[str, str], Profile] = {}
    closed: dict[tuple[str, str], Profile] = {}
    looked = 0
    for source, destination in both.candidates():
        looked += 1
        if looked > MOST:
            break
        names = both.owner(source), both.owner(destination)
        for found, more in zip((opened, closed), both.changes(source, destination), strict=True):
            if more != DROP:
                found[names] = union(found.get(names, DROP), more)
    pairs = tuple(
        PairChange(
            source=names[0],
            destination=names[1],
            opened=profile_words(opened[names]) if names in opened else "",
            closed=profile_words(closed[names]) if names in closed else "",
        )
        for names in sorted(opened.keys() | closed.keys())
    )
    return Impact(pairs=pairs, complete=looked <= MOST)


class _End(msgspec.Struct, frozen=True):
    """Somebody in both worlds: the addresses that are theirs before and after, and the ids of the rows that decide
    about them in each world and direction, empty where none does.
    """

    region: Region
    rows: tuple[RowIds, RowIds]


class _Both:
    """Both worlds, compiled. Everybody has a name: the id of an identity, `host ` and a name, or `outside`."""

    def __init__(self, before: PolicyWorld, after: PolicyWorld) -> None:
        self._identities = before.all_identities()
        self._programs = compile_program(before), compile_program(after)
        self._reaches = [Reach(program) for program in self._programs]
        places = [_places(world) for world in (before, after)]
        self._ends = {
            id_: _End(_common(*(found.get(id_, ()) for found in places)), self._rows(id_)) for id_ in self._identities
        }
        known = [network.cidr for network in before.networks.values()]
        for name, host in before.hosts.items():
            rows = tuple(program.host_rows.get(name, _NO_ROWS) for program in self._programs)
            if rows != (_NO_ROWS, _NO_ROWS):
                addresses = tuple(Prefix(one.family, one.value, one.length) for one in host.addresses)
                self._ends[f"{HOST}{name}"] = _End(Region(addresses), (rows[0], rows[1]))
                known += addresses
        self._ends[OUTSIDE] = _End(outside(known), (_NO_ROWS, _NO_ROWS))
        self._found: dict[tuple[_End, _End], tuple[Profile, Profile]] = {}

    def owner(self, name: str) -> str:
        """Whom it belongs to."""
        identity = self._identities.get(name)
        return str(identity.owner) if identity is not None else name

    def candidates(self) -> Iterator[tuple[str, str]]:
        """The pairs of which an end's rows differ."""
        changed = {
            direction: [name for name in sorted(self._ends) if self._differs(name, direction)]
            for direction in Direction
        }
        receiving = set(changed[Direction.INGRESS])
        for destination in changed[Direction.INGRESS]:
            for source in sorted(self._ends):
                yield source, destination
        for source in changed[Direction.EGRESS]:
            for destination in sorted(self._ends):
                if destination not in receiving:
                    yield source, destination

    def changes(self, source: str, destination: str) -> tuple[Profile, Profile]:
        """The traffic from one to the other that is opened, and that is closed, with some of their addresses."""
        key = self._ends[source], self._ends[destination]
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._changes(*key)
        return found

    def _changes(self, source: _End, destination: _End) -> tuple[Profile, Profile]:
        opened = closed = DROP
        for family in Family:
            outs = parts(self._readers(source, Direction.EGRESS), destination.region, family)
            ins = parts(self._readers(destination, Direction.INGRESS), source.region, family)
            for out, into in itertools.product(outs, ins):
                then, now = (intersection(*both) for both in zip(out.profiles, into.profiles, strict=True))
                if then != now and pair(into, out) is not None:
                    opened, closed = union(opened, minus(now, then)), union(closed, minus(then, now))
        return opened, closed

    def _readers(self, end: _End, direction: Direction) -> list[Reader]:
        return [
            reach.reader(program.rows.get(ids.of(direction)))
            for reach, program, ids in zip(self._reaches, self._programs, end.rows, strict=True)
        ]

    def _rows(self, identity: str) -> tuple[RowIds, RowIds]:
        old, new = (program.row_ids[program.classes[identity]] for program in self._programs)
        return old, new

    def _differs(self, name: str, direction: Direction) -> bool:
        rows = (
            program.rows.get(ids.of(direction))
            for program, ids in zip(self._programs, self._ends[name].rows, strict=True)
        )
        old, new = (None if row is None else row.entries for row in rows)
        return old != new


_NO_ROWS = RowIds("", "")


def _places(world: PolicyWorld) -> dict[str, set[Prefix]]:
    classes = classify(world)
    return places_of_identities(world, classes, find_places(world, classes))


def _common(before: Iterable[Prefix], after: Iterable[Prefix]) -> Region:
    """What is in both: of a block that means one class in one of both worlds only, the addresses of endpoints."""
    old, new = set(before), set(after)
    inner = [one for one in old if any(other in new for other in one.supernets())]
    inner += [one for one in new - old if any(other in old for other in one.supernets())]
    return Region(tuple(sorted(inner)))
