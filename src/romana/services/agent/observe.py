"""The agent's part in a check of addresses: it says what it has, and cuts off what a person condemned.

Owns the order in which an observation is made. Refuses to judge it. Invariants: an observation lies between two
publications, so what was published before is known to the control plane and the rest is named in it; memory and kernel
are read in one step of the kernel's worker, where endpoints come and go; nothing is cut off that somebody allocated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from romana.model.errors import RomanaError
from romana.model.report import Observation
from romana.model.route import ObservedRoutes
from romana.model.view import View
from romana.ports import ControlPlane
from romana.services.agent.attachments import Attachments
from romana.services.agent.ledger import Ledger
from romana.services.agent.publisher import Publisher
from romana.services.agent.work import Backoff

log = structlog.get_logger()


class Observer:
    """Observations of one host, when the view asks for them."""

    def __init__(
        self, ledger: Ledger, control: ControlPlane, publisher: Publisher, attachments: Attachments, backoff: Backoff
    ) -> None:
        self._ledger = ledger
        self._control = control
        self._publisher = publisher
        self._attachments = attachments
        self._backoff = backoff
        self._sent = ("", 0)
        self.look: Callable[[], Awaitable[ObservedRoutes | None]] = _unseen
        """Looks at the routes of kernel and routing daemon."""

    async def run(self) -> None:
        """Answer what is asked, for ever."""
        while True:
            while not self._is_asked():
                await self._ledger.news()
            try:
                await self._cut()
                if self._is_due(self._ledger.view):
                    await self._observe()
            except RomanaError as error:
                log.warning("an observation could not be sent", error=str(error), reason=error.reason)
                await self._backoff.pause()
            else:
                self._backoff.reset()

    def _is_asked(self) -> bool:
        view = self._ledger.view
        return bool(self._ledger.epoch) and (self._is_due(view) or bool(self._condemned(view)))

    def _is_due(self, view: View) -> bool:
        """Whether an audit asks that was not answered. A restored store counts its audits anew."""
        return bool(view.audit) and (view.incarnation, view.audit) != self._sent

    def _condemned(self, view: View) -> list[str]:
        return [link for link in view.cut if link in self._ledger.orphans]

    async def _cut(self) -> None:
        for link in self._condemned(self._ledger.view):
            log.warning("cutting off a link that nobody allocated, as told", link=link)
            await self._attachments.cut(link)

    async def _observe(self) -> None:
        async with self._publisher.turn:
            observation = await self._look()
            await self._control.observe(observation)
        self._sent = (observation.incarnation, observation.number)

    async def _look(self) -> Observation:
        ledger, view = self._ledger, self._ledger.view
        # The book is read before the log: what it has taken or given back is in the log by then.
        blocks = ledger.book.blocks(ledger.clock.boottime())
        routes = await self.look()
        memory, routed = await self._attachments.held()
        uses = {
            name: {held.address: held.sequence for held in endpoint.allocations}
            for name, endpoint in memory.endpoints.items()
        }
        known = {address for held in uses.values() for address in held}
        if routes is not None:
            routes = msgspec.structs.replace(routes, unrouted=tuple(sorted(known - routed.keys())))
        entries = [one for entry in memory.pending for one in (entry.started, entry.released) if one is not None]
        changed = [one.cidr for entry in memory.pending for one in (entry.taken, entry.returned) if one is not None]
        return Observation(
            host=ledger.host,
            epoch=ledger.epoch,
            number=view.audit,
            incarnation=view.incarnation,
            revision=view.revision,
            published=self._publisher.revision,
            endpoints=uses,
            blocks=blocks,
            strays={address: link for address, link in routed.items() if address not in known},
            pending_endpoints=tuple(sorted({endpoint.id for endpoint in entries})),
            pending_blocks=tuple(sorted(set(changed))),
            routes=routes,
        )


async def _unseen() -> None:
    """Nobody looks at routes."""
