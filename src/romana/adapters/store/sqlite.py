"""Records in one SQLite file: romanad's default store.

Owns the file (held by an exclusive lock) and one writer thread that puts waiting transactions into one commit, so many
share one fsync. Invariants: an answer or an event is given only for what is durable (WAL, synchronous FULL); when a
commit fails for a reason other than a compare, nothing more is written and every later call is Unavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from romana.adapters.store.feed import Feed
from romana.adapters.store.leases import LocalLease
from romana.model.errors import Conflict, Unavailable
from romana.ports import Record, StoreEvent, Transaction

SCHEMA_VERSION = 1
BATCH = 256
"""Transactions in one commit at most."""


class _Job(NamedTuple):
    transaction: Transaction
    answer: asyncio.Future[int]


class SqliteStore:
    """ports.Store in a file. Make it inside the event loop that uses it."""

    def __init__(self, path: Path, *, keep: int = 10_000) -> None:
        """Open or create the file; Unavailable when another process holds it, or it is of a newer schema."""
        self._loop = asyncio.get_running_loop()
        self._connection = _open(path)
        self._records = {
            key: Record(key, bytes(value), revision)
            for key, value, revision in self._connection.execute("SELECT key, value, revision FROM records")
        }
        meta = dict(self._connection.execute("SELECT name, value FROM meta"))
        self._incarnation = str(meta["incarnation"])
        self._feed = Feed(head=int(meta["head"]), keep=keep)
        self._failure = ""
        self._leases: set[str] = set()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="sqlite-writer", daemon=True)
        self._writer.start()

    async def get(self, key: str) -> Record | None:
        """The record, or None; only what is durable."""
        return self._records.get(key)

    async def scan(self, prefix: str = "") -> tuple[int, list[Record]]:
        """The revision, and the records under a prefix, by key; only what is durable."""
        return self._feed.head, [self._records[key] for key in sorted(self._records) if key.startswith(prefix)]

    async def commit(self, transaction: Transaction) -> int:
        """Apply it whole and answer once it is durable; Conflict, or Unavailable when the file cannot be written."""
        if self._failure:
            raise Unavailable(self._failure)
        answer: asyncio.Future[int] = self._loop.create_future()
        self._jobs.put(_Job(transaction, answer))
        return await asyncio.shield(answer)

    def watch(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        """Changes after a revision."""
        return self._feed.follow(prefix, after)

    async def lease(self, name: str, seconds: float) -> LocalLease:  # noqa: ARG002 - this process alone has the store
        """Hold a lease."""
        lease = LocalLease(self, self._leases, name)
        await lease.take()
        return lease

    async def incarnation(self) -> str:
        """The random id of this file's history."""
        return self._incarnation

    async def close(self) -> None:
        """Write what waits, end the watches, release the file."""
        self._failure = self._failure or "the store is closed"
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        self._feed.close()
        self._connection.close()

    def _write(self) -> None:
        """The writer thread: takes what waits, commits it as one, tells the loop."""
        head = self._feed.head
        revisions = {key: record.revision for key, record in self._records.items()}
        ending = False
        while not ending:
            jobs: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) == BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                ending = True
            if jobs:
                head = self._commit(jobs, head, revisions)

    def _commit(self, jobs: list[_Job], head: int, revisions: dict[str, int]) -> int:
        done: list[tuple[_Job, int, list[StoreEvent]]] = []
        refused: list[tuple[_Job, Exception]] = []
        first = head
        try:
            if self._failure and self._failure != "the store is closed":
                raise sqlite3.OperationalError(self._failure)
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                stale = next((k for k, r in job.transaction.compares.items() if revisions.get(k, 0) != r), None)
                if stale is not None:
                    refused.append((job, Conflict(f"{stale} changed meanwhile")))
                    continue
                events = _apply(self._connection, job.transaction, head + 1, revisions)
                if events:
                    head += 1
                done.append((job, head, events))
            if head != first:
                self._connection.execute("UPDATE meta SET value = ? WHERE name = 'head'", (str(head),))
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError, TypeError, ValueError, OverflowError) as error:
            self._failure = f"the store cannot be written any more: {error}; free space or mend the disk, then restart"
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            failure = Unavailable(self._failure)
            refused = [(job, failure) for job in jobs]
            done = []
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for an answer
            self._loop.call_soon_threadsafe(self._tell, done, refused)
        return head

    def _tell(self, done: list[tuple[_Job, int, list[StoreEvent]]], refused: list[tuple[_Job, Exception]]) -> None:
        for job, revision, events in done:
            for event in events:
                if event.value is None:
                    self._records.pop(event.key, None)
                else:
                    self._records[event.key] = Record(event.key, event.value, event.revision)
            if events:
                self._feed.add(revision, events)
            if not job.answer.done():
                job.answer.set_result(revision)
        for job, error in refused:
            if not job.answer.done():
                job.answer.set_exception(error)


def _apply(
    connection: sqlite3.Connection, transaction: Transaction, revision: int, revisions: dict[str, int]
) -> list[StoreEvent]:
    events = []
    for key in transaction.deletes:
        if revisions.pop(key, None) is not None:
            connection.execute("DELETE FROM records WHERE key = ?", (key,))
            events.append(StoreEvent(key, None, revision))
    for key, value in transaction.puts.items():
        connection.execute(
            "INSERT INTO records (key, value, revision) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
            (key, value, revision),
        )
        revisions[key] = revision
        events.append(StoreEvent(key, value, revision))
    return events


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS records"
            " (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID"
        )
        fresh = [("schema", str(SCHEMA_VERSION)), ("incarnation", secrets.token_hex(8)), ("head", "0")]
        connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", fresh)
        schema = int(connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()[0])
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        held = "locked" in str(error)
        sentence = "another romanad holds it; stop that one first" if held else f"{error}"
        raise Unavailable(f"cannot open the store {path.name}: {sentence}") from error
    if schema > SCHEMA_VERSION:
        connection.close()
        raise Unavailable(f"the store {path.name} has schema {schema}, this program knows {SCHEMA_VERSION}: upgrade it")
    return connection
