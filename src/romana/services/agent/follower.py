"""Following the host's view at the control plane, for ever.

Owns reporting in, the stream, and keeping the view on disk. Invariant: what is acted on is never older than what was
acted on before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from romana.model.errors import RomanaError
from romana.model.view import Hello
from romana.ports import ControlPlane
from romana.services.agent.ledger import Ledger
from romana.services.agent.recovery import Recovery
from romana.services.agent.work import Backoff, Bell

log = structlog.get_logger()


class Follower:
    """Keeps the ledger's view as the control plane has it."""

    def __init__(
        self, ledger: Ledger, control: ControlPlane, recovery: Recovery, hello: Callable[[], Hello], backoff: Backoff
    ) -> None:
        """`hello` makes the message to report in with, anew each time."""
        self.connected = False
        self.synced = False
        """Whether a view of the control plane came in since the agent started."""
        self.problem = ledger.no_view
        self.changed = Bell()
        self._ledger = ledger
        self._control = control
        self._recovery = recovery
        self._workers = recovery.workers
        self._hello = hello
        self._backoff = backoff
        self._to_keep = Bell()

    async def run(self) -> None:
        """Report in and follow; again whenever that ends."""
        while True:
            try:
                await self._follow()
            except RomanaError as error:
                if str(error) != self.problem:
                    log.warning("no view from romanad", error=str(error), reason=error.reason)
                self.problem = self._ledger.no_view = str(error)
            finally:
                self.connected = False
            await self._backoff.pause()

    async def keep(self) -> None:
        """Write the view to disk after it changed, for ever; many changes are one write."""
        while True:
            await self._to_keep.wait()
            text = self._ledger.view_text()
            try:
                await self._workers.slow(self._ledger.state.save_view, text)
            except RomanaError as error:
                log.warning("the view could not be kept", error=str(error))

    async def _follow(self) -> None:
        hello = await self._workers.slow(self._hello)
        welcome = await self._control.hello(hello)
        if welcome.epoch != self._ledger.joined:
            await self._recovery.begin(welcome.epoch)
        self._ledger.epoch = welcome.epoch
        self._ledger.grown.ring()
        async for change in self._control.view(self._ledger.host):
            await self._ledger.take_in(change)
            if not self.connected:
                log.info("following the view", revision=self._ledger.view.revision, epoch=welcome.epoch)
            self.connected = self.synced = True
            self.problem = ""
            self._backoff.reset()
            self.changed.ring()
            self._to_keep.ring()
            await asyncio.sleep(0)  # a burst of changes must not keep verbs waiting
