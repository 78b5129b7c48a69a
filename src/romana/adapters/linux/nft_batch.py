"""Elements of our table by netlink, one transaction a call.

Owns the layout of elements (include/uapi/linux/netfilter/nf_tables.h, and how libnftables arranges keys and intervals).
libnftables reads every set of the machine's ruleset before it changes an element of one of them, which takes as long as
there are many; here nothing is read. Invariant: what nft lists afterwards is what nft would have made of the same text.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Iterable, Iterator

from romana.adapters.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_CREATE,
    Netlink,
    Refusal,
    Request,
    attribute,
    nested,
    text,
)
from romana.codec.nft import TABLE
from romana.codec.nft_elements import FAMILIES, Elements, Entry, KeyType, Value

_SUBSYSTEM = 10
_NEW, _DELETE = _SUBSYSTEM << 8 | 12, _SUBSYSTEM << 8 | 14
_HEADER = struct.pack("=BBH", 1, 0, 0)  # NFPROTO_INET
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_ELEMENT = 1
_KEY, _DATA, _FLAGS, _KEY_END = 1, 2, 3, 10
_VALUE, _VERDICT = 1, 2
_CODE, _CHAIN = 1, 2
_INTERVAL_END = attribute(_FLAGS, struct.pack(">I", 1))
_CODES = {"accept": 1, "drop": 0, "return": -5, "goto": -4, "jump": -3}
_WIDTHS = {"ifname": 16, "iface_index": 4, "inet_service": 2}  # bytes, where it is not one
_MOST = 48 << 10
"""Bytes of elements in one message: their list is one attribute, which has 64 KiB at most."""


class Refused(Exception):  # noqa: N818 - told by what it says
    """The kernel did none of it: its reason, and the map or set to which it gave it."""

    def __init__(self, refusal: Refusal, name: str) -> None:
        super().__init__(f"{refusal} ({name})")
        self.errno = refusal.errno

    @property
    def is_missing(self) -> bool:
        """The table, a set, a chain or an element is not there."""
        return self.errno == errno.ENOENT

    @property
    def is_there(self) -> bool:
        """An element is there, and leads elsewhere."""
        return self.errno == errno.EEXIST


class ElementBatch:
    """One netlink socket, of the network namespace in which it was made; threads may share it."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)

    @property
    def port(self) -> int:
        """The netlink port that the changes come from."""
        return self._netlink.port

    def close(self) -> None:
        """Release the socket."""
        self._netlink.close()

    def run(self, changes: Iterable[Elements]) -> None:
        """Make all of the changes or none (Refused)."""
        requests: list[Request] = []
        names: list[str] = []
        for elements in changes:
            for request in _requests(elements):
                requests.append(request)
                names.append(elements.name)
        refused = self._netlink.transact(_SUBSYSTEM, requests) if requests else {}
        if refused:
            place = min(refused)
            raise Refused(refused[place], names[place])


def _requests(elements: Elements) -> Iterator[Request]:
    kind = _NEW if elements.verb == "add" else _DELETE
    flags = NLM_F_CREATE if elements.verb == "add" else 0
    head = _HEADER + text(_TABLE, TABLE.split()[1]) + text(_SET, elements.name)
    if elements.verb == "flush":
        yield Request(kind, flags, head)
        return
    parts: list[bytes] = []
    size = 0
    for part in _elements(elements):
        if size + len(part) > _MOST:
            yield Request(kind, flags, head + nested(_ELEMENTS, *parts))
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield Request(kind, flags, head + nested(_ELEMENTS, *parts))


def _elements(elements: Elements) -> Iterator[bytes]:
    key = elements.key
    for entry in elements.entries:
        data = nested(_DATA, _verdict(entry.verdict)) if entry.verdict else b""
        first = nested(_KEY, attribute(_VALUE, _packed(entry.first, key)))
        if not key.is_interval:
            yield nested(_ELEMENT, first, data)
        elif len(key.fields) > 1:
            last = nested(_KEY_END, attribute(_VALUE, _packed(entry.last, key)))
            yield nested(_ELEMENT, first, last, data)
        else:
            yield nested(_ELEMENT, first, data)
            yield from _end(entry, key)


def _end(entry: Entry, key: KeyType) -> Iterator[bytes]:
    """What ends an interval of one field: the first key behind it, where there is one."""
    last = int(entry.last[0])
    if last + 1 < 1 << 8 * _width(key.fields[0]):
        yield nested(_ELEMENT, nested(_KEY, attribute(_VALUE, _packed((last + 1,), key))), _INTERVAL_END)


def _packed(values: tuple[Value, ...], key: KeyType) -> bytes:
    """A key's bytes: one field as it is, several each padded to four bytes."""
    fields = [_field(field, value) for field, value in zip(key.fields, values, strict=True)]
    if len(fields) == 1:
        return fields[0]
    return b"".join(field + bytes(-len(field) % 4) for field in fields)


def _field(field: str, value: Value) -> bytes:
    width = _width(field)
    if isinstance(value, str):
        return value.encode().ljust(width, b"\0")
    return value.to_bytes(width, sys.byteorder if field == "iface_index" else "big")


def _width(field: str) -> int:
    family = FAMILIES.get(field)
    return family.bits // 8 if family is not None else _WIDTHS.get(field, 1)


def _verdict(words: str) -> bytes:
    word, _, chain = words.partition(" ")
    code = attribute(_CODE, struct.pack(">i", _CODES[word]))
    return nested(_VERDICT, code, text(_CHAIN, chain)) if chain else nested(_VERDICT, code)
