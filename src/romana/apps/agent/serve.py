"""The agent's process: ports, threads, socket and services joined, from start to signal.

Owns which thread does what. All kernel work is on one thread, so its order is the order of the requests; what takes
longer (removing links, BIRD, disk) is on a few others.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
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
from romana.adapters.linux.nft_events import TableEvents
from romana.adapters.linux.nftables import NftTable
from romana.adapters.linux.routes import KernelRoutes
from romana.adapters.linux.sysctls import prepare_host
from romana.adapters.romanad import RomanadClient
from romana.apps.agent.cni import Cni
from romana.apps.agent.config import AgentConfig
from romana.apps.agent.joints import COMMAND, Worker, bird_of, own_addresses, until_stopped
from romana.apps.agent.server import AgentServer
from romana.services.agent.agent import Agent, AgentSettings, World
from romana.services.agent.kernel import KernelPorts
from romana.services.agent.work import Workers

log = structlog.get_logger()


def run(settings: AgentConfig) -> None:
    """Be the agent until SIGTERM or SIGINT. Unavailable or Invalid when it cannot start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))


async def _run(settings: AgentConfig) -> None:
    for name, before in prepare_host().items():
        log.info("sysctl set", name=name, before=before)
    clock = KernelClock()
    with ExitStack() as release:
        state = SqliteAgentState(Path(settings.agent.state), boot_id=clock.boot_id())
        release.callback(state.close)
        table = NftTable()
        release.callback(table.close)
        fence = NftFence()
        release.callback(fence.close)
        ports = KernelPorts(
            links=release.enter_context(KernelLinks()),
            routes=release.enter_context(KernelRoutes()),
            filter=table,
            connections=release.enter_context(KernelConnections()),
            fence=fence,
        )
        kernel = release.enter_context(ThreadPoolExecutor(1, "kernel"))
        slow = release.enter_context(ThreadPoolExecutor(4, "slow"))
        bird = bird_of(settings) if settings.bird.include else None
        async with RomanadClient(settings.romanad.url) as control:
            world = World(kernel=ports, state=state, control=control, clock=clock, daemon=bird)
            agent = Agent(_settings(settings), world, Workers(Worker(kernel), Worker(slow)))
            await _serve(settings, agent, table)


async def _serve(settings: AgentConfig, agent: Agent, table: NftTable) -> None:
    mtu = settings.agent.mtu or KernelHost().uplink_mtu()
    cni = Cni(agent, settings.cni, mtu)

    async def answer(environment: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
        if environment.get(COMMAND) == "status":
            return 0, msgspec.json.encode(agent.status())
        return await cni.answer(environment, stdin)

    loop = asyncio.get_running_loop()
    events = TableEvents(lambda: table.ports)

    def noticed() -> None:
        if events.changed():
            log.warning("another program changed the table `inet romana`; putting it right")
            agent.reconciler.disturbed()

    def moved() -> None:
        agent.reconciler.disturbed()
        if agent.reporter is not None:
            agent.reporter.bell.ring()

    loop.add_reader(events.fileno(), noticed)
    log.info("ready", host=agent.settings.host, socket=settings.agent.socket, mtu=mtu, version=__version__)
    try:
        await until_stopped(agent.run(), AgentServer(Path(settings.agent.socket), answer), moved)
    finally:
        loop.remove_reader(events.fileno())
        events.close()


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
    )
