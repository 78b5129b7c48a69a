"""Headers of packets: what they say, whatever the bytes are."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.codec.packets import read_packet
from romana.codec.text import parse_address
from romana.model.flow import Packet

ONE4, TWO4 = parse_address("10.0.0.1"), parse_address("10.0.0.2")
ONE6, TWO6 = parse_address("fd00::1"), parse_address("fd00::2")
PORTS = struct.pack("!HH", 1234, 80)


def v4(protocol: int, rest: bytes, *, fragment: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 0, 1, fragment, 64, protocol, 0)
    return head + struct.pack("!II", ONE4.value, TWO4.value) + options + rest


def v6(protocol: int, rest: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(rest), protocol, 64)
    return head + ONE6.value.to_bytes(16, "big") + TWO6.value.to_bytes(16, "big") + rest


@pytest.mark.parametrize(
    ("data", "protocol", "port", "source_port"),
    [
        (v4(6, PORTS), 6, 80, 1234),
        (v4(17, PORTS, options=b"\x01" * 8), 17, 80, 1234),
        (v4(132, PORTS), 132, 80, 1234),
        (v4(1, b"\x08\x00rest"), 1, 2048, 0),
        (v4(6, PORTS, fragment=100), 6, 0, 0),
        (v4(6, PORTS, fragment=0x2000), 6, 80, 1234),
        (v4(47, PORTS), 47, 0, 0),
        (v4(6, b"\x01"), 6, 0, 0),
        (v6(6, PORTS), 6, 80, 1234),
        (v6(58, b"\x80\x00"), 58, 0x8000, 0),
        (v6(0, b"\x3c\x00" + b"\0" * 6 + b"\x06\x00" + b"\0" * 6 + PORTS), 6, 80, 1234),
        (v6(44, b"\x11\x00" + struct.pack("!HI", 1, 7) + PORTS), 17, 80, 1234),
        (v6(44, b"\x11\x00" + struct.pack("!HI", 100 << 3, 7) + PORTS), 17, 0, 0),
        (v6(51, b"\x06\x01" + b"\0" * 10 + PORTS), 6, 80, 1234),
    ],
)
def test_headers_are_read(data: bytes, protocol: int, port: int, source_port: int) -> None:
    source, destination = (ONE4, TWO4) if data[0] >> 4 == 4 else (ONE6, TWO6)
    assert read_packet(data) == Packet(
        source=source, destination=destination, protocol=protocol, port=port, source_port=source_port
    )


@given(st.binary(max_size=120))
def test_no_bytes_are_an_error(data: bytes) -> None:
    read_packet(data)
    for version in (4, 6):
        read_packet(bytes([version << 4 | len(data) & 15]) + data)


@pytest.mark.parametrize("data", [b"", b"\x45" + b"\0" * 10, b"\x60" + b"\0" * 30, b"\x00" * 60])
def test_what_is_no_packet_is_none(data: bytes) -> None:
    assert read_packet(data) is None
