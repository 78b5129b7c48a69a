"""The agent of a router: what the plan says of it goes into its routing daemon and its kernel, and nothing else.

Owns following the router's view, keeping the last one on disk, and the rounds. Refuses to know endpoints. Invariants:
a view that was kept is acted on while romanad is away; nothing is removed from the kernel before romanad was heard; a
daemon that refuses keeps what it has; a session is not closed by a change of plan before the devices behind it had the
time to hear of the change, since many of them hear it through that very session; a kernel that cannot guard against
packets that go round still routes, and that is said.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog

from romana.core.diff import Changes, diff
from romana.core.routing.segment import routes_via
from romana.core.routing.turns import turns
from romana.model.address import Prefix
from romana.model.daemon import DaemonReport, HeldRoute, SessionState
from romana.model.errors import RomanaError, Unavailable
from romana.model.route import Route, RouteKind
from romana.model.speaker import DaemonPlan, Speaker
from romana.model.view import RouterView
from romana.ports import RouteDaemon, RouterControl, Routes, TurnGuard
from romana.services.agent.reporter import Reporter
from romana.services.agent.work import Backoff, Bell, Sleep, Workers

log = structlog.get_logger()

HEARING = 3.0
"""Seconds that all devices have to hear of a plan before a router closes sessions because of it."""


class RouterMemory(Protocol):
    """Where a router's last view is kept."""

    def load(self) -> RouterView | None:
        """The view that was kept, or None."""

    def save(self, view: RouterView) -> None:
        """Keep it; Unavailable when the disk refuses."""


class RouterWorld(msgspec.Struct, frozen=True, kw_only=True):
    """Every port that a router's agent uses; without a `daemon` it sets routes alone."""

    routes: Routes
    turns: TurnGuard
    daemon: RouteDaemon | None
    control: RouterControl
    memory: RouterMemory


class RouterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a router's agent is. It is `ready` when daemon and kernel are as a view says; `routes` counts those that the
    device should hold, by where they lead; `turned` are packets that would have gone round, as of the last round.
    """

    router: str
    version: str
    ready: bool
    connected: bool
    revision: int
    daemon: str
    sessions: tuple[SessionState, ...]
    problems: dict[str, str]
    routes: dict[str, int] = {}
    turned: int = 0


class RouterAgent:
    """One router's agent. Make it in the event loop, and `run` it."""

    def __init__(
        self,
        name: str,
        world: RouterWorld,
        workers: Workers,
        *,
        version: str = "",
        every: float = 60.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`every` is the time between full rounds, in seconds. Takes in what was kept."""
        self.name = name
        self.changed = Bell()
        self._world = world
        self._workers = workers
        self._version = version
        self._every = every
        self._sleep = sleep
        self._spoken: Speaker | None = None  # what the daemon was told last
        self._following = Backoff(sleep=sleep)
        self._pausing = Backoff(sleep=sleep)
        self._view = world.memory.load()
        self._connected = self._synced = False
        self._no_view = "romanad was not asked yet"
        self._problem = "no round was made yet"
        self._unreachable: tuple[Prefix, ...] = ()
        self._unguarded, self._turned = "", 0
        self._answered = 0
        self.reporter = Reporter(name, world.daemon, workers, world.control.report)
        self.reporter.speaker = lambda: None if self._view is None else self._view.speaker
        self.reporter.trouble = lambda: self._problem
        self.reporter.again = self.changed.ring
        self.reporter.is_known = lambda: self._connected

    async def run(self) -> None:
        """All loops, until cancelled."""
        if self._view is not None:
            log.info("going on with the kept view", revision=self._view.revision)
            self.changed.ring()
        async with asyncio.TaskGroup() as loops:
            for loop in (self._follow(), self._rounds(), self.reporter.run()):
                loops.create_task(loop)

    def disturbed(self) -> None:
        """Links or addresses changed: make a round now."""
        self.changed.ring()
        self.reporter.bell.ring()

    def status(self) -> RouterStatus:
        """How the agent is."""
        problems = {"romanad": self._no_view, "round": self._problem, "turns": self._unguarded}
        problems |= self.reporter.problems()
        if self._unreachable:
            listed = ", ".join(map(str, self._unreachable[:5]))
            problems["segment"] = f"no next hop is in a network of this device for {listed}"
        return RouterStatus(
            router=self.name,
            version=self._version,
            ready=not self._problem,
            connected=self._connected,
            revision=0 if self._view is None else self._view.revision,
            daemon=self.reporter.state.daemon,
            sessions=self.reporter.state.sessions,
            problems={name: words for name, words in problems.items() if words},
            routes={} if self._view is None else dict(Counter(one.reach.value for one in self._view.routes)),
            turned=self._turned,
        )

    async def _follow(self) -> None:
        while True:
            try:
                async for view in self._world.control.router_view(self.name):
                    self._connected = self._synced = True
                    self._no_view = ""
                    self._following.reset()
                    self._view = view
                    self.changed.ring()
                    await self._workers.slow(self._world.memory.save, view)
            except RomanaError as error:
                if str(error) != self._no_view:
                    log.warning("no view from romanad", error=str(error), reason=error.reason)
                self._no_view = str(error)
            self._connected = False
            await self._following.pause()

    async def _rounds(self) -> None:
        while True:
            await self.changed.wait(self._every)
            if self._view is None:
                continue
            try:
                await self._round(self._view)
            except RomanaError as error:
                if str(error) != self._problem:
                    log.error("a round failed", error=str(error), reason=error.reason)
                self._problem = str(error)
                await self._answer(self._view)
                self.changed.ring()
                await self._pausing.pause()
                continue
            if self._problem:
                log.info("kernel and routing daemon are as the view says", revision=self._view.revision)
            self._problem = ""
            self._pausing.reset()
            await self._answer(self._view)

    async def _round(self, view: RouterView) -> None:
        await self._workers.kernel(self._plumb, view, self._synced)
        if self._world.daemon is not None:
            if await self._closes_what_is_up(self._world.daemon, view.speaker):
                await self._sleep(HEARING)
            await self._workers.slow(self._world.daemon.announce, (), DaemonPlan(speaker=view.speaker))
            self._spoken = view.speaker
        elif view.speaker is not None:
            raise Unavailable("the plan has a routing daemon here; say where it is (`[bird] include`)")

    async def _closes_what_is_up(self, daemon: RouteDaemon, after: Speaker | None) -> bool:
        """Whether a change of plan closes a session by which somebody may still hear; yes where that is not known. With
        OSPF whatever it closes: what was flooded is believed for seconds, and till then what is away has to end here.
        """
        closed = closed_sessions(self._spoken, after)
        if not closed or (self._spoken is not None and self._spoken.ospf is not None):
            return bool(closed)
        try:
            up = await self._workers.slow(daemon.up)
        except RomanaError:
            return True
        return any(name == one or name.startswith(f"{one}_") for name in up for one in closed)

    def _plumb(self, view: RouterView, complete: bool) -> None:
        connected = self._world.routes.connected()
        self._guard(view, connected)
        desired = routes_via(view.via, connected)
        self._unreachable = tuple(sorted(view.via.keys() - desired.keys()))
        desired |= {prefix: Route(prefix=prefix, kind=RouteKind.BLACKHOLE) for prefix in view.discards}
        changes = diff(desired, self._world.routes.read())
        if not complete:
            changes = Changes(changes.add, changes.replace, {})
        if changes:
            self._world.routes.apply(changes)

    def _guard(self, view: RouterView, connected: Mapping[Prefix, frozenset[str]]) -> None:
        hops = {hop for hops in view.via.values() for hop in hops}
        wanted = turns(view.around, hops, connected, view.networks)
        try:
            if self._world.turns.keep(wanted):
                log.info("the guard against packets that go back was changed", interfaces=wanted.back)
            self._turned = self._world.turns.dropped()
        except RomanaError as error:
            if str(error) != self._unguarded:
                log.error("packets that would go round are not dropped", error=str(error), reason=error.reason)
            self._unguarded = str(error)
        else:
            self._unguarded = ""

    async def _answer(self, view: RouterView) -> None:
        """Say what kernel and daemon have, when a check asks."""
        if view.audit <= self._answered:
            return
        try:
            held = await self._workers.kernel(self._held, view)
            await self.reporter.look()
            report = DaemonReport(
                device=self.name,
                state=self.reporter.state,
                problem=self._problem or self.reporter.problem,
                audit=view.audit,
                revision=view.revision,
                held=held,
            )
            await self._world.control.report(report)
        except RomanaError as error:
            log.warning("a check could not be answered", error=str(error), reason=error.reason)
        else:
            self._answered = view.audit

    def _held(self, view: RouterView) -> tuple[HeldRoute, ...]:
        routes = {**self._world.routes.learned(view.networks), **self._world.routes.read()}
        return tuple(
            HeldRoute(prefix, route.next_hops, route.kind is RouteKind.BLACKHOLE)
            for prefix, route in sorted(routes.items())
        )


def closed_sessions(before: Speaker | None, after: Speaker | None) -> set[str]:
    """The names of the sessions, and interfaces of OSPF links, that a change of plan closes, if only for a moment; what
    goes in and out of them closes none.
    """
    kept, wanted = _ties(before), _ties(after)
    return {name for name, tie in kept.items() if wanted.get(name) != tie}


def _ties(speaker: Speaker | None) -> dict[str, object]:
    """What the neighbours of a device have to agree with, by session or interface."""
    if speaker is None:
        return {}
    own = (speaker.protocol, speaker.asn, speaker.router_id)
    found: dict[str, object] = {
        one.name: (own, msgspec.structs.replace(one, accepts=(), tells=())) for one in speaker.sessions
    }
    links = speaker.ospf.links if speaker.ospf is not None else ()
    return {**found, **{one.interface: (own, one) for one in links}}
