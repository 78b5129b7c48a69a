"""The headers of IP packets, as far as policy looks at them.

Owns the layout (RFC 791, RFC 8200, RFC 9293, RFC 768). Invariant: a packet, or None for bytes that are none; never an
error, whatever the bytes are.
"""

from __future__ import annotations

import struct

from romana.model.address import Address, Family
from romana.model.flow import Packet
from romana.model.policy import ICMP_PROTOCOLS, PORT_PROTOCOLS

_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})
"""IPv6 extension headers that say their length in units of 8 bytes: hop-by-hop, routing, destination options ..."""
_FRAGMENT, _AUTHENTICATION = 44, 51
_MOST_EXTENSIONS = 16


def read_packet(data: bytes) -> Packet | None:
    """The headers of a packet that begins with its IP header; it may be cut off."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        start = (data[0] & 15) * 4
        source, destination = struct.unpack_from("!II", data, 12)
        first = not struct.unpack_from("!H", data, 6)[0] & 0x1FFF
        return _packet(Family.V4, source, destination, data[9], data[start:] if first else b"")
    if version == 6 and len(data) >= 40:
        source, destination = (int.from_bytes(data[start : start + 16], "big") for start in (8, 24))
        protocol, start, first = _behind_extensions(data)
        return _packet(Family.V6, source, destination, protocol, data[start:] if first else b"")
    return None


def _behind_extensions(data: bytes) -> tuple[int, int, bool]:
    """The protocol behind IPv6 extension headers, where it begins, and whether it is there (no later fragment)."""
    protocol, start, first = data[6], 40, True
    for _ in range(_MOST_EXTENSIONS):
        if len(data) < start + 8:
            break
        if protocol in _EXTENSIONS:
            protocol, start = data[start], start + 8 * (data[start + 1] + 1)
        elif protocol == _AUTHENTICATION:
            protocol, start = data[start], start + 4 * (data[start + 1] + 2)
        elif protocol == _FRAGMENT:
            first = first and not struct.unpack_from("!H", data, start + 2)[0] >> 3
            protocol, start = data[start], start + 8
        else:
            break
    return protocol, start, first


def _packet(family: Family, source: int, destination: int, protocol: int, rest: bytes) -> Packet:
    port = source_port = 0
    if protocol in PORT_PROTOCOLS and len(rest) >= 4:
        source_port, port = struct.unpack_from("!HH", rest)
    elif protocol in ICMP_PROTOCOLS and len(rest) >= 2:
        port = rest[0] * 256 + rest[1]
    return Packet(
        source=Address(family, source),
        destination=Address(family, destination),
        protocol=protocol,
        port=port,
        source_port=source_port,
    )
