"""Connections between namespaces: whether TCP, UDP, ICMP and SCTP get through, many at once.

SCTP's packets are made and read here, because kernels without SCTP sockets still forward and track it.
"""

from __future__ import annotations

import contextlib
import functools
import os
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


SCTP = 132
"""Its IP protocol number; Python knows it only where the C library does."""


class Probe(NamedTuple):
    """One question: from a namespace (and, optionally, one of its addresses) to an address; a port for all but icmp."""

    source: int
    kind: str
    address: str
    port: int = 0
    bind: str = ""

    @property
    def family(self) -> socket.AddressFamily:
        """Of its address."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


_KINDS: dict[str, tuple[socket.SocketKind, int]] = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_RAW, SCTP),
}


def bound(space: int, kind: str, address: str, port: int) -> socket.socket:
    """A socket inside a namespace: `tcp` listens, `udp` receives, `sctp` receives whatever its port is."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(space):
        result = socket.socket(family, *_KINDS[kind])
    result.setblocking(False)
    if family == socket.AF_INET6 and kind != "sctp":
        result.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    result.bind((address, port))
    if kind == "tcp":
        result.listen(1000)
    return result


def accepted(probes: Sequence[Probe], servers: Sequence[socket.socket]) -> list[bool]:
    """Send all of them, and answer which ones arrived: TCP connected, the datagram or SCTP's first packet was received,
    the echo answered.

    `servers` are the sockets that may receive the datagrams and packets.
    """
    # what comes late is not taken for an answer to a later call, whose flows are new to connection tracking
    call = int.from_bytes(os.urandom(2), "big")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_client(probe)) for probe in probes]
        for number, (probe, client) in enumerate(zip(probes, clients, strict=True)):
            _send(_mark(call, number), call + number, probe, client)
        found = _outcomes(call, probes, clients, [one for one in servers if one.type is not socket.SOCK_STREAM])
    for server in servers:
        _hang_up(server)
    return found


def _mark(call: int, number: int) -> int:
    """What the packets of a probe carry: 32 bits, never 0."""
    return call << 16 | number + 1


def _hang_up(server: socket.socket) -> None:
    """Take a listener's connections and end them, so that there is room for the next ones."""
    with contextlib.suppress(BlockingIOError):
        while server.type is socket.SOCK_STREAM:
            server.accept()[0].close()


def arrives(probe: Probe, servers: Sequence[socket.socket]) -> bool:
    """One of them."""
    return accepted([probe], servers)[0]


def _client(probe: Probe) -> socket.socket:
    icmp = socket.IPPROTO_ICMP if probe.family is socket.AF_INET else socket.IPPROTO_ICMPV6
    with inside(probe.source):
        client = socket.socket(probe.family, *_KINDS.get(probe.kind, (socket.SOCK_RAW, icmp)))
    client.setblocking(False)
    if probe.bind:
        client.setsockopt(*_TRANSPARENT[probe.family], 1)
        client.bind((probe.bind, 0))
    return client


def _send(mark: int, flow: int, probe: Probe, client: socket.socket) -> None:
    payload = struct.pack("!I", mark)
    with contextlib.suppress(BlockingIOError, PermissionError):
        if probe.kind == "tcp":
            client.connect((probe.address, probe.port))
        elif probe.kind == "udp":
            client.sendto(payload, (probe.address, probe.port))
        elif probe.kind == "sctp":
            client.sendto(_sctp_init(1024 + flow % 60_000, probe.port, mark), (probe.address, 0))
        else:
            first = 8 if probe.family is socket.AF_INET else 128
            header = struct.pack("!BBHHH", first, 0, 0, flow & 0xFFFF, 1)
            message = header + payload
            if probe.family is socket.AF_INET:
                message = struct.pack("!BBHHH", first, 0, checksum(message), flow & 0xFFFF, 1) + payload
            client.sendto(message, (probe.address, 0))


def _outcomes(
    call: int, probes: Sequence[Probe], clients: Sequence[socket.socket], servers: Sequence[socket.socket]
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
                    mark = _received(receivers[descriptor])
                    if mark >> 16 == call:
                        done[(mark & 0xFFFF) - 1] = True
                        deadline = time.monotonic() + WAIT
                continue
            number = numbers[descriptor]
            outcome = _outcome(_mark(call, number), probes[number], clients[number])
            if outcome is not None:
                done.setdefault(number, outcome)
                poll.unregister(descriptor)
                deadline = time.monotonic() + WAIT
    return [done.get(number, False) for number in range(len(probes))]


def _received(server: socket.socket) -> int:
    """The mark of the datagram or packet that a server has."""
    packet = server.recv(100)
    start = 0
    if server.type is socket.SOCK_RAW:  # SCTP, in IPv4 behind the packet's header: its initiate tag
        start = 16 + (20 if server.family is socket.AF_INET else 0)
    (mark,) = struct.unpack_from("!I", packet, start)
    return int(mark)


def _outcome(mark: int, probe: Probe, client: socket.socket) -> bool | None:
    """Whether it came through, None when that cannot be said yet."""
    if probe.kind == "tcp":
        return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    try:
        answer = client.recv(2000)
    except OSError:
        return False
    if probe.kind != "icmp":
        return None
    header = 20 if probe.family is socket.AF_INET else 0
    echo = answer[header] in (0, 129) and answer[header + 8 : header + 12] == struct.pack("!I", mark)
    return True if echo else None


def checksum(message: bytes) -> int:
    """Of the internet protocols (RFC 1071), over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _sctp_init(source: int, destination: int, tag: int) -> bytes:
    """The first packet of an association: a common header and an INIT chunk (RFC 9260, sections 3.1 and 3.3.2)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, tag, 65535, 1, 1, 1)
    ports = struct.pack("!HHI", source, destination, 0)
    return ports + struct.pack("<I", _crc32c(ports + bytes(4) + chunk)) + chunk


def _crc32c(message: bytes) -> int:
    """SCTP's checksum (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in message:
        value = value >> 8 ^ _crc32c_of_byte((value ^ byte) & 0xFF)
    return value ^ 0xFFFFFFFF


@functools.cache
def _crc32c_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value
