"""Places kept up with a world that changes: only blocks that a change can touch are looked at again.

Owns which block or address means which class. Refuses to know rows. Invariant: after `update` the places are those that
`find_places` finds in the world from nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from romana.core.policy.classes import Classes
from romana.core.policy.classifier import differing, take_over
from romana.core.policy.places import NULL_CLASS, UNKNOWN_CLASS, Places, in_order
from romana.core.policy.world import PolicyWorld, Touched
from romana.model.address import Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Block


class Locator:
    """The places of one world after the other."""

    def __init__(self) -> None:
        self.places = Places(at={}, by_class={}, nested=())
        self.moved: frozenset[str] = frozenset()
        """The classes that have other places than before the last update."""
        self._blocks: dict[Prefix, Block] = {}
        self._endpoints: Mapping[str, Endpoint] = {}
        self._declared: dict[str, set[Prefix]] = {}  # identity -> blocks that name it
        self._lodging: dict[str, set[Prefix]] = {}  # identity -> blocks in which an endpoint of it lives
        self._lodgers: dict[Prefix, set[str]] = {}  # block -> endpoints
        self._claims: dict[Prefix, dict[Prefix, frozenset[str]]] = {}  # block -> place -> classes that it says
        self._said: dict[Prefix, dict[Prefix, frozenset[str]]] = {}  # place -> block -> classes
        self._at: dict[Prefix, str] = {}
        self._by_class: dict[str, set[Prefix]] = {}
        self._lengths: Counter[tuple[Family, int]] = Counter()  # of places
        self._block_lengths: Counter[tuple[Family, int]] = Counter()
        self._nested: set[Prefix] = set()

    def update(self, world: PolicyWorld, classes: Classes, moved: Iterable[str], touched: Touched) -> Places:
        """The places of a world; `moved` are the identities whose class is another one than before."""
        names = None if touched.everything else touched.blocks
        stale = set(self._changed_blocks(world.blocks, names)) | set(self._changed_endpoints(world.endpoints))
        for identity in moved:
            stale |= self._declared.get(identity, set()) | self._lodging.get(identity, set())
        said: set[Prefix] = set()
        for cidr in stale:
            said |= self._say(cidr, classes)
        before = {place: self._at[place] for place in said if place in self._at}
        after = {place: found for place in said if (found := self._meaning(place)) is not None}
        self._settle(before, after)
        networks = tuple(sorted(one.cidr for one in world.networks.values()))
        if self.moved or networks != self.places.networks:
            self.places = Places(
                at=self._at,
                by_class=self._tuples(),
                nested=tuple(in_order(self._nested)),
                networks=networks,
            )
        return self.places

    def block_lengths(self, world: PolicyWorld) -> dict[Family, frozenset[int]]:
        """The block lengths in use, by family (`compile.block_lengths`)."""
        found = {(one.cidr.family, one.block_length) for one in world.networks.values()} | self._block_lengths.keys()
        return {family: frozenset(length for other, length in found if other is family) for family in Family}

    def _changed_blocks(self, blocks: Mapping[Prefix, Block], names: Iterable[Prefix] | None) -> Iterator[Prefix]:
        found = differing(self._blocks, blocks, names)
        for cidr, (old, new) in found.items():
            for identity in old.identities if old is not None else ():
                self._declared[identity].discard(cidr)
            for identity in new.identities if new is not None else ():
                self._declared.setdefault(identity, set()).add(cidr)
            self._block_lengths[cidr.family, cidr.length] += (new is not None) - (old is not None)
            yield cidr
        if found:
            self._block_lengths = +self._block_lengths
            take_over(self._blocks, found)

    def _changed_endpoints(self, endpoints: Mapping[str, Endpoint]) -> Iterator[Prefix]:
        if endpoints is self._endpoints:
            return
        for id_, (old, new) in differing(self._endpoints, endpoints).items():
            for allocation in old.allocations if old is not None else ():
                self._lodgers[allocation.block].discard(id_)
                yield allocation.block
            for allocation in new.allocations if new is not None else ():
                self._lodgers.setdefault(allocation.block, set()).add(id_)
                self._lodging.setdefault(new.identity.id, set()).add(allocation.block)  # type: ignore[union-attr]
                yield allocation.block
        self._endpoints = endpoints

    def _say(self, cidr: Prefix, classes: Classes) -> set[Prefix]:
        """What a block and those in it now say about places; the places that this touches."""
        block = self._blocks.get(cidr)
        lodgers = [self._endpoints[id_] for id_ in self._lodgers.get(cidr, ())]
        found = {classes.of.get(identity, NULL_CLASS) for identity in (block.identities if block is not None else ())}
        found |= {classes.of[endpoint.identity.id] for endpoint in lodgers}
        said: dict[Prefix, frozenset[str]] = {}
        whole = block is not None and block.owner is not None and len(found) == 1 and NULL_CLASS not in found
        for endpoint in lodgers:
            for allocation in endpoint.allocations:
                if allocation.block == cidr and not (whole and cidr.contains(allocation.address)):
                    address = allocation.address
                    place = Prefix(address.family, address.value, address.length)
                    said[place] = said.get(place, frozenset()) | {classes.of[endpoint.identity.id]}
        if whole:
            said.setdefault(cidr, frozenset(found))
        before = self._claims.pop(cidr, {})
        for place in before.keys() - said.keys():
            del self._said[place][cidr]
        for place, meaning in said.items():
            self._said.setdefault(place, {})[cidr] = meaning
        if said:
            self._claims[cidr] = said
        return {place for place in before.keys() | said.keys() if before.get(place) != said.get(place)}

    def _meaning(self, place: Prefix) -> str | None:
        """The class of a place; what endpoints say of an address goes before what a block of that size says."""
        said = self._said.get(place, {})
        if not said:
            self._said.pop(place, None)
            return None
        by_endpoints = [found for cidr, found in said.items() if cidr != place] or list(said.values())
        meaning = frozenset[str]().union(*by_endpoints)
        return next(iter(meaning)) if len(meaning) == 1 else UNKNOWN_CLASS

    def _settle(self, before: Mapping[Prefix, str], after: Mapping[Prefix, str]) -> None:
        changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
        moved: set[str] = set()
        for place in changed:
            for table, meaning in ((before, False), (after, True)):
                class_id = table.get(place)
                if class_id is not None:
                    places = self._by_class.setdefault(class_id, set())
                    (places.add if meaning else places.discard)(place)
                    moved.add(class_id)
            if place in after:
                self._at[place] = after[place]
            else:
                del self._at[place]
        self._nest(gone=before.keys() - after.keys(), come=after.keys() - before.keys())
        self.moved = frozenset(moved)

    def _nest(self, *, gone: Iterable[Prefix], come: Iterable[Prefix]) -> None:
        covering = False
        for places, by in ((gone, -1), (come, 1)):
            for place in places:
                self._lengths[place.family, place.length] += by
                covering |= any(
                    family is place.family and length > place.length and count
                    for (family, length), count in self._lengths.items()
                )
        if covering:  # something may lie inside what came or went
            self._nested = {place for place in self._at if self._is_nested(place)}
            return
        self._nested.difference_update(gone)
        self._nested.update(place for place in come if self._is_nested(place))

    def _is_nested(self, place: Prefix) -> bool:
        return any(
            family is place.family and length < place.length and count and place.supernet(length) in self._at
            for (family, length), count in self._lengths.items()
        )

    def _tuples(self) -> dict[str, tuple[Prefix, ...]]:
        found = self.places.by_class.copy()
        for class_id in self.moved:
            places = self._by_class[class_id]
            if places:
                found[class_id] = tuple(in_order(places))
            else:
                found.pop(class_id, None)
        return found
