"""The program inside a pod's namespace that answers connections and tries others; only the standard library.

It listens on one port, TCP and UDP, both families, and echoes. On standard input it takes one JSON command a line, and
answers each with one line; it ends with its input. `probe` tries many (address, protocol) pairs at once and answers
those that were reached; `stream` starts a ping every 10 ms and a TCP connection that sends every 10 ms; `stop` answers
how much of that came back. Invariant: reached means that an echo of our own bytes came back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from typing import Any

INTERVAL = 0.01
RETRY = 0.4
ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
"""ICMP and ICMPv6 types of echo request and reply (RFC 792, RFC 4443)."""
TOTAL_RETRANSMITS = 100
"""Offset of tcpi_total_retrans in struct tcp_info (linux/tcp.h)."""


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends back every datagram."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Send it back."""
        self.transport.sendto(data, addr)


class Answered(asyncio.DatagramProtocol):
    """Notes the first datagram that comes back."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002
        """Note it."""
        if not self.answer.done():
            self.answer.set_result(data)


class Pings:
    """Echo requests from raw sockets, and which of them were answered."""

    def __init__(self) -> None:
        self.answered: set[int] = set()
        self.sequence = 0
        self.renew()
        self.sockets = {
            socket.AF_INET: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
            socket.AF_INET6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        }
        for family, one in self.sockets.items():
            one.setblocking(False)
            asyncio.get_running_loop().add_reader(one, self.receive, family)

    def renew(self) -> None:
        """Begin a new flow: to connection tracking, an identifier is what a port is, and it remembers old ones."""
        self.identifier = int.from_bytes(os.urandom(2), "big")
        self.answered.clear()

    def send(self, address: str) -> int:
        """Send one; answers its sequence number."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sequence = (self.sequence + 1) & 0xFFFF
        message = struct.pack("!BBHHH", ECHO[family][0], 0, 0, self.identifier, self.sequence) + b"romana.."
        if family == socket.AF_INET:
            message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        with contextlib.suppress(OSError):  # no route, or the queue is full: not answered
            self.sockets[family].sendto(message, (address, 0))
        return self.sequence

    def receive(self, family: int) -> None:
        """Take in everything that arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = self.sockets[socket.AddressFamily(family)].recv(2048)
                start = (packet[0] & 15) * 4 if family == socket.AF_INET else 0
                kind, _, _, identifier, sequence = struct.unpack_from("!BBHHH", packet, start)
                if kind == ECHO[socket.AddressFamily(family)][1] and identifier == self.identifier:
                    self.answered.add(sequence)


def checksum(message: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


async def try_tcp(address: str, port: int) -> None:
    """Connect, and get four bytes back."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(b"echo")
        await reader.readexactly(4)
    finally:
        writer.transport.abort()


async def try_udp(address: str, port: int) -> None:
    """Get a datagram back."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Answered, remote_addr=(address, port))
    try:
        while not protocol.answer.done():
            transport.sendto(b"echo")
            await asyncio.wait([protocol.answer], timeout=RETRY)
    finally:
        transport.close()


async def try_icmp(address: str, pings: Pings) -> None:
    """Get an echo reply."""
    sent: set[int] = set()
    while not sent & pings.answered:
        sent.add(pings.send(address))
        for _ in range(20):
            await asyncio.sleep(RETRY / 20)
            if sent & pings.answered:
                break


async def probe(command: dict[str, Any], pings: Pings) -> dict[str, Any]:
    """Try all targets at once; `reached` has the [address, protocol] pairs that answered in time."""

    async def one(address: str, protocol: str) -> bool:
        tries = {"tcp": try_tcp, "udp": try_udp}
        task = try_icmp(address, pings) if protocol == "icmp" else tries[protocol](address, command["port"])
        try:
            await asyncio.wait_for(task, command["seconds"])
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):  # noqa: UP041 - the lab's Python is 3.11
            return False
        return True

    pings.renew()
    targets = [(address, protocol) for address in command["addresses"] for protocol in command["protocols"]]
    results = await asyncio.gather(*(one(*target) for target in targets))
    return {"reached": [target for target, result in zip(targets, results, strict=True) if result]}


class Stream:
    """A ping and a TCP stream to one address, for as long as it is not stopped."""

    def __init__(self, pings: Pings) -> None:
        self.pings = pings
        self.sent: list[int] = []
        self.written = 0
        self.received = 0
        self.running = True

    async def start(self, address: str, port: int) -> None:
        """Connect and begin; OSError when it cannot connect."""
        self.pings.renew()
        self.reader, self.writer = await asyncio.open_connection(address, port)
        self.tasks = [asyncio.create_task(one) for one in (self.ping(address), self.write(), self.read())]

    async def ping(self, address: str) -> None:
        """A ping every interval."""
        while self.running:
            self.sent.append(self.pings.send(address))
            await asyncio.sleep(INTERVAL)

    async def write(self) -> None:
        """Eight bytes every interval."""
        while self.running:
            self.writer.write(b"8 bytes.")
            self.written += 8
            await asyncio.sleep(INTERVAL)

    async def read(self) -> None:
        """Count what comes back."""
        while data := await self.reader.read(65536):
            self.received += len(data)

    async def stop(self) -> dict[str, Any]:
        """Stop, give the last answers a second, and say what came back."""
        self.running = False
        await asyncio.gather(*self.tasks[:2])
        for _ in range(100):
            if self.received == self.written and self.pings.answered.issuperset(self.sent):
                break
            await asyncio.sleep(0.01)
        information = self.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        (retransmits,) = struct.unpack_from("=I", information, TOTAL_RETRANSMITS)
        self.tasks[2].cancel()
        self.writer.transport.abort()
        return {
            "pings": len(self.sent),
            "pings_lost": len([one for one in self.sent if one not in self.pings.answered]),
            "bytes": self.written,
            "bytes_lost": self.written - self.received,
            "retransmits": retransmits,
        }


async def serve(port: int) -> None:
    """Listen, then answer commands until the input ends."""
    loop = asyncio.get_running_loop()
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - a pod's namespace
        await loop.create_server(Echo, host, port, family=family, backlog=1024)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        datagrams.bind((host, port))
        await loop.create_datagram_endpoint(DatagramEcho, sock=datagrams)
    pings = Pings()
    stream = Stream(pings)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say({"ready": True})
    while line := await reader.readline():
        command = json.loads(line)
        if command["do"] == "probe":
            say(await probe(command, pings))
        elif command["do"] == "stream":
            stream = Stream(pings)
            await stream.start(command["address"], command["port"])
            say({"started": True})
        elif command["do"] == "stop":
            say(await stream.stop())


def say(answer: dict[str, Any]) -> None:
    """One answer, one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
