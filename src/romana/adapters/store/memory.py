"""Records in memory: the fake that passes the same contract suite as the stores that last.

Owns the records, their revisions, and who watches. Invariant: `head` numbers every transaction that changed something.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

from romana.adapters.store.feed import Feed
from romana.adapters.store.leases import LocalLease, LocalLeases
from romana.adapters.store.limits import check
from romana.model.errors import Conflict
from romana.ports import Record, StoreEvent, Transaction

MOST_VALUE = 64 << 20
PAGE = 1000
"""Records in one page."""


class MemoryStore:
    """ports.Store without durability."""

    def __init__(self, keep: int = 10_000) -> None:
        self._records: dict[str, Record] = {}
        self._feed = Feed(head=0, keep=keep)
        self._leases = LocalLeases(self)
        self._incarnation = secrets.token_hex(8)

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        return self._records.get(key)

    async def scan(self, prefix: str = "") -> tuple[int, list[Record]]:
        """The revision, and the records under a prefix, by key."""
        return self._feed.head, [self._records[key] for key in sorted(self._records) if key.startswith(prefix)]

    async def read(self, prefix: str = "") -> tuple[int, AsyncIterator[list[Record]]]:
        """As `scan`, in pages."""
        revision, found = await self.scan(prefix)

        async def pages() -> AsyncIterator[list[Record]]:
            for start in range(0, len(found), PAGE):
                yield found[start : start + PAGE]

        return revision, pages()

    async def commit(self, transaction: Transaction) -> int:
        """Apply it whole, or raise Conflict."""
        check(transaction, MOST_VALUE)
        for key, revision in transaction.compares.items():
            record = self._records.get(key)
            if (record.revision if record else 0) != revision:
                raise Conflict(f"{key} changed meanwhile")
        revision = self._feed.head + 1
        gone = [key for key in transaction.deletes if self._records.pop(key, None) is not None]
        events = [StoreEvent(key, None, revision) for key in gone]
        for key, value in transaction.puts.items():
            self._records[key] = Record(key, value, revision)
            events.append(StoreEvent(key, value, revision))
        if not events:
            return self._feed.head
        self._feed.add(revision, events)
        return revision

    def watch(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        """Changes after a revision."""
        return self._feed.follow(prefix, after)

    async def lease(self, name: str, seconds: float) -> LocalLease:  # noqa: ARG002 - this process alone has the store
        """Hold a lease."""
        return await self._leases.take(name)

    async def check(self) -> None:
        """Always there."""

    async def incarnation(self) -> str:
        """The random id of this history."""
        return self._incarnation

    async def close(self) -> None:
        """End the watches."""
        self._leases.end()
        self._feed.close()
