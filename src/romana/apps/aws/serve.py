"""romana-aws's process: the cloud, the control plane and the services joined.

Owns which thread does what: all calls of the cloud are made by one, in their order.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from romana import __version__
from romana.adapters.ec2 import Ec2
from romana.adapters.linux.clock import KernelClock
from romana.adapters.romanad import RomanadClient
from romana.adapters.tcp_probe import answers
from romana.adapters.threads import ThreadWorker
from romana.adapters.unix_socket import bound
from romana.apps.aws.config import AwsConfig
from romana.codec.json import encode
from romana.core.routing.vpc.decision import VpcRules
from romana.core.routing.vpc.health import HealthTimes
from romana.model.address import Address
from romana.model.errors import Conflict, Unavailable
from romana.services.agent.work import Backoff, Bell
from romana.services.vpc.probing import Probing
from romana.services.vpc.retries import Retries
from romana.services.vpc.service import VpcService
from romana.services.vpc.turn import Turn, Word
from romana.services.vpc.writer import Outcome, Removal, TableChoice, Writer

log = structlog.get_logger()
FIRST_PAUSE, MOST_PAUSE = 2.0, 60.0
"""Seconds after a round that failed, growing."""


def run(settings: AwsConfig) -> None:
    """Be the program until SIGTERM or SIGINT."""
    asyncio.run(_serve(settings))


def sync(settings: AwsConfig, *, dry_run: bool, adopt: bool) -> Outcome:
    """One round; with `dry_run` nothing is written and the turn is not asked for."""

    async def once() -> Outcome:
        async with _joined(settings, _once(settings)) as (writer, turn, _):
            if dry_run:
                return await writer.look(adopt=adopt)
            async with _own_turn(turn):
                return await writer.round(adopt=adopt)

    return asyncio.run(once())


def remove(settings: AwsConfig, *, forget: bool) -> Removal:
    """Take every route of ours out of every table."""

    async def once() -> Removal:
        async with _joined(settings, _once(settings)) as (writer, turn, _), _own_turn(turn):
            return await writer.remove(forget=forget)

    return asyncio.run(once())


@asynccontextmanager
async def _own_turn(turn: Turn) -> AsyncIterator[None]:
    """The turn, for as long as it takes; Conflict when another program has it."""
    await turn.renew()
    if turn.word is not Word.WRITES:
        raise Conflict(f"it is not this program's turn to write: {turn.why}")
    keeping = asyncio.create_task(turn.run())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _serve(settings: AwsConfig) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with _joined(settings, _holder(settings)) as (writer, turn, region):
        clock, bell = KernelClock(), Bell()
        service = VpcService(
            writer,
            turn,
            clock,
            bell=bell,
            probing=_probing(settings, bell),
            backoff=Backoff(FIRST_PAUSE, MOST_PAUSE, spread=_spread),
            every=settings.aws.round_seconds,
            quota=settings.aws.routes_per_table,
        )
        service.region = region
        async with _telling(Path(settings.aws.socket), lambda: encode(service.status())):
            loops = asyncio.create_task(service.run())
            loops.add_done_callback(lambda _: stopped.set())
            log.info("ready", holder=turn.holder, region=region, socket=settings.aws.socket, version=__version__)
            await stopped.wait()
            loops.cancel()
            (ended,) = await asyncio.gather(loops, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended


@asynccontextmanager
async def _joined(settings: AwsConfig, holder: str) -> AsyncIterator[tuple[Writer, Turn, str]]:
    """The writer, its turn, and the region that it writes in."""
    ec2 = Ec2(settings.aws.region, settings.aws.endpoint)
    with ThreadPoolExecutor(1, "ec2") as pool:
        async with RomanadClient(settings.romanad.url) as control:
            turn = Turn(control, holder, settings.aws.lease)
            writer = Writer(
                control,
                ec2,
                KernelClock(),
                ThreadWorker(pool),
                turn=turn,
                choice=TableChoice(ids=settings.aws.tables, tags=settings.aws.table_tags),
                rules=_rules(settings),
                retries=Retries(_spread),
            )
            yield writer, turn, ec2.region


def _holder(settings: AwsConfig) -> str:
    return settings.aws.holder or socket.gethostname()


def _once(settings: AwsConfig) -> str:
    """The name of a process that writes once: never that of the program that goes on, whose lease it would give up."""
    return f"{_holder(settings)[:40]}.{os.getpid()}"


def _rules(settings: AwsConfig) -> VpcRules:
    health = settings.health
    times = HealthTimes(
        silent=health.silent_seconds,
        fail_over=health.fail_over_seconds,
        fail_back=health.fail_back_seconds,
        most_fail_back=health.most_fail_back_seconds,
        probes=health.probes,
    )
    return VpcRules(label=settings.aws.instance_label, quota=settings.aws.routes_per_table, times=times)


def _probing(settings: AwsConfig, bell: Bell) -> Probing | None:
    health = settings.health
    if not health.probe_port:
        return None

    async def probe(address: Address) -> bool:
        return await answers(address, health.probe_port, health.probe_seconds)

    return Probing(probe, bell, every=health.probe_seconds, enough=health.probes)


def _spread() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - nobody has to be surprised


@asynccontextmanager
async def _telling(path: Path, text: Callable[[], bytes]) -> AsyncIterator[None]:
    """A UNIX socket that tells a text to whoever connects, and nothing else."""

    async def told(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(text())
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_unix_server(told, sock=bound(path, "romana-aws"))
    try:
        yield
    finally:
        server.close()
        _unlink(path)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def status(path: Path) -> bytes:
    """What a running program tells of itself; Unavailable when none answers."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(path))
            with connection.makefile("rb") as answer:
                return answer.read()
    except OSError as error:
        raise Unavailable(f"no romana-aws answers on {path}: {error}; is it running?") from error
