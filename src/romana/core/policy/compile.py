"""Policies and identities to a program: one row for each direction and set of policies that decides for some class.

Owns how verdicts become entries along the address tree. Invariants: the same world gives the same bytes in whatever
order its mappings are; an entry's profile is exact for every address it decides, and where it is not known who has an
address of a network it is accepted by every class that could live there (`verdicts`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping

import msgspec
from msgspec.structs import astuple

from romana.core.policy.classes import Classes, PolicyClass, classify
from romana.core.policy.places import NULL_CLASS, UNKNOWN_CLASS, Places, find_places, in_order, whole_space
from romana.core.policy.selector import selects
from romana.core.policy.tiers import ISOLATION, Tiers, host_tiers, tiers_of
from romana.core.policy.verdicts import Verdicts
from romana.core.policy.world import PolicyWorld
from romana.model.address import Family, Prefix
from romana.model.errors import NotFound
from romana.model.policy import Direction, Policy
from romana.model.program import Profile, Program, Row, RowIds, Staged
from romana.model.tenancy import NamedPort

Verdict = Profile | Staged
WORDS_LIMIT = 100
"""Characters of a row's words; they become a comment of the kernel's ruleset, which takes at most 128 bytes."""


HOST = "host "
"""Before a host's name, where those who have rows are told apart."""
PREFIXES = {Direction.INGRESS: "in_", Direction.EGRESS: "out_"}
"""What the ids of rows begin with."""


def compile_program(world: PolicyWorld) -> Program:
    """The whole program of a world."""
    classes = classify(world)
    places = find_places(world, classes)
    lengths = block_lengths(world)
    rows: dict[str, Row] = {}
    profiles: dict[str, Profile] = {}
    row_ids = {one.id: row_ids_of(world.policies, one) for one in classes.by_id.values()}
    host_rows = host_rows_of(world)
    sharing = {**row_ids, **{f"{HOST}{name}": ids for name, ids in host_rows.items()}}
    for (who, ids), direction in itertools.product(sharing.items(), Direction):
        id_ = ids.of(direction)
        if id_ and id_ not in rows:
            rows[id_], used = row_of(id_, verdicts_for(world, classes, who, direction), places, lengths)
            profiles |= used
    return Program(
        classes=classes.of,
        row_ids=row_ids,
        rows=dict(sorted(rows.items())),
        profiles=dict(sorted(profiles.items())),
        host_rows=host_rows,
    )


def row_ids_of(policies: Mapping[str, Policy], one: PolicyClass) -> RowIds:
    """The rows that decide for a class: two classes share one when the same decides about both."""
    return RowIds(*(_row_id(tiers_for(policies, one, direction), one.ports) for direction in Direction))


def host_rows_of(world: PolicyWorld) -> dict[str, RowIds]:
    """The rows that decide for hosts, of those that some policy selects."""
    found: dict[str, RowIds] = {}
    policies = [one for one in world.policies.values() if one.hosts]
    for name, host in sorted(world.hosts.items()) if policies else ():
        selecting = [one for one in policies if any(selects(peer, host) for peer in one.hosts)]
        tiers = (host_tiers(selecting, direction) for direction in Direction)
        ids = RowIds(*("" if one is None else _row_id(one, (), _whose(one, name)) for one in tiers))
        if ids != RowIds("", ""):
            found[name] = ids
    return found


def _whose(tiers: Tiers, host: str) -> str:
    """Hosts about which the same decides share a row, unless it is about the endpoints of each."""
    return f"{HOST}{host}" if tiers.names_local else "host"


def _row_id(tiers: Tiers, ports: tuple[NamedPort, ...], whose: str = "endpoint") -> str:
    default = [clause.peers for clause in tiers.clauses if clause.tier == ISOLATION]
    ports = ports if tiers.direction is Direction.INGRESS and tiers.has_names else ()
    decides = msgspec.json.encode((whose, tiers.policies, tiers.staged, default, ports, tiers.own_host))
    return f"{PREFIXES[tiers.direction]}{hashlib.sha256(decides).hexdigest()[:12]}"


def row_of(
    id_: str, verdicts: Verdicts, places: Places, lengths: dict[Family, frozenset[int]]
) -> tuple[Row, dict[str, Profile]]:
    """The row of these verdicts, and the profiles in it by id."""
    entries, own = row_entries(verdicts, places, lengths), own_entries(verdicts)
    ids = {found: found.id for found in {*entries.values(), *own.values()}}
    row = Row(
        id=id_,
        direction=verdicts.tiers.direction,
        entries={prefix: ids[found] for prefix, found in entries.items()},
        own={prefix: ids[found] for prefix, found in own.items()},
        policies=verdicts.tiers.policies,
        staged=verdicts.tiers.staged,
        words=comment(verdicts.tiers.words),
    )
    profiles = (part for found in ids for part in (astuple(found) if isinstance(found, Staged) else (found,)))
    return row, {profile.id: profile for profile in profiles}


def tiers_for(policies: Mapping[str, Policy], one: PolicyClass, direction: Direction) -> Tiers:
    """What decides for a class in a direction."""
    selecting = (policies[id_] for id_ in one.policies)
    return tiers_of(selecting, direction, one.identity, one.isolation, own_host=one.own_host)


def verdicts_for(world: PolicyWorld, classes: Classes, who: str, direction: Direction) -> Verdicts:
    """The verdicts about a class, by its id, or a host, by `host ` and its name, which some policy governs."""
    one = classes.by_id.get(who)
    if one is not None:
        return Verdicts(tiers_for(world.policies, one, direction), one.ports, classes, world.hosts)
    name = who.removeprefix(HOST)
    tiers = tiers_for_host(world, name, direction)
    if tiers is None:
        raise NotFound(f"no policy governs {direction} of {who}")
    return Verdicts(tiers, (), classes, world.hosts, local=world.local.get(name, ()))


def tiers_for_host(world: PolicyWorld, name: str, direction: Direction) -> Tiers | None:
    """What decides for a host's own traffic in a direction; None when no policy governs it."""
    host = world.hosts[name]
    selecting = (one for one in world.policies.values() if any(selects(peer, host) for peer in one.hosts))
    return host_tiers(selecting, direction)


def block_lengths(world: PolicyWorld) -> dict[Family, frozenset[int]]:
    """The block lengths in use, by family: entries of these lengths are looked up before all shorter and longer ones
    but single addresses.
    """
    found: dict[Family, set[int]] = {family: set() for family in Family}
    for network in world.networks.values():
        found[network.cidr.family].add(network.block_length)
    for block in world.blocks:
        found[block.family].add(block.length)
    return {family: frozenset(lengths) for family, lengths in found.items()}


def row_entries(verdicts: Verdicts, places: Places, lengths: dict[Family, frozenset[int]]) -> dict[Prefix, Verdict]:
    """What is accepted by the other end's address; the most specific entry decides, both whole spaces are there."""
    entries = _without_repeats(_cut(verdicts, places))
    return _without_hidden(entries, lengths)


def own_entries(verdicts: Verdicts) -> dict[Prefix, Verdict]:
    """What is accepted by the address of the host that an endpoint is on; the same form."""
    return _without_repeats(_along(_addressed(verdicts), lambda _, inside: verdicts.of_own_host(inside)))


def comment(words: str) -> str:
    """Words as the kernel's comment takes them: printable ASCII, no double quote or backslash, not too long."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in words)
    return plain if len(plain) <= WORDS_LIMIT else f"{plain[: WORDS_LIMIT - 3]}..."


class _Cut(msgspec.Struct):
    """What begins at a prefix: a class, addresses of peers (by place) that hold it, peers that except it."""

    class_id: str | None = None
    enter: set[int] = msgspec.field(default_factory=set)
    leave: set[int] = msgspec.field(default_factory=set)


def _cut(verdicts: Verdicts, places: Places) -> dict[Prefix, Verdict]:
    """A verdict for each prefix at which something changes, covering prefixes first."""
    cuts = _addressed(verdicts)
    if not verdicts.null_is_least:
        for network in places.networks:
            cuts.setdefault(network, _Cut()).class_id = UNKNOWN_CLASS
    for prefix in _occupied(verdicts, places):
        cuts.setdefault(prefix, _Cut()).class_id = places.at[prefix]
    return _along(cuts, verdicts.of)


def _addressed(verdicts: Verdicts) -> dict[Prefix, _Cut]:
    """Where addresses of peers begin and end."""
    cuts = {whole_space(family): _Cut() for family in Family}
    for number, peer in enumerate(verdicts.addressed):
        for cidr in peer.cidrs:
            cuts.setdefault(cidr, _Cut()).enter.add(number)
        for excluded in peer.excluded:
            cuts.setdefault(excluded, _Cut()).leave.add(number)
    return cuts


def _along(cuts: Mapping[Prefix, _Cut], of: Callable[[str, frozenset[int]], Verdict]) -> dict[Prefix, Verdict]:
    """The verdict at each cut: `of` the class that is there, and the peers whose addresses hold it."""
    found: dict[Prefix, Verdict] = {}
    covers: list[tuple[Prefix, str, frozenset[int]]] = []
    for prefix in in_order(cuts):
        cut = cuts[prefix]
        while covers and not covers[-1][0].contains(prefix):
            covers.pop()
        _, class_id, inside = covers[-1] if covers else (prefix, NULL_CLASS, frozenset[int]())
        class_id = class_id if cut.class_id is None else cut.class_id
        inside = frozenset((inside | cut.enter) - cut.leave)
        covers.append((prefix, class_id, inside))
        found[prefix] = of(class_id, inside)
    return found


def _occupied(verdicts: Verdicts, places: Places) -> Iterable[Prefix]:
    """The places whose class matters to this row: where the null class is not the least, all of them do."""
    if not verdicts.null_is_least:
        yield from places.at
        return
    for class_id in verdicts.known:
        yield from places.by_class.get(class_id, ())
    yield from places.nested


def _without_repeats(entries: dict[Prefix, Verdict]) -> dict[Prefix, Verdict]:
    """Without the entries that say what covers them says already; whole spaces stay."""
    kept: dict[Prefix, Verdict] = {}
    covers: list[Prefix] = []
    for prefix, found in entries.items():
        while covers and not covers[-1].contains(prefix):
            covers.pop()
        if not covers or kept[covers[-1]] != found:
            kept[prefix] = found
            covers.append(prefix)
    return kept


def _without_hidden(entries: dict[Prefix, Verdict], lengths: dict[Family, frozenset[int]]) -> dict[Prefix, Verdict]:
    """Blocks are looked up before ranges: a block-long entry with a range inside it gives way to its two halves."""
    while True:
        hiding = _hiding(entries, lengths)
        if not hiding:
            return entries
        halved = {prefix: found for prefix, found in entries.items() if prefix not in hiding}
        for prefix in hiding:
            for half in prefix.subnets(prefix.length + 1):
                halved.setdefault(half, entries[prefix])
        entries = {prefix: halved[prefix] for prefix in in_order(halved)}


def _hiding(entries: Iterable[Prefix], lengths: dict[Family, frozenset[int]]) -> set[Prefix]:
    """The block-long entries that hold a range: an entry that is neither block-long nor one address."""
    hiding: set[Prefix] = set()
    covers: list[Prefix] = []
    for prefix in entries:
        while covers and not covers[-1].contains(prefix):
            covers.pop()
        if not prefix.is_address and prefix.length not in lengths[prefix.family]:
            hiding.update(cover for cover in covers if cover.length in lengths[cover.family])
        covers.append(prefix)
    return hiding
