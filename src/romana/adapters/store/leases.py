"""Leases of a store that one process alone uses: whoever holds a name holds it until it lets go or ends.

Owns who holds what. Invariant: the lease's record is in the store as long as it is held.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from romana.model.errors import Conflict
from romana.ports import Record, Transaction

PREFIX = "lease/"


class _Records(Protocol):
    async def get(self, key: str) -> Record | None: ...

    async def commit(self, transaction: Transaction) -> int: ...


class LocalLease:
    """ports.Lease of one process."""

    def __init__(self, store: _Records, holders: set[str], name: str) -> None:
        self.key = PREFIX + name
        self.revision = 0
        self._name = name
        self._store = store
        self._holders = holders
        self._over = asyncio.Event()

    async def take(self) -> None:
        """Hold it; Conflict while another task of this process does. What an earlier process left is taken over."""
        if self._name in self._holders:
            raise Conflict(f"the lease {self._name} is held")
        self._holders.add(self._name)
        try:
            self.revision = await self._store.commit(Transaction(puts={self.key: b"{}"}))
        except BaseException:
            self._holders.discard(self._name)
            raise

    async def lost(self) -> None:
        """Only by `release`."""
        await self._over.wait()

    async def release(self) -> None:
        """Let go."""
        if self._over.is_set():
            return
        self._over.set()
        self._holders.discard(self._name)
        await self._store.commit(Transaction(compares={self.key: self.revision}, deletes=(self.key,)))
