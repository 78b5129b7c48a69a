"""Leases that etcd ends when nobody renews them.

Owns the renewal. Invariant: `lost` returns before etcd lets anybody else hold the lease, as far as the clocks of both
run at the same speed; and whatever the clocks do, a transaction that compares the lease's record fails after that.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from romana.adapters.store.etcd.client import EtcdClient
from romana.model.errors import Unavailable

log = structlog.get_logger()


class EtcdLease:
    """ports.Lease, renewed three times in its `seconds`; made when etcd has granted it (at `since`, loop time)."""

    def __init__(self, client: EtcdClient, *, key: str, revision: int, number: int, seconds: int, since: float) -> None:
        self.key = key
        self.revision = revision
        self._client = client
        self._number = number
        self._seconds = seconds
        self._until = since + seconds
        self._over = asyncio.Event()
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def lost(self) -> None:
        """Return when it is held no longer."""
        await self._over.wait()

    @property
    def is_over(self) -> bool:
        """Whether it is held no longer."""
        return self._over.is_set()

    async def release(self) -> None:
        """Give it up; when etcd is away it ends by itself."""
        if self._over.is_set():
            return
        self._end()
        with contextlib.suppress(Unavailable):
            await self._client.revoke(self._number)

    def _end(self) -> None:
        self._over.set()
        self._renewing.cancel()

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._seconds / 3)
            asked = loop.time()
            try:
                async with asyncio.timeout_at(self._until):
                    lasts = await self._client.keep_alive(self._number)
            except (Unavailable, TimeoutError):
                if loop.time() < self._until - self._seconds / 6:
                    continue
                lasts = 0
            if lasts <= 0:
                log.warning("a lease is lost", lease=self.key)
                self._over.set()
                return
            self._until = asked + lasts
