"""Which hosts are heard from, here and at other replicas, and what they acknowledged.

Owns the answer to a heartbeat, and what of it is written down: nothing, as long as all is quiet. Refuses to decide what
silence means (`silence`) and what is free (`retirement`). Invariants: no lease is renewed by a replica that has lost
touch with its store, or while the store still counts the host's silence; an acknowledgement counts once it is stored.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable

import msgspec
import structlog

from romana.codec.records import SEEN, Seen
from romana.model.errors import Conflict, RomanaError, Unavailable
from romana.model.topology import Host
from romana.model.view import Heartbeat, HeartbeatAnswer
from romana.ports import Clock, Lease, Transaction
from romana.services.control.core import Core, Draft, problem_words
from romana.services.control.hosts import bound_host
from romana.services.control.state import State

log = structlog.get_logger()

TOUCH = 90
"""Seconds after which a replica that did not get through to its store renews no leases."""
AT_ONCE = 50
"""Records of one transaction at most, so that it seldom meets another one."""
REPLICA = "replica-"
TOUCHED = "/touched"


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times, in seconds: how long an agent's lease lasts, how long freed addresses rest at most, how often romanad
    looks after hosts, how far apart two observations lie before what both show is acted on, for how long a span is
    empty before it is taken back, and for how long after a heartbeat a host counts as heard from.
    """

    lease: int = 24 * 3600
    rest: int = 180
    round: float = 15.0
    patience: int = 120
    empty: int = 300
    heard: int = 60


class Liveness:
    """One replica's part. `replica` is its name, empty when there is only one."""

    def __init__(self, core: Core, clock: Clock, settings: HostSettings, replica: str = "") -> None:
        self.settings = settings
        self.replica = replica
        self.clock = clock
        self._core = core
        self._place = f"lease/{REPLICA}"
        self._since = self._touched = clock.boottime()
        self._heard: dict[str, int] = {}
        self._applied: dict[str, tuple[int, int]] = {}  # host -> epoch, revision

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Renew a host's lease. Conflict for another agent, or for one that follows another store and has to report in;
        Unavailable while this romanad is cut off from its store.
        """
        state = self._core.state
        bound_host(state, heartbeat.host, heartbeat.epoch)
        same_store = heartbeat.incarnation == self._core.incarnation
        if not same_store and heartbeat.host not in state.unsettled and heartbeat.incarnation:
            raise Conflict(
                f"host {heartbeat.host} follows store {heartbeat.incarnation}, this is {self._core.incarnation}; "
                "report in again"
            )
        away = self.clock.boottime() - self._touched
        if self.replica and away > TOUCH:
            raise Unavailable(f"this romanad has not got through to its store for {away} s, and renews no leases")
        if self._renewed(state, heartbeat) != state.seen.get(heartbeat.host):
            await self._core.commit(lambda state, draft: self._note(state, draft, heartbeat))
        self._heard[heartbeat.host] = self.clock.boottime()
        self._applied[heartbeat.host] = (heartbeat.epoch, heartbeat.applied if same_store else 0)
        return HeartbeatAnswer(lease=self.settings.lease)

    def hears(self, host: str) -> bool:
        """Whether the host renewed its lease here, lately."""
        heard = self._heard.get(host)
        return heard is not None and self.clock.boottime() - heard <= self.settings.heard

    def silence(self, host: str) -> int:
        """For about how many seconds the host was not heard from; 0 when nobody watched."""
        seen, heard = self._core.state.seen.get(host), self._heard.get(host)
        here = 0 if heard is None else self.clock.boottime() - heard
        return max(here, seen.silent if seen is not None else 0)

    def quiet(self, host: str) -> int | None:
        """For how many seconds no replica heard from a host; None when this one cannot say yet."""
        seen, heard, now = self._core.state.seen.get(host), self._heard.get(host), self.clock.boottime()
        if seen is not None and self.is_elsewhere(seen.by):
            return 0
        if heard is not None:
            return now - heard
        counted = seen.silent if seen is not None else 0
        return max(counted, now - self._since) if counted or self.is_settled_in else None

    def knows_of(self, host: str) -> bool:
        """Whether the host renewed its lease at any replica, as far as they say, lately."""
        seen = self._core.state.seen.get(host)
        return self.hears(host) or (seen is not None and self.is_elsewhere(seen.by))

    def is_elsewhere(self, replica: str) -> bool:
        """Whether that is another replica, and it runs."""
        return replica not in ("", self.replica) and self._place + replica in self._core.state.revisions

    @property
    def is_settled_in(self) -> bool:
        """Whether every host that is there had the time to be heard by this replica."""
        return self.clock.boottime() - self._since > self.settings.heard

    async def run(self) -> None:
        """Keep in touch with the store and write down what others need to know, for ever."""
        while True:
            try:
                if self.replica:
                    await self._be_a_replica()
                else:
                    await self.round()
            except (RomanaError, TimeoutError) as error:
                log.warning("hosts could not be looked after", **problem_words(error))
            await asyncio.sleep(self.settings.round)

    async def _be_a_replica(self) -> None:
        """Hold this replica's lease, by which others know that it runs, as long as that goes well."""
        lease = await self._core.store.lease(REPLICA + self.replica, 30.0)
        self._place = lease.key.removesuffix(self.replica)
        await self._clear()
        lost = asyncio.create_task(lease.lost())
        try:
            while not lost.done():
                await self.touch(lease)
                await self.round()
                await asyncio.wait({lost}, timeout=self.settings.round)
        finally:
            lost.cancel()
            await lease.release()

    async def touch(self, lease: Lease) -> None:
        """Write something and wait until it comes back with the store's changes: then all from before came, too."""
        began = self.clock.boottime()
        written = Transaction(compares={lease.key: lease.revision}, puts={lease.key + TOUCHED: b"{}"})
        async with asyncio.timeout(TOUCH):
            await self._core.reached(await self._core.store.commit(written))
        self._touched = began

    async def _clear(self) -> None:
        """Take away what replicas that ended have left."""
        _, found = await self._core.store.scan(self._place)
        keys = {record.key for record in found}
        gone = tuple(key for key in keys if key.endswith(TOUCHED) and key.removesuffix(TOUCHED) not in keys)
        if gone:
            await self._core.store.commit(Transaction(deletes=gone))

    async def round(self) -> None:
        """Once: write down who is heard here, and what was acknowledged."""
        names = sorted({*self._due_words(), *self._due_acknowledgements()})
        for first in range(0, len(names), AT_ONCE):
            part = names[first : first + AT_ONCE]

            def decide(state: State, draft: Draft, part: list[str] = part) -> None:
                self._write(state, draft, part)

            await self._core.commit(decide)

    def _due_words(self) -> Iterable[str]:
        """Hosts whose record says something about their silence that this replica knows better."""
        for name, seen in self._core.state.seen.items():
            if self.hears(name):
                if seen.silent or (seen.by != self.replica and not self.is_elsewhere(seen.by)):
                    yield name
            elif self.replica and seen.by == self.replica and self.is_settled_in:
                yield name

    def _due_acknowledgements(self) -> Iterable[str]:
        """Hosts that acknowledged something that waits for them."""
        state = self._core.state
        revisions = sorted({one.revision for one in state.retired.values()})
        for name, (epoch, applied) in self._applied.items():
            host, seen = state.hosts.get(name), state.seen.get(name)
            if not revisions or host is None or host.epoch != epoch:
                continue
            known = seen.applied if seen is not None and seen.epoch == epoch else 0
            newest = bisect_right(revisions, applied)
            if newest and revisions[newest - 1] > known:
                yield name

    def _write(self, state: State, draft: Draft, names: Iterable[str]) -> None:
        for name in names:
            host = state.hosts.get(name)
            if host is None:
                continue
            seen = _own(state.seen.get(name), host)
            epoch, applied = self._applied.get(name, (0, 0))
            if epoch == host.epoch:
                seen = msgspec.structs.replace(seen, applied=max(applied, seen.applied))
            if self.hears(name):
                by = seen.by if self.is_elsewhere(seen.by) else self.replica
                seen = msgspec.structs.replace(seen, silent=0, by=by)
            elif seen.by == self.replica:
                seen = msgspec.structs.replace(seen, by="")
            if seen != state.seen.get(name):
                draft.put(SEEN, SEEN.key(name), seen)

    def _note(self, state: State, draft: Draft, heartbeat: Heartbeat) -> None:
        bound_host(state, heartbeat.host, heartbeat.epoch)
        seen = self._renewed(state, heartbeat)
        if seen != state.seen.get(heartbeat.host):
            draft.put(SEEN, SEEN.key(heartbeat.host), seen)

    def _renewed(self, state: State, heartbeat: Heartbeat) -> Seen:
        """The host's record as it has to be before the lease is renewed: a longer lease is written before it is told, a
        shorter one when the agent has it.
        """
        seen = _own(state.seen.get(heartbeat.host), state.hosts[heartbeat.host])
        lease = self.settings.lease
        if lease < seen.lease and heartbeat.lease != lease:
            lease = seen.lease
        return msgspec.structs.replace(seen, silent=0, lease=lease, by=self.replica if seen.silent else seen.by)


def _own(seen: Seen | None, host: Host) -> Seen:
    """What is known of the host's present agent."""
    if seen is None:
        return Seen(epoch=host.epoch, applied=0)
    if seen.epoch != host.epoch:
        return msgspec.structs.replace(seen, epoch=host.epoch, applied=0)
    return seen
