"""Records in one SQLite file: romanad's default store. No value is kept in memory.

Owns one writer thread, which alone uses the file: it puts waiting transactions into one commit, so many share one
fsync, and reads between commits. Invariants: an answer or an event is given only for what is durable (WAL, synchronous
FULL). A full disk refuses changes and nothing else, until there is space again; any other failure to write, a failed
fsync first of all, ends the store: what the file has is known only after it was opened again.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from romana.adapters.store import sqlite_file
from romana.adapters.store.feed import Feed
from romana.adapters.store.leases import LocalLease, LocalLeases
from romana.adapters.store.limits import check
from romana.adapters.store.sqlite_file import Snapshot, open_file
from romana.model.errors import Conflict, Unavailable
from romana.ports import Record, StoreEvent, Transaction

BATCH = 256
"""Transactions after which a commit takes no more."""
MOST_VALUE = 64 << 20
CHECKPOINT = 500
"""Rows and commits between two checkpoints of the write-ahead log, which takes two or three pages for each."""
T = TypeVar("T")


class _Job(NamedTuple):
    transaction: Transaction
    answer: asyncio.Future[int]


class _Look(NamedTuple):
    """Something to be done with the file between two commits."""

    function: Callable[[_Writer], Any]
    answer: asyncio.Future[Any]


class _Outcome(NamedTuple):
    """What became of a job or a look: its answer, and the events to tell watchers of."""

    answer: asyncio.Future[Any]
    value: object = None
    events: list[StoreEvent] = []
    error: Exception | None = None


class SqliteStore:
    """ports.Store in a file. Make it inside the event loop that uses it."""

    def __init__(self, path: Path, *, keep: int = 10_000) -> None:
        """Open or create the file; Unavailable when another process holds it, or it is of a newer schema."""
        self._loop = asyncio.get_running_loop()
        connection = open_file(path)
        self._incarnation = sqlite_file.meta(connection, "incarnation")
        self._failure = ""
        self._gathered: list[_Job] = []
        self._leases = LocalLeases(self)
        self._writer = _Writer(connection, self._call)
        self._feed = Feed(head=self._writer.head, keep=keep)
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def get(self, key: str) -> Record | None:
        """The record, or None; only what is durable."""
        return await self._look(lambda writer: sqlite_file.get(writer.connection, key))

    async def scan(self, prefix: str = "") -> tuple[int, list[Record]]:
        """The revision, and the records under a prefix, by key; only what is durable."""
        revision, pages = await self.read(prefix)
        return revision, [record async for page in pages for record in page]

    async def read(self, prefix: str = "") -> tuple[int, AsyncIterator[list[Record]]]:
        """As `scan`, in pages."""
        revision, snapshot = await self._look(lambda writer: (writer.head, writer.snapshot(prefix)))
        return revision, self._pages(snapshot)

    async def commit(self, transaction: Transaction) -> int:
        """Apply it whole and answer once it is durable; Conflict, or Unavailable when the file cannot be written."""
        check(transaction, MOST_VALUE)
        if self._failure:
            raise Unavailable(self._failure)
        answer: asyncio.Future[int] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Job(transaction, answer))
        return await asyncio.shield(answer)

    def _hand_over(self) -> None:
        """Give the writer what one turn of the loop has gathered: the threads change places once for all of it."""
        if self._gathered:
            self._writer.jobs.put(self._gathered)
            self._gathered = []

    def watch(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        """Changes after a revision."""
        return self._feed.follow(prefix, after)

    async def lease(self, name: str, seconds: float) -> LocalLease:  # noqa: ARG002 - this process alone has the store
        """Hold a lease."""
        return await self._leases.take(name)

    async def check(self) -> None:
        """Unavailable when the store has ended, or its disk is full."""
        await self._look(lambda writer: writer.try_writing())

    async def incarnation(self) -> str:
        """The random id of this file's history."""
        return self._incarnation

    async def close(self) -> None:
        """Write what waits, end the watches, release the file."""
        self._failure = self._failure or "the store is closed"
        self._hand_over()
        self._writer.jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._leases.end()
        self._feed.close()
        self._writer.connection.close()

    async def _look(self, function: Callable[[_Writer], T]) -> T:
        if self._failure:
            raise Unavailable(self._failure)
        answer: asyncio.Future[T] = self._loop.create_future()
        self._writer.jobs.put(_Look(function, answer))
        return await asyncio.shield(answer)

    async def _pages(self, snapshot: Snapshot) -> AsyncIterator[list[Record]]:
        try:
            while not snapshot.ended:
                page = await self._look(lambda writer: snapshot.page(writer.connection))
                if page:
                    yield page
        finally:
            unheard: asyncio.Future[None] = self._loop.create_future()
            unheard.cancel()
            self._writer.jobs.put(_Look(lambda writer: writer.snapshots.discard(snapshot), unheard))

    def _work(self) -> None:
        """The writer thread."""
        while self._writer.turn():
            pass

    def _call(self, outcomes: list[_Outcome], failure: str) -> None:
        """What the writer thread says, said in the loop."""
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for an answer
            self._loop.call_soon_threadsafe(self._tell, outcomes, failure)

    def _tell(self, outcomes: list[_Outcome], failure: str) -> None:
        for outcome in outcomes:
            if outcome.events:
                self._feed.add(outcome.events[-1].revision, outcome.events)
            if outcome.answer.done():
                continue
            if outcome.error is None:
                outcome.answer.set_result(outcome.value)
            else:
                outcome.answer.set_exception(outcome.error)
        if failure and not self._failure:
            self._failure = failure
            self._leases.end()
            self._feed.end(Unavailable(failure))


class _Writer:
    """Everything that the writer thread alone has, once it runs; others only put into `jobs`."""

    def __init__(self, connection: sqlite3.Connection, tell: Callable[[list[_Outcome], str], None]) -> None:
        self.connection = connection
        self.head = int(sqlite_file.meta(connection, "head"))
        self.snapshots: set[Snapshot] = set()
        self.jobs: queue.SimpleQueue[list[_Job] | _Look | None] = queue.SimpleQueue()
        self._tell = tell
        self._written = CHECKPOINT  # rows and commits since the last checkpoint; at first the log may hold any number
        self._failure = ""
        self._full = False

    def snapshot(self, prefix: str) -> Snapshot:
        """Begin to read as of now."""
        made = Snapshot(prefix, self.head)
        self.snapshots.add(made)
        return made

    def try_writing(self) -> None:
        """Write what is there already, when the last try found no space."""
        if self._full:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("UPDATE meta SET value = value WHERE name = 'head'")
            self.connection.execute("COMMIT")
            self._full = False

    def turn(self) -> bool:
        """Take what waits, commit it as one, look, tell; False when told to end."""
        jobs: list[_Job] = []
        looks: list[_Look] = []
        one = self.jobs.get()
        try:
            while one is not None:
                if isinstance(one, list):
                    jobs += one
                else:
                    looks.append(one)
                if len(jobs) + len(looks) >= BATCH:
                    break
                one = self.jobs.get_nowait()
        except queue.Empty:
            pass
        if jobs:
            self._tell(self._commit(jobs), self._failure)
        if looks:
            self._tell([self._done(look) for look in looks], self._failure)
        self._checkpoint()
        return one is not None

    def _commit(self, jobs: list[_Job]) -> list[_Outcome]:
        """One commit of all of them; a disk that is full gets a second try, when the log has given its space back."""
        for _ in range(2):
            try:
                self._check()
                outcomes, head = self._write(jobs)
            except Exception as error:
                refusal = self._refusal(error)
                if self._failure:
                    break
            else:
                self._full = False
                self._written += 1 + sum(len(outcome.events) for outcome in outcomes)
                self.head = head
                return outcomes
        return [_Outcome(job.answer, error=refusal) for job in jobs]

    def _write(self, jobs: list[_Job]) -> tuple[list[_Outcome], int]:
        """What comes of each, and the new head; all of it is durable."""
        outcomes = []
        head = self.head
        self.connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            key = sqlite_file.stale(self.connection, job.transaction.compares)
            if key is not None:
                outcomes.append(_Outcome(job.answer, error=Conflict(f"{key} changed meanwhile")))
                continue
            for snapshot in self.snapshots:
                snapshot.keep(self.connection, job.transaction)
            events = sqlite_file.apply(self.connection, job.transaction, head + 1)
            head += bool(events)
            outcomes.append(_Outcome(job.answer, head, events))
        if head != self.head:
            self.connection.execute("UPDATE meta SET value = ? WHERE name = 'head'", (str(head),))
        self.connection.execute("COMMIT")
        return outcomes, head

    def _done(self, look: _Look) -> _Outcome:
        try:
            self._check()
            return _Outcome(look.answer, look.function(self))
        except Exception as error:
            return _Outcome(look.answer, error=self._refusal(error))

    def _checkpoint(self) -> None:
        """Move what was written from the write-ahead log to its place, from time to time."""
        if self._written < CHECKPOINT or self._failure:
            return
        try:
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._written = 0
        except sqlite3.Error as error:
            self._refusal(error)
            self._tell([], self._failure)

    def _check(self) -> None:
        if self._failure:
            raise Unavailable(self._failure)

    def _refusal(self, error: BaseException) -> Unavailable:
        """What callers get for a failure; anything but a full disk is the store's end."""
        if isinstance(error, Unavailable):
            return error
        with contextlib.suppress(sqlite3.Error):
            self.connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # gives back what the log took
            self._full = True
            return Unavailable("the disk of the store is full: nothing was changed; free space and try again")
        self._failure = f"the store cannot be written any more: {error}; mend the disk, then start romanad again"
        return Unavailable(self._failure)
