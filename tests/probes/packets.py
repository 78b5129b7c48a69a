"""Packets made by hand, sent raw inside a namespace, and what arrives at an interface: fragments, extension headers,
ICMP errors.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time
from collections.abc import Iterable
from typing import NamedTuple

from romana.adapters.linux.netns import inside
from tests.probes.traffic import checksum

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
"""Next headers of IPv6 that are no transport (RFC 8200, section 4.1)."""

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
"""Of linux/if_ether.h and linux/if_packet.h."""
_IP_NODEFRAG = 22
"""Of linux/in.h: connection tracking leaves the fragments of this socket as they are."""
_IPV6_FRAGMENT = 8
"""Bytes of its header."""


class Ends(NamedTuple):
    """Who sends to whom, as text."""

    source: str
    destination: str

    @property
    def is_six(self) -> bool:
        """Whether they are IPv6 addresses."""
        return ":" in self.source

    @property
    def packed(self) -> bytes:
        """Both addresses, as packets have them."""
        return b"".join(ipaddress.ip_address(one).packed for one in self)


def packet(ends: Ends, protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    """An IP packet. `options` are IPv4's, whole words; `fragment` is its flags, offset and identification (RFC 791)."""
    if ends.is_six:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends.packed + payload
    length = 20 + len(options)
    start = struct.pack("!BBHIBBH", 0x40 + length // 4, 0, length + len(payload), fragment, 64, protocol, 0)
    head = start + ends.packed + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def fragment(ends: Ends, protocol: int, payload: bytes, first: int, last: int, number: int) -> bytes:
    """Bytes first..last-1 of a payload as one fragment of the datagram `number`."""
    offset = first | (last < len(payload))
    if ends.is_six:
        head = struct.pack("!BBHI", protocol, 0, offset, number)
        return packet(ends, FRAGMENT, head + payload[first:last])
    flags = first // 8 | (last < len(payload)) << 13
    return packet(ends, protocol, payload[first:last], fragment=number << 16 | flags)


def extended(ends: Ends, headers: Iterable[int], protocol: int, payload: bytes) -> bytes:
    """An IPv6 packet with extension headers of these kinds, 8 bytes each, before the payload."""
    kind = protocol
    for header in reversed(list(headers)):
        body = {
            HOP_BY_HOP: b"\0\1\4\0\0\0\0",  # an option of padding, six bytes in all
            DESTINATION: b"\0\1\4\0\0\0\0",
            ROUTING: b"\0\xfd\0\0\0\0\0",  # an experimental type, no segments left
            FRAGMENT: b"\0\0\0\0\0\0\7",  # offset 0 and no more: the whole in one fragment
            AUTHENTICATION: b"\1\0\0\0\0\0\1\0\0\0\1",  # 12 bytes: in units of 4, minus 2
        }[header]
        payload, kind = bytes([kind]) + body + payload, header
    return packet(ends, kind, payload)


def udp(ends: Ends, source: int, destination: int, data: bytes) -> bytes:
    """A UDP header and its data."""
    segment = struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data
    return segment[:6] + _sum(ends, socket.IPPROTO_UDP, segment) + segment[8:]


def error(ends: Ends, quoted: bytes) -> bytes:
    """An ICMP error about a packet: fragmentation needed, or packet too big; MTU 1300."""
    if not ends.is_six:
        message = struct.pack("!BBHI", 3, 4, 0, 1300) + quoted
        return message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    message = struct.pack("!BBHI", 2, 0, 0, 1300) + quoted
    return message[:2] + _sum(ends, socket.IPPROTO_ICMPV6, message) + message[4:]


def _sum(ends: Ends, protocol: int, segment: bytes) -> bytes:
    pseudo = ends.packed + struct.pack("!II", len(segment), protocol)
    return struct.pack("!H", checksum(pseudo + segment + b"\0" * (len(segment) % 2)) or 0xFFFF)


def send(space: int, *packets: bytes, tracked: bool = True) -> None:
    """Send packets as they are; without `tracked`, the sender's wish that fragments are left alone stands."""
    for one in packets:
        six = one[0] >> 4 == 6
        with inside(space):
            raw = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with raw:
            if not (tracked or six):
                raw.setsockopt(socket.IPPROTO_IP, _IP_NODEFRAG, 1)
            raw.sendto(one, (str(ipaddress.ip_address(one[24:40] if six else one[16:20])), 0))


class Ear:
    """What arrives at an interface, before anything there looks at it."""

    def __init__(self, space: int, link: str = "eth0") -> None:
        with inside(space):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
            self._socket.bind((link, _ETH_P_ALL))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)

    def heard(self, until: bytes, wait: float = 2.0, after: float = 0.05) -> list[bytes]:
        """The packets since the last call, up to the one that has these bytes in it and a moment longer, for what is
        late; at most `wait` seconds.
        """
        found = []
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                found.append(self._socket.recv(65536))
                if until in found[-1]:
                    deadline = min(deadline, time.monotonic() + after)
        return found

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
