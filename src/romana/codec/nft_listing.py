"""Reading our table back from a listing of nftables.

Owns the grammar of `nft -n list table inet romana` (the text, because nft 1.0.6's JSON has no comments). Invariant: a
value is answered only when the table is exactly what `codec.nft` writes for that value; anything else is ForeignTable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from romana.codec.nft import TABLE, chains, declarations, icmp_parts, table_comment
from romana.codec.nft_chains import ANY, NUMERIC, PROTOCOLS, profile_name, told
from romana.codec.text import parse_address
from romana.core.policy.profile import minus, union
from romana.core.ruleset import ACCEPT, DROP, Element, Kind, Lookup, Range, Ruleset, Shape, by_map, lookups
from romana.model.address import Address
from romana.model.policy import ICMP, ICMPV6
from romana.model.program import ACCEPT as WHOLE
from romana.model.program import DROP as NOTHING
from romana.model.program import Intervals, Profile, Staged


class ForeignTable(Exception):  # noqa: N818 - a finding, not a failure
    """The table is not one that this program writes; the sentence says where it differs."""


class _Block(msgspec.Struct):
    """A chain, map or set of a listing: its noun, the lines in it, its elements as text, its comment."""

    noun: str
    lines: list[str]
    elements: list[str]
    comment: str = ""


def parse_table(listing: str) -> Ruleset:
    """The ruleset whose table this is; ForeignTable when it is none of ours."""
    comment, blocks = _blocks(listing)
    shape = _shape(comment)
    chain_names = [name for name, block in blocks.items() if block.noun == "chain"]
    rows = {name: blocks[name].comment for name in chain_names if name.startswith(("in_", "out_"))}
    guards = {name.removeprefix("guard_"): "" for name in chain_names if name.startswith("guard_")}
    profiles: dict[str, Profile | Staged] = {}
    for name in chain_names:
        if name.startswith("profile_"):
            profile = _profile(name, blocks)
            profiles[profile.id] = profile
    for name in chain_names:
        if re.fullmatch(r"staged_[0-9a-f]+", name):
            staged = _staged(name, blocks, profiles)
            profiles[staged.id] = staged
    ruleset = Ruleset(shape=shape, rows=rows, guards=guards, profiles=profiles)
    _compare(ruleset, comment, blocks)
    elements: dict[Element, str] = {}
    ranges: dict[str, tuple[Range, ...]] = {}
    for name, lookup in lookups(shape, rows).items():
        if lookup.is_replaced_whole:
            ranges[name] = tuple(sorted(_range(text, lookup) for text in blocks[name].elements))
        else:
            elements.update(_element(name, text, lookup) for text in blocks[name].elements)
    empty: dict[str, Any] = {name: {} for name, lookup in lookups(shape, rows).items() if not lookup.is_replaced_whole}
    return msgspec.structs.replace(ruleset, **_by_ids(profiles, elements, ranges, empty))


def _by_ids(
    profiles: Iterable[str],
    elements: dict[Element, str],
    ranges: dict[str, tuple[Range, ...]],
    empty: dict[str, Any],
) -> dict[str, Any]:
    """Contents with the ids of profiles where they have the names of their chains."""
    ids = {profile_name(id_): id_ for id_ in profiles}
    return {
        "maps": {**empty, **by_map({key: ids.get(value, value) for key, value in elements.items()})},
        "ranges": {
            name: tuple(Range(part.first, part.last, ids.get(part.verdict, part.verdict)) for part in parts)
            for name, parts in ranges.items()
        },
    }


def _blocks(listing: str) -> tuple[str, dict[str, _Block]]:
    """The table's comment, and its blocks by name."""
    lines = [line.strip() for line in listing.splitlines() if line.strip()]
    if not lines or lines[0] != f"table {TABLE} {{" or lines[-1] != "}":
        raise ForeignTable(f"the listing is not one of table {TABLE}")
    comment = ""
    blocks: dict[str, _Block] = {}
    inner = iter(lines[1:-1])
    for line in inner:
        if line.startswith("comment "):
            comment = line[len("comment ") :].strip('"')
        elif match := re.fullmatch(r"(chain|map|set) (\S+) \{", line):
            blocks[match[2]] = _block(match[1], inner)
        else:
            raise ForeignTable(f"line not written by this program: {line}")
    return comment, blocks


def _block(noun: str, lines: Iterator[str]) -> _Block:
    block = _Block(noun, [], [])
    for line in lines:
        if line == "}":
            return block
        if line.startswith('comment "'):
            block.comment = line[len("comment ") :].strip('"')
        elif noun != "chain" and line.startswith("elements = {"):
            text = line[len("elements = {") :]
            while not text.endswith("}"):
                text += " " + next(lines)
            block.elements = [element.strip() for element in text[:-1].split(",")]
        else:
            block.lines.append(line)
    raise ForeignTable("the listing ends in the middle")


def _shape(comment: str) -> Shape:
    match = re.fullmatch(r"romana blocks ip4:([\d,]*) ip6:([\d,]*) rules [0-9a-f]+", comment)
    if match is None:
        raise ForeignTable(f"the table's comment is {comment!r}")
    return Shape(*(tuple(int(length) for length in text.split(",") if length) for text in match.groups()))


def _compare(ruleset: Ruleset, comment: str, blocks: dict[str, _Block]) -> None:
    """ForeignTable unless everything but the elements is exactly what we write."""
    if comment != table_comment(ruleset.shape):
        raise ForeignTable("the table was written by another version")
    expected = {name: _declaration_lines(text) for name, text in declarations(ruleset).items()}
    for name, chain in chains(ruleset).items():
        lines = (chain.hook, *chain.rules) if chain.hook else chain.rules
        expected[name] = ("chain", [_numeric(line) for line in lines])
    actual = {name: (block.noun, block.lines) for name, block in blocks.items()}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise ForeignTable(f"{name} differs: expected {expected.get(name)}, found {actual.get(name)}")


def _declaration_lines(declaration: str) -> tuple[str, list[str]]:
    noun, _, rest = declaration.partition(" ")
    kind, _, flags = rest.partition(", ")
    return noun, [f"type {kind}", *([f"flags {flags}"] if flags else [])]


def _numeric(line: str) -> str:
    for words, numbers in NUMERIC.items():
        line = line.replace(words, numbers)
    return line


def _profile(chain: str, blocks: dict[str, _Block]) -> Profile:
    """Rebuild a profile from its sets and rules; its id, a hash of the content, must be the one in its name."""
    profile = _accepted(chain, blocks, ACCEPT)
    if profile_name(profile.id) != chain:
        raise ForeignTable(f"{chain} is not the profile that its name says")
    return profile


def _staged(chain: str, blocks: dict[str, _Block], profiles: Mapping[str, Profile | Staged]) -> Staged:
    """The same for one that staged policies would change: from what is in force, and what they would change."""
    last = blocks[chain].lines[-1]
    enforced = {ACCEPT: WHOLE, f"jump {chain}_allows": NOTHING}.get(last)
    if enforced is None:
        found = profiles.get(last.removeprefix("goto profile_"))
        enforced = found if isinstance(found, Profile) else NOTHING
    parts = (f"{chain}_denies", f"{chain}_allows")
    if not blocks.keys() >= set(parts):
        raise ForeignTable(f"{chain} lacks what staged policies would change")
    denies, allows = (
        _accepted(part, blocks, told(f"would-{word}")) for part, word in zip(parts, ("deny", "allow"), strict=True)
    )
    staged = Staged(enforced, union(minus(enforced, denies), allows))
    if profile_name(staged.id) != chain:
        raise ForeignTable(f"{chain} is not the profile that its name says")
    return staged


def _accepted(chain: str, blocks: dict[str, _Block], verdict: str) -> Profile:
    """What gets a verdict in a chain."""
    rules = blocks[chain].lines
    protocols: dict[int, Intervals] = {}
    for rule in rules:
        match = re.fullmatch(r"meta l4proto (\d+) (.+)", rule)
        if match is not None and match[2] in (verdict, "return"):
            protocols.setdefault(int(match[1]), ANY if match[2] == verdict else ())
    for protocol, word in PROTOCOLS.items():
        block = blocks.get(f"{chain}_{word}")
        if block is not None:
            protocols[protocol] = _intervals(protocol, block.elements)
    return Profile(default=rules[-1:] == [verdict], protocols=tuple(sorted(protocols.items())))


def _intervals(protocol: int, elements: list[str]) -> Intervals:
    pairs: list[tuple[int, int]] = []
    if protocol not in (ICMP, ICMPV6):
        pairs = [_span(text) for text in elements]
    else:
        for text in elements:
            types, _, codes = text.partition(" . ")
            (first_type, last_type), (first_code, last_code) = _span(types), _span(codes)
            pairs.append((first_type << 8 | first_code, last_type << 8 | last_code))
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and merged[-1][1] + 1 == first:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    if protocol in (ICMP, ICMPV6) and sorted(pairs) != sorted(
        (a << 8 | c, b << 8 | d) for interval in merged for a, b, c, d in icmp_parts(*interval)
    ):
        raise ForeignTable("a set of ICMP types is not cut as this program cuts it")
    return tuple(merged)


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        return int(first), int(last or first)
    except ValueError:
        raise ForeignTable(f"element not written by this program: {text}") from None


def _element(name: str, text: str, lookup: Lookup) -> tuple[Element, str]:
    key, _, value = text.partition(" : ")
    link = ""
    if lookup.kind is Kind.SOURCE:
        link, _, key = key.partition(" . ")
    verdict = "" if lookup.kind is Kind.SOURCE and not value else _verdict(value, lookup)
    address = _address(key, lookup)
    prefix = address.supernet(lookup.length) if lookup.length else address
    if prefix.value != address.value:
        raise ForeignTable(f"{text} in {name} is not the first address of a block")
    return Element(name, prefix, link.strip('"')), verdict


def _range(text: str, lookup: Lookup) -> Range:
    key, _, value = text.partition(" : ")
    if lookup.kind is Kind.FAILSAFE:
        protocol, _, port = key.partition(" . ")
        number = _number(protocol) << 16 | _number(port)
        return Range(number, number, ACCEPT)
    if lookup.kind is Kind.OWN:
        return Range(_number(key), _number(key), _verdict(value, lookup))
    first, dash, last = key.partition("-")
    verdict = ACCEPT if lookup.kind is Kind.SPAN and not value else _verdict(value, lookup)
    if dash:
        return Range(_address(first, lookup).value, _address(last, lookup).value, verdict)
    first, slash, length = key.partition("/")
    address = _address(first, lookup)
    size = 1 << (lookup.family.bits - int(length)) if slash else 1
    return Range(address.value, address.value + size - 1, verdict)


def _number(text: str) -> int:
    if not text.isdigit():
        raise ForeignTable(f"element not written by this program: {text}")
    return int(text)


def _address(text: str, lookup: Lookup) -> Address:
    try:
        address = parse_address(text)
    except ValueError as error:
        raise ForeignTable(f"element not written by this program: {error}") from None
    if address.family is not lookup.family:
        raise ForeignTable(f"{text} is not an address of family {lookup.family:d}")
    return address


def _verdict(text: str, lookup: Lookup) -> str:
    word, _, target = text.partition(" ")
    if lookup.kind is Kind.ENDPOINT and word == "jump":
        return target
    if lookup.kind is not Kind.ENDPOINT and text == ACCEPT:
        return ACCEPT
    if lookup.kind is not Kind.ENDPOINT and text == "return":
        return DROP
    if lookup.kind is not Kind.ENDPOINT and word == "goto":
        return target
    raise ForeignTable(f"verdict not written by this program: {text}")
