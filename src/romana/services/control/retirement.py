"""What is given back or lost, until others may have it.

Owns the jobs that run in one romanad alone, under a lease that every transaction of theirs compares: freeing what every
reader acknowledged, retiring empty spans, counting the silence of hosts, and taking away what a host that fenced itself
had. Invariants: silence is counted only while it is observed; a span is taken from nobody but a host whose own lease
must be over, and never because of one observation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import structlog

from romana.codec.records import HOST, RETIRED, SEEN, SPAN, Seen
from romana.core.ipam.retirement import acknowledged, empty_spans
from romana.model.address import Prefix
from romana.model.errors import Conflict, RomanaError
from romana.model.ipam import Retired, Span
from romana.model.topology import Host
from romana.ports import Lease
from romana.services.control.core import Core, Draft, problem_words
from romana.services.control.hosts import take_away
from romana.services.control.liveness import AT_ONCE, HostSettings, Liveness
from romana.services.control.settled import check_settled
from romana.services.control.state import State

log = structlog.get_logger()

PERSIST = 300
"""Seconds of silence after which it is written down."""
MARGIN = 900
"""Seconds on top of lease and rest: more than was ever counted before it was written (PERSIST), than a replica answers
after it lost touch with the store, and than an agent needs to fence itself."""
LOOK = 60
"""Seconds between two looks for empty spans at most."""

Job = Callable[[Lease], Awaitable[None]]


class Retirement:
    """The jobs. `run` must be going in every replica; each job does its work in one of them."""

    def __init__(self, core: Core, liveness: Liveness) -> None:
        self._core = core
        self._liveness = liveness
        self._empty: dict[Prefix, int] = {}  # span -> since when it was seen empty
        self._silent: dict[str, int] = {}  # host -> seconds not written yet
        self._counted_at: int | None = None
        self._looked_at: int | None = None

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._under("retirement", self.retire))
            jobs.create_task(self._under("hosts", self.watch))

    async def retire(self, lease: Lease) -> None:
        """One round: free what every reader acknowledged, and retire spans that are empty."""
        await self._core.reached(lease.revision)
        state = self._core.state
        if state.unsettled:
            return
        while self._free(state, None):
            _, freed = await self._core.commit(lambda state, draft: self._free(state, _bound(state, draft, lease)))
            if freed:
                log.info("free again", cidrs=[str(one.cidr) for one in freed])
        now = self._liveness.clock.boottime()
        if self._looked_at is not None and now - self._looked_at < min(LOOK, self._liveness.settings.empty):
            return
        self._looked_at = now
        for span in await self._idle(state):

            def decide(state: State, draft: Draft, span: Span = span) -> bool:
                return _retire_span(state, _bound(state, draft, lease), span)

            _, retired = await self._core.commit(decide)
            if retired:
                log.info("empty span retired", cidr=str(span.cidr), host=span.host)

    async def watch(self, lease: Lease) -> None:
        """One round: count who is silent, and take away what those had whose lease must be over."""
        await self._core.reached(lease.revision)
        await self.count(lease)
        for host in list(self._core.state.hosts.values()):
            if host.instance and self._is_fenced(host.name):
                await self._take(lease, host.name)

    async def count(self, lease: Lease) -> None:
        """Count who is silent since the last time, and write down what is enough."""
        now = self._liveness.clock.boottime()
        before, self._counted_at = self._counted_at, now
        if before is None or not self._liveness.is_settled_in:
            return
        # A longer gap was not observed: the process stood still, or the lease was elsewhere.
        seconds = min(now - before, int(2 * self._liveness.settings.round) + 1)
        due = self._count(seconds)
        for first in range(0, len(due), AT_ONCE):
            part = due[first : first + AT_ONCE]

            def decide(state: State, draft: Draft, part: list[str] = part) -> None:
                self._persist(state, _bound(state, draft, lease), part)

            await self._core.commit(decide)
            for name in part:
                self._silent.pop(name, None)

    def _is_fenced(self, host: str) -> bool:
        return is_fenced(self._core.state.seen.get(host), self._liveness.settings)

    async def _under(self, name: str, job: Job) -> None:
        """Do a job again and again, while this replica has the lease of that name."""
        every = self._liveness.settings.round
        while True:
            try:
                lease = await self._core.store.lease(name, 30.0)
                lost = asyncio.create_task(lease.lost())
                self._empty.clear()
                self._silent.clear()
                self._counted_at = self._looked_at = None
                try:
                    while not lost.done():
                        await job(lease)
                        await asyncio.wait({lost}, timeout=every)
                finally:
                    lost.cancel()
                    await lease.release()
            except Conflict:
                pass  # another replica does it
            except RomanaError as error:
                log.warning("a job failed", job=name, **problem_words(error))
            await asyncio.sleep(every)

    def _free(self, state: State, draft: Draft | None) -> list[Retired]:
        """The next retired that every reader acknowledged; with a draft they are made free."""
        if draft is not None:
            check_settled(state)
        if not state.retired:
            return []
        applied = {}
        for host in state.hosts.values():
            if not host.instance:
                continue
            if self._is_fenced(host.name):
                if draft is not None:
                    draft.read(SEEN.key(host.name))  # it may be back meanwhile
                continue
            applied[host.name] = acknowledged_by(state, host)
        found = acknowledged(state.retired.values(), applied)[:AT_ONCE]
        if draft is not None:
            for one in found:
                draft.delete(RETIRED.key(one.cidr))
        return found

    async def _idle(self, state: State) -> list[Span]:
        """Spans that were empty long enough, or at two looks where a host is drained."""
        now = self._liveness.clock.boottime()
        before, self._empty = self._empty, {}
        due = []
        retired: dict[str, list[Prefix]] = {}
        for cidr, one in state.retired.items():
            retired.setdefault(one.host, []).append(cidr)
        for host in list(state.hosts.values()):
            for span in _empty_on(state, host, retired.get(host.name, ())):
                since = before.get(span.cidr)
                self._empty[span.cidr] = now if since is None else since
                if since is not None and (host.draining or now - since >= self._liveness.settings.empty):
                    due.append(span)
            await asyncio.sleep(0)  # others have their turn: a big store has many blocks
        return due

    def _count(self, seconds: int) -> list[str]:
        """Count everybody's silence; those of whom enough was counted to write it down."""
        state = self._core.state
        silent = {}
        for host in state.hosts.values():
            if host.instance and not self._liveness.knows_of(host.name):
                silent[host.name] = self._silent.get(host.name, 0) + seconds
        self._silent = silent
        return sorted(name for name, count in silent.items() if count >= PERSIST)

    def _persist(self, state: State, draft: Draft, names: list[str]) -> None:
        for name in names:
            host = state.hosts.get(name)
            if host is None or not host.instance or self._liveness.knows_of(name):
                continue
            seen = state.seen.get(name) or Seen(epoch=host.epoch, applied=0)
            longer = msgspec.structs.replace(seen, silent=seen.silent + self._silent.get(name, 0), by="")
            draft.put(SEEN, SEEN.key(name), longer)

    async def _take(self, lease: Lease, name: str) -> None:
        def decide(state: State, draft: Draft) -> bool:
            host = state.hosts.get(name)
            if host is None or not self._is_fenced(name) or state.unsettled or self._liveness.knows_of(name):
                return False
            take_away(state, _bound(state, draft, lease), host)
            return True

        _, taken = await self._core.commit(decide)
        if taken:
            log.warning("host was silent for longer than its lease; what it had is retired", host=name)


def is_fenced(seen: Seen | None, settings: HostSettings) -> bool:
    """Whether a host was silent for so long that its own lease must be over, and its addresses have rested since."""
    return seen is not None and seen.silent > (seen.lease or settings.lease) + settings.rest + MARGIN


def acknowledged_by(state: State, host: Host) -> int:
    """The revision of the view that a host's present agent is known to have applied."""
    seen = state.seen.get(host.name)
    return seen.applied if seen is not None and seen.epoch == host.epoch else 0


def _retire_span(state: State, draft: Draft, span: Span) -> bool:
    """Retire a span that is still empty; who gives the host a block meanwhile writes its record."""
    host = state.hosts.get(span.host)
    retired = [cidr for cidr, one in state.retired.items() if one.host == span.host]
    if host is None or span not in _empty_on(state, host, retired) or state.unsettled:
        return False
    draft.read(HOST.key(span.host))
    draft.delete(SPAN.key(span.cidr))
    gone = Retired(cidr=span.cidr, network=span.network, host=span.host)
    draft.put(RETIRED, RETIRED.key(span.cidr), gone)
    return True


def _empty_on(state: State, host: Host, retired: Iterable[Prefix]) -> list[Span]:
    """A host's spans that it can do without; `retired` are its own."""
    spans = state.spans_on(host.name)
    draining = (host.name,) if host.draining else ()
    return empty_spans(spans, state.blocks_on(host.name).values(), retired, draining)


def _bound(state: State, draft: Draft, lease: Lease) -> Draft:
    """A draft that cannot be committed after the lease was lost; Conflict when it is lost already."""
    if state.revisions.get(lease.key) != lease.revision:
        raise Conflict(f"the lease {lease.key} was lost")
    draft.compares[lease.key] = lease.revision
    return draft
