"""What is in maps and sets of our table: elements as values, and their nft text.

Owns the types of keys and how an element is spelled. Knows no map of ours. Invariant: intervals that are added together
do not overlap, and stand in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from romana.model.address import Address, Family, Prefix

Value = int | str

FAMILIES = {"ipv4_addr": Family.V4, "ipv6_addr": Family.V6}
ELEMENTS_MAX = 1000
"""Elements in one command: the grammar of nft slows down on longer lists."""


class Entry(NamedTuple):
    """One element: keys `first` to `last`, a value for each field of the key, with a verdict as nft spells it (empty
    in a set).
    """

    first: tuple[Value, ...]
    last: tuple[Value, ...]
    verdict: str = ""


class KeyType(NamedTuple):
    """What a `map` or `set` has for keys: nft's names of the fields, and whether they are intervals."""

    noun: str
    fields: tuple[str, ...]
    is_interval: bool


class Elements(NamedTuple):
    """Elements to `add` to, or to `delete` from, a map or set; `flush` takes all away."""

    verb: str
    name: str
    key: KeyType
    entries: tuple[Entry, ...] = ()

    def commands(self, table: str) -> Iterator[str]:
        """The same as nft text, for a table with this family and name."""
        if self.verb == "flush":
            yield f"flush {self.key.noun} {table} {self.name}"
            return
        for start in range(0, len(self.entries), ELEMENTS_MAX):
            texts = (_text(entry, self.key) for entry in self.entries[start : start + ELEMENTS_MAX])
            yield f"{self.verb} element {table} {self.name} {{ {', '.join(texts)} }}"


def single(*values: Value, verdict: str = "") -> Entry:
    """An element of one key."""
    return Entry(values, values, verdict)


def key_type(declaration: str) -> KeyType:
    """Of a declaration: `<set or map> <fields>[ : verdict][, interval]`."""
    noun, _, rest = declaration.partition(" ")
    kind, _, flags = rest.partition(", ")
    fields, _, _ = kind.partition(" : ")
    return KeyType(noun, tuple(fields.split(" . ")), flags == "interval")


def _text(entry: Entry, key: KeyType) -> str:
    parts = (_span(*each) for each in zip(key.fields, entry.first, entry.last, strict=True))
    text = " . ".join(parts)
    return f"{text} : {entry.verdict}" if entry.verdict else text


def _span(field: str, first: Value, last: Value) -> str:
    family = FAMILIES.get(field)
    if family is None:
        if isinstance(first, str):
            return f'"{first}"'
        return f"{first}" if first == last else f"{first}-{last}"
    start, size = int(first), int(last) - int(first) + 1
    if size & (size - 1) == 0 and start % size == 0:
        prefix = Prefix(family, start, family.bits - size.bit_length() + 1)
        return prefix.text if prefix.is_address else str(prefix)
    return f"{Address(family, start)}-{Address(family, int(last))}"
