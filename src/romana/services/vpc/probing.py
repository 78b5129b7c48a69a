"""Whether hosts answer, asked again and again, between the rounds over route tables.

Owns the counts of probes in a row that were not answered. Refuses to know what that means. Invariant: a host that is
not asked about has no count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from romana.model.address import Address
from romana.services.agent.work import Bell

Probe = Callable[[Address], Awaitable[bool]]
AT_ONCE = 64
"""Probes on their way at a time."""


class Probing:
    """Probes of the hosts in `targets` every so many seconds; rings when enough in a row say something new."""

    def __init__(self, probe: Probe, bell: Bell, *, every: float, enough: int) -> None:
        self.targets: Mapping[str, Address] = {}
        self.unanswered: dict[str, int] = {}
        """Host -> probes in a row that it did not answer."""
        self._probe = probe
        self._bell = bell
        self._every = every
        self._enough = enough

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.gather(self.round(), asyncio.sleep(self._every))

    async def round(self) -> None:
        """Ask every host once."""
        free = asyncio.Semaphore(AT_ONCE)

        async def ask(address: Address) -> bool:
            async with free:
                return await self._probe(address)

        targets = dict(self.targets)
        answers = await asyncio.gather(*map(ask, targets.values()))
        before, self.unanswered = self.unanswered, {}
        for host, answered in zip(targets, answers, strict=True):
            count = 0 if answered else before.get(host, 0) + 1
            self.unanswered[host] = count
            if count == self._enough or (not count and before.get(host, 0) >= self._enough):
                self._bell.ring()
