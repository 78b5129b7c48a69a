"""romanad: reads its configuration, joins store, verbs and HTTP, runs until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn
import uvloop

from romana import __version__
from romana.adapters.linux.clock import KernelClock
from romana.adapters.logs import set_up_logs
from romana.adapters.startup import read_settings, told
from romana.adapters.tcp import notice_silence
from romana.adapters.unix_socket import bound
from romana.apps.server.config import ServerConfig
from romana.apps.server.endpoints import Api, endpoints
from romana.apps.server.http import application
from romana.apps.server.storing import DEPENDS, check_config, open_store
from romana.model.errors import Fault, Invalid, Unavailable
from romana.services.control.core import Core
from romana.services.control.liveness import HostSettings, Liveness
from romana.services.control.retirement import Retirement

log = structlog.get_logger()
app = typer.Typer(pretty_exceptions_enable=False)
DEFAULT_CONFIG = Path("/etc/romana/romanad.toml")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
MACHINE_NETWORK = "ROMANA_LAB_MACHINE_NETWORK"
"""Environment variable: what the link /proc/self/ns/net reads in the machine's own network namespace."""


def main() -> None:
    """The program."""
    app()


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="Configuration file (TOML).")] = DEFAULT_CONFIG,
    insecure_listen: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Listen there without authentication. For the lab alone.")
    ] = "",
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """The control plane of romana: REST API on a UNIX socket and on loopback, records in SQLite or in etcd."""
    if version:
        typer.echo(f"romanad {__version__}")
        return
    with told("romanad", config):
        settings = read_settings(ServerConfig, config, DEFAULT_CONFIG, check_config, DEPENDS)
        set_up_logs(settings.log.level, settings.log.format)
        sockets = _sockets(settings, insecure_listen)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, sockets))
        finally:
            Path(settings.listen.socket).unlink(missing_ok=True)


async def _serve(settings: ServerConfig, sockets: list[socket.socket]) -> None:
    opening = asyncio.create_task(_opened(settings))
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, opening.cancel)
    try:
        core = await opening
        gc.freeze()  # what was read stays for long: looking through it again and again would stop everybody
        gc.enable()
    except asyncio.CancelledError:  # told to stop before there was anything to stop
        return
    replica = secrets.token_hex(4) if settings.store.kind == "etcd" else ""
    liveness = Liveness(core, KernelClock(), _host_settings(settings), replica)
    retirement = Retirement(core, liveness)
    api = Api(core, liveness)
    ended: list[BaseException] = []

    @contextlib.asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        following = asyncio.create_task(core.run())
        jobs = [asyncio.create_task(liveness.run()), asyncio.create_task(retirement.run())]
        jobs += [asyncio.create_task(api.addresses.run()), asyncio.create_task(api.leases.run())]

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                ended.append(task.exception() or RuntimeError())
                server.should_exit = True

        for task in (following, *jobs):
            task.add_done_callback(done)
        log.info("ready", revision=core.state.revision, incarnation=core.incarnation, hosts=len(core.state.hosts))
        yield
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        following.cancel()

    settings_of_server = uvicorn.Config(
        application(endpoints(api), lifespan),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    server = _Server(settings_of_server)
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
    try:
        await server.serve(sockets=sockets)
    finally:
        await core.store.close()
    if ended:
        raise Unavailable(str(ended[0]))


async def _opened(settings: ServerConfig) -> Core:
    """The core with all that its store has."""
    gc.disable()  # next to nothing of what is read now is garbage
    core = Core(await open_store(settings))
    try:
        await core.load()
    except BaseException:
        await core.store.close()
        raise
    return core


def _host_settings(settings: ServerConfig) -> HostSettings:
    hosts = settings.hosts
    return HostSettings(
        lease=hosts.lease_seconds,
        rest=hosts.rest_seconds,
        round=hosts.round_seconds,
        patience=hosts.check_seconds,
        empty=hosts.empty_seconds,
        heard=hosts.heard_seconds,
    )


class _Server(uvicorn.Server):
    """uvicorn, but a signal ends it and not the process, so that the store is closed after it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the caller."""
        yield


def _sockets(settings: ServerConfig, insecure: str) -> list[socket.socket]:
    found = [_insecure_socket(insecure)] if insecure else []
    if settings.listen.port:
        found.append(_tcp_socket(socket.AF_INET, "127.0.0.1", settings.listen.port))
        with contextlib.suppress(OSError):  # a machine without IPv6
            found.append(_tcp_socket(socket.AF_INET6, "::1", settings.listen.port))
    found.append(bound(Path(settings.listen.socket), "romanad"))  # the last one, because it leaves a file
    return found


def _tcp_socket(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    notice_silence(tcp)
    if family is socket.AF_INET6:
        tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        tcp.bind((address, port))
    except OSError as error:
        tcp.close()
        raise Unavailable(f"cannot listen on {address} port {port}: {error.strerror}") from error
    return tcp


def _insecure_socket(text: str) -> socket.socket:
    """The lab's socket; Invalid unless this process is surely outside the machine's own network."""
    address, _, port = text.rpartition(":")
    address = address.strip("[]")
    if not port.isdigit() or not address:
        raise Invalid(Fault("--insecure-listen", f"{text!r} is not ADDRESS:PORT"))
    own, first = _network_of("self"), _network_of("1")
    if not outside_own_network(own, first, os.environ.get(MACHINE_NETWORK, "")):
        raise Invalid(
            Fault(
                "--insecure-listen", "is for the lab alone, and this is the machine's own network; use the UNIX socket"
            )
        )
    log.warning("listening without authentication: anyone who reaches this address is in command", address=text)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return _tcp_socket(family, address, int(port))


def outside_own_network(own: str, first: str, said: str) -> bool:
    """Whether network namespace `own` is another one than the machine's; doubt says no.

    `first` is process 1's, empty where it is hidden from us; `said` is what `romana lab`, which alone starts romanad
    elsewhere, read before it went there. All are texts such as `net:[4026531833]`. Process 1 has a veto: nobody's word
    makes its network another one.
    """
    return bool(_NAMESPACE.fullmatch(own) and _NAMESPACE.fullmatch(said)) and own not in (first, said)


def _network_of(process: str) -> str:
    try:
        return str(Path(f"/proc/{process}/ns/net").readlink())
    except OSError:
        return ""


_NAMESPACE = re.compile(r"net:\[\d+\]")


if __name__ == "__main__":
    main()
