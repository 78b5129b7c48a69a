"""Changes that are larger than a transaction of etcd, all or nothing to everybody.

Every ordinary transaction compares that the gate is absent. A large change

1. takes the gate ("shut", under a lease, so that it vanishes with a dead owner): nobody else writes records now;
2. writes its parts beside the records, and compares everything that it must;
3. makes the gate "go", without the lease: **this is the commit point**;
4. applies part by part, each in a transaction that moves the gate on by one; the last takes gate and parts away.

Who finds a gate that says "go", also after a restart, completes it; who reads or watches records shows none of a change
whose gate still stands. Owns this protocol. Invariant: a part is applied once, in its order, and only after "go".
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from romana.adapters.store.etcd import messages as m
from romana.adapters.store.etcd.client import EtcdClient
from romana.adapters.store.etcd.layout import (
    MOST_OPERATIONS,
    Gate,
    GateState,
    Layout,
    decode_part,
    encode_part,
    parts,
)
from romana.adapters.store.leases import PREFIX as LEASES
from romana.model.errors import Conflict, Unavailable

PART = MOST_OPERATIONS - 2
"""Changes in one part at most; moving the gate, and taking the parts away, go with the last."""
PATIENCE = 15.0
"""Seconds for which a transaction waits for somebody else's large change."""
LEASE = 10
"""Seconds after which the gate of a dead owner is gone; an owner whose parts take longer gives up."""


class Gatekeeper:
    """Takes, heeds and completes gates."""

    def __init__(self, client: EtcdClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._turn = asyncio.Lock()  # of the large changes of this process

    async def heed(self, found: Any) -> None:
        """A gate is in the way (its key and value): complete it, or wait a moment; then look again."""
        gate = Gate.decode(found.value)
        if gate.state is GateState.RESTORE:
            raise Unavailable(
                "a restore into this store has not ended; if it was broken off, run `romana restore` again"
            )
        if gate.state is GateState.GO:
            await self.complete(gate.change)
        else:
            await asyncio.sleep(0.02)

    async def complete(self, change: str) -> int | None:
        """Apply what is left of a decided change; the revision of its end, None when somebody else ended it."""
        while True:
            found = await self._client.range(self._layout.gate)
            gate = Gate.decode(found.kvs[0].value) if found.kvs else None
            if gate is None or gate.change != change or gate.state is not GateState.GO:
                return None
            part = await self._client.range(self._layout.part(gate.next))
            if not part.kvs:
                await asyncio.sleep(0.01)  # somebody else was quicker
                continue
            last = gate.next + 1 == gate.parts
            success = self.operations(decode_part(part.kvs[0].value))
            if last:
                success += [m.delete(self._layout.gate), m.delete(*self._layout.changes)]
            else:
                moved = Gate(state=GateState.GO, change=change, parts=gate.parts, next=gate.next + 1)
                success.append(m.put(self._layout.gate, moved.encode()))
            held = m.unchanged(self._layout.gate, found.kvs[0].mod_revision)
            try:
                answer = await self._client.txn([held], success)
            except Unavailable:
                # Whether it was done is seen at the gate; if etcd is away, looking there says so.
                continue
            if answer.succeeded and last:
                return int(answer.header.revision)

    async def decide(self, own: str, compares: dict[str, int], changes: list[tuple[str, bytes | None]]) -> None:
        """Bring a large change, under a new id, to its commit point; it is then to be completed.

        Conflict when a compare fails. Unavailable when it was not decided, or nobody can say.
        """
        async with self._turn:
            lease = int((await self._client.grant(LEASE)).ID)
            try:
                shut = await self._take(own, lease, compares, changes)
                await self._go(own, shut)
            except BaseException:
                await asyncio.shield(self._abandon(own))
                raise
            finally:
                with contextlib.suppress(Unavailable):
                    await self._client.revoke(lease)

    async def sweep(self) -> None:
        """Take away the parts that an owner left who died before the commit point."""
        if (await self._client.range(*self._layout.changes, count_only=True)).count:
            await self._client.txn([m.unchanged(self._layout.gate, 0)], [m.delete(*self._layout.changes)])

    def operations(self, part: list[tuple[str, bytes | None]], lease: int = 0) -> list[Any]:
        """Changes as operations of etcd."""
        place = self._layout.record
        return [m.delete(place(key)) if value is None else m.put(place(key), value, lease) for key, value in part]

    async def _take(
        self, own: str, lease: int, compares: dict[str, int], changes: list[tuple[str, bytes | None]]
    ) -> _Shut:
        """The gate, shut, with all parts written and everything compared."""
        divided = parts(changes, operations=PART)
        value = Gate(state=GateState.SHUT, change=own, parts=len(divided)).encode()
        gate = self._layout.gate
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            answer = await self._client.txn(
                [m.unchanged(gate, 0)],
                [m.put(gate, value, lease), m.delete(*self._layout.changes)],
                [m.range_of(gate)],
            )
            if answer.succeeded:
                break
            if asyncio.get_running_loop().time() > until:
                raise Unavailable("other large changes do not end; try again")
            await self.heed(answer.responses[0].response_range.kvs[0])
        held = m.unchanged(gate, answer.header.revision)
        for number, part in enumerate(divided):
            _held((await self._client.txn([held], [m.put(self._layout.part(number), encode_part(part))])).succeeded)
        leased = [self._compare(key, revision) for key, revision in compares.items() if key.startswith(LEASES)]
        wanted = [self._compare(key, revision) for key, revision in compares.items()]
        for start in range(0, len(wanted), MOST_OPERATIONS - 1):
            chunk = wanted[start : start + MOST_OPERATIONS - 1]
            answer = await self._client.txn([held, *chunk], [], [m.range_of(gate)])
            if not answer.succeeded:
                found = answer.responses[0].response_range.kvs
                _held(bool(found) and Gate.decode(found[0].value).change == own)
                raise Conflict("what was read changed meanwhile")
        return _Shut(held, leased, len(divided))

    async def _go(self, own: str, shut: _Shut) -> None:
        """The commit point. Nobody but etcd itself writes records now: it ends leases, so those are compared again."""
        go = Gate(state=GateState.GO, change=own, parts=shut.parts)
        try:
            answer = await self._client.txn([shut.held, *shut.leased], [m.put(self._layout.gate, go.encode())])
        except Unavailable:
            found = await self._client.range(self._layout.gate)
            if found.kvs and (gate := Gate.decode(found.kvs[0].value)).change == own and gate.state is GateState.GO:
                return
            raise
        if not answer.succeeded:
            raise Conflict("a lease that the change needs is lost")

    async def _abandon(self, own: str) -> None:
        """Open the gate again where it is ours and shut; if etcd is away, the lease does it."""
        with contextlib.suppress(Unavailable):
            found = await self._client.range(self._layout.gate)
            if found.kvs and (gate := Gate.decode(found.kvs[0].value)).change == own and gate.state is GateState.SHUT:
                held = m.unchanged(self._layout.gate, found.kvs[0].mod_revision)
                await self._client.txn([held], [m.delete(self._layout.gate), m.delete(*self._layout.changes)])

    def _compare(self, key: str, revision: int) -> Any:
        return m.unchanged(self._layout.record(key), revision)


class _Shut:
    """What the owner of a shut gate knows: comparisons that hold it, those of leases, and the number of parts."""

    def __init__(self, held: Any, leased: list[Any], parts: int) -> None:
        self.held = held
        self.leased = leased
        self.parts = parts


def _held(whether: bool) -> None:
    if not whether:
        raise Unavailable("the large change took too long and was given up, nothing was changed; try again")
