"""Small transactions that wait at the same time, sent as one: many share one call, one log entry and one fsync.

etcd decides the comparisons of all inner transactions before it makes any of them. So only such go together of which
none writes what another one compares or writes; then it is the same as one after the other. Owns who waits. Invariant:
each inner transaction succeeds or fails by its own comparisons alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from romana.adapters.store.etcd import messages as m
from romana.adapters.store.etcd.layout import MOST_BYTES, MOST_OPERATIONS
from romana.model.errors import Unavailable

LANES = 2
"""Calls under way at once."""
MOST = MOST_OPERATIONS // 2
"""Inner transactions in one call at most, and operations or comparisons in one of them: etcd adds the two up."""


class Small(NamedTuple):
    """A transaction that may go with others: which keys it compares and writes, and about how many bytes it has."""

    request: Any
    compares: frozenset[bytes]
    writes: frozenset[bytes]
    size: int


class _Waiting(NamedTuple):
    small: Small
    answer: asyncio.Future[Any]


class Together:
    """`send` makes one transaction of etcd out of operations, while no gate is in the way."""

    def __init__(self, send: Callable[[list[Any]], Awaitable[Any]]) -> None:
        self._send = send
        self._waiting: deque[_Waiting] = deque()
        self._lanes: set[asyncio.Task[None]] = set()

    async def commit(self, small: Small) -> Any:
        """The inner answer, with the header of the outer one."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(small, answer))
        if len(self._lanes) < LANES:
            lane = asyncio.get_running_loop().create_task(self._work())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await answer

    async def close(self) -> None:
        """Nothing is sent any more."""
        for lane in list(self._lanes):
            lane.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await lane
        _fail(list(self._waiting), Unavailable("the store is closed"))

    async def _work(self) -> None:
        while self._waiting:
            batch = self._next()
            try:
                answer = await self._send([m.inner(one.small.request) for one in batch])
            except asyncio.CancelledError:
                _fail(batch, Unavailable("the store is closed"))
                raise
            except Exception as error:
                _fail(batch, error)
                continue
            for one, found in zip(batch, answer.responses, strict=True):
                inner = found.response_txn
                inner.header.CopyFrom(answer.header)
                if not one.answer.done():
                    one.answer.set_result(inner)

    def _next(self) -> list[_Waiting]:
        """Those that go together next, in the order of their coming; at least the first."""
        batch: list[_Waiting] = []
        later: list[_Waiting] = []
        compared: set[bytes] = set()
        written: set[bytes] = set()
        size = 0
        while self._waiting and len(batch) < MOST:
            one = self._waiting.popleft()
            if one.answer.done():  # who waited is gone
                continue
            small = one.small
            apart = written.isdisjoint(small.writes | small.compares) and compared.isdisjoint(small.writes)
            if batch and not (apart and size + small.size <= MOST_BYTES):
                later.append(one)
                continue
            batch.append(one)
            compared |= small.compares
            written |= small.writes
            size += small.size
        self._waiting.extendleft(reversed(later))
        return batch


def _fail(waiting: list[_Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.answer.done():
            one.answer.set_exception(error)
