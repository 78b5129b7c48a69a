"""Clients that ask romanad for fixed addresses, in a process of their own.

Owns the load: so many connections, each with one request at a time. Answers, on standard output, how long each took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import cast

import httptools
import msgspec
import uvloop

HEAD = "{method} {path} HTTP/1.1\r\nhost: romanad\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"


class Taken(msgspec.Struct, kw_only=True):
    """What a load took: seconds from first to last, and of each request."""

    seconds: float
    requests: list[float]


class Connection(asyncio.Protocol):
    """One connection; `ask` answers status and body."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._answer is not None
        self._answer.set_result((self._parser.get_status_code(), self._body))

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of an answer; ends the program when it is a refusal."""
        self._body = b""
        self._answer = asyncio.get_running_loop().create_future()
        head = HEAD.format(method=method, path=path, length=len(body)).encode()
        self._transport.write(head + body)
        status, answer = await self._answer
        if status != 200:
            raise SystemExit(f"bench: {method} {path}: {status} {answer.decode()}")
        return answer


async def connect(socket: str) -> Connection:
    """A connection to a UNIX socket."""
    _, made = await asyncio.get_running_loop().create_unix_connection(Connection, socket)
    return made


async def load(socket: str, clients: int, requests: int, body: Callable[[int, int], bytes]) -> Taken:
    """So many requests in all; `body` makes each one's from its client and its number there."""
    connections = [await connect(socket) for _ in range(clients)]
    taken: list[float] = []

    async def client(number: int, connection: Connection) -> None:
        for each in range(requests // clients):
            began = time.perf_counter()
            await connection.ask("POST", "/v1/addresses", body(number, each))
            taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client(number, one) for number, one in enumerate(connections)))
    return Taken(seconds=time.perf_counter() - began, requests=taken)


def main() -> None:
    """Arguments: socket, clients, requests, a word for the names, tenant, segment, network."""
    socket, clients, requests, word, tenant, segment, network = sys.argv[1:]

    def body(client: int, number: int) -> bytes:
        asked = {"name": f"{word}-{client}-{number}", "tenant": tenant, "segment": segment, "networks": [network]}
        return msgspec.json.encode(asked)

    found = uvloop.run(load(socket, int(clients), int(requests), body))
    sys.stdout.buffer.write(msgspec.json.encode(found))
