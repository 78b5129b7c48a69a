"""Following the host's view at the control plane, for ever.

Owns reporting in, the stream, and keeping the view on disk. Invariant: what is acted on is never older than what was
acted on before, and in a new stream not older than when the agent reported in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from romana.model.errors import Conflict, RomanaError
from romana.model.view import Hello, View, Welcome
from romana.ports import ControlPlane
from romana.services.agent.ledger import Ledger
from romana.services.agent.recovery import Recovery
from romana.services.agent.work import Backoff, Bell

log = structlog.get_logger()
AFTER = 0.02
"""Seconds before a view that has the same NEEDED parts goes to disk: the kernel goes first, a burst is one write."""
NEEDED = ("blocks", "identities")
"""Without these parts a restarted agent could not go on with an endpoint that has started."""


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
        self.beat = Bell()
        """Rung when the lease is to be renewed now: somebody waits for what it tells."""
        self.joined: Callable[[], None] = lambda: None
        """Called when this host may speak under the epoch that it reported in with."""
        self.epoch = 0
        """Under which the agent reported in last."""
        self.stream = 0
        """How many streams of views there were, that brought one."""
        self.kept = (ledger.view.incarnation, ledger.view.revision)
        """Incarnation and revision of the view on disk."""
        self._ledger = ledger
        self._control = control
        self._recovery = recovery
        self._workers = recovery.workers
        self._hello = hello
        self._backoff = backoff
        self._to_keep = Bell()
        self._at_once = Bell()
        self._following: asyncio.Task[None] | None = None

    def restart(self) -> None:
        """Report in again, and follow the view from its beginning."""
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        """Report in and follow; again whenever that ends."""
        while True:
            following = self._following = asyncio.create_task(self._follow())
            try:
                await asyncio.wait({following})
            finally:
                self.connected = False
                following.cancel()
                (error,) = await asyncio.gather(following, return_exceptions=True)
            if isinstance(error, RomanaError):
                if str(error) != self.problem:
                    log.warning("no view from romanad", error=str(error), reason=error.reason)
                self.problem = self._ledger.no_view = str(error)
            elif isinstance(error, Exception):
                raise error
            await self._backoff.pause()

    async def keep(self) -> None:
        """Write the view to disk after it changed, for ever; many changes are one write."""
        while True:
            await self._to_keep.wait()
            await self._at_once.wait(AFTER)
            view, settled = self._ledger.view, self._ledger.book.settled()
            try:
                await self._workers.slow(self._ledger.keep, view, settled)
            except RomanaError as error:
                log.warning("the view could not be kept", error=str(error))
                self._ledger.book.unsettle(settled)
                continue
            self.kept = (view.incarnation, view.revision)
            if view.retired:
                self.beat.ring()

    async def _follow(self) -> None:
        async with self._recovery.publishing:  # or a publication overtakes the hello, which then looks like an old one
            hello = await self._workers.slow(self._hello)
            welcome = await self._control.hello(hello)
        self.epoch = welcome.epoch
        self.beat.ring()
        recovers = await self._recovery.begin(welcome)
        if not recovers:
            self._report(welcome)
        begun = False
        async for change in self._control.view(self._ledger.host):
            if not begun:
                _check_age(change.put, welcome)
            before = self._ledger.view
            await self._ledger.take_in(change)
            if any(getattr(self._ledger.view, part) != getattr(before, part) for part in NEEDED):
                self._at_once.ring()
            if not begun:
                begun = True
                if recovers:
                    await self._recovery.confirm()
                    self._report(welcome)
                self.stream += 1
                log.info("following the view", revision=self._ledger.view.revision, epoch=welcome.epoch)
            self.connected = self.synced = True
            self.problem = ""
            self._backoff.reset()
            self.changed.ring()
            self._to_keep.ring()
            await asyncio.sleep(0)  # a burst of changes must not keep verbs waiting

    def _report(self, welcome: Welcome) -> None:
        """From now on claims and publications are of this epoch."""
        self._ledger.epoch = welcome.epoch
        self._ledger.grown.ring()
        self.joined()


def _check_age(view: View, welcome: Welcome) -> None:
    """A replica that lags behind the one that welcomed us may have things in its view that are others' by now."""
    if view.incarnation == welcome.incarnation and view.revision < welcome.revision:
        raise Conflict(
            f"this romanad is at revision {view.revision}, and the host reported in at {welcome.revision}; asking again"
        )
