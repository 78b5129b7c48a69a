"""What the table lets pass is as it should be while agents die, policies change, and others flush the ruleset."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from romana.adapters.linux.conntrack import KernelConnections
from romana.adapters.linux.netns import inside, opened
from romana.adapters.romanad import RomanadClient
from romana.codec.text import parse_address
from romana.model.address import Address
from tests.probes.agenthost import AgentHost, wait

KILLS, CHANGES, FLUSHES = 50, 200, 5
PORT = 9000
PAUSE = 0.002
NONE = {"version": 1, "kind": "policy", "id": "db", "applies_to": [{"tenant": "red", "segment": "db"}], "ingress": []}


def web(number: int) -> dict[str, Any]:
    """A policy that keeps what `red` accepts from `red`, in ever other words."""
    traffic = [f"udp/{PORT}", f"tcp/{1 + number % 60000}"]
    rules = [{"from": [{"tenant": "red"}], "ports": traffic}]
    who = [{"tenant": "red", "segment": "web"}]
    return {"version": 1, "kind": "policy", "id": "web", "applies_to": who, "ingress": rules}


class Prober:
    """Asks again and again, each time from a port of its own: what is accepted has to arrive, what is denied never."""

    def __init__(self, host: AgentHost, source: str, accepted: list[str], denied: list[str]) -> None:
        self._stack = ExitStack()
        self._from = self._stack.enter_context(opened(f"/run/netns/{host.prefix}{source}"))
        self._accepted, self._denied = accepted, denied
        self._going = True
        self.asked = 0
        self.lost: list[float] = []
        self.passed: list[float] = []
        """When something arrived that is denied."""
        self._heard: set[bytes] = set()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def listen(self, host: AgentHost, name: str, address: str, *, denied: bool) -> None:
        with opened(f"/run/netns/{host.prefix}{name}") as space, inside(space):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((address, PORT))
        server.settimeout(0.2)
        self._sockets.append(server)
        self._threads.append(threading.Thread(target=self._hear, args=(server, denied)))

    def _hear(self, server: socket.socket, denied: bool) -> None:
        while self._going:
            try:
                word = server.recv(100)
            except TimeoutError:
                continue
            if denied:
                self.passed.append(time.monotonic())
            self._heard.add(word)

    def _ask(self) -> None:
        with inside(self._from):
            while self._going:
                self._once()
                time.sleep(PAUSE)

    def _once(self) -> None:
        for address in (*self._accepted, *self._denied):
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
                word = f"{address} {self.asked}".encode()
                began = time.monotonic()
                client.sendto(word, (address, PORT))
                if address in self._accepted:
                    while word not in self._heard:
                        if time.monotonic() > began + 2:
                            self.lost.append(began)
                            break
                        time.sleep(0.0005)
            self.asked += 1

    def __enter__(self) -> Prober:
        self._threads.append(threading.Thread(target=self._ask))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()
        for server in self._sockets:
            server.close()
        self._stack.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[AgentHost]:
    one = AgentHost(tmp_path, "st")
    try:
        yield one.open()
    finally:
        one.close()


def test_no_wrong_answer_while_agents_die_policies_change_and_others_flush(host: AgentHost) -> None:
    owners = {"one": "red/web", "two": "red/web", "other": "blue/web", "db": "red/db"}
    pods = {name: host.add_pod(name, owner) for name, owner in owners.items()}
    apply(host, web(0), NONE)
    wait(lambda: "tcp dport" in host.table(), "the first policies")
    prober = Prober(host, "one", accepted=pods["two"], denied=[*pods["other"], *pods["db"]])
    for name in ("two", "other", "db"):
        for address in pods[name]:
            prober.listen(host, name, address, denied=name != "two")
    flushes: list[tuple[float, float]] = []
    denied = [parse_address(text) for name in ("other", "db") for text in pods[name]]
    with opened(f"/run/netns/{host.host}") as space, inside(space):
        connections = KernelConnections()
    with connections, prober:
        changing = threading.Thread(target=change, args=(host,))
        changing.start()
        for number in range(KILLS):
            host.stop_agent()
            host.start_agent()
            if number % (KILLS // FLUSHES) == 0:
                flushes.append(flush(host, connections, denied))
        changing.join()
        wait(lambda: "tcp dport" in host.table() and applied(host), "the last policy")
    assert prober.asked > 1000
    assert [asked for asked in prober.lost if not within(asked, flushes)] == []
    assert [passed for passed in prober.passed if not within(passed, flushes)] == []
    for start, end in flushes:
        last = max((passed for passed in prober.passed if start <= passed <= end), default=start)
        print(f"flushed: whole again after {(end - start) * 1000:.0f} ms, open for {(last - start) * 1000:.1f} ms")


def within(moment: float, flushes: list[tuple[float, float]]) -> bool:
    return any(start <= moment <= end for start, end in flushes)


def change(host: AgentHost) -> None:
    for number in range(1, CHANGES + 1):
        apply(host, web(number))


def apply(host: AgentHost, *policies: dict[str, Any]) -> None:
    async def ask() -> None:
        async with RomanadClient(f"unix://{host.directory}/romanad.sock") as client:
            await client.post("/v1/policies", list(policies))

    asyncio.run(ask())


def applied(host: AgentHost) -> bool:
    """Whether the table has the last policy's port."""
    return str(1 + CHANGES) in host.table()


def flush(host: AgentHost, connections: KernelConnections, denied: Collection[Address]) -> tuple[float, float]:
    """As another program does that thinks the ruleset is its own; from when until when that can be seen.

    It ends when the table is whole again, and the connections that began meanwhile are cut.
    """
    start = time.monotonic()
    subprocess.run(["ip", "netns", "exec", host.host, "nft", "flush", "ruleset"], check=True)
    wait(lambda: "chain to_endpoints" in host.table(), "the table does not come back")
    wait(lambda: all(one.condemned for one in connections.read(denied)), "what began meanwhile is not cut")
    return start, time.monotonic()
