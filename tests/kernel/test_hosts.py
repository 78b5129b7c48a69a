"""The host's own traffic against the kernel: policies about hosts, what none can close, services on its ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from romana.adapters.linux.conntrack import KernelConnections
from romana.adapters.linux.netns import inside
from romana.codec.text import parse_address, parse_prefix
from romana.codec.traffic import parse_traffic
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.core.walk import walk_host
from romana.model.policy import Direction, Failsafe
from romana.model.program import RowIds
from romana.model.view import View
from tests.fakes.rulesets import HTTP, STORE, WEB, endpoint, entries, view
from tests.probes.onehost import HOST4, HOST6, WORLD4, WORLD6, OneHost, one_host
from tests.probes.traffic import Probe, accepted, bound

ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE)}
FAILSAFE = Failsafe(ingress=((6, 22), (17, 68)), egress=((17, 53),))
ALL = ("0.0.0.0/0 accept", "::/0 accept")
ROWS = {f"{way}_{name}": entries(*ALL) for way in ("in", "out") for name in ENDPOINTS}
OWN = dict.fromkeys(ROWS, "accept")
WORLD = (f"{WORLD4}/31 {HTTP.id}", f"2001:db8:ffff::2/127 {HTTP.id}")
WEBS = ("10.0.0.0/29 accept", "fd00::/122 accept")
PORTS = (("tcp", 80), ("tcp", 443), ("tcp", 22), ("udp", 80), ("udp", 53))
PING = parse_traffic("icmp/8")
BOTH = (4, 6)
HOST = {4: HOST4, 6: HOST6}
FAR = {4: WORLD4, 6: WORLD6}


def world(
    into: tuple[str, ...] | None = None, out: tuple[str, ...] | None = None, own: dict[str, str] | None = None
) -> View:
    rows = dict(ROWS)
    if into is not None:
        rows["in_host"] = entries(*into)
    if out is not None:
        rows["out_host"] = entries(*out)
    ids = RowIds("in_host" if into is not None else "", "out_host" if out is not None else "")
    return view(rows, own={**OWN, **(own or {})}, host_rows=ids)


def apply(host: OneHost, state: View) -> None:
    desired = desired_ruleset(state, ENDPOINTS.values(), FAILSAFE)
    host.table.apply(ruleset_changes(desired, host.table.read()))
    with inside(host.spaces["host"]), KernelConnections() as connections:
        connections.forget([parse_prefix("0.0.0.0/0"), parse_prefix("::/0")])  # an echo looks like the one before
    actual = host.table.read()
    assert actual is not None
    assert not ruleset_changes(desired, actual)


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[OneHost, list[socket.socket]]]:
    with one_host("hosts") as host:
        for name, plugged in ENDPOINTS.items():
            host.plug(name, plugged)
        servers = [
            bound(host.spaces[name], kind, address, port)
            for name in ("web", "store", "host", "world")
            for address in ("0.0.0.0", "::")
            for kind, port in PORTS
        ]
        yield host, servers
        for server in servers:
            server.close()


@pytest.fixture
def host(built: tuple[OneHost, list[socket.socket]]) -> Iterator[OneHost]:
    built[0].table.remove()
    yield built[0]
    built[0].nft("flush ruleset")


@pytest.fixture
def servers(built: tuple[OneHost, list[socket.socket]]) -> list[socket.socket]:
    return built[1]


def arriving(host: OneHost, servers: list[socket.socket], source: str, addresses: dict[int, str]) -> str:
    """What arrives in both families, in words."""
    kinds = (*PORTS, ("icmp", 0))
    found = {}
    for family in BOTH:
        probes = [Probe(host.spaces[source], kind, addresses[family], port) for kind, port in kinds]
        outcomes = accepted(probes, servers)
        found[family] = " ".join(
            f"{kind}{port or ''}" for (kind, port), done in zip(kinds, outcomes, strict=True) if done
        )
    assert found[4] == found[6]
    return found[4]


EVERYTHING = "tcp80 tcp443 tcp22 udp80 udp53 icmp"


def test_without_policies_about_hosts_nothing_of_the_hosts_is_looked_at(
    host: OneHost, servers: list[socket.socket]
) -> None:
    apply(host, world())
    assert arriving(host, servers, "world", HOST) == EVERYTHING
    assert arriving(host, servers, "host", FAR) == EVERYTHING


def test_a_host_accepts_what_its_row_accepts_and_what_no_policy_can_close(
    host: OneHost, servers: list[socket.socket]
) -> None:
    apply(host, world(into=WORLD))
    assert arriving(host, servers, "world", HOST) == "tcp80 tcp22 icmp"
    assert arriving(host, servers, "host", FAR) == EVERYTHING  # the answers are of accepted connections
    apply(host, world(into=()))
    assert arriving(host, servers, "world", HOST) == "tcp22"


def test_what_a_walk_of_the_hosts_table_says_is_what_the_kernel_does(
    host: OneHost, servers: list[socket.socket]
) -> None:
    state = world(into=WORLD, out=WORLD)
    apply(host, state)
    kinds = {f"{protocol}{port}": parse_traffic(f"{protocol}/{port}") for protocol, port in PORTS} | {"icmp": PING}

    def walked(direction: Direction) -> str:
        peer = parse_address(WORLD4)
        accepted = {name: walk_host(state, direction, peer, one, FAILSAFE).accepted for name, one in kinds.items()}
        return " ".join(name for name, fine in accepted.items() if fine)

    assert arriving(host, servers, "world", HOST) == walked(Direction.INGRESS) == "tcp80 tcp22 icmp"
    assert arriving(host, servers, "host", FAR) == walked(Direction.EGRESS) == "tcp80 udp53 icmp"


def test_a_host_sends_what_its_row_accepts(host: OneHost, servers: list[socket.socket]) -> None:
    apply(host, world(out=WORLD))
    assert arriving(host, servers, "host", FAR) == "tcp80 udp53 icmp"
    assert arriving(host, servers, "world", HOST) == EVERYTHING


def test_an_endpoint_and_its_own_host_both_decide(host: OneHost, servers: list[socket.socket]) -> None:
    apply(host, world(into=WEBS))
    assert arriving(host, servers, "web", HOST) == EVERYTHING
    assert arriving(host, servers, "store", HOST) == "tcp22"  # not one of those that the host accepts
    apply(host, world(into=ALL, own={"out_web": "drop", "out_store": HTTP.id}))
    assert arriving(host, servers, "web", HOST) == ""  # not even what no policy about hosts can close
    assert arriving(host, servers, "store", HOST) == "tcp80 icmp"
    apply(host, world(out=WEBS, own={"in_web": HTTP.id}))
    for name, expected in (("web", "tcp80 icmp"), ("store", "udp53")):
        first, second = ENDPOINTS[name].addresses
        assert arriving(host, servers, "host", {4: first.text, 6: second.text}) == expected


def test_a_host_reaches_itself_whatever_policies_say(host: OneHost, servers: list[socket.socket]) -> None:
    apply(host, world(into=(), out=()))
    assert arriving(host, servers, "host", HOST) == EVERYTHING
    assert arriving(host, servers, "host", {4: "127.0.0.1", 6: "::1"}) == EVERYTHING
    inside_span = {4: "10.0.0.250", 6: "fd00::fa"}
    host.ip("host", *(f"address add {address} dev lo nodad" for address in inside_span.values()))
    assert arriving(host, servers, "host", inside_span) == EVERYTHING


def test_transit_is_not_the_hosts_own(host: OneHost, servers: list[socket.socket]) -> None:
    apply(host, world(into=(), out=()))
    first, second = ENDPOINTS["web"].addresses
    assert arriving(host, servers, "world", {4: first.text, 6: second.text}) == EVERYTHING
    assert arriving(host, servers, "web", FAR) == EVERYTHING


def test_a_service_on_a_port_of_the_host_is_the_hosts_by_that_port(host: OneHost, servers: list[socket.socket]) -> None:
    """As kube-proxy makes NodePorts: the destination becomes an endpoint's before the packet is forwarded."""
    host.nft(
        "table inet service { chain pre { type nat hook prerouting priority dstnat;"
        f" ip daddr {HOST4} tcp dport {{ 8000, 8001 }} dnat ip to 10.0.0.1:443;"
        f" ip6 daddr {HOST6} tcp dport {{ 8000, 8001 }} dnat ip6 to [fd00::1]:443; }}\n}}"
    )
    apply(host, world(into=WORLD))  # its profile has 8000 to 8080, and not 443
    there = host.spaces["world"]
    probes = [Probe(there, "tcp", HOST[family], port) for family in BOTH for port in (8000, 443)]
    assert accepted(probes, servers) == [True, False, True, False]
    apply(host, world(into=()))
    assert accepted(probes, servers) == [False] * 4


def test_what_a_host_sends_to_a_service_is_judged_by_where_it_leads(
    host: OneHost, servers: list[socket.socket]
) -> None:
    """A service at an address of the host, too: its packets were to go through the loopback interface."""
    leads = {8000: (f"{WORLD4}:80", f"[{WORLD6}]:80"), 8001: (f"{WORLD4}:443", f"[{WORLD6}]:443")}
    leads[8002] = ("10.0.0.1:80", "[fd00::1]:80")
    rules = "".join(
        f"ip daddr {HOST4} tcp dport {port} dnat ip to {four}; ip6 daddr {HOST6} tcp dport {port} dnat ip6 to {six}; "
        for port, (four, six) in leads.items()
    )
    host.nft(f"table inet service {{ chain out {{ type nat hook output priority -100; {rules} }}\n}}")
    probes = [Probe(host.spaces["host"], "tcp", HOST[family], port) for port in leads for family in BOTH]
    apply(host, world(out=(*WORLD, *WEBS)))
    assert accepted(probes, servers) == [True, True, False, False, True, True]
    apply(host, world(out=WORLD))
    assert accepted(probes, servers) == [True, True, False, False, False, False]
    apply(host, world(own={"in_web": "drop"}))
    assert accepted(probes, servers) == [True, True, True, True, False, False]


def test_neighbours_find_each_other_whatever_policies_say(host: OneHost, servers: list[socket.socket]) -> None:
    apply(host, world(into=(), out=()))
    for name in ("host", "world"):
        host.ip(name, "neigh flush all")
    assert accepted([Probe(host.spaces["world"], "tcp", HOST6, 22)], servers) == [True]
    assert accepted([Probe(host.spaces["world"], "tcp", HOST4, 22)], servers) == [True]


def test_a_row_of_the_host_goes_with_its_policy(host: OneHost, servers: list[socket.socket]) -> None:
    apply(host, world(into=WORLD, out=()))
    apply(host, world())
    table = host.table.read()
    assert table is not None
    assert not table.guards
    assert "in_host" not in table.rows
    assert arriving(host, servers, "world", HOST) == EVERYTHING
