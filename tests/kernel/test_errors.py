"""ICMP errors through policies that name TCP alone: those about a connection reach its ends, so that a path's MTU is
found; no others do.

host --- world -(1300)- middle --- far
  `-(1280)- web       the routes from the host to web have this MTU, so it is the host that tells of it
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from romana.adapters.linux.netns import inside
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.address import Prefix
from romana.model.policy import ICMP, ICMPV6, TCP, UDP
from romana.model.program import Profile, RowIds
from romana.model.tenancy import Identity, Owner
from tests.fakes.rulesets import STORE, WEB, endpoint, entries, view
from tests.probes.onehost import HOST4, HOST6, WORLD4, WORLD6, OneHost, one_host
from tests.probes.packets import Ends, error, packet, send
from tests.probes.traffic import bound

OTHER = Identity(owner=Owner("other", "app"))
ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE), "other": endpoint(129, OTHER)}
ADDRESSES = {name: [one.text for one in plugged.addresses] for name, plugged in ENDPOINTS.items()} | {
    "host": [HOST4, HOST6],
    "world": [WORLD4, WORLD6],
    "far": ["198.19.0.2", "2001:db8:fffe::2"],
}
PORT = 9000
ONE_PORT = Profile(protocols=((TCP, ((PORT, PORT),)),))
NAMED = (f"0.0.0.0/0 {ONE_PORT.id}", f"::/0 {ONE_PORT.id}")
ALL = ("0.0.0.0/0 accept", "::/0 accept")
ROWS = {
    **{row: entries(*NAMED) for row in ("in_web", "out_web", "out_other", "out_host")},
    **{row: entries() for row in ("in_store", "out_store", "in_other", "in_host")},
}
families = pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])


def lay(host: OneHost) -> None:
    """The way from world to far, and routes with an MTU of their own from the host to web."""
    spaces = {name: host.add(name) for name in ("middle", "far")}
    for name in ("world", "middle"):
        with inside(host.spaces[name]):
            for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                Path(f"/proc/sys/net/{key}").write_text("1")
    for left, right, net, mtu in (("world", "middle", "1", 1300), ("middle", "far", "0", 1500)):
        host.ip(left, f"link add {right} mtu {mtu} type veth peer name {left} mtu {mtu} netns {spaces[right]}")
        for name, link, number in ((left, right, 1), (right, left, 2)):
            six = f"2001:db8:fff{'e' if net == '0' else 'd'}::{number}"
            host.ip(
                name,
                f"link set {link} up",
                f"address add 198.19.{net}.{number}/24 dev {link}",
                f"address add {six}/64 dev {link} nodad",
            )
    host.ip("world", "route add 198.19.0.0/24 via 198.19.1.2", "route add 2001:db8:fffe::/64 via 2001:db8:fffd::2")
    host.ip("middle", "route add default via 198.19.1.1", "route add default via 2001:db8:fffd::1")
    host.ip("far", "route add default via 198.19.0.1", "route add default via 2001:db8:fffe::1")
    link = ENDPOINTS["web"].link
    for address, source in zip(ADDRESSES["web"], (HOST4, HOST6), strict=True):
        host.ip("host", f"route replace {address} dev {link} src {source} mtu lock 1280")


@pytest.fixture(scope="module")
def built() -> Iterator[OneHost]:
    with one_host("err") as made:
        for name, plugged in ENDPOINTS.items():
            made.plug(name, plugged)
        lay(made)
        made.settle()
        yield made


def apply(host: OneHost, **rows: dict[Prefix, str]) -> None:
    state = view(
        {**ROWS, **rows},
        profiles=(ONE_PORT,),
        identities={"web": WEB, "store": STORE, "other": OTHER},
        host_rows=RowIds("in_host", "out_host"),
    )
    host.table.apply(ruleset_changes(desired_ruleset(state, ENDPOINTS.values()), host.table.read()))


@pytest.fixture
def host(built: OneHost) -> OneHost:
    apply(built)
    return built


def carry(host: OneHost, source: str, target: str, family: int) -> int:
    """Send a million bytes by TCP, which must arrive; the MTU of the path that the sender found."""
    content = os.urandom(1_000_000)

    def receive() -> bytes:
        peer, _ = server.accept()
        with peer:
            peer.settimeout(10)
            taken = hashlib.sha256()
            while part := peer.recv(65536):
                taken.update(part)
        return taken.digest()

    with (
        bound(host.spaces[target], "tcp", ADDRESSES[target][family], PORT) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        server.settimeout(10)
        with inside(host.spaces[source]):
            client = socket.socket(socket.AF_INET6 if family else socket.AF_INET)
        with client:
            client.settimeout(10)
            received = pool.submit(receive)
            client.connect((ADDRESSES[target][family], PORT))
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            assert received.result() == hashlib.sha256(content).digest()
            return client.getsockopt(*((socket.IPPROTO_IPV6, 24) if family else (socket.IPPROTO_IP, 14)))  # IP_MTU


@families
@pytest.mark.parametrize(
    ("source", "target", "mtu"),
    [("web", "far", 1300), ("far", "web", 1280), ("other", "web", 1280), ("host", "far", 1300)],
    ids=["told to an endpoint", "told by the host", "told by the host to an endpoint", "told to the host"],
)
def test_the_mtu_of_a_path_is_found(host: OneHost, source: str, target: str, mtu: int, family: int) -> None:
    assert carry(host, source, target, family) == mtu


class Flow:
    """A datagram that an endpoint or the host sent to the world, and errors about it."""

    def __init__(self, host: OneHost, owner: str, family: int) -> None:
        self.host, self.owner, self.family = host, owner, family
        self.kind = ICMPV6 if family else ICMP
        self.ends = Ends(ADDRESSES[owner][family], ADDRESSES["world"][family])
        self.socket = bound(host.spaces[owner], "udp", self.ends.source, 0)
        self.socket.sendto(b"hello", (self.ends.destination, 9))
        self.port = self.socket.getsockname()[1]

    def told(self, sender: str, listener: str, port: int) -> bool:
        """Whether an error that `sender` makes up about a datagram from a port of the owner arrives at `listener`."""
        ends = Ends(ADDRESSES[sender][self.family], ADDRESSES[listener][self.family])
        quoted = packet(self.ends, UDP, struct.pack("!HHHH", port, 9, 8, 0))
        with inside(self.host.spaces[listener]):
            ear = socket.socket(self.socket.family, socket.SOCK_RAW, self.kind)
        with ear:
            ear.settimeout(0.3)
            send(self.host.spaces[sender], packet(ends, self.kind, error(ends, quoted)))
            try:
                while quoted not in ear.recv(2000):
                    pass
            except TimeoutError:
                return False
        return True

    def __enter__(self) -> Flow:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@families
def test_errors_reach_who_they_are_about_and_nobody_else(host: OneHost, family: int) -> None:
    """Whatever the rows say of ICMP: they accept all of it here."""
    apply(host, **{row: entries(*ALL) for row in ROWS})
    with Flow(host, "web", family) as flow:
        assert not flow.told("world", "store", flow.port)
        assert not flow.told("world", "web", flow.port ^ 1)  # no such connection
        assert flow.told("world", "web", flow.port)


@families
@pytest.mark.parametrize("owner", ["web", "host"])
def test_an_endpoint_sends_errors_about_its_own_connections_only(host: OneHost, owner: str, family: int) -> None:
    apply(host, out_web=entries(*ALL), out_host=entries(*ALL))
    with Flow(host, owner, family) as flow:
        assert not flow.told("store", owner, flow.port)
        assert flow.told("world", owner, flow.port)
