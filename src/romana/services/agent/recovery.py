"""An agent whose memory is not the one that the control plane knows: lost, cloned, or another agent was here meanwhile.

Owns what is done before anything is allocated. Invariant: an address that the agent before may have given out is either
known again, with its endpoint, or rests in full. A recovery that a restart interrupts is made again.
"""

from __future__ import annotations

import structlog

from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.ports import ControlPlane
from romana.services.agent.kernel import Kernel
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Workers

log = structlog.get_logger()


class Recovery:
    """Brings a memory and the control plane's copy together."""

    def __init__(self, ledger: Ledger, control: ControlPlane, kernel: Kernel, workers: Workers) -> None:
        self.workers = workers
        self._ledger = ledger
        self._control = control
        self._kernel = kernel
        self._epoch = 0
        self._over_at = 0

    async def begin(self, epoch: int) -> None:
        """Take in what the control plane has of this host, before the first view of an epoch that is new to us."""
        self._epoch = epoch
        self._over_at = self._ledger.clock.boottime()
        if epoch == 1:  # nobody was here before
            await self.end()
            return
        log.warning("this host had an agent with another memory; free addresses rest first", epoch=epoch)
        self._ledger.rest_first = True
        self._over_at += self._ledger.book.rest
        for endpoint in await self._control.endpoints(self._ledger.host):
            if endpoint.id not in self._ledger.endpoints:
                await self._take_in(endpoint)

    async def end(self) -> None:
        """When the rests of a recovery are over, write that memory and control plane agree."""
        if self._epoch and self._ledger.clock.boottime() >= self._over_at:
            try:
                await self.workers.slow(self._ledger.state.joined, self._epoch)
            except Unavailable as error:
                log.warning("the end of a recovery could not be written", error=str(error))
                return
            self._ledger.joined, self._epoch = self._epoch, 0

    async def _take_in(self, endpoint: Endpoint) -> None:
        alive = endpoint.link in self._ledger.orphans
        holders = filter(None, map(self._ledger.book.holder, endpoint.addresses))
        if any(holder.endpoint in self._ledger.endpoints for holder in holders):
            log.error("an address is used by two memories of this host", endpoint=endpoint.id)
            return
        await self.workers.kernel(self._ledger.state.start, endpoint)
        if alive:
            stand_in = self._ledger.orphans[endpoint.link]
            await self.workers.kernel(self._kernel.adopt, endpoint, stand_in)
        self._ledger.recover(endpoint)
        if not alive:
            await self.workers.kernel(self._ledger.state.release, endpoint, self._ledger.clock.boottime())
            self._ledger.released(endpoint)
        log.info("endpoint taken in from the control plane", endpoint=endpoint.id, alive=alive)
        self._ledger.grown.ring()
