"""What hosts' kernels told of, for whoever follows it now.

Owns who follows. Nothing is kept: agents tell only while somebody wants to hear. Refuses to explain packets, which
agents have done; it names the ends that an agent does not know. Invariant: a follower who is too slow loses flows, and
is told how many.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterable

import msgspec

from romana.model.address import Address
from romana.model.flow import Flow
from romana.services.control.core import Core
from romana.services.control.hosts import bound_host
from romana.services.control.state import State

WAITING = 2000
"""Flows that wait for a follower at most."""


class FlowLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line for a follower: a flow, and how many were lost before it; or, first of all, which hosts tell."""

    flow: Flow | None = None
    hosts: tuple[str, ...] = ()
    lost: int = 0


class FlowVerbs:
    """The flows of all hosts whose agents talk to this romanad."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._followers: dict[int, _Queue] = {}
        self._number = time.monotonic_ns() >> 20  # another one than that of a romanad before

    @property
    def wanted(self) -> int:
        """A larger number for each who begins to follow; 0 while nobody does."""
        return self._number if self._followers else 0

    async def follow(self, host: str = "", seconds: float = math.inf) -> AsyncIterator[FlowLine]:
        """What hosts remember, and then flows as they are told, of one host or of all, for so many seconds."""
        mine = _Queue(host)
        key = self._number = self._number + 1
        self._followers[key] = mine
        self._core.wake_followers()
        try:
            yield FlowLine(hosts=tuple(sorted(self._core.followed_hosts)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if seconds == math.inf else seconds):
                    while True:
                        yield await mine.take()
        finally:
            del self._followers[key]
            self._core.wake_followers()

    async def tell(self, host: str, epoch: int, flows: Iterable[Flow]) -> None:
        """An agent tells. Conflict for another epoch."""
        state = self._core.state
        bound_host(state, host, epoch)
        if not self._followers:
            return
        names = {address: one.name for one in state.hosts.values() for address in one.addresses}
        for flow in flows:
            named = msgspec.structs.replace(
                flow,
                host=host,
                source_name=flow.source_name or _name(state, names, flow.packet.source),
                destination_name=flow.destination_name or _name(state, names, flow.packet.destination),
            )
            for follower in self._followers.values():
                follower.put(named)


class _Queue:
    """What waits for one follower."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._waiting: asyncio.Queue[Flow] = asyncio.Queue(WAITING)
        self._lost = 0

    def put(self, flow: Flow) -> None:
        if self._host in ("", flow.host):
            try:
                self._waiting.put_nowait(flow)
            except asyncio.QueueFull:
                self._lost += 1

    async def take(self) -> FlowLine:
        lost, self._lost = self._lost, 0
        return FlowLine(flow=await self._waiting.get(), lost=lost)


def _name(state: State, hosts: dict[Address, str], address: Address) -> str:
    """The endpoint or host that has an address."""
    id_ = state.holder(address)
    if id_ is not None and id_ in state.endpoints:
        return state.endpoints[id_].name
    return hosts.get(address, "")
