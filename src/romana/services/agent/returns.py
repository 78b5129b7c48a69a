"""Blocks that nobody uses any more, given back to the control plane.

Owns when a block is given back. Refuses to know which blocks are idle: the address book does. Invariants: nothing is
given back on one observation, nor while the control plane is away, whose blocks are what this host then has; links and
connections of a block's last endpoints are gone before; a block that is given back is closed on disk first.
"""

from __future__ import annotations

import structlog

from romana.model.address import Prefix
from romana.model.errors import RomanaError
from romana.services.agent.follower import Follower
from romana.services.agent.ledger import Ledger
from romana.services.agent.removals import Removals
from romana.services.agent.work import Workers

log = structlog.get_logger()

Use = tuple[int, int]


class Returns:
    """What one host gives back."""

    def __init__(
        self, ledger: Ledger, follower: Follower, removals: Removals, workers: Workers, *, patience: int
    ) -> None:
        """A block has to be idle at two looks, and all the time between them, at least `patience` seconds apart."""
        self._ledger = ledger
        self._follower = follower
        self._removals = removals
        self._workers = workers
        self._patience = patience
        self._seen: dict[Prefix, tuple[Use, int]] = {}

    async def look(self) -> None:
        """Give back what was idle before and since then; what fails is tried again at later looks."""
        try:
            await self._look()
        except RomanaError as error:
            log.warning("blocks could not be given back", error=str(error), reason=error.reason)

    async def _look(self) -> None:
        if not self._follower.connected or self._ledger.joined != self._ledger.epoch:
            self._seen.clear()
            return
        now = self._ledger.clock.boottime()
        before, self._seen = self._seen, {}
        due = []
        for cidr, use in self._idle().items():
            known = before.get(cidr)
            since = known[1] if known is not None and known[0] == use else now
            self._seen[cidr] = (use, since)
            if since + self._patience <= now:
                due.append(cidr)
        if due:
            await self._give_back(due)

    async def _give_back(self, due: list[Prefix]) -> None:
        # One that is closed and still there was given back before: once more, when the log has nothing of it any more.
        waiting = bool(await self._workers.slow(self._ledger.state.pending, 1))
        for cidr in due:
            await self._removals.finish_in(cidr)
            use, _ = self._seen.pop(cidr)
            if self._idle().get(cidr) != use or (waiting and cidr in self._ledger.book.closed()):
                continue
            returned = self._ledger.book.close(cidr)
            log.info("block given back", block=str(cidr), use=returned.sequence)
            await self._workers.kernel(self._ledger.state.give_back, returned)
            self._ledger.grown.ring()

    def _idle(self) -> dict[Prefix, Use]:
        ledger = self._ledger
        return ledger.book.idle(ledger.clock.boottime(), draining=ledger.view.draining)
