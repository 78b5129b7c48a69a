"""The program behind `tests.probes.pings`: a raw socket in every pod's namespace, and pings from each to each.

Each has a small TTL: one that goes round comes back as "time exceeded". The kernel of the other pod answers.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import Counter
from typing import Any

from romana.adapters.linux.netns import inside, opened

ECHO = {socket.AF_INET: (8, 0, 11), socket.AF_INET6: (128, 129, 3)}
"""ICMP and ICMPv6: echo request, echo reply, time exceeded (RFC 792, RFC 4443)."""
MARK = b"ro"
"""The identifier of our pings."""
TTL = 16
MOST = 10
"""Examples of what went round."""


class Pinger:
    """The loop in the process of its own."""

    def __init__(self, pods: dict[str, Any], interval: float) -> None:
        self.interval = interval
        self.names = list(pods)
        self.addresses = {name: pods[name][1] for name in pods}
        self.sockets: dict[tuple[str, socket.AddressFamily], socket.socket] = {}
        self.of: dict[int, tuple[str, socket.AddressFamily]] = {}
        self.poll = select.epoll()
        for name in pods:
            with opened(pods[name][0]) as there, inside(there):
                for family in ECHO:
                    self.open(name, family)
        self.targets = [
            (source, destination, family, address)
            for source in self.names
            for destination in self.names
            if source != destination
            for address in self.addresses[destination]
            for family in [socket.AF_INET6 if ":" in address else socket.AF_INET]
        ]
        self.tick = 0
        self.exceeded: Counter[str] = Counter()
        self.strays = 0
        self.rounds: set[str] = set()
        self.answered: list[list[int]] = [[] for _ in self.targets]

    def open(self, name: str, family: socket.AddressFamily) -> None:
        six = family == socket.AF_INET6
        one = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if six:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
        else:
            one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
        self.sockets[name, family] = one
        self.of[one.fileno()] = (name, family)
        self.poll.register(one.fileno(), select.EPOLLIN)

    def run(self) -> None:
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN)
        print("ready", flush=True)
        following = time.monotonic()
        first = 1
        while True:
            now = time.monotonic()
            if now >= following:
                following = max(following + self.interval, now - self.interval)
                self.tick += 1
                self.send()
            for fileno, _ in self.poll.poll(max(0.0, following - time.monotonic())):
                if fileno == sys.stdin.fileno():
                    if not sys.stdin.readline():
                        return
                    self.settle()
                    print(json.dumps(self.result(first)), flush=True)
                    first = self.tick + 1
                    self.strays = 0
                    self.exceeded.clear()
                    self.rounds.clear()
                    self.answered = [[] for _ in self.targets]
                    following = time.monotonic()
                else:
                    self.receive(fileno)

    def settle(self) -> None:
        until = time.monotonic() + 0.5
        while (left := until - time.monotonic()) > 0:
            for fileno, _ in self.poll.poll(left):
                if fileno != sys.stdin.fileno():
                    self.receive(fileno)

    def send(self) -> None:
        for index, (source, _, family, address) in enumerate(self.targets):
            body = struct.pack("!II", index, self.tick)
            message = (
                struct.pack("!BBHHH", ECHO[family][0], 0, 0, int.from_bytes(MARK, "big"), self.tick & 0xFFFF) + body
            )
            if family == socket.AF_INET:
                message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
            try:
                self.sockets[source, family].sendto(message, (address, 0))
            except OSError:  # no route, or the queue is full: not answered
                continue

    def receive(self, fileno: int) -> None:
        _, family = self.of[fileno]
        one = self.sockets[self.of[fileno]]
        while True:
            try:
                packet, sender = one.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError:
                continue
            start = (packet[0] & 15) * 4 if family == socket.AF_INET else 0
            kind = packet[start]
            if kind == ECHO[family][2]:
                inner = packet[start + 8 :]
                size = 40 if family == socket.AF_INET6 else (inner[0] & 15) * 4
                ours = inner[size] in ECHO[family][:2] and inner[size + 4 : size + 6] == MARK
                self.strays += not ours
                first, length = (8, 16) if family == socket.AF_INET6 else (12, 4)
                ends = [socket.inet_ntop(family, inner[at : at + length]) for at in (first, first + length)]
                self.exceeded[ends[1]] += ours
                self.rounds.add(f"{' > '.join(ends)} at {sender[0]}")
            elif kind == ECHO[family][1] and packet[start + 4 : start + 6] == MARK:
                index, tick = struct.unpack_from("!II", packet, start + 8)
                if index < len(self.answered):
                    self.answered[index].append(tick)

    def result(self, first: int) -> dict[str, Any]:
        rows = []
        for (source, destination, family, _), answered in zip(self.targets, self.answered, strict=True):
            known = sorted({tick for tick in answered if tick >= first})
            sent = self.tick - first + 1
            gap, before = 0, first - 1
            for tick in [*known, self.tick + 1]:
                gap, before = max(gap, tick - before - 1), tick
            version = 4 if family == socket.AF_INET else 6
            rows.append([source, destination, version, sent, sent - len(known), round(gap * self.interval, 3)])
        rounds = sorted(self.rounds)[:MOST]
        return {"pairs": rows, "exceeded": self.exceeded, "strays": self.strays, "rounds": rounds}


def checksum(message: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


if __name__ == "__main__":
    Pinger(json.loads(sys.argv[1]), float(sys.argv[2])).run()
