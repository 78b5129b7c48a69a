"""A policy change against live flows of the real kernel: what it forbids is cut for good, what it allows goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from romana.adapters.linux.conntrack import KernelConnections
from romana.adapters.linux.netns import inside
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.tenancy import Identity, Owner
from romana.model.view import View
from romana.services.agent.condemnation import Condemnation
from tests.fakes.rulesets import HTTP, WEB, endpoint, entries, view
from tests.probes.onehost import OneHost, one_host
from tests.probes.traffic import bound

OTHER = Identity(owner=Owner("other", "app"))
ENDPOINTS = {"web": endpoint(1, WEB), "other": endpoint(129, OTHER)}
IDENTITIES = {"web": WEB, "other": OTHER}
ALL = ("0.0.0.0/0 accept", "::/0 accept")
OPEN = {"in_web": entries(*ALL), "out_web": entries(*ALL), "in_other": entries(*ALL), "out_other": entries(*ALL)}


class Site:
    """One host whose table and connections follow a view."""

    def __init__(self, host: OneHost, connections: KernelConnections) -> None:
        self.host = host
        self._condemnation = Condemnation(connections, frozenset)

    def follow(self, state: View) -> None:
        desired = desired_ruleset(state, ENDPOINTS.values())
        self.host.table.apply(ruleset_changes(desired, self.host.table.read()))
        self._condemnation.look(state, list(ENDPOINTS.values()))

    def rows(self, **changed: tuple[str, ...]) -> None:
        self.follow(view({**OPEN, **{row: entries(*parts) for row, parts in changed.items()}}, identities=IDENTITIES))


@pytest.fixture
def site() -> Iterator[Site]:
    with one_host("cond") as host:
        for name, plugged in ENDPOINTS.items():
            host.plug(name, plugged)
        with inside(host.spaces["host"]):
            connections = KernelConnections()
        with connections:
            made = Site(host, connections)
            made.rows()
            yield made


def passes(sender: socket.socket, receiver: socket.socket) -> bool:
    """Whether one more word arrives; TCP keeps trying, so what was sent before may arrive with it."""
    receiver.settimeout(0.7)
    try:
        sender.send(b"word")
        return bool(receiver.recv(4096))
    except OSError:
        return False


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
@pytest.mark.parametrize("end", [{"in_web": ()}, {"out_other": ()}], ids=["receiver", "sender"])
def test_a_live_flow_that_policy_forbids_is_cut_in_both_directions(
    site: Site, kind: str, address: str, end: dict[str, tuple[str, ...]]
) -> None:
    client, server = flow(site, kind, address, 9000)
    with client, server:
        assert passes(client, server)
        assert passes(server, client)
        site.rows(**end)
        assert not passes(server, client)
        assert not passes(client, server)
        assert not passes(server, client)  # no packet of either side brings it back


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_live_flow_that_policy_still_allows_goes_on(site: Site, kind: str) -> None:
    client, server = flow(site, kind, "10.0.0.1", 80)
    with client, server:
        assert passes(client, server)
        site.rows(in_web=(f"10.0.0.129 {HTTP.id}",) if kind == "tcp" else ("10.0.0.128/25 accept",))
        assert passes(client, server)
        assert passes(server, client)


def test_a_flow_that_is_allowed_again_goes_on(site: Site) -> None:
    client, server = flow(site, "udp", "10.0.0.1", 9000)
    with client, server:
        assert passes(client, server)
        site.rows(in_web=())
        assert not passes(client, server)
        site.rows()
        assert passes(client, server)
        assert passes(server, client)


def flow(site: Site, kind: str, address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A connected client in `other`, and the server's side of it in `web`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = bound(site.host.spaces["web"], kind, address, port)
    with inside(site.host.spaces["other"]):
        client = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    client.settimeout(3)
    client.connect((address, port))
    if kind == "tcp":
        listening.settimeout(3)
        with listening:
            server, _ = listening.accept()
        return client, server
    client.send(b"hello")
    listening.settimeout(3)
    _, peer = listening.recvfrom(100)
    listening.connect(peer)
    return client, listening
