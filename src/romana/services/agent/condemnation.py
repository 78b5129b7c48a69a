"""Live connections, judged again when policy changes: what it forbids now is cut for good.

Owns when they are looked at. A connection that is forgotten only would be picked up in its middle, perhaps by a packet
of the other direction; so it is marked, and the table drops what is marked. Looking is a walk over all connections of
the machine, and nobody waits for it: what was plumbed meanwhile is looked at next, all at once. Invariant: after `look`
no connection of this host's endpoints is alive that the view forbids, nor marked that the view accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from romana.core.condemn import HOST, Judgement, rows_in_use
from romana.model.address import Address
from romana.model.endpoint import Endpoint
from romana.model.errors import RomanaError
from romana.model.policy import NO_FAILSAFE, Failsafe
from romana.model.program import RowIds
from romana.model.view import View
from romana.ports import Connection, Connections
from romana.services.agent.work import Backoff, Bell, Workers

log = structlog.get_logger()
NOBODYS = RowIds("", "")


class Condemnation:
    """Keeps a host's live connections within what its view accepts."""

    def __init__(
        self, connections: Connections, own: Callable[[], Collection[Address]], failsafe: Failsafe = NO_FAILSAFE
    ) -> None:
        """`own` says which addresses the host itself has."""
        self._connections = connections
        self._own = own
        self._failsafe = failsafe
        self._judged: dict[str, object] = {}
        self._doubts = 0
        self._doubts_judged = 0  # up to which `_judged` takes them in
        self._plumbed: tuple[View, Collection[Endpoint]] | None = None
        self.due = Bell()
        """Rung when something was plumbed."""
        self.tell: Callable[[list[Connection]], None] = lambda _: None
        """Called with the connections that were condemned."""

    def distrust(self) -> None:
        """The table was away: connections may have begun that it forbids. All are judged at the next look."""
        self._doubts += 1

    def plumbed(self, view: View, endpoints: Collection[Endpoint]) -> None:
        """The table says this of these endpoints now; they may not change any more."""
        self._plumbed = (view, endpoints)

    async def run(self, workers: Workers, backoff: Backoff) -> None:
        """Look after something was plumbed, for ever."""
        while True:
            await self.due.wait()
            if self._plumbed is None:
                continue
            try:
                await workers.slow(self.look, *self._plumbed)
            except RomanaError as error:
                log.warning("live connections could not be judged", error=str(error), reason=error.reason)
                self.due.ring()
                await backoff.pause()
                continue
            backoff.reset()

    def look(self, view: View, endpoints: Collection[Endpoint]) -> None:
        """Judge the connections of endpoints, and of the host, whose rows say something else than at the last look."""
        doubts = self._doubts
        judged = self._judged if doubts == self._doubts_judged else {}
        rows = rows_in_use(view, endpoints)
        changed = {id_ for id_, content in rows.items() if judged.get(id_) != content}
        if not judged and view.host_rows == NOBODYS:
            changed.discard(HOST)
        if changed:
            own = self._own()
            addresses = {address for one in endpoints if one.id in changed for address in one.addresses}
            if HOST in changed:
                addresses.update(own)
            self._judge(Judgement(view, endpoints, own, self._failsafe), addresses)
        self._judged, self._doubts_judged = rows, doubts

    def _judge(self, judgement: Judgement, addresses: Collection[Address]) -> None:
        forbidden: list[Connection] = []
        accepted: list[Connection] = []
        for one in self._connections.read(addresses):
            fine = judgement.accepts(one.source, one.destination, one.protocol, one.port, one.asked, one.source_port)
            if fine == one.condemned:
                (accepted if fine else forbidden).append(one)
        if forbidden:
            log.info("live connections are forbidden now", count=self._connections.condemn(forbidden))
            self.tell(forbidden)
        if accepted:
            self._connections.pardon(accepted)
