"""Links and connections of endpoints that are gone: removed after the answer, because the kernel takes its time.

Owns the list of what is still to be removed, which is durable. Invariants: a link is removed only as long as its
endpoint is gone; link and connections are gone before an endpoint with the same id, or one of the addresses, is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

import structlog

from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import RomanaError
from romana.services.agent.kernel import KernelPorts
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Backoff, Bell, Workers

log = structlog.get_logger()


class Removals:
    """The link removals of one host."""

    def __init__(self, ledger: Ledger, ports: KernelPorts, workers: Workers, backoff: Backoff) -> None:
        self.bell = Bell()
        self._ledger = ledger
        self._ports = ports
        self._workers = workers
        self._backoff = backoff
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Remove what there is, for ever; first what a crash left."""
        self.bell.ring()
        while True:
            await self.bell.wait()
            try:
                await self._remove(list(self._ledger.unlinking))
            except RomanaError as error:
                log.warning("links could not be removed", error=str(error))
                self.bell.ring()
                await self._backoff.pause()
            else:
                self._backoff.reset()

    async def finish(self, name: str, addresses: Collection[Address] = ()) -> None:
        """Remove now what is left of an endpoint, and of the last users of these addresses."""
        names = [
            gone.id
            for gone in self._ledger.unlinking.values()
            if gone.id == name or (addresses and not set(addresses).isdisjoint(gone.addresses))
        ]
        if names:
            await self._remove(names)

    async def finish_in(self, block: Prefix) -> None:
        """Remove now what is left of the last users of a block's addresses."""
        names = [gone.id for gone in self._ledger.unlinking.values() if any(map(block.contains, gone.addresses))]
        if names:
            await self._remove(names)

    async def _remove(self, names: Iterable[str]) -> None:
        async with self._busy:
            gone = [
                self._ledger.unlinking[name]
                for name in names
                if name in self._ledger.unlinking and name not in self._ledger.endpoints
            ]
            if not gone:
                return
            await self._workers.slow(self._clear, gone)
            for endpoint in gone:
                self._ledger.unlinking.pop(endpoint.id, None)

    def _clear(self, gone: Collection[Endpoint]) -> None:
        """On a worker. All at once: each request of the kernel costs more than each endpoint in it."""
        self._ports.connections.forget(address for endpoint in gone for address in endpoint.addresses)
        self._ports.links.delete(*(endpoint.link for endpoint in gone))
        self._ledger.state.unlinked(*(endpoint.id for endpoint in gone))
