"""How the routing daemon of this device is, kept at hand and told to the control plane.

Owns when the daemon is asked, and when that is worth telling: when it differs from what was told last, and not more
often than every few seconds, however a link flaps. Invariant: what is told was so a moment ago.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from romana.model.daemon import DaemonReport, DaemonState
from romana.model.errors import RomanaError
from romana.model.speaker import Speaker
from romana.ports import RouteDaemon
from romana.services.agent.work import Bell, Workers

log = structlog.get_logger()

SECONDS = 3.0
"""Between two looks at the daemon."""


class Reporter:
    """The daemon of one device."""

    def __init__(
        self, device: str, daemon: RouteDaemon | None, workers: Workers, tell: Callable[[DaemonReport], Awaitable[None]]
    ) -> None:
        self.state = DaemonState()
        """As of the last look."""
        self.problem = "the routing daemon was not asked yet"
        self.speaker: Callable[[], Speaker | None] = lambda: None
        """What the daemon is to do."""
        self.trouble: Callable[[], str] = lambda: ""
        """What else went wrong with it, empty when nothing did."""
        self.is_known: Callable[[], bool] = lambda: True
        """Whether the control plane knows this device."""
        self.again: Callable[[], None] = lambda: None
        """Called when the daemon has to be told again: a password file changed, or a neighbour that has to be found out
        is not there; it may have come, or have another address.
        """
        self.bell = Bell()
        self._device = device
        self._daemon = daemon
        self._send = tell
        self._workers = workers
        self._told: DaemonReport | None = None

    async def run(self) -> None:
        """Look and tell, for ever."""
        while True:
            await self.look()
            await self._tell(
                DaemonReport(device=self._device, state=self.state, problem=self.trouble() or self.problem)
            )
            await self.bell.wait(SECONDS)

    async def look(self) -> None:
        """Ask the daemon now."""
        if self._daemon is None:
            self.problem = ""
            return
        try:
            self.state = await self._workers.slow(self._daemon.state, self.speaker())
        except RomanaError as error:
            self.state, self.problem = DaemonState(), str(error)
        else:
            self.problem = ""
        if self._misses_somebody() or await self._workers.slow(self._daemon.is_stale):
            self.again()

    def _misses_somebody(self) -> bool:
        speaker = self.speaker()
        found_out = {one.name for one in speaker.sessions if one.is_found_out} if speaker is not None else set()
        return any(one.name in found_out and not one.up for one in self.state.sessions)

    def problems(self) -> dict[str, str]:
        """Sessions that are down, with a sentence each; and the daemon, when it does not answer."""
        found = {f"session {one.name}": one.sentence for one in self.state.sessions if not one.up}
        return {"daemon": self.problem, **found} if self.problem else found

    async def _tell(self, report: DaemonReport) -> None:
        if report == self._told or not self.is_known():
            return
        try:
            await self._send(report)
        except RomanaError as error:
            log.debug("the daemon's state could not be told", error=str(error), reason=error.reason)
        else:
            self._told = report
