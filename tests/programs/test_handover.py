"""An address that changes hands inherits no connection, however busy those who had one with it keep it."""

from __future__ import annotations

import asyncio
import copy
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from romana.adapters.linux.netns import inside, opened
from romana.adapters.romanad import RomanadClient
from tests.probes.agenthost import PLAN, AgentHost, wait
from tests.probes.packets import Ear
from tests.probes.traffic import Probe, accepted, bound

PORT = 9000
FIXED = ("10.1.0.193", "fd00:1::fc01")
WORD = b"for whoever had the address"
SILENT = {
    "version": 1,
    "kind": "policy",
    "id": "silent",
    "applies_to": [{"tenant": "red", "segment": "web"}],
    "egress": [],
}
"""Of those who only answer."""


def plan() -> dict[str, Any]:
    made = copy.deepcopy(PLAN)
    for network, static in zip(made["networks"], ("10.1.0.192/26", "fd00:1::fc00/118"), strict=True):
        network["static"] = [static]
    return made


@pytest.fixture
def host(tmp_path: Path) -> Iterator[AgentHost]:
    one = AgentHost(tmp_path, "ho")
    try:
        yield one.open(plan())
    finally:
        one.close()


class Answers:
    """Flows of both kinds and families, begun by one namespace; the other one answers, and does not stop."""

    def __init__(self, source: int, target: int, addresses: list[str]) -> None:
        self._stack = ExitStack()
        self._mouths = [self._flow(kind, source, target, one) for one in addresses for kind in ("tcp", "udp")]
        self._going = True
        self._thread = threading.Thread(target=self._talk)

    def _flow(self, kind: str, source: int, target: int, address: str) -> socket.socket:
        server = self._stack.enter_context(bound(target, kind, address, PORT))
        server.settimeout(3)
        with inside(source):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            client = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        self._stack.enter_context(client)
        client.settimeout(3)
        client.connect((address, PORT))
        client.send(WORD)
        if kind == "tcp":
            server, _ = server.accept()
            self._stack.enter_context(server)
        else:
            server.connect(server.recvfrom(100)[1])
        server.send(WORD)
        assert client.recv(100) == WORD
        return server

    def _talk(self) -> None:
        while self._going:
            for mouth in self._mouths:
                with suppress(OSError):  # TCP's buffer is full at some time
                    mouth.send(WORD, socket.MSG_DONTWAIT)
            time.sleep(0.005)

    def __enter__(self) -> Answers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()
        self._stack.close()


def test_an_address_that_changes_hands_inherits_no_connection(host: AgentHost) -> None:
    """The peer may answer, and begin nothing; so what it still says to the address is for nobody."""
    asyncio.run(prepare(host))
    peers, friend = host.add_pod("peer"), host.add_pod("friend", "red/db")
    wait(lambda: not host.reaches("peer", friend[0]), "the policy is in force")
    assert host.reaches("friend", peers[0])
    for name in ("earlier", "later"):
        host.add_space(name)
    with ExitStack() as stack:
        spaces = {
            name: stack.enter_context(opened(f"/run/netns/{host.prefix}{name}"))
            for name in ("peer", "friend", "earlier", "later")
        }
        add(host, "earlier")
        stack.enter_context(Answers(spaces["earlier"], spaces["peer"], peers))
        assert host.cni("DEL", "earlier", owner="red/db").status == 0
        add(host, "later")
        ear = stack.enter_context(Ear(spaces["later"]))
        servers = [
            stack.enter_context(bound(spaces["later"], kind, address, PORT))
            for kind in ("tcp", "udp")
            for address in FIXED
        ]
        time.sleep(0.7)  # TCP's retransmissions become rarer
        probes = [Probe(spaces["friend"], kind, address, PORT) for kind in ("tcp", "udp") for address in FIXED]
        assert accepted(probes, servers) == [True] * 4
        heard = ear.heard(b"nothing", wait=0.1)
    assert heard
    assert not [one for one in heard for address in peers if packed(address) in one[:40]]


def add(host: AgentHost, name: str) -> None:
    environment = {"CNI_ARGS": "ROMANA_TENANT=red;ROMANA_SEGMENT=db;ROMANA_ADDRESS=fixed"}
    wait(lambda: host.cni("ADD", name, environment=environment).status == 0, "the addresses are free")


async def prepare(host: AgentHost) -> None:
    """The policy, and the name of the addresses."""
    async with RomanadClient(f"unix://{host.directory}/romanad.sock") as client:
        await client.post("/v1/policies", [SILENT])
        asked = {"name": "fixed", "tenant": "red", "segment": "db", "addresses": list(FIXED), "sticky": True}
        await client.post("/v1/addresses", asked)


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
