"""Links of endpoints that are gone: removed after the answer, because the kernel takes its time.

Owns the list of what is still to be removed, which is durable. Invariant: a link is removed only as long as its
endpoint is gone, and before an endpoint with the same id is made again.
"""

from __future__ import annotations

import asyncio

import structlog

from romana.model.errors import RomanaError
from romana.ports import Links
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Backoff, Bell, Workers

log = structlog.get_logger()


class Removals:
    """The link removals of one host."""

    def __init__(self, ledger: Ledger, links: Links, workers: Workers, backoff: Backoff) -> None:
        self.bell = Bell()
        self._ledger = ledger
        self._links = links
        self._workers = workers
        self._backoff = backoff
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Remove what there is, for ever; first what a crash left."""
        self.bell.ring()
        while True:
            await self.bell.wait()
            for name in list(self._ledger.unlinking):
                try:
                    await self.finish(name)
                except RomanaError as error:
                    log.warning("a link could not be removed", endpoint=name, error=str(error))
                    self.bell.ring()
                    await self._backoff.pause()
                else:
                    self._backoff.reset()

    async def finish(self, name: str) -> None:
        """Remove the link of an endpoint that is gone, if that is still to be done."""
        if name not in self._ledger.unlinking:
            return
        async with self._busy:
            endpoint = self._ledger.unlinking.get(name)
            if endpoint is None or name in self._ledger.endpoints:
                return
            await self._workers.slow(self._links.delete, endpoint.link)
            await self._workers.slow(self._ledger.state.unlinked, name)
            self._ledger.unlinking.pop(name, None)
