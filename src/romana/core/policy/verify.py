"""Proofs: whether statements about who reaches whom hold for every address and port, by the compiled program.

Owns what a statement means. Refuses to know documents and stores. Invariant: a statement holds only when no pair of
addresses it is about, known or not known to anybody, has traffic against it; every counterexample is a connection that
the program decides as it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from romana.core.policy.classes import Classes
from romana.core.policy.places import Places
from romana.core.policy.profile import intersection, minus, profile_from, profile_words
from romana.core.policy.reach import Party, Path, Reach, Region, example_of, outside
from romana.core.policy.selector import matches
from romana.core.policy.world import PolicyWorld
from romana.model.address import Family, Prefix
from romana.model.policy import Selector
from romana.model.program import DROP, Profile, Program
from romana.model.statement import Claimed, Finding, Somebody, Statement


class Verifier:
    """Judges statements about one world and its program."""

    def __init__(
        self,
        world: PolicyWorld,
        program: Program,
        classes: Classes,
        places: Places,
        segments: Iterable[tuple[str, str]] = (),
    ) -> None:
        """`segments` are known beside those in which somebody is, by tenant and name."""
        self._world = world
        self._classes = classes
        self._reach = Reach(program)
        owners = {(one.owner.tenant, one.owner.segment) for one in world.all_identities().values()}
        self._segments = owners | set(segments)
        self._tenants = {*world.tenants, *(tenant for tenant, _ in self._segments)}
        self._places = places_of_identities(world, classes, places)
        self._networks = tuple(sorted(one.cidr for one in world.networks.values()))

    def judge(self, statement: Statement) -> Finding:
        """Whether it holds, with a counterexample when it does not."""
        unknown = self._unknown(statement)
        if unknown:
            return Finding(text=statement.text, holds=False, sentence=f"there is no {unknown}; is the name right?")
        allowed = profile_from(statement.traffic)
        destinations = self._parties(statement.destination)
        sources = [party for one in statement.sources for party in self._parties(one)]
        ends = [destinations] if statement.claim is Claimed.ONLY else [destinations, sources]
        if not all(any(party.region.prefixes for party in end) for end in ends):
            return Finding(text=statement.text, holds=True, sentence="nobody is there now, so nothing refutes it")
        if statement.claim is Claimed.ONLY:
            found = next(self._uninvited(destinations, sources, allowed), None)
            return _finding(statement, found, "proved for every source address there is", "is accepted")
        paths = self._reach.paths(sources, destinations)
        about = f"proved for {len(sources)} x {len(destinations)} classes and regions"
        if statement.claim is Claimed.NEVER:
            return _finding(statement, next(_within(paths, allowed), None), about, "passes")
        return _finding(statement, next(_short_of(paths, allowed), None), about, "does not pass")

    def _unknown(self, statement: Statement) -> str:
        """The first name that nothing here has: a slip in it would prove anything."""
        ends = (statement.destination, *statement.sources)
        for selector in (one.selector for one in ends if one.selector is not None):
            for tenant in selector.tenants or ():
                if tenant not in self._tenants:
                    return f"tenant {tenant!r}"
                for segment in selector.segments or ():
                    if (tenant, segment) not in self._segments:
                        return f"segment {f'{tenant}/{segment}'!r}"
        return ""

    def _uninvited(self, destinations: Sequence[Party], sources: Sequence[Party], allowed: Profile) -> Iterator[Path]:
        """What is accepted beyond the traffic, or from addresses that are in no source's region."""
        invited = tuple(sorted({prefix for source in sources for prefix in source.region.prefixes}))
        everywhere = tuple(Prefix(family, 0, 0) for family in Family)
        others = [Party("", Region(everywhere, invited))]
        for source in sources:
            if source.region.without:
                rest = {one for other in sources if other is not source for one in other.region.prefixes}
                others.append(Party("", Region(source.region.without, tuple(sorted(rest)))))
        for destination in destinations:
            yield from _beyond(self._reach.accepted(destination, sources), allowed)
            yield from self._reach.accepted(destination, others)

    def _parties(self, who: Somebody) -> list[Party]:
        if who.outside:
            return [Party("", outside(self._networks))]
        if who.cidr is not None:
            return self._inside_cidr(who)
        return [] if who.selector is None else self._endpoints(who.selector)

    def _endpoints(self, selector: Selector) -> list[Party]:
        """The classes of matching identities, each with the places where these identities may live."""
        by_class: dict[str, list[Prefix]] = {}
        for id_, identity in self._world.all_identities().items():
            if matches(selector, identity, self._world.tenant(identity.owner.tenant)):
                by_class.setdefault(self._classes.of[id_], []).extend(self._places.get(id_, ()))
        return [
            Party(class_id, Region(tuple(sorted(set(prefixes))))) for class_id, prefixes in sorted(by_class.items())
        ]

    def _inside_cidr(self, who: Somebody) -> list[Party]:
        """The classes with places inside a CIDR there, and the rest of it as addresses of nobody."""
        assert who.cidr is not None  # noqa: S101 - the caller looked
        parties = []
        taken: list[Prefix] = []
        for party in self._endpoints(Selector()):
            inner = tuple(one for one in party.region.prefixes if who.cidr.cidr.overlaps(one))
            clipped = tuple(one if who.cidr.cidr.contains(one) else who.cidr.cidr for one in inner)
            if clipped:
                parties.append(Party(party.class_id, Region(clipped, who.cidr.excluded)))
                taken += clipped
        return [*parties, Party("", Region((who.cidr.cidr,), (*who.cidr.excluded, *sorted(set(taken)))))]


def places_of_identities(world: PolicyWorld, classes: Classes, places: Places) -> dict[str, set[Prefix]]:
    """Where each identity may live: the blocks that name it and mean its class, and the addresses of its endpoints
    elsewhere.
    """
    found: dict[str, set[Prefix]] = {}
    for cidr, block in world.blocks.items():
        for identity in block.identities if cidr in places.at else ():
            if places.at[cidr] == classes.of.get(identity):
                found.setdefault(identity, set()).add(cidr)
    for endpoint in world.endpoints.values():
        homes = found.setdefault(endpoint.identity.id, set())
        for allocation in endpoint.allocations:
            address = allocation.address
            if allocation.block not in homes or not allocation.block.contains(address):
                homes.add(Prefix(address.family, address.value, address.length))
    return found


def _within(paths: Iterable[Path], traffic: Profile) -> Iterator[Path]:
    for path in paths:
        common = intersection(path.accepted, traffic)
        if common != DROP:
            yield Path(path.source, path.destination, common)


def _beyond(paths: Iterable[Path], allowed: Profile) -> Iterator[Path]:
    for path in paths:
        rest = minus(path.accepted, allowed)
        if rest != DROP:
            yield Path(path.source, path.destination, rest)


def _short_of(paths: Iterable[Path], wanted: Profile) -> Iterator[Path]:
    for path in paths:
        missing = minus(wanted, path.accepted)
        if missing != DROP:
            yield Path(path.source, path.destination, missing)


def _finding(statement: Statement, path: Path | None, proved: str, verb: str) -> Finding:
    if path is None:
        return Finding(text=statement.text, holds=True, sentence=proved)
    traffic = example_of(path.accepted)
    sentence = (
        f"{traffic} from {path.source} to {path.destination} {verb}; all such traffic: {profile_words(path.accepted)}"
    )
    return Finding(
        text=statement.text,
        holds=False,
        sentence=sentence,
        source=path.source,
        destination=path.destination,
        traffic=traffic,
    )
