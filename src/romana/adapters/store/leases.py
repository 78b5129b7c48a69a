"""Leases of a store that one process alone uses: whoever holds a name holds it until it lets go or ends.

Owns who holds what. Invariant: the lease's record is in the store as long as it is held.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from romana.model.errors import Conflict
from romana.ports import Transaction

PREFIX = "lease/"
"""What the keys of leases begin with; backups leave them out."""


class _Records(Protocol):
    async def commit(self, transaction: Transaction) -> int: ...


class LocalLease:
    """ports.Lease of one process."""

    def __init__(self, leases: LocalLeases, key: str, revision: int) -> None:
        self.key = key
        self.revision = revision
        self._leases = leases
        self._over = asyncio.Event()

    async def lost(self) -> None:
        """By `release`, or with the store."""
        await self._over.wait()

    async def release(self) -> None:
        """Let go."""
        if not self._over.is_set():
            self.end()
            with contextlib.suppress(Conflict):
                await self._leases.forget(self)

    def end(self) -> None:
        """It is held no longer."""
        self._over.set()


class LocalLeases:
    """All leases of one store."""

    def __init__(self, store: _Records) -> None:
        self._store = store
        self._held: dict[str, LocalLease | None] = {}

    async def take(self, name: str) -> LocalLease:
        """Hold it; Conflict while another task of this process does. What an earlier process left is taken over."""
        key = PREFIX + name
        if key in self._held:
            raise Conflict(f"the lease {name} is held")
        self._held[key] = None
        try:
            lease = LocalLease(self, key, await self._store.commit(Transaction(puts={key: b"{}"})))
        except BaseException:
            del self._held[key]
            raise
        self._held[key] = lease
        return lease

    async def forget(self, lease: LocalLease) -> None:
        """Take away the record of a lease that its holder let go; Conflict when it is another one's by now."""
        try:
            await self._store.commit(Transaction(compares={lease.key: lease.revision}, deletes=(lease.key,)))
        finally:
            self._held.pop(lease.key, None)

    def end(self) -> None:
        """The store has ended, and every lease with it."""
        for lease in self._held.values():
            if lease is not None:
                lease.end()
