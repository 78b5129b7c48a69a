"""The agent's process: ports, threads, socket and services joined, from start to signal.

Owns which thread does what. All kernel work is on one thread, so its order is the order of the requests; what takes
longer (removing links, BIRD, disk) is on a few others.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import structlog
import uvloop

from romana import __version__
from romana.adapters.agent_state import SqliteAgentState
from romana.adapters.linux.clock import KernelClock
from romana.adapters.linux.conntrack import KernelConnections
from romana.adapters.linux.fence import NftFence
from romana.adapters.linux.host import KernelHost
from romana.adapters.linux.links import KernelLinks
from romana.adapters.linux.nflog import ToldPackets
from romana.adapters.linux.nft_events import TableEvents
from romana.adapters.linux.nftables import NftTable
from romana.adapters.linux.routes import KernelRoutes
from romana.adapters.linux.sysctls import prepare_host
from romana.adapters.romanad import RomanadClient
from romana.adapters.threads import ThreadWorker
from romana.apps.agent.cni import Cni
from romana.apps.agent.config import AgentConfig, mark_file
from romana.apps.agent.joints import COMMAND, bird_of, monitoring, own_addresses, until_stopped
from romana.apps.agent.server import AgentServer
from romana.codec.json import encode
from romana.codec.traffic import parse_ports
from romana.model.errors import Unavailable
from romana.model.metric import Metric
from romana.model.policy import Failsafe
from romana.services.agent.agent import Agent, AgentSettings, World
from romana.services.agent.kernel import KernelPorts
from romana.services.agent.metrics import agent_metrics
from romana.services.agent.work import Workers

log = structlog.get_logger()
SINCE = "ROMANA_AGENT_SINCE"
"""After which number `romana-agent flows` wants them."""
SWITCH = 0.0005
"""Seconds for which one thread computes before another one has its turn: the kernel's thread waits for no long work."""


def run(settings: AgentConfig) -> None:
    """Be the agent until SIGTERM or SIGINT. Unavailable or Invalid when it cannot start."""
    sys.setswitchinterval(SWITCH)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))


async def _run(settings: AgentConfig) -> None:
    for name, before in prepare_host().items():
        log.info("sysctl set", name=name, before=before)
    clock = KernelClock()
    with ExitStack() as release:
        mark = mark_file(settings.agent)
        state = SqliteAgentState(Path(settings.agent.state), boot_id=clock.boot_id(), mark=mark)
        release.callback(state.close)
        table = NftTable()
        release.callback(table.close)
        fence = NftFence()
        release.callback(fence.close)
        links = release.enter_context(KernelLinks())
        routes = release.enter_context(KernelRoutes())
        ports = KernelPorts(
            links=links,
            routes=routes,
            filter=table,
            connections=release.enter_context(KernelConnections()),
            fence=fence,
            own_addresses=KernelHost().addresses,
        )
        kernel = release.enter_context(ThreadPoolExecutor(1, "kernel"))
        slow = release.enter_context(ThreadPoolExecutor(4, "slow"))
        bird = bird_of(settings) if settings.bird.include else None
        async with RomanadClient(settings.romanad.url) as control:
            world = World(kernel=ports, state=state, control=control, clock=clock, daemon=bird)
            agent = Agent(_settings(settings), world, Workers(ThreadWorker(kernel), ThreadWorker(slow)))
            await _serve(settings, agent, table, frozenset((links.port, routes.port)))


async def _serve(settings: AgentConfig, agent: Agent, table: NftTable, ports: Collection[int]) -> None:
    """`ports` are the netlink ports that our changes of routes come from."""
    mtu = settings.agent.mtu or KernelHost().uplink_mtu()
    cni = Cni(agent, settings.cni, mtu)

    async def answer(environment: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
        command = environment.get(COMMAND)
        if command == "status":
            return 0, msgspec.json.encode(agent.status())
        if command == "flows":
            since = int(environment.get(SINCE, "0"))
            return 0, encode({"number": agent.flows.number, "flows": agent.flows.since(since)})
        return await cni.answer(environment, stdin)

    loop = asyncio.get_running_loop()
    events = TableEvents(lambda: table.ports)
    told = _told_packets()

    def noticed() -> None:
        if events.changed():
            log.warning("another program changed the table `inet romana`; putting it right")
            agent.reconciler.disturbed()

    def moved() -> None:
        agent.reconciler.disturbed()
        if agent.reporter is not None:
            agent.reporter.bell.ring()

    def metrics() -> Iterator[Metric]:
        return agent_metrics(agent.status(), cni.requests)

    def problem() -> str:
        return agent.status().problems.get("ready", "")

    loop.add_reader(events.fileno(), noticed)
    if told is not None:
        loop.add_reader(told.fileno(), lambda: agent.flows.note(told.read()))
    log.info("ready", host=agent.settings.host, socket=settings.agent.socket, mtu=mtu, version=__version__)
    try:
        server = AgentServer(Path(settings.agent.socket), answer)
        monitor = monitoring(settings.metrics.listen, metrics, problem)
        await until_stopped(agent.run(), server, moved, monitor, lambda: ports)
    finally:
        loop.remove_reader(events.fileno())
        events.close()
        if told is not None:
            loop.remove_reader(told.fileno())
            told.close()


def _told_packets() -> ToldPackets | None:
    """What the kernel tells of; None where another program has our group already."""
    try:
        return ToldPackets()
    except Unavailable as error:
        log.warning("denied packets are not told of", error=str(error))
        return None


def _settings(settings: AgentConfig) -> AgentSettings:
    return AgentSettings(
        host=settings.agent.host or socket.gethostname(),
        version=__version__,
        labels=settings.agent.labels,
        addresses=own_addresses(settings),
        rest=settings.agent.rest_seconds,
        wait=settings.romanad.wait_seconds,
        every=settings.agent.round_seconds,
        beat=settings.romanad.beat_seconds,
        give_back=settings.agent.give_back_seconds,
        machine=KernelHost().machine(),
        failsafe=Failsafe(
            ingress=parse_ports(settings.host.failsafe_in, "host.failsafe_in"),
            egress=parse_ports(settings.host.failsafe_out, "host.failsafe_out"),
        ),
    )
