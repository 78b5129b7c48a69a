"""Where things are in etcd, and in which form.

    PREFIXchange/N      the parts of a large change, while there is one
    PREFIXgate          there is a large change, or a restore; who writes anything else compares it absent
    PREFIXincarnation   the random id of this store's history
    PREFIXrecord/KEY    the records
    PREFIXschema        the version of all this

Owns names and forms. Invariant: `gate`, `incarnation` and the records are one range, so that one watch sees their
changes in order, and the parts are outside of it.
"""

from __future__ import annotations

import zlib
from enum import StrEnum

import msgspec

from romana.adapters.store.limits import too_large
from romana.model.errors import Fault, Invalid

SCHEMA_VERSION = 1
MOST_OPERATIONS = 128
"""Comparisons, and likewise operations, in one transaction of etcd at most (its --max-txn-ops)."""
MOST_BYTES = 1_300_000
"""Bytes of keys and values in one transaction at most (etcd's --max-request-bytes is 1.5 MiB)."""
MOST_VALUE = 1_200_000
"""Bytes of one value, as it is stored, at most."""
COMPRESS_FROM = 32 << 10
"""Bytes from which a value is compressed."""
_COMPRESSED, _PLAIN = b"\0z", b"\0r"


class GateState(StrEnum):
    """What the gate means to others."""

    SHUT = "shut"  # a change is being prepared: nothing of it counts yet
    GO = "go"  # it is decided: whoever finds it completes it
    RESTORE = "restore"  # the store is being filled and is none before that


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The value of the gate. `change` is a random id; the parts before `next` are applied."""

    state: GateState
    change: str
    parts: int = 0
    next: int = 0

    def encode(self) -> bytes:
        """The stored form."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(text: bytes) -> Gate:
        """The value of a stored form."""
        return msgspec.json.decode(text, type=Gate)


class Layout:
    """All names under one prefix, such as `/romana/`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.gate = f"{prefix}gate".encode()
        self.incarnation = f"{prefix}incarnation".encode()
        self.schema = f"{prefix}schema".encode()
        self.changes = (f"{prefix}change/".encode(), f"{prefix}change0".encode())
        self.records = (f"{prefix}record/".encode(), f"{prefix}record0".encode())
        self.watched = (self.gate, self.records[1])
        self._skip = len(self.records[0])

    def record(self, key: str) -> bytes:
        """Where a record is."""
        return self.records[0] + key.encode()

    def records_under(self, prefix: str) -> tuple[bytes, bytes]:
        """The range of the records under a prefix."""
        return (self.record(prefix), after_all(self.record(prefix)))

    def key(self, place: bytes) -> str | None:
        """The record's key, None when something else is there."""
        return place[self._skip :].decode() if place.startswith(self.records[0]) else None

    def part(self, number: int) -> bytes:
        """Where a part of the present change is."""
        return self.changes[0] + f"{number:08}".encode()


def after_all(prefix: bytes) -> bytes:
    """The end of the range of everything that begins with a prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def pack(key: str, value: bytes) -> bytes:
    """The stored form of a record's value; Invalid when it is too large."""
    stored = value
    if len(value) >= COMPRESS_FROM:
        stored = _COMPRESSED + zlib.compress(value, 1)
        if len(stored) >= len(value):
            stored = value
    if stored is value and value.startswith(b"\0"):
        stored = _PLAIN + value
    if len(stored) > MOST_VALUE:
        fault = too_large(key, len(stored), MOST_VALUE)
        raise Invalid(Fault(fault.path, fault.sentence if stored is value else f"compressed, {fault.sentence}"))
    return stored


def unpack(stored: bytes) -> bytes:
    """The value of a stored form."""
    if stored.startswith(_COMPRESSED):
        return zlib.decompress(stored[len(_COMPRESSED) :])
    if stored.startswith(_PLAIN):
        return stored[len(_PLAIN) :]
    return stored


def parts(changes: list[tuple[str, bytes | None]], *, operations: int) -> list[list[tuple[str, bytes | None]]]:
    """Changes (a stored value, or None to delete) in lists of as many operations and bytes as one transaction takes."""
    found: list[list[tuple[str, bytes | None]]] = []
    size = MOST_BYTES
    for key, value in changes:
        more = len(key) + len(value or b"")
        if not found or len(found[-1]) == operations or size + more > MOST_BYTES:
            found.append([])
            size = 0
        found[-1].append((key, value))
        size += more
    return found


def encode_part(part: list[tuple[str, bytes | None]]) -> bytes:
    """The stored form of a part."""
    return msgspec.msgpack.encode(part)


def decode_part(text: bytes) -> list[tuple[str, bytes | None]]:
    """The part of a stored form."""
    return msgspec.msgpack.decode(text, type=list[tuple[str, bytes | None]])
