"""Fabrics for the benchmark of routes: labs of a few racks, routes as they come, and the messages between routers.

Owns the labs' documents, a listener to a node's routes, and a counter of BGP messages on a node's wires. Measures
nothing.
"""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from bench import datacentre
from romana.adapters.linux import netns
from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.netlink import NETLINK_ROUTE, Reply
from romana.apps.lab.record import LabRecord
from romana.model.address import Prefix

RTMGRP_ROUTES = 0x40 | 0x400
"""RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE (rtnetlink(7))."""
SO_RCVBUFFORCE = 33
ROOM = 64 << 20
"""Bytes that a socket may have waiting."""
BGP_PORT = 179
MARKER = b"\xff" * 16
UPDATE, KEEPALIVE = 2, 4
"""Types of BGP's messages (RFC 4271, section 4.1)."""
_NETLINK = struct.Struct("=IHHII")
_PACKET, _STATISTICS = 263, 6
"""SOL_PACKET and PACKET_STATISTICS (packet(7))."""


@contextmanager
def fabric(
    racks: dict[str, list[str]], networks: list[dict[str, Any]], *, segments: int = 1, **more: Any
) -> Iterator[LabRecord]:
    """A lab of these racks and networks, up; `more` goes into the lab file. Gone at the end."""
    flat = more.get("fabric") == "layer2"
    groups = [{"name": name, "hosts": hosts} for name, hosts in racks.items()]
    topology = {"name": "dc", "networks": [one["name"] for one in networks], "groups": groups}
    file = {
        "version": 1,
        "name": "bench-routes",
        "underlay": ["192.168.0.0/16", "fd00:192:168::/48"],
        "racks": [
            {"name": name, "hosts": hosts, **({} if flat else {"router": f"tor{number}"})}
            for number, (name, hosts) in enumerate(racks.items(), 1)
        ],
        "topology": ["topology.json"],
        "tenants": [{"name": datacentre.TENANT, "segments": segment_names(segments)}],
        **more,
    }
    with tempfile.TemporaryDirectory(prefix="romana-bench-") as place:
        plan = {"version": 1, "networks": networks, "topologies": [topology]}
        Path(place, "topology.json").write_bytes(msgspec.json.encode(plan))
        Path(place, "lab.json").write_bytes(msgspec.json.encode(file))
        with datacentre.datacentre(Path(place, "lab.json")) as record:
            yield record


def segment_names(count: int) -> list[str]:
    """The first is the one that endpoints of the benchmarks have."""
    return [datacentre.SEGMENT, *(f"{datacentre.SEGMENT}-{number}" for number in range(1, count))]


class _Listener(ABC):
    """A thread that reads a socket of a node, as long as the context lasts."""

    def __init__(self, record: LabRecord, node: str) -> None:
        with netns.opened(f"/proc/{record.process(node).pid}/ns/net") as there, netns.inside(there):
            self._socket = self._open()
        self._socket.settimeout(0.1)
        self._ended = False
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self._socket.close()

    @abstractmethod
    def _open(self) -> socket.socket: ...

    @abstractmethod
    def _take(self, data: bytes, address: Any) -> None: ...

    def _read(self) -> None:
        while not self._ended:
            try:
                data, address = self._socket.recvfrom(1 << 18)
            except TimeoutError:
                continue
            self._take(data, address)


class Arrivals(_Listener):
    """When a node's kernel got its routes: prefix -> the moment (`time.perf_counter`), the first one."""

    def __init__(self, record: LabRecord, node: str) -> None:
        self.at: dict[Prefix, float] = {}
        super().__init__(record, node)

    def _open(self) -> socket.socket:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        opened.bind((0, RTMGRP_ROUTES))
        return opened

    def _take(self, data: bytes, address: Any) -> None:  # noqa: ARG002 - it is the kernel's
        now, offset = time.perf_counter(), 0
        while offset + _NETLINK.size <= len(data):
            length, kind, _, _, _ = _NETLINK.unpack_from(data, offset)
            if kind == rtnl.RTM_NEWROUTE:
                route = rtnl.read_route(Reply(kind, data[offset + _NETLINK.size : offset + length]))
                self.at.setdefault(route.prefix, now)
            offset += (length + 3) & ~3


class BgpMessages(_Listener):
    """The BGP messages that come in or go out on the wires of a node."""

    def __init__(self, record: LabRecord, node: str) -> None:
        self._counts: Counter[int] = Counter()
        self._flows: dict[tuple[bytes, bytes, bytes], _Stream] = {}
        super().__init__(record, node)

    def of(self, kind: int) -> int:
        """How many of a type there were."""
        return self._counts[kind]

    def lost(self) -> int:
        """Packets that the kernel had no room for since the last time it was asked."""
        statistics = self._socket.getsockopt(_PACKET, _STATISTICS, 8)
        return int(struct.unpack("=II", statistics)[1])

    def _open(self) -> socket.socket:
        everything = 0x0003  # ETH_P_ALL
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(everything))
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        return opened

    def _take(self, data: bytes, address: Any) -> None:
        if data[0] >> 4 == 4:
            protocol, start, ends, size = data[9], (data[0] & 15) * 4, data[12:20], int.from_bytes(data[2:4], "big")
        else:
            protocol, start, ends, size = data[6], 40, data[8:40], 40 + int.from_bytes(data[4:6], "big")
        if protocol != socket.IPPROTO_TCP:
            return
        source, target, sequence = struct.unpack_from("!HHI", data, start)
        body = start + (data[start + 12] >> 4) * 4
        if BGP_PORT not in (source, target) or size <= body:
            return
        stream = self._flows.setdefault((address[0].encode(), ends, data[start : start + 4]), _Stream())
        self._counts.update(stream.messages(sequence, data[body:size]))


class _Stream:
    """One direction of a TCP connection, put together again from its segments."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._ahead: dict[int, bytes] = {}
        self._left = b""

    def messages(self, sequence: int, data: bytes) -> Iterator[int]:
        """The types of the messages that a segment completes."""
        if self._next is None:
            if not data.startswith(MARKER):
                return  # the middle of a message
            self._next = sequence
        self._ahead[sequence] = data
        while self._next in self._ahead:
            taken = self._ahead.pop(self._next)
            self._left += taken
            self._next = (self._next + len(taken)) & 0xFFFFFFFF
        while len(self._left) >= 19:
            length = int.from_bytes(self._left[16:18], "big")
            if not self._left.startswith(MARKER) or length < 19:
                raise SystemExit("bench: a BGP stream could not be followed")
            if len(self._left) < length:
                return
            yield self._left[18]
            self._left = self._left[length:]
