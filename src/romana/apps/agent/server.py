"""The agent's UNIX socket: one request and one answer a connection (`codec.cni_wire`).

Owns the socket's file and the connections. Refuses to know what is asked. Invariant: a request that was read is worked
on to its end, whether or not the plugin still waits for the answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from romana.adapters.unix_socket import bound
from romana.codec.cni_wire import LENGTH_SIZE, frame_length, read_answer, read_request, write_answer, write_request
from romana.model.errors import Invalid, Unavailable

log = structlog.get_logger()

Answer = Callable[[Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]
READ_SECONDS = 10.0
"""A plugin sends its request at once; one that does not is cut off."""


class AgentServer:
    """Serves one function on one socket."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._busy: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take requests. Unavailable when another agent does already."""
        listener = bound(self._path, "agent")
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, backlog=1024)

    async def stop(self) -> None:
        """Take no more, and finish what was begun."""
        if self._server is not None:
            self._server.close()
        if self._busy:
            await asyncio.wait(self._busy)
        self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        try:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    length = frame_length(await reader.readexactly(LENGTH_SIZE))
                    environment, stdin = read_request(await reader.readexactly(length))
            except (asyncio.IncompleteReadError, TimeoutError, Invalid) as error:
                log.warning("a connection without a request", error=str(error) or type(error).__name__)
                return
            status, output = await self._answer(environment, stdin)
            writer.write(write_answer(status, output))
            await writer.drain()
        except ConnectionError:
            log.info("a plugin did not wait for its answer")
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def ask(path: Path, environment: dict[str, str], *, timeout: float = 10.0) -> tuple[int, bytes]:
    """Ask the agent at a socket, and wait; Unavailable when none answers there."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(write_request(environment, b""))
            with connection.makefile("rb") as answer:
                payload = answer.read(frame_length(_exactly(answer.read(LENGTH_SIZE), LENGTH_SIZE)))
    except OSError as error:
        raise Unavailable(f"no agent answers on {path}: {error}; is romana-agent running?") from error
    return read_answer(_exactly(payload, LENGTH_SIZE))


def _exactly(data: bytes, least: int) -> bytes:
    if len(data) < least:
        raise ConnectionError("the answer ends too early")
    return data
