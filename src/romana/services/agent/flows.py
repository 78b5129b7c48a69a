"""What the kernel told of: explained, remembered for a while, and sent on while somebody wants to see it.

Owns the memory of told packets, which is small and in no way durable. Refuses to know sockets. Invariant: however many
packets are told of, a bounded number of flows is kept and sent.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

import structlog

from romana.core.flow import Explainer, key_of, merged
from romana.model.address import Address
from romana.model.errors import RomanaError
from romana.model.flow import Flow, FlowReason, Packet, ToldPacket
from romana.ports import Connection, ControlPlane
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Backoff, Bell, Sleep

log = structlog.get_logger()

KEPT = 1000
"""Flows that are remembered; the ones that were longest not told of are forgotten first."""
AT_ONCE = 200
"""Flows in one message to the control plane."""
PAUSE = 1.0
"""Seconds between two messages."""


class Flows:
    """The flows of one host. `number` grows with each one that is told of."""

    def __init__(
        self,
        ledger: Ledger,
        control: ControlPlane,
        own: Callable[[], Collection[Address]],
        backoff: Backoff,
        sleep: Sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`own` says which addresses the host itself has, `now` what time it is, in seconds since 1970."""
        self.number = 0
        self._ledger = ledger
        self._control = control
        self._own = own
        self._backoff = backoff
        self._sleep = sleep
        self._now = now
        self._kept: OrderedDict[tuple[object, ...], tuple[int, Flow]] = OrderedDict()
        self._new: OrderedDict[tuple[object, ...], Flow] = OrderedDict()
        self._news = Bell()

    def note(self, told: Iterable[ToldPacket]) -> None:
        """Packets that the kernel told of."""
        packets = list(told)
        if not packets:
            return
        explainer = Explainer(self._ledger.host, self._ledger.view, self._ledger.endpoints.values(), self._own())
        now = self._now()
        for one in packets:
            flow = explainer.flow(one, now)
            key = key_of(flow)
            self.number += 1
            _, before = self._kept.pop(key, (0, None))
            self._kept[key] = (self.number, merged(before, flow))
            self._new[key] = merged(self._new.pop(key, None), flow)
            for table in (self._kept, self._new):
                if len(table) > KEPT:
                    table.popitem(last=False)
        self._news.ring()

    def note_condemned(self, connections: Iterable[Connection]) -> None:
        """Live connections that a change of policy ended; of very many, some."""
        self.note(
            ToldPacket(
                reason=FlowReason.CONDEMNED,
                packet=Packet(source=one.source, destination=one.destination, protocol=one.protocol, port=one.port),
            )
            for one in itertools.islice(connections, AT_ONCE)
        )

    def since(self, number: int) -> list[Flow]:
        """What was told of after that number, oldest first; its counts are since the flow is remembered."""
        return [flow for at, flow in self._kept.values() if at > number]

    async def run(self) -> None:
        """While somebody wants flows, send what is remembered, and then what is new; for ever."""
        wanted = 0
        while True:
            if self._wanted != wanted:
                wanted = self._wanted
                self._new = OrderedDict((key, flow) for key, (_, flow) in self._kept.items())
            if wanted and self._new:
                await self._send()
            else:
                await self._something()

    @property
    def _wanted(self) -> int:
        return self._ledger.view.flows if self._ledger.epoch else 0

    async def _something(self) -> None:
        """Wait for a new flow, or another view."""
        waiting = {asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(self._ledger.news())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _send(self) -> None:
        batch = [self._new.popitem(last=False)[1] for _ in range(min(AT_ONCE, len(self._new)))]
        try:
            await self._control.tell_flows(self._ledger.host, self._ledger.epoch, batch)
        except RomanaError as error:
            log.info("flows could not be told", error=str(error), reason=error.reason)
            await self._backoff.pause()
            return
        self._backoff.reset()
        await self._sleep(PAUSE)
