"""Following the records: one watch of etcd, from which all watchers of this process are told.

Owns the stream, taking it up again where it broke, and the events of a large change until all of it is there.
Invariant: the feed gets each transaction once, in order, and a large change as one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import structlog

from romana.adapters.store.etcd import messages as m
from romana.adapters.store.etcd.client import EtcdClient
from romana.adapters.store.etcd.gate import Gatekeeper
from romana.adapters.store.etcd.layout import Gate, GateState, Layout, unpack
from romana.adapters.store.feed import Feed
from romana.model.errors import Conflict, RomanaError, Unavailable
from romana.ports import StoreEvent

AGAIN = 0.2
"""Seconds between two tries to take the watch up again."""
OVERDUE = 1.0
"""Seconds after which somebody else's decided change is completed here."""

log = structlog.get_logger()


class Watcher:
    """Follows from the feed's head, a revision at which no decided change was under way."""

    def __init__(self, client: EtcdClient, layout: Layout, feed: Feed, gates: Gatekeeper, incarnation: str) -> None:
        self._client = client
        self._layout = layout
        self._feed = feed
        self._gates = gates
        self._incarnation = incarnation
        self._away = False
        self._last = feed.head  # everything until this revision was taken in
        self._change = ""  # the decided change whose events are held back
        self._held: list[StoreEvent] = []
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self._helping: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def awaiting(self, change: str) -> Iterator[asyncio.Future[int]]:
        """The revision at which a change has ended, once it is in the feed; to be awaited from before it is decided."""
        self._awaited[change] = asyncio.get_running_loop().create_future()
        try:
            yield self._awaited[change]
        finally:
            del self._awaited[change]

    async def run(self) -> None:
        """Follow until the store is replaced, or its history compacted before it was read; the feed then says so."""
        while True:
            try:
                await self._follow()
            except Unavailable as error:
                if not self._away:
                    log.warning("the watch of etcd broke; taking it up again", error=str(error))
                self._away = True
                await asyncio.sleep(AGAIN)
            except RomanaError as error:
                self._feed.end(error)
                return

    async def close(self) -> None:
        """Complete nothing any more."""
        if self._helping is not None:
            self._helping.cancel()

    async def _follow(self) -> None:
        found = await self._client.range(self._layout.incarnation)
        if not found.kvs or found.kvs[0].value.decode() != self._incarnation or found.header.revision < self._last:
            raise Conflict("the store was replaced by another one, or set back; read everything again")
        key, end = self._layout.watched
        stream = await self._client.watch(
            m.WatchCreateRequest(key=key, range_end=end, start_revision=self._last + 1, progress_notify=True)
        )
        try:
            while True:
                answer = await stream.receive()
                if answer.compact_revision:
                    raise Conflict(f"etcd has compacted what came after revision {self._last}; read everything again")
                if answer.canceled:
                    raise Unavailable(f"etcd ended the watch: {answer.cancel_reason}")
                if self._away:
                    log.info("the watch of etcd goes on", revision=self._last)
                    self._away = False
                for revision, events in groupby(answer.events, key=lambda event: event.kv.mod_revision):
                    self._take(revision, events)
                    self._last = revision
                if not answer.events and not answer.created:
                    self._last = max(self._last, answer.header.revision)  # all before it was sent
        finally:
            stream.cancel()

    def _take(self, revision: int, events: Iterable[Any]) -> None:
        """One transaction of etcd."""
        records: list[StoreEvent] = []
        opened = False
        for event in events:
            key = self._layout.key(event.kv.key)
            if key is not None:
                value = unpack(event.kv.value) if event.type == m.PUT else None
                records.append(StoreEvent(key, value, revision))
            elif event.kv.key == self._layout.gate:
                opened = event.type == m.DELETE
                if not opened:
                    self._shut(Gate.decode(event.kv.value))
            elif event.kv.key == self._layout.incarnation:
                raise Conflict("the store was replaced by another one, or set back; read everything again")
        if self._change:
            self._held += records
            if opened:
                self._end(revision)
        elif records:
            self._feed.add(revision, records)

    def _shut(self, gate: Gate) -> None:
        if gate.state is GateState.RESTORE:
            raise Conflict("a backup is being restored into the store; read everything again")
        if gate.state is GateState.GO and not self._change:
            self._change = gate.change
            self._helping = asyncio.get_running_loop().create_task(self._help(gate.change))

    def _end(self, revision: int) -> None:
        """All of a large change is here."""
        if self._helping is not None:
            self._helping.cancel()
        if self._held:
            self._feed.add(revision, self._held)
        waiting = self._awaited.get(self._change)
        if waiting is not None and not waiting.done():
            waiting.set_result(revision)
        self._change, self._held = "", []

    async def _help(self, change: str) -> None:
        """Complete what its owner does not."""
        while True:
            await asyncio.sleep(OVERDUE)
            try:
                await self._gates.complete(change)
            except RomanaError as error:
                log.warning("a large change waits to be completed", error=str(error))
