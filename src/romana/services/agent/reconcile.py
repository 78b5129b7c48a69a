"""The one loop that makes the kernel and the routing daemon as the view says.

Owns when a round is made: after changes (many are one round), after a failure with growing pauses, and every few
minutes a full one that reads everything and counts what had drifted. Requests carry no content: a round looks at what
is now. Invariant: health is the last round that worked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from romana.core.routing import announcements, departed
from romana.model.address import Prefix
from romana.model.errors import RomanaError, Unavailable
from romana.model.route import ObservedRoutes, RouteKind
from romana.model.speaker import DaemonPlan
from romana.model.view import View
from romana.ports import Clock, RouteDaemon
from romana.services.agent.follower import Follower
from romana.services.agent.kernel import Drift, Kernel
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Backoff, Workers

log = structlog.get_logger()
LEAVING = 2
"""Seconds, and up to one more, in which what left this host is discarded here, or its packets would go round between
this host and whoever sends it here still. OSPF's routers calculate once a second, after they were told.
"""


class Reconciler:
    """Rounds over the kernel of one host."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        kernel: Kernel,
        workers: Workers,
        *,
        daemon: RouteDaemon | None,
        backoff: Backoff,
        every: float,
    ) -> None:
        """`every` is the time between full rounds, in seconds; without a `daemon` nothing is announced."""
        self.problem = "no round was made yet"
        self.last_success: int | None = None
        """CLOCK_BOOTTIME in seconds."""
        self.drift = 0
        self.missing_links: tuple[str, ...] = ()
        self.applied: View | None = None
        """The view that kernel and routing daemon are known to have, after one came from the control plane."""
        self.applied_stream = 0
        """Of which stream of the follower it is."""
        self.is_held: Callable[[], bool] = lambda: True
        """Whether the host may use its addresses; its spans are announced only then."""
        self.looked: Callable[[], None] = lambda: None
        """Called after a full round: what else was to be in the kernel may be gone."""
        self.plumbed: Callable[[], None] = lambda: None
        """Called after each round over the kernel."""
        self._ledger = ledger
        self._follower = follower
        self._kernel = kernel
        self._workers = workers
        self._daemon = daemon
        self._backoff = backoff
        self._every = every
        self._fresh = True
        self._completed = False
        self._said: frozenset[Prefix] | None = None
        self._told: tuple[frozenset[Prefix], DaemonPlan] | None = None
        self._plumbed = ledger.view
        self._left: dict[Prefix, int] = {}  # until when it is discarded

    def disturbed(self) -> None:
        """Somebody else changed what is ours: make a full round now."""
        self._fresh = True
        self._follower.changed.ring()

    def forgotten(self) -> None:
        """What the routing daemon has may differ from what it was told: tell it again now."""
        self._told = None
        self._follower.changed.ring()

    def segment_problem(self) -> str:
        """What is beside this host and cannot be reached, as a sentence; empty when all can."""
        found = self._kernel.unreachable
        if not found:
            return ""
        listed = ", ".join(map(str, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        return f"no network of this host has an address of whoever has {listed}"

    async def look(self) -> ObservedRoutes:
        """What kernel and routing daemon have now."""
        applied = self.applied
        ours, learned = await self._workers.kernel(self._kernel.routes)
        said = None if self._daemon is None else await self._workers.slow(_said_by, self._daemon)
        black = {one for one, route in ours.items() if route.kind is RouteKind.BLACKHOLE}
        return ObservedRoutes(
            blackholes=tuple(sorted(black.difference(self._left))),
            via={one: route.next_hops for one, route in sorted(ours.items()) if route.next_hops},
            learned=tuple(sorted(learned)),
            announced=None if said is None else tuple(sorted(said)),
            daemon=self._daemon is not None,
            held=self.is_held(),
            revision=0 if applied is None else applied.revision,
            problem=self.problem,
        )

    async def run(self) -> None:
        """Rounds, for ever."""
        if self._ledger.has_view:
            self._follower.changed.ring()
        clock: Clock = self._ledger.clock
        full = clock.boottime()
        while True:
            leaving = bool(self._left)
            rung = await self._follower.changed.wait(1.0 if leaving else self._every)
            if not self._ledger.has_view:
                continue
            if not (rung or leaving) or clock.boottime() - full >= self._every:
                self._fresh = True
            fresh, self._fresh = self._fresh, False
            if await self.round(fresh=fresh):
                full = clock.boottime() if fresh else full
                self._backoff.reset()
            else:
                self._fresh = True
                self._follower.changed.ring()
                await self._backoff.pause()

    async def round(self, *, fresh: bool) -> bool:
        """One round, a full one when it is `fresh`; whether all of it worked."""
        view, stream = self._ledger.view, self._follower.stream
        synced = self._follower.synced
        fresh = fresh or (synced and not self._completed)  # now what should not be there may go
        try:
            found = await self._workers.kernel(self._plumb, synced, fresh)
            self.plumbed()
            if fresh:
                self._count(found)
            if synced and self._said is not None and self._said <= announcements(view):
                self._note_applied(view, stream)  # a daemon that fails holds up nobody else
            await self._announce(synced=synced, fresh=fresh)
            self._completed = synced
            if synced:
                self._note_applied(view, stream)
        except RomanaError as error:
            if str(error) != self.problem:
                log.error("a round failed", error=str(error), reason=error.reason)
            self.problem = str(error)
            return False
        if self.problem:
            log.info("kernel and routing daemon are as the view says", revision=view.revision)
        self.problem = ""
        self.last_success = self._ledger.clock.boottime()
        if fresh:
            self.looked()
        return True

    def _note_applied(self, view: View, stream: int) -> None:
        self.applied, self.applied_stream = view, stream
        if view.retired or not self.is_held():
            self._follower.beat.ring()

    def _leave(self, view: View) -> frozenset[Prefix]:
        """What left this host a moment ago."""
        now = self._ledger.clock.boottime()
        if self._daemon is not None:
            self._left |= dict.fromkeys(departed(self._plumbed, view), now + LEAVING)
        here = announcements(view)
        self._left = {one: until for one, until in self._left.items() if until >= now and one not in here}
        self._plumbed = view
        return frozenset(self._left)

    def _plumb(self, complete: bool, fresh: bool) -> Drift:
        view = self._ledger.view
        return self._kernel.plumb(view, complete=complete, fresh=fresh, left=self._leave(view))

    def _count(self, found: Drift) -> None:
        self.missing_links = found.missing_links
        if self.last_success is not None and found.total and not self.problem:
            self.drift += found.total
            log.info("drift put right", ruleset=found.ruleset, routes=found.routes)

    async def _announce(self, *, synced: bool, fresh: bool) -> None:
        """Tell the routing daemon, unless it was told the same in a round before this one, and no full round is due:
        most rounds are about policy, and the next one waits for this.

        Before the first view since the start, a file that has what is to be announced stays: who moved the host wrote
        it, or we did, and what we remember may be older.
        """
        if self._daemon is None:
            return
        view, held = self._ledger.view, self.is_held()
        wanted = announcements(view) if held else frozenset()
        if synced and not fresh and self._told == (wanted, view.daemon):
            return
        self._told = None
        if held and not synced:
            present = await self._workers.slow(self._daemon.read)
            wanted |= present or frozenset()
        keep = held and not synced and _is_whole(view)
        await self._workers.slow(partial(self._daemon.announce, wanted, view.daemon, keep=keep))
        self._said, self._told = wanted, (wanted, view.daemon)


def _is_whole(view: View) -> bool:
    """Whether the daemon's file depends on nothing but the view; else it has to be written as the device is now."""
    return view.daemon.speaker is None or not view.daemon.speaker.learned_interfaces


def _said_by(daemon: RouteDaemon) -> frozenset[Prefix] | None:
    """What a daemon really originates; where it does not answer, what it will when it starts. None for neither."""
    try:
        return daemon.originated()
    except Unavailable:
        return daemon.read()
