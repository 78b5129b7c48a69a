"""Documents that are nearly right: valid ones with a few things changed, in their bytes or in their structure.

Owns the changes. Knows no format but JSON and YAML. Each document is a function of the seed and its number alone.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import yaml

TOKENS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b'"', b"'", b"{", b"}", b"[", b"]",
    b",", b":", b"\n", b"\r", b"\t", b"- ", b"---\n", b"...\n", b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ",
    b"!x ", b"? ", b"| ", b"> ", b"#", b"%YAML 9.9\n", b"@", b"`", b"null", b"~", b"true", b"NaN", b"Infinity", b"-0",
    b"1e999", b"-1e999", b"0x", b"0o9", b"9" * 30, b"9" * 5000, b"1.5", b"/", b"/33", b"/129", b"=", b";",
    b"10.0.0.0/8", b"::/0", b"0.0.0.0/0", b"2001-01-01", b"\xf0\x9f\x92\xa9", b"a" * 3000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 29, 31, 32, 64, 128, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0,
    1e308, "", " ", "\x00", "\ud800", "\u202e", "a/b", ".", "..", "*", "-", "a" * 300, "é" * 2000, "10.0.0.0/8",
    "10.0.0.1/8", "10.0.0.0/32", "0.0.0.0/0", "::/0", "fd00::/8", "fd00::/127", "255.255.255.255", "::", "1.2.3",
    "1.2.3.4/", "10.0.0.0/08", "10.0.0.0/²", "10.0.0.0/+8", "fe80::1%eth0", "٣", "0", "-1", "1e3", "tcp/0",
    "icmp/999/1", [], {},
    [[]], [{}], {"": ""}, {"a": {"a": {"a": {}}}}, [None], [0] * 50, {"version": 1}, ["10.0.0.0/8"] * 20,
)  # fmt: skip
WORDS = (
    "version", "name", "cidr", "networks", "topologies", "groups", "hosts", "map", "assignment", "kind", "apiVersion",
    "metadata", "spec", "items", "cniVersion", "prevResult", "block_length", "span_length", "tenants", "cidrs", "spare",
    "weight", "placement", "", "__class__", "a.b", "a/b", "\x00", "é", "x" * 200, "constructor", "type", "unknown",
)  # fmt: skip
DEPTHS = (10, 200, 3000, 100_000)


def document(examples: Sequence[bytes], choice: random.Random) -> bytes:
    """One nearly valid document."""
    text = choice.choice(examples)
    if choice.random() < 0.5:
        text = _restructured(text, choice)
    if choice.random() < 0.55:
        for _ in range(choice.choice((1, 1, 1, 2, 5, 20))):
            text = choice.choice(_BYTES)(text, choice, examples)
    return text


def _flip(text: bytes, choice: random.Random, _: Sequence[bytes]) -> bytes:
    at = choice.randrange(len(text) + 1)
    return text[:at] + bytes([choice.randrange(256)]) + text[at + 1 :]


def _insert(text: bytes, choice: random.Random, _: Sequence[bytes]) -> bytes:
    at = choice.randrange(len(text) + 1)
    return text[:at] + choice.choice(TOKENS) + text[at + choice.choice((0, 0, 1, 5)) :]


def _delete(text: bytes, choice: random.Random, _: Sequence[bytes]) -> bytes:
    at = choice.randrange(len(text) + 1)
    return text[:at] + text[at + choice.choice((1, 2, 10, 100, 10_000)) :]


def _repeat(text: bytes, choice: random.Random, _: Sequence[bytes]) -> bytes:
    at = choice.randrange(len(text) + 1)
    part = text[at : at + choice.choice((1, 4, 30, 200))]
    return text[:at] + part * min(choice.choice((2, 3, 50, 1000)), 20_000 // (len(part) + 1) + 2) + text[at:]


def _splice(text: bytes, choice: random.Random, examples: Sequence[bytes]) -> bytes:
    other = choice.choice(examples)
    return text[: choice.randrange(len(text) + 1)] + other[choice.randrange(len(other) + 1) :]


def _nest(text: bytes, choice: random.Random, _: Sequence[bytes]) -> bytes:
    at = choice.randrange(len(text) + 1)
    opening, closing = choice.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"(", b")"), (b"? ", b"")))
    depth = choice.choice(DEPTHS[:3])
    return text[:at] + opening * depth + (closing * depth if choice.random() < 0.5 else b"") + text[at:]


Bytes = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
_BYTES: tuple[Bytes, ...] = (_flip, _flip, _insert, _insert, _insert, _delete, _delete, _repeat, _splice, _nest)


def _restructured(text: bytes, choice: random.Random) -> bytes:
    """The document with nodes replaced, removed, renamed, repeated or exchanged; written as JSON or YAML."""
    try:
        value = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        return text
    root: list[Any] = copy.deepcopy(value)
    for _ in range(choice.choice((1, 1, 1, 2, 3, 8))):
        if not root:
            break
        place, key = choice.choice(_places(root))
        choice.choice(_CHANGES)(place, key, choice)
    return _written(root, choice)


def _places(root: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    found: list[tuple[Any, Any]] = []
    waiting = [root]
    while waiting:
        place = waiting.pop()
        keys = list(place) if isinstance(place, dict) else range(len(place)) if isinstance(place, list) else ()
        for key in keys:
            found.append((place, key))
            waiting.append(place[key])
    return found


def _replace(place: Any, key: Any, choice: random.Random) -> None:
    place[key] = copy.deepcopy(choice.choice(VALUES))


def _remove(place: Any, key: Any, _: random.Random) -> None:
    del place[key]


def _rename(place: Any, key: Any, choice: random.Random) -> None:
    if isinstance(place, dict):
        place[choice.choice(WORDS)] = place.pop(key)
    else:
        place.insert(0, place[key])


def _add(place: Any, key: Any, choice: random.Random) -> None:
    value = copy.deepcopy(choice.choice((*VALUES, place[key])))
    if isinstance(place, dict):
        place[choice.choice(WORDS)] = value
    else:
        place.append(value)


def _exchange(place: Any, key: Any, choice: random.Random) -> None:
    other = choice.choice(list(place) if isinstance(place, dict) else range(len(place)))
    place[key], place[other] = place[other], place[key]


def _multiply(place: Any, key: Any, choice: random.Random) -> None:
    if isinstance(place, list):
        place.extend(copy.deepcopy(place[key]) for _ in range(choice.choice((1, 2, 30))))
    else:
        place[key] = [copy.deepcopy(place[key])] * 3


def _deepen(place: Any, key: Any, choice: random.Random) -> None:
    wrap = choice.choice((lambda value: [value], lambda value: {"groups": [value], "name": "g"}))
    for _ in range(choice.choice((1, 5, 40, 120))):
        place[key] = wrap(place[key])


Change = Callable[[Any, Any, random.Random], None]
_CHANGES: tuple[Change, ...] = (_replace, _replace, _replace, _remove, _rename, _add, _exchange, _multiply, _deepen)


def _written(documents: list[Any], choice: random.Random) -> bytes:
    try:
        if choice.random() < 0.7 or len(documents) != 1:
            text = "\n---\n".join(json.dumps(one, ensure_ascii=choice.random() < 0.5) for one in documents)
        else:
            text = yaml.safe_dump(documents[0], allow_unicode=choice.random() < 0.5)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return b"{}"
    return text.encode(errors="surrogatepass")
