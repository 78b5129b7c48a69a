"""What a change of policy opens and closes, by pairs of owners, before it is in force.

Owns the comparison of two programs. Refuses to know documents and stores. Invariant: a pair that is not named reaches
each other exactly as before, as far as both its ends decide; `Impact.complete` says when not all pairs were looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from romana.core.policy.classes import classify
from romana.core.policy.compile import compile_program
from romana.core.policy.places import find_places
from romana.core.policy.profile import minus, profile_words, union
from romana.core.policy.reach import Party, Reach, Region, outside
from romana.core.policy.verify import places_of_identities
from romana.core.policy.world import PolicyWorld
from romana.model.address import Prefix
from romana.model.policy import Direction
from romana.model.program import DROP, Profile

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

    Endpoints of an owner that differ in their labels are looked at apart, and told as one.
    """
    old, new = _Side(before), _Side(after)
    opened: dict[tuple[str, str], Profile] = {}
    closed: dict[tuple[str, str], Profile] = {}
    looked = 0
    for source, destination in _candidates(old, new):
        looked += 1
        if looked > MOST:
            break
        then, now = old.passes(source, destination), new.passes(source, destination)
        pair = (new.owner(source) or old.owner(source), new.owner(destination) or old.owner(destination))
        for found, more in ((opened, minus(now, then)), (closed, minus(then, now))):
            if more != DROP:
                found[pair] = union(found.get(pair, DROP), more)
    pairs = tuple(
        PairChange(
            source=pair[0],
            destination=pair[1],
            opened=profile_words(opened[pair]) if pair in opened else "",
            closed=profile_words(closed[pair]) if pair in closed else "",
        )
        for pair in sorted(opened.keys() | closed.keys())
    )
    return Impact(pairs=pairs, complete=looked <= MOST)


class _Side:
    """One of both worlds, compiled. Everybody has a name: the id of an identity, or `outside`."""

    def __init__(self, world: PolicyWorld) -> None:
        classes = classify(world)
        places = places_of_identities(world, find_places(world, classes))
        self._identities = world.all_identities()
        self._program = compile_program(world)
        self._reach = Reach(self._program)
        self.parties = {
            id_: Party(classes.of[id_], Region(tuple(sorted(set(places.get(id_, ())))))) for id_ in self._identities
        }
        self.parties[OUTSIDE] = Party("", outside(one.cidr for one in world.networks.values()))
        self._passes: dict[tuple[Party, Party], Profile] = {}

    def owner(self, name: str) -> str:
        """Whom it belongs to; empty for nobody known here."""
        identity = self._identities.get(name)
        return str(identity.owner) if identity is not None else OUTSIDE if name == OUTSIDE else ""

    def passes(self, source: str, destination: str) -> Profile:
        """All traffic that one can send to the other."""
        if source not in self.parties or destination not in self.parties:
            return DROP
        pair = (self.parties[source], self.parties[destination])
        found = self._passes.get(pair)
        if found is None:
            paths = self._reach.paths(pair[:1], pair[1:])
            found = self._passes[pair] = union(*(path.accepted for path in paths))
        return found

    def row(self, name: str, direction: Direction) -> tuple[Region, dict[Prefix, str]] | None:
        """Where somebody lives, and what decides there in a direction."""
        party = self.parties.get(name)
        row = None if party is None else self._program.row(party.class_id, direction)
        return None if party is None or row is None else (party.region, row.entries)


def _candidates(old: _Side, new: _Side) -> Iterator[tuple[str, str]]:
    """The pairs of which an end's rows differ."""
    names = sorted(old.parties.keys() | new.parties.keys())
    changed = {
        direction: [name for name in names if old.row(name, direction) != new.row(name, direction)]
        for direction in Direction
    }
    receiving = set(changed[Direction.INGRESS])
    for destination in changed[Direction.INGRESS]:
        for source in names:
            yield source, destination
    for source in changed[Direction.EGRESS]:
        for destination in names:
            if destination not in receiving:
                yield source, destination
