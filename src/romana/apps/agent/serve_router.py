"""The agent's process on a router: its ports and services joined, from start to signal."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import structlog
import uvloop

from romana import __version__
from romana.adapters.linux.routes import KernelRoutes
from romana.adapters.linux.sysctls import prepare_host
from romana.adapters.linux.turns import NftTurnGuard
from romana.adapters.romanad import RomanadClient
from romana.adapters.router_memory import FileRouterMemory
from romana.adapters.threads import ThreadWorker
from romana.apps.agent.config import AgentConfig
from romana.apps.agent.joints import COMMAND, bird_of, monitoring, until_stopped
from romana.apps.agent.server import AgentServer
from romana.model.metric import Metric
from romana.services.agent.metrics import router_metrics
from romana.services.agent.router import RouterAgent, RouterWorld
from romana.services.agent.work import Workers

log = structlog.get_logger()
NO_ENDPOINTS = b'{"cniVersion": "1.1.0", "code": 50, "msg": "this agent runs a router, which has no endpoints"}'


def run(settings: AgentConfig) -> None:
    """Be the agent until SIGTERM or SIGINT. Unavailable or Invalid when it cannot start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))


async def _run(settings: AgentConfig) -> None:
    for name, before in prepare_host().items():
        log.info("sysctl set", name=name, before=before)
    router = settings.agent.host or socket.gethostname()
    with ExitStack() as release:
        routes = release.enter_context(KernelRoutes())
        guard = NftTurnGuard()
        release.callback(guard.close)
        kernel = release.enter_context(ThreadPoolExecutor(1, "kernel"))
        slow = release.enter_context(ThreadPoolExecutor(2, "slow"))
        async with RomanadClient(settings.romanad.url) as control:
            world = RouterWorld(
                routes=routes,
                turns=guard,
                daemon=bird_of(settings) if settings.bird.include else None,
                control=control,
                memory=FileRouterMemory(Path(settings.agent.state)),
            )
            workers = Workers(ThreadWorker(kernel), ThreadWorker(slow))
            agent = RouterAgent(router, world, workers, version=__version__, every=settings.agent.round_seconds)

            async def answer(environment: Mapping[str, str], _: bytes) -> tuple[int, bytes]:
                if environment.get(COMMAND) == "status":
                    return 0, msgspec.json.encode(agent.status())
                return 1, NO_ENDPOINTS

            def metrics() -> Iterator[Metric]:
                return router_metrics(agent.status())

            def problem() -> str:
                status = agent.status()
                return "" if status.ready else status.problems["round"]

            log.info("ready", router=router, socket=settings.agent.socket, version=__version__)
            server = AgentServer(Path(settings.agent.socket), answer)
            monitor = monitoring(settings.metrics.listen, metrics, problem)
            await until_stopped(agent.run(), server, agent.disturbed, monitor, lambda: (routes.port,))
