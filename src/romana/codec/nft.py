"""Our nftables table as nft text: whole, or the transactions that change it.

Owns the spelling of declarations and transactions; `codec.nft_chains` has the rules, `codec.nft_elements` the elements,
`codec.nft_listing` the way back. Invariant: the parts of a transaction come in an order in which every reference
exists; profiles and rows are made one transaction before, and removed one after, the elements that lead to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from romana.codec.nft_chains import (
    Chain,
    base_chains,
    guard_chain,
    profile_chains,
    profile_name,
    profile_sets,
    row_chain,
)
from romana.codec.nft_elements import Elements, Entry, KeyType, key_type, single
from romana.core.ruleset import (
    ACCEPT,
    DROP,
    Element,
    Kind,
    Lookup,
    Range,
    Ruleset,
    RulesetChanges,
    Shape,
    guard_name,
    lookups,
)
from romana.model.address import Family
from romana.model.policy import ICMP, ICMPV6
from romana.model.program import Intervals, Profile, Staged

TABLE = "inet romana"
"""Family and name of the one table that is ours."""

COMMENT_MAX = 120
"""Bytes of a comment; nftables takes 128 with its terminator."""


def render_table(ruleset: Ruleset) -> str:
    """The whole table, as `nft -f` takes it."""
    lines = [f"table {TABLE} {{", f'\tcomment "{table_comment(ruleset.shape)}"']
    for name, declaration in declarations(ruleset).items():
        lines += ["", *(f"\t{line}" for line in _declaration(name, declaration))]
    for name, chain in chains(ruleset).items():
        lines += ["", *(f"\t{line}" for line in _chain(name, chain))]
    lines.append("}")
    commands = (command for elements in _all_elements(ruleset) for command in elements.commands(TABLE))
    return "\n".join([*lines, *commands, ""])


class Step(NamedTuple):
    """Commands as text and then elements, each as one transaction."""

    commands: str = ""
    elements: tuple[Elements, ...] = ()

    @property
    def text(self) -> str:
        """All of it as text."""
        return self.commands + _lines(command for each in self.elements for command in each.commands(TABLE))


def render_changes(changes: RulesetChanges) -> list[Step]:
    """What is new, what leads to it, and what nothing leads to any more is taken away, in this order.

    A packet reads which rules are in force before it looks anything up (nft_do_chain). One that is on its way while a
    transaction is committed may be led to a chain whose rules it does not see: it must have been there before, and stay
    for one transaction more.
    """
    if changes.table is not None:
        return [Step(f"add table {TABLE}\ndelete table {TABLE}\n{render_table(changes.table)}")]
    added = Ruleset(
        shape=changes.shape, rows=changes.rows.add, guards=changes.guards.add, profiles=changes.profiles.add
    )
    steps = (
        Step(_lines(_creation(added)), tuple(_additions(changes))),
        Step(elements=tuple(_switches(changes))),
        Step(_lines(_removals(changes))),
    )
    return [step for step in steps if step != Step()]


def single_elements(verb: str, elements: Mapping[Element, str]) -> list[Elements]:
    """The hot path: `add` or `delete` what comes and goes one by one."""
    entries: dict[tuple[str, Kind, Family], list[Entry]] = {}
    for (name, prefix, link), value in elements.items():
        verdict = _jump(name, value) if value and verb == "add" else ""
        entry = single(*((link,) if link else ()), prefix.value, verdict=verdict)
        entries.setdefault((name, Kind.SOURCE if link else Kind.ADDRESS, prefix.family), []).append(entry)
    return [
        Elements(verb, name, _type_of(Lookup(kind, family)), tuple(found))
        for (name, kind, family), found in entries.items()
    ]


def _lines(commands: Iterable[str]) -> str:
    return "".join(f"{command}\n" for command in commands)


def _additions(changes: RulesetChanges) -> Iterator[Elements]:
    """Everything in profiles and rows that are not there."""
    yield from _profile_elements(changes.profiles.add.values())
    known = lookups(changes.shape, changes.rows.add, common=False)
    yield from _range_elements(known, {name: parts for name, parts in changes.ranges.items() if name in known})
    new = {key: value for key, value in changes.elements.add.items() if key.map in known}
    yield from single_elements("add", new)


def _switches(changes: RulesetChanges) -> Iterator[Elements]:
    """Elements of maps that are there."""
    new = lookups(changes.shape, changes.rows.add, common=False)
    ranges = {name: parts for name, parts in changes.ranges.items() if name not in new}
    known = lookups(changes.shape, {row_of(name) for name in ranges} - {""})
    stale = {**changes.elements.remove, **changes.elements.replace}
    yield from single_elements("delete", stale)
    yield from (Elements("flush", name, _type_of(known[name])) for name in ranges)
    add = {key: value for key, value in changes.elements.add.items() if key.map not in new}
    yield from single_elements("add", {**changes.elements.replace, **add})
    yield from _range_elements(known, ranges)


def _removals(changes: RulesetChanges) -> Iterator[str]:
    """Guards, rows and profiles to which nothing leads."""
    for row in changes.guards.remove:
        yield from _chain_removal(guard_name(row))
    for row in changes.rows.remove:
        yield from _chain_removal(row)
        yield from (f"delete map {TABLE} {name}" for name in lookups(changes.shape, (row,), common=False))
    for profile in sorted(changes.profiles.remove.values(), key=lambda one: isinstance(one, Profile)):
        for name in reversed(profile_chains(profile)):  # what leads to others goes first
            yield from _chain_removal(name)
        yield from (f"delete set {TABLE} {name}" for name in profile_sets(profile))


def table_comment(shape: Shape) -> str:
    """What the table says of itself: the block lengths in use, and a digest of every rule this program writes."""
    lengths = " ".join(f"ip{family:d}:{','.join(map(str, shape.lengths(family)))}" for family in Family)
    return f"romana blocks {lengths} rules {_digest(shape)}"


def declarations(ruleset: Ruleset) -> dict[str, str]:
    """All maps and sets by name: `<set or map> <type><, interval>`."""
    return {
        **{name: _declared(lookup) for name, lookup in lookups(ruleset.shape).items()},
        **_profile_declarations(ruleset),
        **row_declarations(ruleset.shape, ruleset.rows),
    }


def chains(ruleset: Ruleset) -> dict[str, Chain]:
    """All chains by name, profiles and rows before what leads to them."""
    return {**_own_chains(ruleset), **base_chains()}


def row_declarations(shape: Shape, rows: Iterable[str]) -> dict[str, str]:
    """The maps of these rows, as in `declarations`."""
    return {name: _declared(lookup) for name, lookup in lookups(shape, rows, common=False).items()}


def row_of(name: str) -> str:
    """The row that a map which is replaced together belongs to; empty for those of the whole table."""
    kept = name.removesuffix("_own") if name.endswith("_own") else name.rsplit("_", 2)[0]
    return kept if kept.startswith(("in_", "out_")) else ""


def comment_text(words: str) -> str:
    """Words as a comment can hold them: printable, without quotes, not too long."""
    clean = "".join(letter if letter.isprintable() else " " for letter in words).replace('"', "'").replace("\\", "/")
    kept = clean.encode()
    if len(kept) <= COMMENT_MAX:
        return clean
    return kept[: COMMENT_MAX - 3].decode(errors="ignore").rstrip() + "..."


def icmp_parts(first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
    """An interval of type * 256 + code as products of types and codes: (type, type, code, code), inclusive."""
    if first >> 8 == last >> 8:
        yield first >> 8, last >> 8, first & 255, last & 255
        return
    if first & 255:
        yield first >> 8, first >> 8, first & 255, 255
        first = ((first >> 8) + 1) << 8
    whole = last >> 8 if last & 255 == 255 else (last >> 8) - 1
    if first >> 8 <= whole:
        yield first >> 8, whole, 0, 255
    if whole != last >> 8:
        yield last >> 8, last >> 8, 0, last & 255


def _digest(shape: Shape) -> str:
    """Changes with anything that this program writes besides elements, comments and the distinct rows and profiles."""
    sample = Profile(default=True, protocols=tuple((protocol, ((1, 2),)) for protocol in (1, 6, 17, 47, 58, 132)))
    staged = Staged(sample, Profile(protocols=sample.protocols))
    whole = Ruleset(
        shape=shape,
        rows={"in_0": "", "out_0": ""},
        guards={"in_0": "", "out_0": ""},
        profiles={sample.id: sample, staged.id: staged},
    )
    text = repr([(name, chain.hook, chain.rules) for name, chain in chains(whole).items()]) + repr(declarations(whole))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _own_chains(ruleset: Ruleset) -> dict[str, Chain]:
    ordered = sorted(ruleset.profiles.values(), key=lambda one: isinstance(one, Staged))  # staged ones lead to others
    return {
        **{name: chain for profile in ordered for name, chain in profile_chains(profile).items()},
        **{row: row_chain(row, ruleset.shape, words) for row, words in ruleset.rows.items()},
        **{guard_name(row): guard_chain(row) for row in ruleset.guards},
    }


def _declared(lookup: Lookup) -> str:
    address = "ipv4_addr" if lookup.family is Family.V4 else "ipv6_addr"
    keys = {
        Kind.SOURCE: f"ifname . {address}",
        Kind.OWN: "iface_index",
        Kind.FAILSAFE: "inet_proto . inet_service",
    }
    key = keys.get(lookup.kind, address)
    value = "" if _noun(lookup) == "set" else " : verdict"
    return f"{_noun(lookup)} {key}{value}{', interval' if lookup.is_interval else ''}"


def _profile_declarations(ruleset: Ruleset) -> dict[str, str]:
    return {
        name: _profile_set(protocol)
        for profile in ruleset.profiles.values()
        for name, (protocol, _) in profile_sets(profile).items()
    }


def _profile_set(protocol: int) -> str:
    keys = {ICMP: "icmp_type . icmp_code", ICMPV6: "icmpv6_type . icmpv6_code"}
    return f"set {keys.get(protocol, 'inet_service')}, interval"


def _noun(lookup: Lookup) -> str:
    return "set" if lookup.kind in (Kind.SOURCE, Kind.SPAN, Kind.FAILSAFE) else "map"


def _declaration(name: str, declaration: str) -> Iterator[str]:
    noun, _, rest = declaration.partition(" ")
    kind, _, flags = rest.partition(", ")
    yield f"{noun} {name} {{"
    yield f"\ttype {kind}"
    if flags:
        yield f"\tflags {flags}"
    yield "}"


def _chain(name: str, chain: Chain) -> Iterator[str]:
    yield f"chain {name} {{"
    if chain.words:
        yield f'\tcomment "{comment_text(chain.words)}"'
    if chain.hook:
        yield f"\t{chain.hook}"
    yield from (f"\t{rule}" for rule in chain.rules)
    yield "}"


def _creation(added: Ruleset) -> Iterator[str]:
    """Make profiles and rows that are not there; `create` fails where one is, so that no rule is ever written twice."""
    for name, declaration in {
        **_profile_declarations(added),
        **row_declarations(added.shape, added.rows),
    }.items():
        noun, _, rest = declaration.partition(" ")
        yield f"create {noun} {TABLE} {name} {{ type {rest.replace(', ', '; flags ')}; }}"
    for name, chain in _own_chains(added).items():
        parts = [chain.hook] if chain.hook else []
        parts += [f'comment "{comment_text(chain.words)}";'] if chain.words else []
        yield f"create chain {TABLE} {name}" + (f" {{ {' '.join(parts)} }}" if parts else "")
        yield from (f"add rule {TABLE} {name} {rule}" for rule in chain.rules)


def _chain_removal(name: str) -> Iterator[str]:
    yield f"flush chain {TABLE} {name}"
    yield f"delete chain {TABLE} {name}"


def _all_elements(ruleset: Ruleset) -> Iterator[Elements]:
    yield from _profile_elements(ruleset.profiles.values())
    yield from _range_elements(lookups(ruleset.shape, ruleset.rows), ruleset.ranges)
    yield from single_elements("add", ruleset.elements)


def _profile_elements(profiles: Iterable[Profile | Staged]) -> Iterator[Elements]:
    for profile in profiles:
        for name, (protocol, intervals) in profile_sets(profile).items():
            key = key_type(_profile_set(protocol))
            yield Elements("add", name, key, tuple(_profile_entries(protocol, intervals)))


def _profile_entries(protocol: int, intervals: Intervals) -> Iterator[Entry]:
    for first, last in intervals:
        if protocol in (ICMP, ICMPV6):
            yield from (Entry((kind, code), (to, code_to)) for kind, to, code, code_to in icmp_parts(first, last))
        else:
            yield Entry((first,), (last,))


def _range_elements(known: Mapping[str, Lookup], ranges: Mapping[str, tuple[Range, ...]]) -> Iterator[Elements]:
    for name, parts in ranges.items():
        if parts:
            yield Elements("add", name, _type_of(known[name]), tuple(_entry(known[name], part) for part in parts))


def _entry(lookup: Lookup, part: Range) -> Entry:
    match lookup.kind:
        case Kind.FAILSAFE:
            return single(part.first >> 16, part.first & 0xFFFF)
        case Kind.SPAN:
            return Entry((part.first,), (part.last,))
    return Entry((part.first,), (part.last,), _verdict(part.verdict))


@lru_cache
def _type_of(lookup: Lookup) -> KeyType:
    return key_type(_declared(lookup))


def _jump(name: str, value: str) -> str:
    return f"jump {value}" if name.startswith("endpoints_") else _verdict(value)


def _verdict(value: str) -> str:
    """What is dropped goes back to the base chain, which tells of it."""
    return {ACCEPT: ACCEPT, DROP: "return"}.get(value) or f"goto {profile_name(value)}"
