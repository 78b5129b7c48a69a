"""ports.Store in etcd. Several processes may use one store at once; what one commits all of them see.

Owns opening, reading and transactions. A transaction whose answer is lost ends with Unavailable, and may have been made
or still be made by etcd: who repeats it decides again on what is there then.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from romana.adapters.store.etcd import messages as m
from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.client import EtcdClient, WrongStore
from romana.adapters.store.etcd.gate import PATIENCE, Gatekeeper
from romana.adapters.store.etcd.layout import (
    MOST_BYTES,
    MOST_OPERATIONS,
    SCHEMA_VERSION,
    Gate,
    GateState,
    Layout,
    pack,
    unpack,
)
from romana.adapters.store.etcd.lease import EtcdLease
from romana.adapters.store.etcd.together import MOST, Small, Together
from romana.adapters.store.etcd.watcher import Watcher
from romana.adapters.store.feed import Feed
from romana.adapters.store.leases import PREFIX as LEASES
from romana.adapters.store.limits import check
from romana.model.errors import Conflict, Unavailable
from romana.ports import Record, StoreEvent, Transaction

PAGE = 2000
"""Records that one page has at most."""
UNLIMITED = 1 << 62


class EtcdStore:
    """Made by `open_etcd`."""

    def __init__(self, client: EtcdClient, layout: Layout, *, incarnation: str, head: int, keep: int) -> None:
        self._client = client
        self._layout = layout
        self._incarnation = incarnation
        self._feed = Feed(head=head, keep=keep)
        self._gates = Gatekeeper(client, layout)
        self._watcher = Watcher(client, layout, self._feed, self._gates, incarnation)
        self._known = head  # the largest revision that is known to have changed records, or `head`
        self._leases: set[EtcdLease] = set()
        self._together = Together(self._open_gate)
        self._following = asyncio.create_task(self._watcher.run())

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        found = await self._look(m.range_of(self._layout.record(key)))
        return self._record(found.kvs[0]) if found.kvs else None

    async def scan(self, prefix: str = "") -> tuple[int, list[Record]]:
        """The revision, and the records under a prefix, by key."""
        revision, pages = await self.read(prefix)
        return revision, [record async for page in pages for record in page]

    async def read(self, prefix: str = "") -> tuple[int, AsyncIterator[list[Record]]]:
        """As `scan`, in pages."""
        key, end = self._layout.records_under(prefix)
        first = await self._look(m.range_of(key, end, limit=PAGE))
        revision = first.header.revision
        return revision, self._pages(first, end, revision)

    async def commit(self, transaction: Transaction) -> int:
        """Apply it whole; a transaction of any size counts at one moment."""
        check(transaction, UNLIMITED)
        changes: list[tuple[str, bytes | None]] = [(key, None) for key in transaction.deletes]
        changes += [(key, pack(key, value)) for key, value in transaction.puts.items()]
        size = sum(len(key) + len(value or b"") for key, value in changes) + sum(map(len, transaction.compares))
        if max(len(changes), len(transaction.compares)) <= MOST and size <= MOST_BYTES:
            return await self._with_others(transaction.compares, changes, size)
        if len(changes) <= MOST_OPERATIONS and len(transaction.compares) < MOST_OPERATIONS and size <= MOST_BYTES:
            return await self._alone(transaction.compares, changes)
        return await asyncio.shield(self._large(transaction.compares, changes))

    def watch(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        """Changes after a revision."""
        if after <= max(self._feed.head, self._client.seen):
            return self._feed.follow(prefix, after, may_come=True)
        return self._watch_later(prefix, after)

    async def lease(self, name: str, seconds: float) -> EtcdLease:
        """Hold a lease; it lasts two seconds at least."""
        since = asyncio.get_running_loop().time()
        granted = await self._client.grant(max(2, math.ceil(seconds)))
        key = LEASES + name
        try:
            revision = await self._alone({key: 0}, [(key, b"{}")], lease=granted.ID)
        except BaseException as error:
            with contextlib.suppress(Unavailable):
                await self._client.revoke(granted.ID)
            if isinstance(error, Conflict):
                raise Conflict(f"the lease {name} is held") from error
            raise
        lease = EtcdLease(self._client, key=key, revision=revision, number=granted.ID, seconds=granted.TTL, since=since)
        self._leases = {lease, *(one for one in self._leases if not one.is_over)}
        return lease

    async def check(self) -> None:
        """Unavailable while a majority of the members does not answer."""
        await self._look(m.range_of(self._layout.incarnation))

    async def incarnation(self) -> str:
        """The random id of this store's history."""
        return self._incarnation

    async def close(self) -> None:
        """End leases, watches and connections."""
        for lease in self._leases:
            await lease.release()
        await self._together.close()
        self._following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._following
        await self._watcher.close()
        self._feed.close()
        await self._client.close()

    async def _look(self, operation: Any) -> Any:
        """What a read finds while no decided change is half applied; its header says at which revision."""
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            answer = await self._client.txn([], [m.range_of(self._layout.gate), operation])
            gate = answer.responses[0].response_range.kvs
            if not gate or Gate.decode(gate[0].value).state is GateState.SHUT:
                found = answer.responses[1].response_range
                found.header.CopyFrom(answer.header)
                return found
            if asyncio.get_running_loop().time() > until:
                raise Unavailable("a large change does not end; try again")
            await self._gates.heed(gate[0])

    async def _pages(self, first: Any, end: bytes, revision: int) -> AsyncIterator[list[Record]]:
        found = first
        while found.kvs:
            last = found.kvs[-1].key
            more = found.more
            yield [self._record(one) for one in found.kvs]
            if not more:
                return
            found = await self._client.range(last + b"\0", end, limit=PAGE, revision=revision)

    async def _with_others(self, compares: dict[str, int], changes: list[tuple[str, bytes | None]], size: int) -> int:
        """A transaction that may share one of etcd with others."""
        request = m.TxnRequest(compare=self._compared(compares), success=self._gates.operations(changes))
        read, written = (frozenset(map(self._layout.record, keys)) for keys in (compares, dict(changes)))
        answer = await self._together.commit(Small(request, read, written, size))
        return self._revision(answer, compares)

    async def _alone(self, compares: dict[str, int], changes: list[tuple[str, bytes | None]], lease: int = 0) -> int:
        """A transaction that is one of etcd."""
        answer = await self._open_gate(self._gates.operations(changes, lease), self._compared(compares))
        return self._revision(answer, compares)

    def _compared(self, compares: dict[str, int]) -> list[Any]:
        return [m.unchanged(self._layout.record(key), revision) for key, revision in compares.items()]

    async def _open_gate(self, operations: list[Any], compared: Sequence[Any] = ()) -> Any:
        """One transaction of etcd, made while no gate is in the way; the answer, with `succeeded` false on conflict."""
        gate = self._layout.gate
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            answer = await self._client.txn([m.unchanged(gate, 0), *compared], operations, [m.range_of(gate)])
            if answer.succeeded or not (found := answer.responses[0].response_range.kvs):
                return answer
            if asyncio.get_running_loop().time() > until:
                raise Unavailable("a large change does not end; nothing was changed, try again")
            await self._gates.heed(found[0])

    def _revision(self, answer: Any, compares: dict[str, int]) -> int:
        """The revision of a transaction; when it changed nothing, the last one that is known to have. Or Conflict."""
        if not answer.succeeded:
            raise Conflict("what was read changed meanwhile")
        # An answer has a range's or a deletion's result; that of a put is not decoded.
        changed = any(
            not one.HasField("response_delete_range") or one.response_delete_range.deleted for one in answer.responses
        )
        self._known = max(self._known, self._feed.head, *compares.values(), answer.header.revision if changed else 0)
        return int(answer.header.revision) if changed else self._known

    async def _large(self, compares: dict[str, int], changes: list[tuple[str, bytes | None]]) -> int:
        change = secrets.token_hex(8)
        with self._watcher.awaiting(change) as ended:
            await self._gates.decide(change, compares, changes)
            try:
                revision = await self._gates.complete(change)
                if revision is None:
                    async with asyncio.timeout(PATIENCE):
                        revision = await ended
            except (Unavailable, TimeoutError) as error:
                raise Unavailable("the change is decided, and is completed as soon as etcd answers") from error
        self._known = max(self._known, revision)
        return revision

    async def _watch_later(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        """From a revision that this process has not heard of: another one may have made it."""
        await self._client.range(self._layout.incarnation)
        if after > self._client.seen:
            raise Conflict(
                f"revision {after} has not been in this store (it is at {self._client.seen}); read everything again"
            )
        async for events in self._feed.follow(prefix, after, may_come=True):
            yield events

    def _record(self, found: Any) -> Record:
        return Record(self._layout.key(found.key) or "", unpack(found.value), found.mod_revision)


async def open_etcd(address: EtcdAddress, *, keep: int = 10_000) -> EtcdStore:
    """Open the store, or make it; Unavailable when etcd is away, WrongStore for a newer schema."""
    client = EtcdClient(address)
    layout = Layout(address.prefix)
    try:
        incarnation, head = await _opened(client, layout)
    except BaseException:
        await client.close()
        raise
    return EtcdStore(client, layout, incarnation=incarnation, head=head, keep=keep)


async def _opened(client: EtcdClient, layout: Layout) -> tuple[str, int]:
    """The store's incarnation, and a revision at which no decided change was under way."""
    gates = Gatekeeper(client, layout)
    until = asyncio.get_running_loop().time() + PATIENCE
    while True:
        keys = (layout.gate, layout.incarnation, layout.schema)
        answer = await client.txn([], [m.range_of(key) for key in keys])
        gate, incarnation, schema = (one.response_range.kvs for one in answer.responses)
        if gate and Gate.decode(gate[0].value).state is not GateState.SHUT:
            await gates.heed(gate[0])
        elif not incarnation:
            fresh = [
                m.put(layout.incarnation, secrets.token_hex(8).encode()),
                m.put(layout.schema, str(SCHEMA_VERSION).encode()),
            ]
            await client.txn([m.unchanged(layout.gate, 0), m.unchanged(layout.incarnation, 0)], fresh)
        elif int(schema[0].value) > SCHEMA_VERSION:
            raise WrongStore(
                f"the store in etcd under {layout.prefix} has schema {schema[0].value.decode()},"
                f" this program knows {SCHEMA_VERSION}: upgrade it"
            )
        else:
            await gates.sweep()
            return incarnation[0].value.decode(), int(answer.header.revision)
        if asyncio.get_running_loop().time() > until:
            raise Unavailable("a large change in etcd does not end; try again")
