"""The ruleset against the kernel: real TCP, UDP and ICMP between endpoints of one host, the host and the world."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import msgspec
import pytest

from romana.adapters.linux.netns import inside
from romana.adapters.linux.nftables import NftTable
from romana.codec.nft import render_table
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import NotFound, Unavailable
from romana.model.tenancy import Identity, Owner
from romana.model.view import View
from tests.fakes.rulesets import HTTP, NOT_HTTP, STORE, WEB, endpoint, entries, view
from tests.probes.onehost import HOST4, HOST6, WORLD4, WORLD6, OneHost, one_host
from tests.probes.spaces import shell
from tests.probes.traffic import Probe, accepted, arrives, bound

OTHER = Identity(owner=Owner("other", "app"))
ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE), "other": endpoint(129, OTHER)}
IDENTITIES = {"web": WEB, "store": STORE, "other": OTHER}
ALL = ("0.0.0.0/0 accept", "::/0 accept")
PORTS = (80, 443, 8080)

ROWS = {
    "in_web": entries(*ALL),
    "out_web": entries(*ALL),
    "in_store": entries(
        *(f"{own} drop" for own in ("10.0.0.0/8", "fd00::/16")),
        *(f"{web} {HTTP.id}" for web in ("10.0.0.0/29", "fd00::/122")),
        *(f"{world} {NOT_HTTP.id}" for world in (f"{WORLD4}/31", "2001:db8:ffff::2/127")),
        *(f"{host} drop" for host in (HOST4, HOST6)),  # not asked: the host is told by the way its packets take
    ),
    "out_store": entries("198.18.0.0/24 accept", "2001:db8:ffff::/64 accept"),
    "in_other": entries(),
    "out_other": entries(*ALL),
}


def world(rows: dict[str, dict[Prefix, str]] | None = None) -> View:
    own = {"in_web": "accept", "out_web": "accept", "in_store": "accept", "out_other": HTTP.id}
    return view({**ROWS, **(rows or {})}, identities=IDENTITIES, own=own)


def apply(host: OneHost, state: View, *endpoints: Endpoint) -> None:
    desired = desired_ruleset(state, endpoints or ENDPOINTS.values())
    host.table.apply(ruleset_changes(desired, host.table.read()))
    actual = host.table.read()
    assert actual is not None
    assert not ruleset_changes(desired, actual)


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[OneHost, list[socket.socket]]]:
    with one_host() as host:
        for name, plugged in ENDPOINTS.items():
            host.plug(name, plugged)
        servers = [
            bound(host.spaces[name], kind, address, port)
            for name in ("web", "store", "other", "host", "world")
            for address in ("0.0.0.0", "::")
            for kind in ("tcp", "udp")
            for port in PORTS
        ]
        yield host, servers
        for server in servers:
            server.close()


@pytest.fixture
def host(built: tuple[OneHost, list[socket.socket]]) -> Iterator[OneHost]:
    """Fresh connection tracking and our table, as the rows say."""
    built[0].table.remove()
    apply(built[0], world())
    yield built[0]
    built[0].nft("flush ruleset")


@pytest.fixture
def servers(built: tuple[OneHost, list[socket.socket]]) -> list[socket.socket]:
    return built[1]


def addresses(name: str) -> tuple[str, str]:
    if name in ENDPOINTS:
        first, second = ENDPOINTS[name].addresses
        return first.text, second.text
    return {"host": (HOST4, HOST6), "world": (WORLD4, WORLD6)}[name]


KINDS = (("tcp", 80), ("tcp", 443), ("tcp", 8080), ("udp", 80), ("udp", 443), ("icmp", 0))


def matrix(host: OneHost, servers: list[socket.socket], pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What arrives between the pairs, in words; both families must agree."""
    probes = [
        Probe(host.spaces[source], kind, address, port)
        for source, target in pairs
        for address in addresses(target)
        for kind, port in KINDS
    ]
    outcomes = iter(accepted(probes, servers))
    result = {}
    for pair in pairs:
        families = [
            " ".join(f"{kind}{port or ''}" for kind, port in KINDS if next(outcomes)) or "none"
            for _ in addresses(pair[1])
        ]
        assert families[0] == families[1], f"{pair}: IPv4 has {families[0]}, IPv6 has {families[1]}"
        result[pair] = families[0]
    return result


EVERYTHING = "tcp80 tcp443 tcp8080 udp80 udp443 icmp"
EXPECTED = {
    ("web", "store"): "tcp80 tcp8080 icmp",  # a profile of listed ports, found by block
    ("web", "other"): "none",  # the receiver's row drops
    ("web", "world"): EVERYTHING,
    ("web", "host"): EVERYTHING,
    ("store", "web"): "none",  # the sender's row drops
    ("store", "world"): EVERYTHING,
    ("store", "host"): "none",  # its row accepts the host's address, and not the host itself
    ("other", "web"): EVERYTHING,
    ("other", "store"): "none",
    ("other", "host"): "tcp80 tcp8080 icmp",
    ("world", "web"): EVERYTHING,
    ("world", "store"): "tcp443 tcp8080 icmp",  # a profile of all but listed ports, found by range
    ("world", "other"): "none",
    ("host", "web"): EVERYTHING,
    ("host", "store"): EVERYTHING,
    ("host", "other"): "none",
}


def test_each_pair_has_what_both_rows_accept(host: OneHost, servers: list[socket.socket]) -> None:
    assert matrix(host, servers, list(EXPECTED)) == EXPECTED


@pytest.mark.parametrize(("source", "target"), [("web", "other"), ("store", "web")], ids=["receiver", "sender"])
def test_what_is_denied_is_dropped_without_a_word_however_often_it_is_sent(
    host: OneHost, servers: list[socket.socket], source: str, target: str
) -> None:
    """No answer that says who denies; and a flow whose first packet was dropped stays unknown to conntrack."""
    with ExitStack() as stack:
        clients = []
        for address in addresses(target):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with inside(host.spaces[source]):
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    client = stack.enter_context(socket.socket(family, kind))
                client.setblocking(False)
                client.connect_ex((address, 80))
                clients.append(client)
        for _ in range(3):
            for client in clients:
                with suppress(BlockingIOError):
                    client.send(b"again")
            time.sleep(0.1)
        assert [client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for client in clients] == [0] * 4
        assert b"again" not in received(servers)


def received(servers: list[socket.socket]) -> set[bytes]:
    found = set()
    for server in servers:
        with suppress(BlockingIOError):
            while server.type is socket.SOCK_DGRAM:
                found.add(server.recv(100))
    return found


def test_three_block_lengths_are_asked_the_longest_first(host: OneHost, servers: list[socket.socket]) -> None:
    blocks = [
        ("10.0.0.0/27 accept", "fd00::/118 accept"),
        ("10.0.0.0/28 drop", "fd00::/120 drop"),
        ("10.0.0.0/29 accept", "fd00::/122 accept"),
    ]
    lengths = ((29, 122), (28, 120), (27, 118))
    for number in (1, 2, 3):
        row = entries(*(part for block in blocks[:number] for part in block))
        apply(host, view({**ROWS, "in_store": row}, identities=IDENTITIES, block_lengths=lengths))
        expected = "none" if number == 2 else EVERYTHING
        assert matrix(host, servers, [("web", "store")]) == {("web", "store"): expected}


def test_a_reader_of_the_listing_loads_the_same_table(host: OneHost) -> None:
    listing = host.table.listing()
    words = host.nft("list table inet romana")
    host.table.remove()
    host.nft(words)
    assert host.table.listing() == listing
    host.nft(listing.replace("table inet romana", "table inet again"))


def test_a_restarted_agent_reads_back_and_changes_nothing(host: OneHost) -> None:
    before = host.table.listing()
    actual = host.table.read()
    assert actual is not None
    assert not ruleset_changes(desired_ruleset(world(), ENDPOINTS.values()), actual)
    apply(host, world())
    assert host.table.listing() == before


def test_a_source_that_is_not_the_endpoints_own_is_dropped(host: OneHost, servers: list[socket.socket]) -> None:
    web = host.spaces["web"]
    probes = [
        Probe(web, "udp", WORLD4, 443),
        Probe(web, "udp", WORLD4, 443, bind="10.0.0.65"),
        Probe(web, "udp", HOST4, 443, bind="198.51.100.7"),
        Probe(web, "udp", WORLD6, 443),
        Probe(web, "udp", WORLD6, 443, bind="fd00::41"),
        Probe(web, "udp", HOST6, 443, bind="2001:db8:9::9"),
    ]
    assert accepted(probes, servers) == [True, False, False, True, False, False]
    host.table.remove()
    assert accepted(probes, servers) == [True] * 6


def test_the_world_cannot_send_with_the_address_of_a_local_endpoint(
    host: OneHost, servers: list[socket.socket]
) -> None:
    there = host.spaces["world"]
    probes = [
        Probe(there, "udp", "10.0.0.1", 443),
        Probe(there, "udp", "10.0.0.1", 443, bind="10.0.0.65"),
        Probe(there, "udp", "10.0.0.1", 443, bind="10.9.0.9"),
        Probe(there, "udp", "fd00::1", 443, bind="fd00::41"),
        Probe(there, "udp", HOST6, 443, bind="fd00::41"),
    ]
    assert accepted(probes, servers) == [True, False, True, False, False]
    host.table.remove()
    assert accepted(probes, servers) == [True] * 5


def test_a_link_of_ours_that_is_in_no_map_is_closed(host: OneHost, servers: list[socket.socket]) -> None:
    apply(host, world(), ENDPOINTS["web"], ENDPOINTS["other"])
    closed = matrix(
        host, servers, [("web", "store"), ("store", "world"), ("store", "host"), ("host", "store"), ("world", "store")]
    )
    assert set(closed.values()) == {"none"}
    assert matrix(host, servers, [("web", "world")]) == {("web", "world"): EVERYTHING}


def test_an_endpoint_reaches_itself_through_a_service(host: OneHost, servers: list[socket.socket]) -> None:
    host.nft(
        "table inet service { chain pre { type nat hook prerouting priority dstnat;"
        " ip daddr 203.0.113.1 tcp dport 80 dnat ip to 10.0.0.129;"
        " ip daddr 203.0.113.1 tcp dport 443 dnat ip to 10.0.0.65;"
        " ip6 daddr 2001:db8:f::1 tcp dport 80 dnat ip6 to fd00::81; }\n"
        " chain post { type nat hook postrouting priority srcnat; ip saddr 10.0.0.129 ip daddr 10.0.0.129 masquerade;"
        " ip6 saddr fd00::81 ip6 daddr fd00::81 masquerade; }\n}"
    )
    other = host.spaces["other"]
    outcomes = accepted(
        [
            Probe(other, "tcp", "203.0.113.1", 80),
            Probe(other, "tcp", "2001:db8:f::1", 80),
            Probe(other, "tcp", "203.0.113.1", 443),
        ],
        servers,
    )
    assert outcomes == [True, True, False]


def test_only_an_endpoint_itself_goes_back_through_its_link(host: OneHost, servers: list[socket.socket]) -> None:
    """The table knows no span, so nothing before ingress drops the address of a local endpoint from the world."""
    without = msgspec.structs.replace(world(), spans={})
    host.table.apply(ruleset_changes(desired_ruleset(without, []), None))
    host.nft("table inet romana { map in_other_4 { type ipv4_addr : verdict; }; chain in_other { drop; }; }")
    host.nft("table inet romana { chain out_other { accept; }; }")
    host.table.add_endpoint(ENDPOINTS["other"], "in_other", "out_other")
    host.nft(
        "table inet seen { chain forwarded { type filter hook forward priority 100;"
        ' ip daddr 10.0.0.129 counter comment "four"; ip6 daddr fd00::81 counter comment "six"; }\n}'
    )
    there = host.spaces["world"]
    probes = [Probe(there, "udp", address, 443, bind=address) for address in addresses("other")]
    assert accepted(probes, servers) == [False, False]
    assert host.nft("list table inet seen").count("packets 0 ") == 2
    host.table.remove()
    accepted(probes, servers)
    assert host.nft("list table inet seen").count("packets 0 ") == 0


def test_an_endpoint_cannot_fill_the_hosts_table_of_neighbours(host: OneHost) -> None:
    """The kernel makes an entry for whoever asks for a router; the table is one for all links, of 1024 entries."""

    def ask() -> int:
        with inside(host.spaces["store"]):
            index = socket.if_nametoindex("eth0")
            for number in range(1, 21):
                with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as client:
                    client.setsockopt(socket.IPPROTO_IPV6, 75, 1)  # IPV6_TRANSPARENT of linux/in6.h
                    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
                    client.bind((f"fe80::99:{number:x}", 0, 0, index))
                    solicitation = struct.pack("!BBHI", 133, 0, 0, 0) + b"\x01\x01\x0a\x00\x00\x00\x00\x01"
                    client.sendto(solicitation, ("ff02::2", 0, 0, index))
        with inside(host.spaces["host"]):
            return shell(f"ip -6 neigh show dev {ENDPOINTS['store'].link}").count("fe80::99:")

    assert ask() == 0
    host.table.remove()
    assert ask() == 20


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(("source", "target"), [("other", "web"), ("host", "web"), ("world", "web"), ("web", "world")])
def test_an_endpoint_hears_that_a_port_is_closed(host: OneHost, source: str, target: str, family: int) -> None:
    address = addresses(target)[family]
    with inside(host.spaces[source]):
        client = socket.socket(socket.AF_INET6 if family else socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(2)
        client.connect((address, 9))
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(10)


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_an_endpoint_says_that_it_no_longer_listens(host: OneHost, family: int) -> None:
    """The error is about the connection that the endpoint began."""
    there = addresses("world")[family]
    with (
        bound(host.spaces["world"], "udp", there, 9002) as server,
        bound(host.spaces["web"], "udp", addresses("web")[family], 9003) as client,
    ):
        server.settimeout(2)
        client.sendto(b"hello", (there, 9002))
        _, peer = server.recvfrom(10)
        server.connect(peer)
        client.close()
        server.send(b"welcome")
        with pytest.raises(ConnectionRefusedError):
            server.recv(10)


def connection(host: OneHost, source: str, address: str, port: int) -> socket.socket:
    with inside(host.spaces[source]):
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.settimeout(3)
    client.connect((address, port))
    return client


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"], ids=["ipv4", "ipv6"])
def test_an_established_connection_outlives_changed_rows_and_a_replaced_table(host: OneHost, address: str) -> None:
    server = bound(host.spaces["web"], "tcp", address, 9000)
    server.settimeout(3)
    with server, connection(host, "other", address, 9000) as client:
        peer, _ = server.accept()
        peer.settimeout(3)
        with peer:

            def exchange(text: bytes) -> None:
                client.sendall(text)
                assert peer.recv(100) == text
                peer.sendall(text)
                assert client.recv(100) == text

            exchange(b"before")
            apply(host, world({"in_web": entries()}))
            assert not arrives(Probe(host.spaces["other"], "tcp", address, 80), [])
            exchange(b"rows changed")
            desired = desired_ruleset(world(), ENDPOINTS.values())
            host.table.apply(ruleset_changes(desired, None))
            exchange(b"table replaced")
            apply(host, view({**ROWS}, identities=IDENTITIES, block_lengths=((28, 120),)))
            exchange(b"other block length")


def test_a_one_way_flow_goes_on_after_its_first_packet(host: OneHost, servers: list[socket.socket]) -> None:
    """`ct status confirmed`: UDP that nobody answers is never established."""
    receiver = bound(host.spaces["web"], "udp", "10.0.0.1", 9001)
    receiver.settimeout(2)
    with inside(host.spaces["other"]):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        sender.sendto(b"first", ("10.0.0.1", 9001))
        assert receiver.recv(100) == b"first"
        apply(host, world({"in_web": entries()}))
        sender.sendto(b"second", ("10.0.0.1", 9001))
        assert receiver.recv(100) == b"second"


@pytest.mark.parametrize(
    "damage",
    [
        "add rule inet romana ingress accept",
        "insert rule inet romana in_other accept",
        "flush chain inet romana in_store",
        "add chain inet romana foreign",
        "add set inet romana foreign { type ipv4_addr; }",
        f"add element inet romana profile_{HTTP.id}_tcp {{ 443 }}",
        "add element inet romana in_store_4_block29 { 10.0.0.17 : accept }",
        "add table inet romana { flags dormant; }",
        "delete table inet romana; add table inet romana",
        "delete table inet romana; table inet romana { chain ingress { type filter hook forward priority 0; }\n}",
    ],
    ids=[
        "rule-in-base",
        "rule-in-row",
        "flushed-row",
        "foreign-chain",
        "foreign-set",
        "changed-profile",
        "block-by-another-name",
        "dormant",
        "empty",
        "other-table",
    ],
)
def test_a_table_that_somebody_changed_is_replaced_whole(host: OneHost, damage: str) -> None:
    before = host.table.listing()
    host.nft(damage.replace("; add", "\nadd").replace("; table", "\ntable"))
    assert host.table.read() is None
    apply(host, world())
    assert host.table.listing() == before


def test_elements_that_somebody_changed_are_put_back(host: OneHost) -> None:
    before = host.table.listing()
    host.nft(
        "delete element inet romana endpoints_in4 { 10.0.0.1 }\nadd element inet romana in_other_4 { 1.2.3.4 : accept }"
    )
    host.nft("flush map inet romana out_web_6_range\nadd element inet romana spans4 { 10.9.0.0/24 }")
    actual = host.table.read()
    assert actual is not None
    assert len(ruleset_changes(desired_ruleset(world(), ENDPOINTS.values()), actual)) == 4
    apply(host, world())
    assert sorted(host.table.listing().split()) == sorted(before.split())


def test_many_endpoints_make_no_rule(host: OneHost) -> None:
    def rules() -> int:
        chains = host.table.listing().partition("chain ")[2]
        return sum(line.endswith((" accept", "drop")) or " vmap @" in line for line in chains.splitlines())

    before = rules()
    assert before > 50
    for number in range(130, 180):
        host.table.add_endpoint(endpoint(number, OTHER), "in_other", "out_other")
    assert rules() == before


def test_nft_itself_accepts_the_rendered_table(host: OneHost) -> None:
    host.table.remove()
    host.nft(render_table(desired_ruleset(world(), ENDPOINTS.values())))
    assert not ruleset_changes(desired_ruleset(world(), ENDPOINTS.values()), host.table.read())


def test_several_threads_use_one_table(host: OneHost) -> None:
    some = [endpoint(number, OTHER) for number in range(130, 180)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: host.table.add_endpoint(one, "in_other", "out_other"), some))
        assert not ruleset_changes(desired_ruleset(world(), [*ENDPOINTS.values(), *some]), host.table.read())
        list(pool.map(host.table.remove_endpoint, some))
    assert not ruleset_changes(desired_ruleset(world(), ENDPOINTS.values()), host.table.read())


def test_what_is_refused_is_said_in_the_words_of_nftables(host: OneHost) -> None:
    with inside(host.spaces["host"]):
        table = NftTable()
    with pytest.raises(NotFound, match="in_nowhere"):
        table.add_endpoint(endpoint(200, OTHER), "in_nowhere", "out_other")
    table.close()
    with pytest.raises(Unavailable, match="closed"):
        table.remove_endpoint(endpoint(200, OTHER))
    assert not ruleset_changes(desired_ruleset(world(), ENDPOINTS.values()), host.table.read())
