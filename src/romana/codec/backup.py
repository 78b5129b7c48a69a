"""The form of a backup: lines of JSON, of which the first says what it is and the last whether it is whole.

    {"format": "romana-backup", "version": 1, "incarnation": ..., "revision": ..., "made_by": ...}
    {"key": "tenant/blue", "text": "..."}           one line a record, by key; "base64" where the value is no text
    {"records": 1, "sha256": ...}                   of all bytes before this line

Owns writing and reading that. Refuses to know what records mean. Invariant: a reader gives an end only for a file whose
every byte is the one that was written.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from romana.model.errors import Fault, Invalid

FORMAT = "romana-backup"
VERSION = 1


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Which store was copied, at which of its revisions, by which program."""

    format: str = FORMAT
    version: int = VERSION
    incarnation: str
    revision: int
    made_by: str


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    text: str | None = None
    base64: str | None = None


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    records: int
    sha256: str


class BackupWriter:
    """Makes the lines, without their line feeds, in order: `header`, `record` for each, `end`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._count = 0

    def header(self, *, incarnation: str, revision: int, made_by: str) -> bytes:
        """The first line."""
        return self._line(Header(incarnation=incarnation, revision=revision, made_by=made_by))

    def record(self, key: str, value: bytes) -> bytes:
        """The line of a record."""
        self._count += 1
        try:
            return self._line(_Line(key, text=value.decode()))
        except UnicodeDecodeError:
            return self._line(_Line(key, base64=b64encode(value).decode()))

    def end(self) -> bytes:
        """The last line."""
        return msgspec.json.encode(_End(self._count, self._digest.hexdigest()))

    def _line(self, value: object) -> bytes:
        line = msgspec.json.encode(value)
        self._digest.update(line + b"\n")
        return line


class BackupReader:
    """Reads the lines of a file, with their line feeds. Invalid, with the line's number, for what is not as written.

    `header` is there after the first line, `is_whole` after the last one.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self.is_whole = False
        self.count = 0
        self._number = 0
        self._last = ""
        self._digest = hashlib.sha256()

    def line(self, line: bytes) -> tuple[str, bytes] | None:
        """The record of a line, None for the first and the last one."""
        self._number += 1
        if self.is_whole:
            raise self._fault("comes after the end; the file was changed")
        if not line.endswith(b"\n"):
            raise self._fault("is cut off; take the backup again")
        if self.header is None:
            self.header = self._head(line)
            self._digest.update(line)
            return None
        if line.startswith(b'{"records":'):
            self._end(line)
            return None
        self._digest.update(line)
        self.count += 1
        return self._record(line)

    def finish(self) -> Header:
        """The header of the whole file; Invalid when its end is missing."""
        if self.header is None or not self.is_whole:
            raise Invalid(Fault("", "the end is missing: the file is cut off; take the backup again"))
        return self.header

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
        """All records of a file, and then the certainty that it was whole."""
        for line in lines:
            found = self.line(line)
            if found is not None:
                yield found
        self.finish()

    def _head(self, line: bytes) -> Header:
        try:
            found: Any = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise Invalid(Fault("", "is no backup of romana"))
        version = found.get("version")
        if version != VERSION:
            raise Invalid(Fault("", f"has version {version} of the format, this program knows {VERSION}: upgrade it"))
        header: Header = self._decode(line, Header)
        return header

    def _record(self, line: bytes) -> tuple[str, bytes]:
        found = self._decode(line, _Line)
        if found.key <= self._last:
            raise self._fault("is not in order; the file was changed")
        self._last = found.key
        try:
            return found.key, b64decode(found.base64, validate=True) if found.base64 else (found.text or "").encode()
        except (binascii.Error, UnicodeEncodeError, ValueError) as error:
            raise self._fault("cannot be read; the file was changed") from error

    def _end(self, line: bytes) -> None:
        end = self._decode(line, _End)
        if end.records != self.count:
            raise self._fault(f"says {end.records} records, the file has {self.count}; it was changed")
        if end.sha256 != self._digest.hexdigest():
            raise self._fault("has another checksum than the file; it was changed")
        self.is_whole = True

    def _decode(self, line: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._fault("cannot be read; the file was changed") from error

    def _fault(self, sentence: str) -> Invalid:
        return Invalid(Fault(f"line {self._number}", sentence))
