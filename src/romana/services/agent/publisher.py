"""The agent's log, made known to the control plane in order.

Owns when it is sent and again sent. Invariants: an entry leaves the log only when the control plane has it; entries
arrive in order.
"""

from __future__ import annotations

import asyncio

import structlog

from romana.model.errors import Conflict, RomanaError, Unavailable
from romana.ports import ControlPlane
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Backoff, Workers

log = structlog.get_logger()

AT_ONCE = 200
"""Entries of the log in one publication at most."""


class Publisher:
    """Publishes one host's log."""

    def __init__(self, ledger: Ledger, control: ControlPlane, workers: Workers, backoff: Backoff) -> None:
        self.problem = ""
        self.turn = asyncio.Lock()
        """Held while something is published; whoever else holds it keeps the log as it is."""
        self.revision = 0
        """At which the control plane had what was last published."""
        self._ledger = ledger
        self._control = control
        self._workers = workers
        self._backoff = backoff

    async def run(self) -> None:
        """Publish what there is, for ever."""
        self._ledger.grown.ring()
        while True:
            await self._ledger.grown.wait()
            try:
                while self._ledger.epoch:
                    async with self.turn:
                        if not await self._publish():
                            break
            except RomanaError as error:
                self._complain(error)
                self._ledger.grown.ring()
                await self._backoff.pause()
            else:
                self.problem = ""
                self._backoff.reset()

    async def flush(self) -> None:
        """Publish now what the log has; as `run`, but an error is the caller's."""
        while self._ledger.epoch:
            async with self.turn:
                if not await self._publish():
                    return
        raise Unavailable(f"host {self._ledger.host} has not reached romanad since the agent started")

    async def _publish(self) -> bool:
        """Publish the first entries; whether there may be more."""
        entries = await self._workers.slow(self._ledger.state.pending, AT_ONCE)
        if not entries:
            return False
        self.revision = await self._control.publish(self._ledger.publication(entries))
        await self._workers.slow(self._ledger.state.published, entries[-1].number)
        return len(entries) == AT_ONCE

    def _complain(self, error: RomanaError) -> None:
        """Once per problem; a control plane that is away is no news here."""
        if str(error) != self.problem and not isinstance(error, Unavailable | Conflict):
            log.error("the control plane refuses what this host did", error=str(error), reason=error.reason)
        self.problem = str(error)
