"""Connections between namespaces: whether TCP, UDP and ICMP get through, many at once."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from romana.adapters.linux.netns import inside

WAIT = 0.6
"""Seconds without anything new after which the rest is taken as dropped."""

_TRANSPARENT = {socket.AF_INET: (socket.IPPROTO_IP, 19), socket.AF_INET6: (socket.IPPROTO_IPV6, 75)}
"""IP_TRANSPARENT and IPV6_TRANSPARENT of linux/in.h: send from an address that is not there."""


class Probe(NamedTuple):
    """One question: from a namespace (and, optionally, one of its addresses) to an address; ports for tcp and udp."""

    source: int
    kind: str
    address: str
    port: int = 0
    bind: str = ""

    @property
    def family(self) -> socket.AddressFamily:
        """Of its address."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


def bound(space: int, kind: str, address: str, port: int) -> socket.socket:
    """A socket inside a namespace: `tcp` listens, `udp` receives."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(space):
        result = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    result.setblocking(False)
    if family == socket.AF_INET6:
        result.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    result.bind((address, port))
    if kind == "tcp":
        result.listen(1000)
    return result


def accepted(probes: Sequence[Probe], servers: Sequence[socket.socket]) -> list[bool]:
    """Send all of them, and answer which ones arrived: TCP connected, the datagram was received, the echo answered.

    `servers` are the sockets that may receive the datagrams.
    """
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_client(probe)) for probe in probes]
        for number, (probe, client) in enumerate(zip(probes, clients, strict=True)):
            _send(number, probe, client)
        return _outcomes(probes, clients, [server for server in servers if server.type is socket.SOCK_DGRAM])


def arrives(probe: Probe, servers: Sequence[socket.socket]) -> bool:
    """One of them."""
    return accepted([probe], servers)[0]


def _client(probe: Probe) -> socket.socket:
    protocol = 0
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_RAW}[probe.kind]
    if probe.kind == "icmp":
        protocol = socket.IPPROTO_ICMP if probe.family is socket.AF_INET else socket.IPPROTO_ICMPV6
    with inside(probe.source):
        client = socket.socket(probe.family, kind, protocol)
    client.setblocking(False)
    if probe.bind:
        client.setsockopt(*_TRANSPARENT[probe.family], 1)
        client.bind((probe.bind, 0))
    return client


def _send(number: int, probe: Probe, client: socket.socket) -> None:
    payload = struct.pack("!I", number)
    with contextlib.suppress(BlockingIOError, PermissionError):
        if probe.kind == "tcp":
            client.connect((probe.address, probe.port))
        elif probe.kind == "udp":
            client.sendto(payload, (probe.address, probe.port))
        else:
            first = 8 if probe.family is socket.AF_INET else 128
            header = struct.pack("!BBHHH", first, 0, 0, number & 0xFFFF, 1)
            message = header + payload
            if probe.family is socket.AF_INET:
                message = struct.pack("!BBHHH", first, 0, checksum(message), number & 0xFFFF, 1) + payload
            client.sendto(message, (probe.address, 0))


def _outcomes(
    probes: Sequence[Probe], clients: Sequence[socket.socket], servers: Sequence[socket.socket]
) -> list[bool]:
    done: dict[int, bool] = {}
    poll = select.poll()
    numbers = {}
    for number, (probe, client) in enumerate(zip(probes, clients, strict=True)):
        numbers[client.fileno()] = number
        poll.register(client, select.POLLOUT if probe.kind == "tcp" else select.POLLIN)
    receivers = {server.fileno(): server for server in servers}
    for server in servers:
        poll.register(server, select.POLLIN)
    deadline = time.monotonic() + WAIT
    while len(done) < len(probes) and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            if descriptor in receivers:
                with contextlib.suppress(OSError):
                    done[struct.unpack("!I", receivers[descriptor].recv(100)[:4])[0]] = True
                    deadline = time.monotonic() + WAIT
                continue
            number = numbers[descriptor]
            outcome = _outcome(number, probes[number], clients[number])
            if outcome is not None:
                done.setdefault(number, outcome)
                poll.unregister(descriptor)
                deadline = time.monotonic() + WAIT
    return [done.get(number, False) for number in range(len(probes))]


def _outcome(number: int, probe: Probe, client: socket.socket) -> bool | None:
    """Whether it came through, None when that cannot be said yet."""
    if probe.kind == "tcp":
        return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    try:
        answer = client.recv(2000)
    except OSError:
        return False
    if probe.kind == "udp":
        return None
    header = 20 if probe.family is socket.AF_INET else 0
    echo = answer[header] in (0, 129) and struct.unpack_from("!H", answer, header + 4)[0] == number & 0xFFFF
    return True if echo else None


def checksum(message: bytes) -> int:
    """Of the internet protocols (RFC 1071), over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
