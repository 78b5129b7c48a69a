"""The services of one host's agent, joined.

Owns which loops run, and the status that people and runtimes are shown.
Refuses to know threads, sockets and files.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from romana.model.address import Address
from romana.model.daemon import SessionState
from romana.model.errors import Unavailable
from romana.model.policy import NO_FAILSAFE, Failsafe
from romana.model.view import Hello
from romana.ports import AgentState, Clock, Connection, ControlPlane, RouteDaemon
from romana.services.agent.attachments import Attachments
from romana.services.agent.fixed import FixedAddresses
from romana.services.agent.flows import Flows
from romana.services.agent.follower import Follower
from romana.services.agent.kernel import Kernel, KernelPorts
from romana.services.agent.lease import Lease
from romana.services.agent.ledger import Ledger
from romana.services.agent.observe import Observer
from romana.services.agent.publisher import Publisher
from romana.services.agent.reconcile import Reconciler
from romana.services.agent.recovery import Recovery
from romana.services.agent.removals import Removals
from romana.services.agent.reporter import Reporter
from romana.services.agent.returns import Returns
from romana.services.agent.rooms import Rooms
from romana.services.agent.start import adopt_unknown, believe_kernel
from romana.services.agent.work import Backoff, Sleep, Workers

log = structlog.get_logger()


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is told. `rest`, `wait`, `every`, `beat` and `give_back` are in seconds (see Ledger, Rooms,
    Reconciler, Lease, Returns).

    `machine` tells the machine from others, `failsafe` is what no policy about hosts can close; `addresses` are the
    host's own in the underlay.
    """

    host: str
    version: str = ""
    labels: dict[str, str] = {}
    addresses: tuple[Address, ...] = ()
    rest: int = 180
    wait: float = 10.0
    every: float = 180.0
    beat: float = 10.0
    give_back: int = 300
    machine: str = ""
    failsafe: Failsafe = NO_FAILSAFE


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Every port that an agent uses; without a `daemon` nothing is announced."""

    kernel: KernelPorts
    state: AgentState
    control: ControlPlane
    clock: Clock
    daemon: RouteDaemon | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent is. `ready` says whether an ADD could work, and `problems` why not, or what else is wrong.

    `last_success` is the age of the last round that worked, in seconds, `drift` the number of kernel objects that full
    rounds had to put right, `addresses` the address book's numbers. `lease` is for how many seconds the host may go on
    without renewing it. `daemon` is the routing daemon, `sessions` what it speaks to; `routes` counts those that the
    agent sets, by where they lead.
    """

    host: str
    instance: str
    version: str
    ready: bool
    connected: bool
    revision: int
    endpoints: int
    addresses: dict[str, int]
    drift: int
    last_success: int | None
    lease: int
    missing_links: tuple[str, ...]
    problems: dict[str, str]
    daemon: str = ""
    sessions: tuple[SessionState, ...] = ()
    routes: dict[str, int] = {}


class Agent:
    """One host's agent. Make it in the event loop; `run` it; call `attachments` meanwhile."""

    def __init__(
        self, settings: AgentSettings, world: World, workers: Workers, *, sleep: Sleep = asyncio.sleep
    ) -> None:
        """Takes in memory and kernel. Unavailable when either cannot be read."""

        def backoff() -> Backoff:
            return Backoff(sleep=sleep)

        self.settings = settings
        self._world = world
        believe_kernel(world.state, world.kernel, world.clock)
        self._workers = workers
        self.ledger = Ledger(settings.host, world.state, world.clock, rest=settings.rest)
        adopt_unknown(self.ledger, world.kernel)
        endpoints = (*self.ledger.endpoints.values(), *self.ledger.orphans.values())
        kernel = Kernel(world.kernel, endpoints, settings.failsafe)
        self.recovery = Recovery(self.ledger, world.control, kernel, workers)
        self.follower = Follower(self.ledger, world.control, self.recovery, self._hello, backoff())
        self.publisher = Publisher(self.ledger, world.control, workers, backoff())
        self.removals = Removals(self.ledger, world.kernel, workers, backoff())
        self.reconciler = Reconciler(
            self.ledger,
            self.follower,
            kernel,
            workers,
            daemon=world.daemon,
            backoff=backoff(),
            every=settings.every,
        )
        self.fixed = FixedAddresses(self.ledger, world.control, self.publisher, workers, backoff(), wait=settings.wait)
        rooms = Rooms(self.ledger, world.control, workers, self.fixed, wait=settings.wait)
        self.attachments = Attachments(self.ledger, rooms, kernel, workers, self.removals)
        self.follower.joined = self.fixed.bell.ring
        self.fixed.turn = self.attachments.turn
        self.fixed.is_here = self.attachments.is_here
        self.recovery.stop = self.attachments.stop
        self.recovery.stop_gone = self.attachments.stop_gone
        self.recovery.cut = self.attachments.cut
        self.recovery.turn = self.attachments.turn
        self.recovery.publishing = self.publisher.turn
        self.lease = Lease(
            self.ledger, world.control, kernel, workers, self.follower, self.reconciler, every=settings.beat
        )
        self.returns = Returns(self.ledger, self.follower, self.removals, workers, patience=settings.give_back)
        self.observer = Observer(self.ledger, world.control, self.publisher, self.attachments, backoff())
        self.observer.look = self.reconciler.look
        self.reconciler.plumbed = kernel.condemnation.due.ring
        self.flows = Flows(self.ledger, world.control, world.kernel.own_addresses, backoff(), sleep)
        self._kernel = kernel
        self.reporter = None if world.daemon is None else self._reporter(world.daemon)
        self.ledger.check_lease = self._check_own
        self._sleep = sleep

    async def run(self) -> None:
        """All loops, until cancelled."""
        loop = asyncio.get_running_loop()

        def condemned(connections: list[Connection]) -> None:
            loop.call_soon_threadsafe(self.flows.note_condemned, connections)

        self._kernel.condemnation.tell = condemned
        async with asyncio.TaskGroup() as loops:
            reporting = [] if self.reporter is None else [self.reporter.run()]
            for one in (
                *reporting,
                self.follower.run(),
                self.follower.keep(),
                self.lease.run(),
                self.reconciler.run(),
                self._kernel.condemnation.run(self._workers, Backoff(sleep=self._sleep)),
                self.publisher.run(),
                self.observer.run(),
                self.removals.run(),
                self.flows.run(),
                self.fixed.run(),
                self._tidy_blocks(),
            ):
                loops.create_task(one)

    def check_ready(self) -> None:
        """Unavailable when an ADD would fail now, with a sentence that says why."""
        if not self.ledger.has_view:
            raise Unavailable(f"host {self.settings.host} has no view of the plan yet: {self.follower.problem}")
        if self.reconciler.last_success is None:
            raise Unavailable(f"the kernel of host {self.settings.host} is not set up yet: {self.reconciler.problem}")
        self._check_own()
        if not self.ledger.view.networks:
            raise Unavailable(f"host {self.settings.host} draws from no network; does its group exist in the topology?")

    def status(self) -> Status:
        """How the agent is."""
        problems = {
            "romanad": self.follower.problem,
            "kernel": self.reconciler.problem,
            "publication": self.publisher.problem,
            "lease": self.lease.problem,
            "segment": self.reconciler.segment_problem(),
            **(self.reporter.problems() if self.reporter is not None else {}),
        }
        ready = True
        try:
            self.check_ready()
        except Unavailable as error:
            ready = False
            problems["ready"] = str(error)
        last = self.reconciler.last_success
        now = self._world.clock.boottime()
        return Status(
            host=self.settings.host,
            instance=self._world.state.instance(),
            version=self.settings.version,
            ready=ready,
            connected=self.follower.connected,
            revision=self.ledger.view.revision,
            endpoints=len(self.ledger.endpoints),
            addresses=self.ledger.book.counts(now),
            drift=self.reconciler.drift,
            last_success=None if last is None else now - last,
            lease=self.lease.left,
            missing_links=self.reconciler.missing_links,
            problems={name: words for name, words in problems.items() if words},
            daemon="" if self.reporter is None else self.reporter.state.daemon,
            sessions=() if self.reporter is None else self.reporter.state.sessions,
            routes=self._routes(),
        )

    def _routes(self) -> dict[str, int]:
        view = self.ledger.view
        here = sum(len(one.addresses) for one in self.ledger.endpoints.values())
        return {"endpoints": here, "discards": len(view.spans) + len(view.discards), "beside": len(view.via)}

    def _reporter(self, daemon: RouteDaemon) -> Reporter:
        reporter = Reporter(self.settings.host, daemon, self._workers, self._world.control.report)
        reporter.speaker = lambda: self.ledger.view.daemon.speaker
        reporter.trouble = lambda: self.reconciler.problem
        reporter.again = self.reconciler.forgotten
        reporter.is_known = lambda: bool(self.follower.epoch)
        return reporter

    def _check_own(self) -> None:
        self.recovery.check()
        self.lease.check()

    def _hello(self) -> Hello:
        return Hello(
            host=self.settings.host,
            instance=self._world.state.instance(),
            labels=self.settings.labels,
            addresses=self.settings.addresses,
            machine=self.settings.machine,
            version=self.settings.version,
            logged=self._world.state.last_number(),
            failsafe=self.settings.failsafe,
        )

    async def _tidy_blocks(self) -> None:
        """Recoveries and rests that are over, and blocks that are given back."""
        while True:
            await self._sleep(max(1.0, min(self.settings.rest, self.settings.give_back) / 4))
            await self.recovery.end()
            if not self.follower.synced:  # a kept view may not know of blocks that addresses lie in
                continue
            await self.returns.look()
            over = self.ledger.book.rested(self._world.clock.boottime())
            if over:
                try:
                    await self._workers.slow(self._world.state.rested, over)
                except Unavailable as error:
                    log.warning("ended rests could not be written", error=str(error))
