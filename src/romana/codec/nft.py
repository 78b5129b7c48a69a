"""Our nftables table as nft text: whole, or one transaction that changes it.

Owns the spelling of declarations, elements and transactions; `codec.nft_chains` has the rules, `codec.nft_listing` the
way back. Invariant: one text is one transaction, whose parts come in an order in which every reference exists; profiles
and rows are made one transaction before, and removed one after, the elements that lead to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from romana.codec.nft_chains import (
    Chain,
    base_chains,
    guard_chain,
    guard_name,
    profile_chains,
    profile_name,
    profile_sets,
    row_chain,
)
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
    lookups,
)
from romana.model.address import Address, Family, Prefix
from romana.model.policy import ICMP, ICMPV6
from romana.model.program import Intervals, Profile, Staged

TABLE = "inet romana"
"""Family and name of the one table that is ours."""

ELEMENTS_MAX = 1000
"""Elements in one command: the grammar of nft slows down on longer lists."""

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
    return "\n".join([*lines, *_contents(ruleset), ""])


def render_changes(changes: RulesetChanges) -> list[str]:
    """Transactions in their order: what is new, what leads to it, and what nothing leads to any more is taken away.

    A packet reads which rules are in force before it looks anything up (nft_do_chain). One that is on its way while a
    transaction is committed may be led to a chain whose rules it does not see: it must have been there before, and stay
    for one transaction more.
    """
    if changes.table is not None:
        return [f"add table {TABLE}\ndelete table {TABLE}\n{render_table(changes.table)}"]
    steps = (list(_additions(changes)), list(_switches(changes)), list(_removals(changes)))
    return ["".join(f"{command}\n" for command in commands) for commands in steps if commands]


def _additions(changes: RulesetChanges) -> Iterator[str]:
    """Profiles, rows and guards that are not there, with everything in them."""
    added = Ruleset(
        shape=changes.shape, rows=changes.rows.add, guards=changes.guards.add, profiles=changes.profiles.add
    )
    yield from _creation(added)
    yield from _profile_contents(added.profiles.values())
    known = lookups(changes.shape, added.rows, common=False)
    yield from _range_commands(known, {name: parts for name, parts in changes.ranges.items() if name in known})
    yield from _element_commands("add", {key: one for key, one in changes.elements.add.items() if key.map in known})


def _switches(changes: RulesetChanges) -> Iterator[str]:
    """Elements of maps that are there."""
    new = lookups(changes.shape, changes.rows.add, common=False)
    ranges = {name: parts for name, parts in changes.ranges.items() if name not in new}
    known = lookups(changes.shape, {row_of(name) for name in ranges} - {""})
    stale = {**changes.elements.remove, **dict.fromkeys(changes.elements.replace, "")}
    yield from _element_commands("delete", dict.fromkeys(stale, ""))
    yield from (f"flush {_noun(known[name])} {TABLE} {name}" for name in ranges)
    add = {key: value for key, value in changes.elements.add.items() if key.map not in new}
    yield from _element_commands("add", {**changes.elements.replace, **add})
    yield from _range_commands(known, ranges)


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


def render_elements(verb: str, elements: Mapping[Element, str]) -> str:
    """The hot path: `add` or `delete` elements in one transaction."""
    return "".join(f"{command}\n" for command in _element_commands(verb, elements))


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
        Kind.HOST: "nf_proto",
        Kind.FAILSAFE: "inet_proto . inet_service",
    }
    key = keys.get(lookup.kind, address)
    value = "" if _noun(lookup) == "set" else " : verdict"
    return f"{_noun(lookup)} {key}{value}{', interval' if lookup.is_interval else ''}"


def _profile_declarations(ruleset: Ruleset) -> dict[str, str]:
    keys = {ICMP: "icmp_type . icmp_code", ICMPV6: "icmpv6_type . icmpv6_code"}
    return {
        name: f"set {keys.get(protocol, 'inet_service')}, interval"
        for profile in ruleset.profiles.values()
        for name, (protocol, _) in profile_sets(profile).items()
    }


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
        words = f' {{ comment "{comment_text(chain.words)}"; }}' if chain.words else ""
        yield f"create chain {TABLE} {name}{words}"
        yield from (f"add rule {TABLE} {name} {rule}" for rule in chain.rules)


def _chain_removal(name: str) -> Iterator[str]:
    yield f"flush chain {TABLE} {name}"
    yield f"delete chain {TABLE} {name}"


def _contents(ruleset: Ruleset) -> Iterator[str]:
    yield from _profile_contents(ruleset.profiles.values())
    yield from _range_commands(lookups(ruleset.shape, ruleset.rows), ruleset.ranges)
    yield from _element_commands("add", ruleset.elements)


def _profile_contents(profiles: Iterable[Profile | Staged]) -> Iterator[str]:
    for profile in profiles:
        for name, (protocol, intervals) in profile_sets(profile).items():
            yield from _commands("add", name, _profile_elements(protocol, intervals))


def _profile_elements(protocol: int, intervals: Intervals) -> list[str]:
    if protocol not in (ICMP, ICMPV6):
        return [_span_text(*interval) for interval in intervals]
    return [
        f"{_span_text(*part[:2])} . {_span_text(*part[2:])}" for interval in intervals for part in icmp_parts(*interval)
    ]


def _span_text(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def _range_commands(known: Mapping[str, Lookup], ranges: Mapping[str, tuple[Range, ...]]) -> Iterator[str]:
    for name, parts in ranges.items():
        yield from _commands("add", name, [_part(known[name], part) for part in parts])


def _part(lookup: Lookup, part: Range) -> str:
    match lookup.kind:
        case Kind.FAILSAFE:
            return f"{part.first >> 16} . {part.first & 0xFFFF}"
        case Kind.SPAN:
            return _range_text(lookup.family, part)
        case Kind.HOST:
            return f"{part.first} : {ACCEPT if part.verdict == ACCEPT else f'goto {guard_name(part.verdict)}'}"
        case Kind.OWN:
            return f"{part.first} : {_verdict(part.verdict)}"
    return f"{_range_text(lookup.family, part)} : {_verdict(part.verdict)}"


def _range_text(family: Family, part: Range) -> str:
    size = part.last - part.first + 1
    if size & (size - 1) == 0 and part.first % size == 0:
        prefix = Prefix(family, part.first, family.bits - size.bit_length() + 1)
        return prefix.text if prefix.is_address else str(prefix)
    return f"{Address(family, part.first)}-{Address(family, part.last)}"


def _element_commands(verb: str, elements: Mapping[Element, str]) -> Iterator[str]:
    by_map: dict[str, list[str]] = {}
    for (name, prefix, link), value in elements.items():
        key = f'"{link}" . {prefix.text}' if link else prefix.text
        by_map.setdefault(name, []).append(f"{key} : {_jump(name, value)}" if value and verb == "add" else key)
    for name, keys in by_map.items():
        yield from _commands(verb, name, keys)


def _commands(verb: str, name: str, keys: list[str]) -> Iterator[str]:
    for start in range(0, len(keys), ELEMENTS_MAX):
        yield f"{verb} element {TABLE} {name} {{ {', '.join(keys[start : start + ELEMENTS_MAX])} }}"


def _jump(name: str, value: str) -> str:
    return f"jump {value}" if name.startswith("endpoints_") else _verdict(value)


def _verdict(value: str) -> str:
    """What is dropped goes back to the base chain, which tells of it."""
    return {ACCEPT: ACCEPT, DROP: "return"}.get(value) or f"goto {profile_name(value)}"
