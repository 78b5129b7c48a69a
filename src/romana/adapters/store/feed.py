"""What a store's watchers are told: the last transactions, in order, and those that come.

Owns a bounded log of events. Refuses to know where records are kept. Invariant: a follower sees every transaction after
its revision exactly once and in order, or is told by Conflict that the log no longer reaches back so far.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from romana.model.errors import Conflict, Unavailable
from romana.ports import StoreEvent


class Feed:
    """The log of one store; used from one event loop. `keep` is the number of transactions remembered."""

    def __init__(self, *, head: int, keep: int) -> None:
        self.head = head
        self._log: deque[tuple[int, list[StoreEvent]]] = deque(maxlen=keep)
        self._floor = head
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, revision: int, events: list[StoreEvent]) -> None:
        """A transaction became durable."""
        if len(self._log) == self._log.maxlen:
            self._floor = self._log[0][0]
        self._log.append((revision, events))
        self.head = revision
        self._wake()

    def close(self) -> None:
        """No transaction comes any more: every follower ends with Unavailable."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def follow(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        """Events under a prefix after a revision, one list per transaction; Conflict at once when that cannot be."""
        if after > self.head:
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
            for revision, events in self._since(after):
                after = revision
                mine = [event for event in events if event.key.startswith(prefix)]
                if mine:
                    yield mine
            if after < self.head:
                continue
            if self._closed:
                raise Unavailable("the store is closed")
            await changed.wait()

    def _since(self, after: int) -> list[tuple[int, list[StoreEvent]]]:
        newer = []
        for entry in reversed(self._log):
            if entry[0] <= after:
                break
            newer.append(entry)
        return newer[::-1]
