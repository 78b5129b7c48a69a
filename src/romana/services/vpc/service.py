"""The loop of the program that writes VPC route tables: turn, probes and rounds together, and how it all is.

Owns when a round is made: every few seconds, at once when probes say something new, and after a failure with growing
pauses. Invariant: one round at a time; health is the last round that worked.
"""

from __future__ import annotations

import asyncio

import structlog

from romana import __version__
from romana.core.routing.vpc.decision import Decision
from romana.model.address import Address
from romana.model.errors import RomanaError
from romana.model.vpc import VpcHost
from romana.ports import Clock
from romana.services.agent.work import Backoff, Bell
from romana.services.vpc.probing import Probing
from romana.services.vpc.status import Status, host_statuses, table_statuses
from romana.services.vpc.turn import Turn
from romana.services.vpc.writer import Outcome, Writer

log = structlog.get_logger()


class VpcService:
    """Everything that goes on until the program is told to stop."""

    def __init__(
        self,
        writer: Writer,
        turn: Turn,
        clock: Clock,
        *,
        bell: Bell,
        probing: Probing | None,
        backoff: Backoff,
        every: float,
        quota: int,
    ) -> None:
        """`every` is the time between rounds, in seconds; without `probing` nobody is probed."""
        self.region = ""
        """As the cloud's adapter knows it."""
        self._writer = writer
        self._turn = turn
        self._clock = clock
        self._bell = bell
        self._probing = probing
        self._backoff = backoff
        self._every = every
        self._quota = quota
        self._outcome: Outcome | None = None
        self._problem = "no round was made yet"
        self._last_success: int | None = None

    async def run(self) -> None:
        """For ever; gives the turn up at the end."""
        await self._turn.renew()
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._turn.run())
            if self._probing is not None:
                jobs.create_task(self._probing.run())
            jobs.create_task(self._rounds())

    async def _rounds(self) -> None:
        while True:
            if await self.round():
                self._backoff.reset()
                await self._bell.wait(self._every)
            else:
                await self._backoff.pause()

    async def round(self) -> bool:
        """One round; whether it worked."""
        unanswered = self._probing.unanswered if self._probing is not None else {}
        try:
            outcome = await self._writer.round(unanswered)
        except RomanaError as error:
            if str(error) != self._problem:
                log.error("a round failed", error=str(error), reason=error.reason)
            self._problem = str(error)
            return False
        told = self._outcome.problems if self._outcome is not None else ()
        for problem in outcome.problems:
            if problem not in told:
                log.warning("not as it should be", problem=problem)
        if self._problem or (told and not outcome.problems):
            log.info("route tables are as the plan says", revision=outcome.decision.plan.revision)
        self._outcome, self._problem = outcome, ""
        self._last_success = self._clock.boottime()
        if self._probing is not None:
            self._probing.targets = probe_targets(outcome.decision)
        return True

    def status(self) -> Status:
        """How it all is now."""
        outcome, now = self._outcome, self._clock.boottime()
        return Status(
            version=__version__,
            holder=self._turn.holder,
            region=self.region,
            turn=self._turn.word,
            why=self._turn.why,
            revision=outcome.decision.plan.revision if outcome is not None else 0,
            last_success=None if self._last_success is None else now - self._last_success,
            problem=self._problem,
            problems=outcome.problems if outcome is not None else (),
            tables=table_statuses(outcome.decision, self._quota) if outcome is not None else (),
            hosts=host_statuses(outcome.decision, now) if outcome is not None else (),
        )


def probe_targets(decision: Decision) -> dict[str, Address]:
    """The hosts that relay or could, and the address at which each is probed: one that its interface has, if any."""
    asked = {name for one in decision.tables for hop in one.next_hops for name in hop.hosts}
    hosts = {host.name: host for host in decision.plan.hosts}
    found = {name: _address(decision, hosts[name]) for name in sorted(asked)}
    return {name: address for name, address in found.items() if address is not None}


def _address(decision: Decision, host: VpcHost) -> Address | None:
    own = decision.places[host.name].interface.addresses
    return next((one for one in host.addresses if one in own), next(iter(own), None))
