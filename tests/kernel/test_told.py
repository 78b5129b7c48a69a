"""Packets that the table tells of: denied ones, and those that staged policies would decide about, and why."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from romana.adapters.linux.netns import inside
from romana.adapters.linux.nflog import ToldPackets
from romana.codec.text import parse_address
from romana.core.flow import Explainer
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.errors import Unavailable
from romana.model.flow import Flow, FlowReason
from romana.model.policy import Direction
from romana.model.program import RowIds
from romana.model.view import View
from tests.fakes.rulesets import HTTP, STORE, WEB, endpoint, entries, view
from tests.probes.onehost import HOST4, HOST6, WORLD4, WORLD6, OneHost, one_host
from tests.probes.traffic import Probe, accepted, bound

ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE)}
ALL = ("0.0.0.0/0 accept", "::/0 accept")
WEB4, WEB6 = (address.text for address in ENDPOINTS["web"].addresses)
OWN = frozenset(map(parse_address, (HOST4, HOST6)))
STORE4, STORE6 = (address.text for address in ENDPOINTS["store"].addresses)


class Site:
    """One host whose table follows a view, and what it tells of."""

    def __init__(self, host: OneHost, told: ToldPackets, servers: list[socket.socket]) -> None:
        self.host = host
        self._told = told
        self._servers = servers
        self._view = View()

    def follow(self, rows: dict[str, tuple[str, ...]], host_rows: RowIds | None = None) -> None:
        names = [f"{way}_{name}" for way in ("in", "out") for name in ENDPOINTS]
        said = {row: entries(*rows.get(row, ALL)) for row in (*names, *rows)}
        self._view = view(said, own=dict.fromkeys(names, "accept"), host_rows=host_rows or RowIds("", ""))
        desired = desired_ruleset(self._view, ENDPOINTS.values())
        self.host.table.apply(ruleset_changes(desired, self.host.table.read()))

    def try_(self, source: str, kind: str, address: str, port: int = 0, bind: str = "") -> tuple[bool, list[Flow]]:
        """Whether it arrives, and what was told of it."""
        self._told.read()
        arrived = accepted([Probe(self.host.spaces[source], kind, address, port, bind)], self._servers)[0]
        explainer = Explainer("h1", self._view, ENDPOINTS.values(), OWN)
        time.sleep(0.25)
        mine = [one for one in self._told.read() if one.packet.destination == parse_address(address)]
        found = {
            one.reason: explainer.flow(one, time.time()) for one in mine if kind == "icmp" or one.packet.port == port
        }
        return arrived, list(found.values())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with one_host("told") as host:
        for name, plugged in ENDPOINTS.items():
            host.plug(name, plugged)
        servers = [
            bound(host.spaces[name], kind, address, port)
            for name in ("web", "store", "host", "world")
            for address in ("0.0.0.0", "::")
            for kind, port in (("tcp", 80), ("tcp", 443), ("udp", 80))
        ]
        with inside(host.spaces["host"]):
            told = ToldPackets()
        yield Site(host, told, servers)
        told.close()
        for server in servers:
            server.close()


@pytest.mark.parametrize(("there", "kind", "port"), [(STORE4, "tcp", 443), (STORE6, "udp", 80), (STORE6, "icmp", 0)])
def test_what_a_receiver_denies_is_told_with_its_row(site: Site, there: str, kind: str, port: int) -> None:
    site.follow({"in_store": ("0.0.0.0/0 drop", f"fd00::/122 {HTTP.id}")} if kind != "icmp" else {"in_store": ()})
    arrived, (flow,) = site.try_("web", kind, there, port)
    assert not arrived
    assert (flow.reason, flow.direction, flow.row) == (FlowReason.INGRESS, Direction.INGRESS, "in_store")
    assert (flow.source_name, flow.destination_name) == ("pod-1", "pod-65")
    assert flow.packet.port == (128 * 256 if kind == "icmp" else port)
    assert flow.policies == "shop/store"
    assert flow.accepts == ("drop" if kind != "udp" else "icmp/8, tcp/80, tcp/8000-8080, icmpv6/128")


def test_what_a_sender_may_not_send_is_told_with_its_row(site: Site) -> None:
    site.follow({"out_web": (*ALL, f"{WORLD4}/32 drop")})
    arrived, (flow,) = site.try_("web", "tcp", WORLD4, 80)
    assert not arrived
    assert (flow.reason, flow.row, flow.matched) == (FlowReason.EGRESS, "out_web", f"{WORLD4}/32")
    assert site.try_("web", "tcp", WORLD6, 80) == (True, [])


def test_a_false_sender_is_told_of_by_its_link(site: Site) -> None:
    site.follow({})
    arrived, (flow,) = site.try_("web", "udp", WORLD4, 80, bind="10.0.0.65")
    assert not arrived
    assert (flow.reason, flow.source_name) == (FlowReason.SPOOFED, "pod-1 as another")


def test_a_hosts_own_traffic_is_told_of_as_the_hosts(site: Site) -> None:
    site.follow({"in_host": (), "out_host": ()}, RowIds("in_host", "out_host"))
    arrived, (flow,) = site.try_("world", "tcp", HOST6, 443)
    assert not arrived
    assert (flow.reason, flow.row, flow.destination_name) == (FlowReason.HOST_INGRESS, "in_host", "h1")
    arrived, (flow,) = site.try_("host", "tcp", WORLD4, 443)
    assert not arrived
    assert (flow.reason, flow.row, flow.source_name) == (FlowReason.HOST_EGRESS, "out_host", "h1")


@pytest.mark.parametrize(("there", "world"), [(STORE4, "0.0.0.0/0"), (STORE6, "::/0")])
def test_staged_policies_change_nothing_and_are_told_of(site: Site, there: str, world: str) -> None:
    site.follow({"in_store": (f"{world} accept~{HTTP.id}",)})
    assert site.try_("web", "tcp", there, 80) == (True, [])
    arrived, (flow,) = site.try_("web", "tcp", there, 443)
    assert arrived
    assert (flow.reason, flow.row, flow.accepts) == (FlowReason.WOULD_DENY, "in_store", "accept")
    site.follow({"in_store": (f"{world} drop~{HTTP.id}",)})
    arrived, told = site.try_("web", "tcp", there, 80)
    assert not arrived
    assert {one.reason for one in told} == {FlowReason.WOULD_ALLOW, FlowReason.INGRESS}
    assert {one.row for one in told} == {"in_store"}
    arrived, (flow,) = site.try_("web", "tcp", there, 443)
    assert not arrived
    assert flow.reason is FlowReason.INGRESS


def test_one_program_listens(site: Site) -> None:
    with inside(site.host.spaces["host"]), pytest.raises(Unavailable, match="another program has it"):
        ToldPackets()


def test_nobody_is_told_of_too_much(site: Site) -> None:
    """Two hundred at once, and then a hundred a second."""
    site.follow({"in_store": ()})
    with inside(site.host.spaces["web"]):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        began = time.monotonic()
        for number in range(5000):
            client.sendto(b"x", (STORE4, 1 + number % 60000))
        took = time.monotonic() - began
    time.sleep(0.2)
    assert 1 <= len(site._told.read()) <= 200 + 100 * (took + 1)
