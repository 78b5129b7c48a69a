"""The nftables ruleset of one host as a value: what it should be for a view and the host's endpoints.

Owns the shape of our table (which maps there are, what is in them); knows no nft text, which is `codec.nft`'s work.
Invariant: the number of chains and rules depends on the shape and on the distinct rows and profiles in use, never on
how many endpoints, peers, blocks or policies there are; an endpoint is at most two elements a family for its rows and
one for its source.

A row's verdict is `accept`, `drop`, the id of a profile, or of two of them where staged policies would say otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from romana.core.diff import Changes, diff
from romana.model.address import Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Fault, Invalid
from romana.model.policy import NO_FAILSAFE, Direction, Failsafe
from romana.model.program import Profile, Staged
from romana.model.view import View

ACCEPT, DROP = "accept", "drop"
"""The two verdicts that are no profile."""

OWN_HOST = 0
"""The index of the interface through which packets of the host itself come, and those to it go: none."""

BLOCK_LENGTHS_MAX = 3
"""How many distinct block lengths a family may have: each costs every new connection one lookup."""


class Shape(msgspec.Struct, frozen=True):
    """What the constant part of the table depends on besides the program: block lengths in use, longest first."""

    blocks4: tuple[int, ...] = ()
    blocks6: tuple[int, ...] = ()

    def lengths(self, family: Family) -> tuple[int, ...]:
        """The block lengths of a family, longest first."""
        return self.blocks4 if family is Family.V4 else self.blocks6


class Kind(StrEnum):
    """What the elements of a map or set mean."""

    SOURCE = "source"
    """(link, address): packets from the link may carry the address as their source."""
    SPAN = "span"
    """Addresses that only endpoints of this host may have; the value is ignored."""
    ENDPOINT = "endpoint"
    """Address of a local endpoint -> the id of its row."""
    ADDRESS = "address"
    """Peer address -> verdict of a row: `accept`, `drop` or the id of a profile."""
    BLOCK = "block"
    """Peer block of one length -> verdict of a row."""
    RANGE = "range"
    """Disjoint ranges of peer addresses -> verdict of a row."""
    OWN = "own"
    """Interface index (`OWN_HOST`) -> verdict of a row about the host itself."""
    FAILSAFE = "failsafe"
    """Protocol * 65536 + port of the host's own traffic that no policy can close; the value is ignored."""


class Lookup(NamedTuple):
    """A map or set of the table. `length` is set for blocks only, `row` for the kinds that belong to a row. The family
    means nothing where the key is no address.
    """

    kind: Kind
    family: Family
    length: int = 0
    row: str = ""

    @property
    def is_interval(self) -> bool:
        """Whether its keys are ranges of addresses."""
        return self.kind in (Kind.SPAN, Kind.RANGE)

    @property
    def is_replaced_whole(self) -> bool:
        """Whether its content is only ever replaced together."""
        return self.kind not in (Kind.SOURCE, Kind.ENDPOINT, Kind.ADDRESS, Kind.BLOCK)


class Element(NamedTuple):
    """The key of one element in a map whose elements come and go one by one; `link` for sources only."""

    map: str
    prefix: Prefix
    link: str = ""


class Range(NamedTuple):
    """Keys first..last, as integers, with their verdict."""

    first: int
    last: int
    verdict: str


class Ruleset(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in our table. `rows` has row id -> words for people, `guards` the rows of the host's own traffic,
    `profiles` the profiles by id, those of staged verdicts as well, `maps` the content of maps whose elements come
    and go one by one, `ranges` that of the others. What did not change since an earlier one is the same object.

    The words are written when a row is made and are no difference afterwards.
    """

    shape: Shape = Shape()
    rows: dict[str, str] = {}
    guards: dict[str, str] = {}
    profiles: dict[str, Profile | Staged] = {}
    maps: dict[str, Mapping[Element, str]] = {}
    ranges: dict[str, tuple[Range, ...]] = {}

    @property
    def elements(self) -> dict[Element, str]:
        """The elements of all maps."""
        return {key: value for content in self.maps.values() for key, value in content.items()}


class RulesetChanges(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction. `table` set: the whole table is replaced by it; else the parts, with new content per range map.

    Elements and ranges of removed rows go with their rows and are not listed.
    """

    table: Ruleset | None = None
    rows: Changes[str, str] = Changes({}, {}, {})
    guards: Changes[str, str] = Changes({}, {}, {})
    profiles: Changes[str, Profile | Staged] = Changes({}, {}, {})
    elements: Changes[Element, str] = Changes({}, {}, {})
    ranges: dict[str, tuple[Range, ...]] = {}
    shape: Shape = Shape()

    def __bool__(self) -> bool:
        return self.table is not None or len(self) > 0

    def __len__(self) -> int:
        return len(self.rows) + len(self.guards) + len(self.profiles) + len(self.elements) + len(self.ranges)


class Contents:
    """What rows and endpoints were made into, kept from one ruleset to the next."""

    def __init__(self) -> None:
        self._rows: dict[str, _RowContent] = {}
        self._endpoints: dict[str, tuple[Endpoint, str, str, dict[Element, str]]] = {}
        self._common: _Common | None = None

    def common(
        self, lodgers: tuple[_Lodger, ...], spans: Collection[Prefix], shape: Shape, failsafe: Failsafe
    ) -> _Common:
        """The maps and sets of the whole table, the same object as long as nothing else would be in them."""
        made_from = (frozenset(spans), shape, failsafe)
        known = self._common
        if known is None or known.made_from != made_from or not _same(known.lodgers, lodgers):
            maps: dict[str, dict[Element, str]] = {
                name: {} for name, lookup in lookups(shape).items() if not lookup.is_replaced_whole
            }
            for lodger in lodgers:
                for key, value in self._elements(*lodger).items():
                    maps[key.map][key] = value
            local = {*spans, *(address for lodger in lodgers for address in lodger.endpoint.addresses)}
            ranges = _constant_ranges(shape, local, failsafe)
            known = self._common = _Common(made_from=made_from, lodgers=lodgers, maps=maps, ranges=ranges)
        return known

    def row(self, row: str, view: View, shape: Shape) -> _RowContent:
        """A row's content, the same object as long as the view says the same."""
        entries, own = view.entries.get(row, {}), view.rows[row].own
        known = self._rows.get(row)
        if known is None or not known.is_of(entries, own, shape, view.profiles):
            known = self._rows[row] = _row_content(row, view, shape)
        return known

    def _elements(self, endpoint: Endpoint, ingress: str, egress: str) -> dict[Element, str]:
        known = self._endpoints.get(endpoint.id)
        if known is None or known[0] is not endpoint or known[1:3] != (ingress, egress):
            found = endpoint_elements(endpoint, ingress, egress)
            known = self._endpoints[endpoint.id] = (endpoint, ingress, egress, found)
        return known[3]

    def keep(self, rows: Collection[str], endpoints: Iterable[str]) -> None:
        """Forget all others."""
        for table, kept in ((self._rows, rows), (self._endpoints, endpoints)):
            for name in table.keys() - set(kept):
                del table[name]


class _Lodger(NamedTuple):
    """An endpoint with its rows, as `_rows_of` says."""

    endpoint: Endpoint
    ingress: str
    egress: str


class _Common(msgspec.Struct, frozen=True):
    """The content of the whole table's maps and sets, and what it was made from."""

    made_from: tuple[frozenset[Prefix], Shape, Failsafe]
    lodgers: tuple[_Lodger, ...]
    maps: dict[str, dict[Element, str]]
    ranges: dict[str, tuple[Range, ...]]


class _RowContent(msgspec.Struct, frozen=True):
    """What a row was made from, and into; `lacks` says that the view did not have all of its profiles."""

    entries: Mapping[Prefix, str]
    own: str
    shape: Shape
    maps: dict[str, Mapping[Element, str]]
    ranges: dict[str, tuple[Range, ...]]
    verdicts: frozenset[str]
    profiles: frozenset[str]
    lacks: bool

    def is_of(self, entries: Mapping[Prefix, str], own: str, shape: Shape, profiles: Mapping[str, Profile]) -> bool:
        """Whether it would be made anew of these."""
        same = self.entries is entries and (self.own, self.shape) == (own, shape)
        return same and not self.lacks and self.profiles <= profiles.keys()


def desired_ruleset(
    view: View, endpoints: Iterable[Endpoint], failsafe: Failsafe = NO_FAILSAFE, contents: Contents | None = None
) -> Ruleset:
    """The ruleset that enforces a view on the host's own endpoints, and on the host.

    An endpoint whose identity or row the view lacks keeps its source (so its connections go on) and gets no row: every
    new connection is dropped. So does a peer whose profile is missing. Addresses of endpoints are local even where the
    view has no span for them (any more). `contents` makes the next ruleset quicker. Invalid when there are too many
    block lengths.
    """
    contents = Contents() if contents is None else contents
    shape = _shape(view)
    ordered = sorted(endpoints, key=lambda endpoint: endpoint.id)
    lodgers = tuple(_Lodger(endpoint, *_rows_of(endpoint, view)) for endpoint in ordered)
    guards = {row: "" for row in (view.host_rows.ingress, view.host_rows.egress) if row}
    rows: dict[str, str] = {row: view.rows[row].words for row in guards if row in view.rows}
    rows |= {row: view.rows[row].words for lodger in lodgers for row in lodger[1:] if row}
    common = contents.common(lodgers, view.spans, shape, failsafe)
    maps: dict[str, Mapping[Element, str]] = dict(common.maps)
    ranges = dict(common.ranges)
    verdicts: set[str] = set()
    for row in sorted(rows):
        content = contents.row(row, view, shape)
        maps |= content.maps
        ranges |= content.ranges
        verdicts |= content.verdicts
    contents.keep(rows, (endpoint.id for endpoint in ordered))
    return Ruleset(
        shape=shape,
        rows=rows,
        guards=guards,
        profiles=dict(sorted(_profiles(verdicts, view))),
        maps=maps,
        ranges=ranges,
    )


def endpoint_elements(endpoint: Endpoint, ingress: str, egress: str) -> dict[Element, str]:
    """The elements of one endpoint: its sources, and its rows where their ids are not empty."""
    elements = {}
    for address in endpoint.addresses:
        suffix = int(address.family)
        elements[Element(f"sources{suffix}", address, endpoint.link)] = ""
        if ingress:
            elements[Element(f"endpoints_in{suffix}", address)] = ingress
        if egress:
            elements[Element(f"endpoints_out{suffix}", address)] = egress
    return elements


def by_map(elements: Mapping[Element, str]) -> dict[str, Mapping[Element, str]]:
    """Elements by the map that they are in."""
    found: dict[str, dict[Element, str]] = {}
    for key, value in elements.items():
        found.setdefault(key.map, {})[key] = value
    return dict(found)


def ruleset_changes(desired: Ruleset, actual: Ruleset | None) -> RulesetChanges:
    """The smallest transaction from `actual` to `desired`; the whole table when it is None or shapes differ."""
    if actual is None or actual.shape != desired.shape:
        return RulesetChanges(table=desired, shape=desired.shape)
    rows = diff(dict.fromkeys(desired.rows, ""), dict.fromkeys(actual.rows, ""))
    gone = {name for row in rows.remove for name in lookups(desired.shape, (row,), common=False)}
    return RulesetChanges(
        shape=desired.shape,
        rows=Changes({row: desired.rows[row] for row in rows.add}, {}, rows.remove),
        guards=diff(desired.guards, actual.guards),
        profiles=diff(desired.profiles, actual.profiles),
        elements=_element_changes(desired.maps, {name: actual.maps[name] for name in actual.maps.keys() - gone}),
        ranges={name: parts for name, parts in desired.ranges.items() if parts != actual.ranges.get(name, ())},
    )


def row_direction(row: str) -> Direction:
    """The direction of a row by its id (`in_...` or `out_...`)."""
    return Direction.INGRESS if row.startswith("in_") else Direction.EGRESS


def lookups(shape: Shape, rows: Iterable[str] = (), *, common: bool = True) -> dict[str, Lookup]:
    """All maps and sets by name, in the order of lookup: the `common` ones, then those of the rows."""
    result: dict[str, Lookup] = {}
    if common:
        for family in Family:
            result[f"sources{family:d}"] = Lookup(Kind.SOURCE, family)
            result[f"spans{family:d}"] = Lookup(Kind.SPAN, family)
            result[f"endpoints_out{family:d}"] = Lookup(Kind.ENDPOINT, family)
            result[f"endpoints_in{family:d}"] = Lookup(Kind.ENDPOINT, family)
        for direction in Direction:
            result[failsafe_name(direction)] = Lookup(Kind.FAILSAFE, Family.V4)
    for row in rows:
        result[f"{row}_own"] = Lookup(Kind.OWN, Family.V4, row=row)
        for family in Family:
            result[_address_map(row, family)] = Lookup(Kind.ADDRESS, family, row=row)
            for length in shape.lengths(family):
                result[_block_map(row, family, length)] = Lookup(Kind.BLOCK, family, length, row)
            result[_range_map(row, family)] = Lookup(Kind.RANGE, family, row=row)
    return result


_CONSTANT = {ACCEPT: Profile(default=True), DROP: Profile(default=False)}


def _address_map(row: str, family: Family) -> str:
    return f"{row}_{family:d}"


def _block_map(row: str, family: Family, length: int) -> str:
    return f"{row}_{family:d}_block{length}"


def _range_map(row: str, family: Family) -> str:
    return f"{row}_{family:d}_range"


def _shape(view: View) -> Shape:
    lengths: dict[Family, set[int]] = {Family.V4: set(), Family.V6: set()}
    for network in view.networks.values():
        if network.block_length < network.cidr.family.bits:
            lengths[network.cidr.family].add(network.block_length)
    faults = [
        Fault(
            "networks",
            f"IPv{family:d} networks use the block lengths {', '.join(f'/{length}' for length in sorted(found))}; at "
            f"most {BLOCK_LENGTHS_MAX} distinct ones can be enforced, so give some networks the same block length",
        )
        for family, found in lengths.items()
        if len(found) > BLOCK_LENGTHS_MAX
    ]
    if faults:
        raise Invalid(*faults)
    return Shape(*(tuple(sorted(lengths[family], reverse=True)) for family in Family))


def failsafe_name(direction: Direction) -> str:
    """The set of what no policy about hosts can close in a direction; the agent's configuration names it so, too."""
    return "failsafe_in" if direction is Direction.INGRESS else "failsafe_out"


def guard_name(row: str) -> str:
    """The name of the base chain that asks a row about the host's own traffic."""
    return f"guard_{row}"


def _constant_ranges(shape: Shape, local: Iterable[Prefix], failsafe: Failsafe) -> dict[str, tuple[Range, ...]]:
    ranges = {
        name: _flatten((prefix, ACCEPT) for prefix in local if prefix.family is lookup.family)
        for name, lookup in lookups(shape).items()
        if lookup.kind is Kind.SPAN
    }
    for direction in Direction:
        keys = sorted({protocol << 16 | port for protocol, port in failsafe.of(direction)})
        ranges[failsafe_name(direction)] = tuple(Range(key, key, ACCEPT) for key in keys)
    return ranges


def _profiles(verdicts: Iterable[str], view: View) -> Iterator[tuple[str, Profile | Staged]]:
    for verdict in verdicts:
        parts = [_CONSTANT.get(id_) or view.profiles[id_] for id_ in verdict.split("~")]
        if parts[0].id not in _CONSTANT:
            yield parts[0].id, parts[0]
        if len(parts) > 1:
            yield verdict, Staged(*parts)


def _known(verdict: str, view: View) -> str:
    """A verdict whose profiles the view has; drop for any other."""
    return verdict if all(id_ in _CONSTANT or id_ in view.profiles for id_ in verdict.split("~")) else DROP


def _row_content(row: str, view: View, shape: Shape) -> _RowContent:
    """Share out a row's entries so that looking up address, block and range in turn finds the most specific entry.

    An entry of block length is a block only when no entry inside it has to be a range, because blocks are asked first.
    """
    entries, own = view.entries.get(row, {}), view.rows[row].own
    maps: dict[str, dict[Element, str]] = {}
    ranged: dict[Family, list[tuple[Prefix, str]]] = {Family.V4: [], Family.V6: []}
    for name, lookup in lookups(shape, (row,), common=False).items():
        if not lookup.is_replaced_whole:
            maps[name] = {}
    hidden: set[Prefix] = set()
    verdicts = {verdict: _known(verdict, view) for verdict in {*entries.values(), own}}
    for prefix, entry in sorted(entries.items(), key=lambda entry: (-entry[0].length, entry[0])):
        family, length, verdict = prefix.family, prefix.length, verdicts[entry]
        if prefix.is_address:
            name = _address_map(row, family)
            maps[name][Element(name, prefix)] = verdict
        elif length in shape.lengths(family) and prefix not in hidden:
            name = _block_map(row, family, length)
            maps[name][Element(name, prefix)] = verdict
        else:
            ranged[family].append((prefix, verdict))
            hidden.update(prefix.supernet(block) for block in shape.lengths(family) if block < length)
    used = frozenset(verdicts.values())
    return _RowContent(
        entries=entries,
        own=own,
        shape=shape,
        maps=dict(maps),
        ranges={
            f"{row}_own": (Range(OWN_HOST, OWN_HOST, verdicts[own]),),
            **{_range_map(row, family): _flatten(parts) for family, parts in ranged.items()},
        },
        verdicts=used,
        profiles=frozenset(id_ for verdict in used for id_ in verdict.split("~") if id_ not in _CONSTANT),
        lacks=any(known != verdict for verdict, known in verdicts.items()),
    )


def _same(before: tuple[_Lodger, ...], after: tuple[_Lodger, ...]) -> bool:
    """Whether the same endpoints have the same rows; one that was replaced is another."""
    return len(before) == len(after) and all(
        one.endpoint is other.endpoint and one[1:] == other[1:] for one, other in zip(before, after, strict=True)
    )


def _rows_of(endpoint: Endpoint, view: View) -> tuple[str, str]:
    """Ingress and egress row of an endpoint; empty where the view does not have both."""
    known = view.identities.get(endpoint.identity.id)
    if known is None or known.ingress not in view.rows or known.egress not in view.rows:
        return "", ""
    return known.ingress, known.egress


def _element_changes(
    desired: Mapping[str, Mapping[Element, str]], actual: Mapping[str, Mapping[Element, str]]
) -> Changes[Element, str]:
    """The elements that differ; maps that are the same object are not looked into."""
    found: Changes[Element, str] = Changes({}, {}, {})
    for name in {**desired, **actual}:
        new, old = desired.get(name, {}), actual.get(name, {})
        if new is not old and new != old:
            changes = diff(new, old)
            found.add.update(changes.add)
            found.replace.update(changes.replace)
            found.remove.update(changes.remove)
    return found


def _flatten(entries: Iterable[tuple[Prefix, str]]) -> tuple[Range, ...]:
    """Disjoint ranges in ascending order where the most specific entry wins; what is dropped is left out, since a row
    does not accept what it does not find. Neighbours with the same verdict are one range.
    """
    ranges: list[Range] = []
    for part in _pieces(sorted(entries)):
        if part.verdict == DROP:
            continue
        if ranges and ranges[-1].last + 1 == part.first and ranges[-1].verdict == part.verdict:
            ranges[-1] = Range(ranges[-1].first, part.last, part.verdict)
        else:
            ranges.append(part)
    return tuple(ranges)


def _pieces(entries: list[tuple[Prefix, str]]) -> Iterator[Range]:
    """Cut sorted nested prefixes of one family into disjoint pieces."""
    open_entries: list[tuple[int, str]] = []
    position = 0

    def close(until: int) -> Iterator[Range]:
        nonlocal position
        while open_entries and open_entries[-1][0] < until:
            last, verdict = open_entries.pop()
            if position <= last:
                yield Range(position, last, verdict)
                position = last + 1

    for prefix, verdict in entries:
        yield from close(prefix.value)
        if open_entries and position < prefix.value:
            yield Range(position, prefix.value - 1, open_entries[-1][1])
        position = prefix.value
        open_entries.append((prefix.last, verdict))
    if entries:
        yield from close(1 << entries[0][0].family.bits)
