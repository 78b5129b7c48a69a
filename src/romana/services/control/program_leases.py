"""Leases of the store that programs hold through a romanad: of several of one kind, only one does its work at a time.

Owns who holds which, and until when: a program says again and again that it is there, measured by this romanad's clock.
Refuses to know what the work is. Invariant: a transaction that compares a program's lease cannot commit after another
program got it, at whatever replica.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from romana.model.errors import Conflict, Fault, Invalid, RomanaError
from romana.ports import Clock, Lease
from romana.services.control.core import Core, Draft, problem_words
from romana.services.control.hosts import check_name

log = structlog.get_logger()

SHORTEST, LONGEST = 5, 300
"""Seconds."""
ROUND = 1.0
"""Seconds between two looks for leases that are over."""


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program wants to have a lease for so many seconds from now, or goes on having it."""

    holder: str
    seconds: int = 30


class ProgramLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease and the program that has it, for so many seconds more."""

    name: str
    holder: str
    seconds: int


class _Held:
    def __init__(self, holder: str, lease: Lease) -> None:
        self.holder = holder
        self.lease = lease
        self.until = 0
        self.lost = asyncio.create_task(lease.lost())


class ProgramLeases:
    """The leases that programs have through this replica. `run` must be going, or they never end."""

    def __init__(self, core: Core, clock: Clock) -> None:
        self._core = core
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._queue = asyncio.Lock()

    async def hold(self, name: str, request: LeaseRequest) -> ProgramLease:
        """Get or keep a lease; Conflict while another program has it."""
        check_name("lease", name)
        check_name("holder", request.holder)
        if not SHORTEST <= request.seconds <= LONGEST:
            raise Invalid(Fault("seconds", f"is from {SHORTEST} to {LONGEST}, not {request.seconds}"))
        async with self._queue:
            held = await self._present(name)
            if held is None:
                lease = await self._core.store.lease(name, 2.0 * SHORTEST)
                held = self._held[name] = _Held(request.holder, lease)
                await self._core.reached(lease.revision)
                log.info("a program has a lease", lease=name, holder=request.holder)
            elif held.holder != request.holder:
                raise Conflict(f"{held.holder} has the lease {name}; it is free when that one lets go of it or ends")
            held.until = self._clock.boottime() + request.seconds
            return ProgramLease(name=name, holder=held.holder, seconds=request.seconds)

    async def let_go(self, name: str, holder: str) -> None:
        """Give a lease up; one that another program has, or nobody, stays as it is."""
        async with self._queue:
            held = self._held.get(name)
            if held is not None and held.holder == holder:
                await self._drop(name)

    def all(self) -> list[ProgramLease]:
        """Those held through this replica, by name."""
        now = self._clock.boottime()
        return [
            ProgramLease(name=name, holder=held.holder, seconds=max(0, held.until - now))
            for name, held in sorted(self._held.items())
        ]

    def bind(self, draft: Draft, name: str, holder: str) -> None:
        """Have a transaction fail when the program lost its lease; Conflict when it has lost it already."""
        held = self._held.get(name)
        lost = held is None or draft.state.revisions.get(held.lease.key) != held.lease.revision
        if held is None or lost or held.holder != holder:
            raise Conflict(f"{holder} does not have the lease {name} (any more)")
        draft.compares[held.lease.key] = held.lease.revision

    async def run(self) -> None:
        """End what is over, for ever; lets go of everything at the end."""
        try:
            while True:
                await self.sweep()
                await asyncio.sleep(ROUND)
        finally:
            for name in list(self._held):
                await self._drop(name)

    async def sweep(self) -> None:
        """End what is over, once."""
        for name in list(self._held):
            try:
                async with self._queue:
                    await self._present(name)
            except RomanaError as error:
                log.warning("a lease could not be ended", lease=name, **problem_words(error))

    async def _present(self, name: str) -> _Held | None:
        """Who has it still."""
        held = self._held.get(name)
        if held is None:
            return None
        if held.lost.done() or held.until <= self._clock.boottime():
            log.warning("a program lost its lease", lease=name, holder=held.holder)
            await self._drop(name)
            return None
        return held

    async def _drop(self, name: str) -> None:
        held = self._held.pop(name)
        held.lost.cancel()
        await held.lease.release()
