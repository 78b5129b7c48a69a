"""The gate in front of endpoints, in the kernel: open for a time, closed by itself, and no concern of other traffic."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from romana.adapters.linux.fence import NftFence
from romana.adapters.linux.netns import inside
from tests.fakes.rulesets import STORE, WEB, endpoint
from tests.probes.onehost import HOST4, HOST6, WORLD4, WORLD6, OneHost, one_host
from tests.probes.traffic import Probe, accepted, bound

ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE)}
PAIRS = (("web", "store"), ("host", "web"), ("web", "host"), ("world", "web"), ("web", "world"))


@pytest.fixture(scope="module")
def host() -> Iterator[OneHost]:
    with one_host("f") as made:
        for name, plugged in ENDPOINTS.items():
            made.plug(name, plugged)
        yield made


@pytest.fixture
def fence(host: OneHost) -> Iterator[NftFence]:
    with inside(host.spaces["host"]):
        made = NftFence()
    yield made
    made.remove()
    made.close()


def passing(host: OneHost, *pairs: tuple[str, str]) -> set[tuple[str, str]]:
    """Between which a datagram arrives, of either family."""
    of = {name: [one.text for one in plugged.addresses] for name, plugged in ENDPOINTS.items()}
    of |= {"host": [HOST4, HOST6], "world": [WORLD4, WORLD6]}
    servers = [bound(host.spaces[name], "udp", any_, 80) for name in of for any_ in ("0.0.0.0", "::")]
    asked = [(pair, address) for pair in pairs for address in of[pair[1]]]
    try:
        found = accepted([Probe(host.spaces[pair[0]], "udp", address, 80) for pair, address in asked], servers)
    finally:
        for server in servers:
            server.close()
    return {pair for (pair, _), arrived in zip(asked, found, strict=True) if arrived}


def test_a_new_gate_is_closed_and_one_that_is_held_is_open(host: OneHost, fence: NftFence) -> None:
    assert passing(host, *PAIRS) == set(PAIRS)
    fence.keep()
    assert passing(host, *PAIRS, ("world", "host"), ("host", "world")) == {("world", "host"), ("host", "world")}
    fence.hold(60)
    fence.keep()
    assert passing(host, *PAIRS) == set(PAIRS)
    fence.cut()
    assert passing(host, *PAIRS) == set()
    assert fence.remove()
    assert not fence.remove()
    assert passing(host, *PAIRS) == set(PAIRS)


def test_it_closes_by_itself_and_cuts_running_connections(host: OneHost, fence: NftFence) -> None:
    server = bound(host.spaces["store"], "tcp", "0.0.0.0", 443)
    with inside(host.spaces["web"]):
        client = socket.create_connection((ENDPOINTS["store"].addresses[0].text, 443), timeout=5)
    server.setblocking(True)
    accepted_, _ = server.accept()
    with server, client, accepted_:
        accepted_.settimeout(0.3)
        for seconds in (60, 2, 1):  # the last word counts
            fence.hold(seconds)
        client.sendall(b"a")
        assert accepted_.recv(1) == b"a"
        deadline = time.monotonic() + 5
        while passing(host, ("web", "store")) and time.monotonic() < deadline:
            pass
        client.sendall(b"b")
        with pytest.raises(TimeoutError):
            accepted_.recv(1)
        fence.hold(60)
        accepted_.settimeout(5)
        assert accepted_.recv(1) == b"b"  # nothing was lost but time
