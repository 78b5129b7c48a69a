"""What the agent's two modes join alike: the routing daemon, the socket, news of links, and the end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Coroutine, Iterable
from pathlib import Path
from typing import Any

import structlog

from romana.adapters.bird import Bird
from romana.adapters.bird_forms import Everything, Form, Prefixes, Template
from romana.adapters.linux.discovery import find_router
from romana.adapters.linux.events import KernelEvents
from romana.adapters.linux.host import KernelHost
from romana.adapters.linux.link_events import LinkEvents
from romana.adapters.linux.route_events import RouteEvents
from romana.apps.agent.config import AgentConfig
from romana.apps.agent.server import AgentServer
from romana.codec.text import parse_address
from romana.model.address import Address
from romana.model.errors import Unavailable
from romana.model.metric import Metric

log = structlog.get_logger()
COMMAND = "ROMANA_AGENT_COMMAND"
"""The environment entry by which `romana-agent status` asks the running agent; runtimes never set it."""
SETTLING = 0.2
"""Seconds after news of a link or a route in which more of it is one piece of news."""


def bird_of(settings: AgentConfig) -> Bird:
    """BIRD as the configuration says."""
    bird, form = settings.bird, Prefixes()
    chosen: Form = form
    if settings.agent.mode == "router" or bird.write == "everything":
        chosen = Everything(find_router)
    elif bird.write == "template":
        chosen = Template(Path(bird.templates), bird.asn, KernelHost().networks)
    return Bird(Path(bird.include), Path(bird.socket), form=chosen)


def own_addresses(settings: AgentConfig) -> tuple[Address, ...]:
    """The host's addresses in the underlay."""
    if settings.agent.addresses:
        return tuple(map(parse_address, settings.agent.addresses))
    return KernelHost().uplink_addresses()


async def monitoring(listen: str, metrics: Callable[[], Iterable[Metric]], problem: Callable[[], str]) -> None:
    """Answer monitoring for ever, where it is wanted and can be; `problem` says why the agent is not ready."""
    if not listen:
        return
    from romana.adapters.monitoring import monitored  # noqa: PLC0415 - an agent's start does not wait for it

    try:
        async with monitored(listen, metrics, problem):
            await asyncio.Event().wait()
    except Unavailable as error:
        log.warning("monitoring is not answered", error=str(error))


async def until_stopped(
    loops: Coroutine[Any, Any, None],
    server: AgentServer,
    moved: Callable[[], None],
    monitor: Coroutine[Any, Any, None],
    ports: Callable[[], Collection[int]],
) -> None:
    """Run an agent until SIGTERM or SIGINT, or until it ends with an error; `moved` is called after news of links, and
    of routes of ours that come from other netlink `ports`. `monitor` is answered meanwhile.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    listening = (LinkEvents(), RouteEvents(ports))
    waiting: list[asyncio.TimerHandle] = []

    def tell() -> None:
        waiting.clear()
        moved()

    def noticed(events: KernelEvents) -> None:
        if events.changed() and not waiting:
            waiting.append(loop.call_later(SETTLING, tell))

    await server.start()
    for events in listening:
        loop.add_reader(events.fileno(), noticed, events)
    running = asyncio.create_task(loops)
    running.add_done_callback(lambda _: stopped.set())
    beside = asyncio.create_task(monitor)
    try:
        await stopped.wait()
    finally:
        await server.stop()
        for events in listening:
            loop.remove_reader(events.fileno())
            events.close()
        for timer in waiting:
            timer.cancel()
        running.cancel()
        beside.cancel()
        ended, _ = await asyncio.gather(running, beside, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended
