"""The SQLite file of a store: its form, opening it, and reading it while it changes.

Owns the SQL. Refuses to know threads and waiting callers. Invariants: the file is held by an exclusive lock while it is
open; a snapshot's pages are as of one revision, whatever is written between them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from romana.model.errors import Conflict, Unavailable
from romana.ports import Record, StoreEvent, Transaction

SCHEMA_VERSION = 1
PAGE = 1000
"""Rows that one page looks at."""
PORTION = 64
"""Records that one statement compares or writes."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open or create the file; Unavailable when another process holds it, or it is of a newer schema, or no store."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Unavailable(f"cannot open the store {path}: {why}") from error
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # done by the store, which looks at how it ends
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS records"
            " (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID"
        )
        fresh = [("schema", str(SCHEMA_VERSION)), ("incarnation", secrets.token_hex(8)), ("head", "0")]
        connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", fresh)
        schema = int(meta(connection, "schema"))
        connection.execute("COMMIT")
    except (sqlite3.Error, ValueError) as error:
        connection.close()
        held = "locked" in str(error)
        sentence = "another romanad holds it; stop that one first" if held else f"{error}"
        raise Unavailable(f"cannot open the store {path}: {sentence}") from error
    if schema > SCHEMA_VERSION:
        connection.close()
        raise Unavailable(f"the store {path} has schema {schema}, this program knows {SCHEMA_VERSION}: upgrade it")
    return connection


def meta(connection: sqlite3.Connection, name: str) -> str:
    """What the file says of itself: `schema`, `incarnation` or `head`."""
    return str(connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])


def get(connection: sqlite3.Connection, key: str) -> Record | None:
    """The record, or None."""
    found = connection.execute("SELECT value, revision FROM records WHERE key = ?", (key,)).fetchone()
    return None if found is None else Record(key, found[0], found[1])


def stale(connection: sqlite3.Connection, compares: dict[str, int]) -> str | None:
    """A key whose revision is another one."""
    for keys in _portions(compares):
        found = dict(connection.execute(_selecting(len(keys)), keys))
        for key in keys:
            if found.get(key, 0) != compares[key]:
                return key
    return None


def apply(connection: sqlite3.Connection, transaction: Transaction, revision: int) -> list[StoreEvent]:
    """Write under a revision; what changed, which is nothing when all that is deleted was absent."""
    events = [
        StoreEvent(key, None, revision)
        for key in transaction.deletes
        if connection.execute("DELETE FROM records WHERE key = ?", (key,)).rowcount
    ]
    for keys in _portions(transaction.puts):
        rows = [part for key in keys for part in (key, transaction.puts[key], revision)]
        connection.execute(_writing(len(keys)), rows)
    events += [StoreEvent(key, value, revision) for key, value in transaction.puts.items()]
    return events


def _portions(keys: Iterable[str]) -> Iterator[list[str]]:
    """So many at a time as one statement takes: each costs the thread its turn once, whatever it is about."""
    waiting = iter(keys)
    while portion := list(itertools.islice(waiting, PORTION)):
        yield portion


@functools.cache
def _selecting(count: int) -> str:
    return "".join(["SELECT key, revision FROM records WHERE key IN (", ", ".join(["?"] * count), ")"])


@functools.cache
def _writing(count: int) -> str:
    ending = " ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision"
    return "".join(["INSERT INTO records (key, value, revision) VALUES ", ", ".join(["(?, ?, ?)"] * count), ending])


class Snapshot:
    """The records under a prefix as of a revision, page by page; `keep` is told of every change before it is made."""

    def __init__(self, prefix: str, revision: int) -> None:
        self.ended = False
        self._prefix = prefix
        self._revision = revision
        self._last = ""  # the last key that pages had
        self._kept: dict[str, Record] = {}  # as they were, of those that changed and no page had yet

    def keep(self, connection: sqlite3.Connection, transaction: Transaction) -> None:
        """Remember what this transaction is about to change."""
        for key in (*transaction.deletes, *transaction.puts):
            if key.startswith(self._prefix) and key > self._last and key not in self._kept:
                record = get(connection, key)
                if record is not None and record.revision <= self._revision:
                    self._kept[key] = record

    def page(self, connection: sqlite3.Connection) -> list[Record]:
        """The next records by key; may be empty before `ended`."""
        found: dict[str, Record] = {}
        rows = connection.execute(
            "SELECT key, value, revision FROM records WHERE key > ? AND key >= ? ORDER BY key LIMIT ?",
            (self._last, self._prefix, PAGE),
        ).fetchall()
        inside = [row for row in rows if row[0].startswith(self._prefix)] if self._prefix else rows
        self.ended = len(inside) < PAGE
        if not self.ended:
            self._last = inside[-1][0]
        if not self._kept:
            return [Record(key, value, revision) for key, value, revision in inside if revision <= self._revision]
        for key, value, revision in inside:
            if revision <= self._revision:
                found[key] = Record(key, value, revision)
        for key in [key for key in self._kept if self.ended or key <= self._last]:
            found[key] = self._kept.pop(key)
        return [found[key] for key in sorted(found)]


class EmptyFile:
    """A file without records, to be filled whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Open or create it; Unavailable when a romanad has it open, Conflict when it has records."""
        self._path = path
        self._existed = path.exists()
        self._connection = open_file(path)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM records WHERE key LIKE 'lease/%'")
        if self._connection.execute("SELECT 1 FROM records LIMIT 1").fetchone() is not None:
            self._connection.close()
            raise Conflict(f"the store {path} has records; restore into a new file, or move that one away")

    async def add(self, records: list[tuple[str, bytes]]) -> None:
        """Some of what it shall have."""
        try:
            self._connection.executemany("INSERT INTO records (key, value, revision) VALUES (?, ?, 1)", records)
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} cannot be written: {error}") from error

    async def finish(self) -> str:
        """Make all of it durable, under a new incarnation, which is the answer."""
        incarnation = secrets.token_hex(8)
        try:
            changes = [(incarnation, "incarnation"), ("1", "head")]
            self._connection.executemany("UPDATE meta SET value = ? WHERE name = ?", changes)
            self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} cannot be written: {error}") from error
        self._connection.close()
        return incarnation

    async def abandon(self) -> None:
        """Leave it as it was; after `finish`, nothing."""
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return
        self._connection.close()
        if not self._existed:
            for path in (self._path, *(self._path.with_name(self._path.name + end) for end in ("-wal", "-shm"))):
                with contextlib.suppress(OSError):
                    path.unlink()
