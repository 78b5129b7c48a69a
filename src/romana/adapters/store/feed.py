"""What a store's watchers are told: the last transactions, in order, and those that come.

Owns a bounded log of events. Refuses to know where records are kept. Invariant: a follower sees every transaction after
its revision exactly once and in order, or is told by Conflict that the log no longer reaches back so far.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from romana.model.errors import Conflict, Unavailable
from romana.ports import StoreEvent

MOST_BYTES = 16 << 20
"""Bytes of keys and values that are remembered; the last transaction always is."""


class _Entry(NamedTuple):
    revision: int
    events: list[StoreEvent]
    size: int


class Feed:
    """The log of one store; used from one event loop. `keep` is the number of transactions remembered at most."""

    def __init__(self, *, head: int, keep: int, most_bytes: int = MOST_BYTES) -> None:
        self.head = head
        self._keep = keep
        self._most_bytes = most_bytes
        self._log: deque[_Entry] = deque()
        self._size = 0
        self._floor = head
        self._changed = asyncio.Event()
        self._ended: Exception | None = None

    def add(self, revision: int, events: list[StoreEvent]) -> None:
        """A transaction became durable."""
        entry = _Entry(revision, events, sum(len(event.key) + len(event.value or b"") for event in events))
        self._log.append(entry)
        self._size += entry.size
        while len(self._log) > 1 and (len(self._log) > self._keep or self._size > self._most_bytes):
            oldest = self._log.popleft()
            self._size -= oldest.size
            self._floor = oldest.revision
        self.head = revision
        self._wake()

    def end(self, error: Exception) -> None:
        """No transaction comes any more: every follower ends with this error."""
        self._ended = self._ended or error
        self._wake()

    def close(self) -> None:
        """The store is closed."""
        self.end(Unavailable("the store is closed"))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def follow(self, prefix: str, after: int, *, may_come: bool = False) -> AsyncIterator[list[StoreEvent]]:
        """Events under a prefix after a revision, one list per transaction; Conflict at once when that cannot be.

        A revision that is not here yet `may_come`.
        """
        if after > self.head and not may_come:
            raise Conflict(f"revision {after} has not been in this store (it is at {self.head}); read everything again")
        self._check(after)
        return self._follow(prefix, after)

    def _check(self, after: int) -> None:
        if after < self._floor:
            raise Conflict(f"changes after revision {after} are compacted; read everything again")

    async def _follow(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        while True:
            self._check(after)
            changed = self._changed
            for entry in self._since(after):
                after = entry.revision
                mine = [event for event in entry.events if event.key.startswith(prefix)]
                if mine:
                    yield mine
            if after < self.head:
                continue
            if self._ended is not None:
                raise self._ended
            await changed.wait()

    def _since(self, after: int) -> list[_Entry]:
        newer = []
        for entry in reversed(self._log):
            if entry.revision <= after:
                break
            newer.append(entry)
        return newer[::-1]
