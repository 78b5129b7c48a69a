"""Whose turn it is to write: of several programs of this kind, the one that has the lease.

Owns the lease, and what becomes of it while the control plane is away: then nobody can get it, so whoever had it last
goes on, but only leads routes that are there to other hosts. Invariant: who does not have the lease, and did not have
it when the control plane was last heard, writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import StrEnum

import structlog

from romana.model.errors import RomanaError, Unavailable
from romana.model.vpc import VPC_LEASE
from romana.ports import VpcControl

log = structlog.get_logger()

SECONDS = 30
"""The lease's length; it is renewed three times as often."""


class Word(StrEnum):
    """What this program may do."""

    WRITES = "writes"
    STANDS_BY = "stands by"
    FAILS_OVER_ONLY = "fails over only"


class Turn:
    """This program's part in it; `holder` is its name among those that take turns by a `lease`."""

    def __init__(self, control: VpcControl, holder: str, lease: str = VPC_LEASE) -> None:
        self.holder = holder
        self.lease = lease
        self.word = Word.STANDS_BY
        self.why = "it has not asked for its turn yet"
        self._control = control

    async def renew(self) -> None:
        """Ask for the turn, or go on having it."""
        before = self.word
        try:
            await self._control.hold_lease(self.lease, self.holder, SECONDS)
            self.word, self.why = Word.WRITES, ""
        except Unavailable as error:
            self.word = Word.STANDS_BY if before is Word.STANDS_BY else Word.FAILS_OVER_ONLY
            self.why = str(error)
        except RomanaError as error:
            self.word, self.why = Word.STANDS_BY, str(error)
        if self.word is not before:
            log.info("turn", word=self.word, why=self.why)

    async def run(self) -> None:
        """Keep it, for ever; gives it up at the end."""
        try:
            while True:
                await asyncio.sleep(SECONDS / 3)
                await self.renew()
        finally:
            await self.end()

    async def end(self) -> None:
        """Let the next one have it."""
        if self.word is not Word.STANDS_BY:
            self.word = Word.STANDS_BY
            with contextlib.suppress(RomanaError):
                await self._control.drop_lease(self.lease, self.holder)
