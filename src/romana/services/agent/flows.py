"""What the kernel told of: explained, remembered for a while, and sent on while somebody wants to see it.

Owns the memory of told packets, which is small and in no way durable. Refuses to know sockets. Invariant: however many
packets are told of, a bounded number of flows is kept and sent.
"""

from __future__ import annotations

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
IDLE = 5.0
"""Seconds after which it is looked whether anybody still wants flows."""


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
        """Live connections that a change of policy ended."""
        self.note(
            ToldPacket(
                reason=FlowReason.CONDEMNED,
                packet=Packet(source=one.source, destination=one.destination, protocol=one.protocol, port=one.port),
            )
            for one in connections
        )

    def since(self, number: int) -> list[Flow]:
        """What was told of after that number, oldest first; its counts are since the flow is remembered."""
        return [flow for at, flow in self._kept.values() if at > number]

    async def run(self) -> None:
        """While the view says that somebody wants flows, send what is remembered, and then what is new; for ever."""
        while True:
            while not self._is_wanted:
                await self._ledger.news()
            self._new = OrderedDict((key, flow) for key, (_, flow) in self._kept.items())
            while self._is_wanted:
                if self._new:
                    await self._send()
                await self._news.wait(IDLE)

    @property
    def _is_wanted(self) -> bool:
        return self._ledger.view.flows and bool(self._ledger.epoch)

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
        if self._new:
            self._news.ring()
