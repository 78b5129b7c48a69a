"""Filling a store in etcd from nothing: ports.EmptyStore.

Owns the gate that keeps everybody out meanwhile. Invariant: while the gate says "restore" there is no store to anybody;
a restore that died leaves the gate, and the next one begins anew.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

from romana.adapters.store.etcd import messages as m
from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.client import EtcdClient
from romana.adapters.store.etcd.gate import LEASE
from romana.adapters.store.etcd.layout import (
    MOST_OPERATIONS,
    SCHEMA_VERSION,
    Gate,
    GateState,
    Layout,
    pack,
    parts,
)
from romana.adapters.store.leases import PREFIX as LEASES
from romana.model.errors import Conflict, RomanaError, Unavailable


class EmptyEtcd:
    """The place under a prefix, held by its gate. Made by `empty_etcd`."""

    def __init__(self, client: EtcdClient, layout: Layout, held: Any) -> None:
        self._client = client
        self._layout = layout
        self._held = held
        self._ended = False

    async def add(self, records: list[tuple[str, bytes]]) -> None:
        """Some of what it shall have."""
        stored: list[tuple[str, bytes | None]] = [(key, pack(key, value)) for key, value in records]
        for part in parts(stored, operations=MOST_OPERATIONS):
            await self._write([m.put(self._layout.record(key), value or b"") for key, value in part])

    async def finish(self) -> str:
        """Open it to everybody, under a new incarnation, which is the answer."""
        incarnation = secrets.token_hex(8)
        await self._write(
            [
                m.put(self._layout.incarnation, incarnation.encode()),
                m.put(self._layout.schema, str(SCHEMA_VERSION).encode()),
                m.delete(self._layout.gate),
            ]
        )
        self._ended = True
        await self._client.close()
        return incarnation

    async def abandon(self) -> None:
        """Leave it empty; after `finish`, nothing. Where etcd is away, the next restore does it."""
        if not self._ended:
            with contextlib.suppress(RomanaError):
                await self._write([m.delete(*self._layout.records), m.delete(self._layout.gate)])
            await self._client.close()

    async def _write(self, operations: list[Any]) -> None:
        if not (await self._client.txn([self._held], operations)).succeeded:
            raise Unavailable("another restore into the same store has begun; this one is given up")


async def empty_etcd(address: EtcdAddress) -> EmptyEtcd:
    """Take an empty place in etcd for a restore; Conflict when it is not empty, Unavailable when somebody else writes
    there.
    """
    client = EtcdClient(address)
    layout = Layout(address.prefix)
    try:
        return EmptyEtcd(client, layout, await _taken(client, layout))
    except BaseException:
        await client.close()
        raise


async def _taken(client: EtcdClient, layout: Layout) -> Any:
    """The comparison that holds the gate. Nothing is deleted before the gate is shut and the place found empty."""
    gate = (await client.range(layout.gate)).kvs
    own = secrets.token_hex(8)
    restoring = m.put(layout.gate, Gate(state=GateState.RESTORE, change=own).encode())
    clear = [m.delete(*layout.records), m.delete(*layout.changes), restoring]
    if gate and Gate.decode(gate[0].value).state is GateState.RESTORE:  # one that was broken off
        return await _step(client, layout, gate[0].mod_revision, clear)
    lease = (await client.grant(LEASE)).ID
    shut = m.put(layout.gate, Gate(state=GateState.SHUT, change=own).encode(), lease)
    held = await _step(client, layout, 0, [shut])
    try:
        await _check_empty(client, layout)
        return await _step(client, layout, held.mod_revision, clear)
    finally:
        await client.revoke(lease)


async def _check_empty(client: EtcdClient, layout: Layout) -> None:
    found = (await client.range(*layout.records, keys_only=True)).kvs
    if not all((layout.key(one.key) or "").startswith(LEASES) for one in found):
        raise Conflict(f"the store in etcd under {layout.prefix} has records; restore under another prefix")


async def _step(client: EtcdClient, layout: Layout, revision: int, operations: list[Any]) -> Any:
    """Change the gate if it is as it was at a revision; the comparison that holds it then."""
    answer = await client.txn([m.unchanged(layout.gate, revision)], operations)
    if not answer.succeeded:
        raise Unavailable(f"somebody else writes into the store in etcd under {layout.prefix}; end that first")
    return m.unchanged(layout.gate, answer.header.revision)
