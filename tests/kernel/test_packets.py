"""Packets in parts and in wrappings, between two endpoints whose rows name ports: fragments, IPv6's extension headers,
IPv4's options, SCTP. What is not allowed never arrives, however it is dressed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.policy import SCTP, UDP
from romana.model.program import Profile
from romana.model.tenancy import Identity, Owner
from tests.fakes.rulesets import STORE, WEB, endpoint, entries, view
from tests.probes.onehost import HOST4, HOST6, OneHost, one_host
from tests.probes.packets import (
    AUTHENTICATION,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ROUTING,
    Ear,
    Ends,
    extended,
    fragment,
    packet,
    send,
    udp,
)
from tests.probes.traffic import Probe, accepted, bound

OTHER = Identity(owner=Owner("other", "app"))
ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE), "other": endpoint(129, OTHER)}
GOOD, BAD = 7000, 7001
NAMED = Profile(protocols=((UDP, ((GOOD, GOOD),)), (SCTP, ((GOOD, GOOD),))))
ALL = ("0.0.0.0/0 accept", "::/0 accept")
ROWS = {
    "in_store": entries(*(f"{web} {NAMED.id}" for web in ("10.0.0.0/29", "fd00::/122"))),
    "out_store": entries(),
    **{row: entries(*ALL) for row in ("in_web", "out_web", "in_other", "out_other")},
}
PAIRS = {4: Ends("10.0.0.1", "10.0.0.65"), 6: Ends("fd00::1", "fd00::41")}
families = pytest.mark.parametrize("pair", PAIRS.values(), ids=["ipv4", "ipv6"])
wishes = pytest.mark.parametrize(
    ("pair", "tracked"),
    [(PAIRS[4], True), (PAIRS[4], False), (PAIRS[6], True)],
    ids=["ipv4", "ipv4 that is to be left alone", "ipv6"],
)
"""IPv4's sockets can ask that nobody puts their fragments together."""


@pytest.fixture(scope="module")
def host() -> Iterator[OneHost]:
    with one_host("p") as made:
        for name, plugged in ENDPOINTS.items():
            made.plug(name, plugged)
        made.settle()
        state = view(
            ROWS, profiles=(NAMED,), identities={"web": WEB, "store": STORE, "other": OTHER}, own={"out_web": "accept"}
        )
        made.table.apply(ruleset_changes(desired_ruleset(state, ENDPOINTS.values()), None))
        yield made


@pytest.fixture
def ear(host: OneHost) -> Iterator[Ear]:
    with Ear(host.spaces["store"]) as made:
        yield made


class Wire:
    """What `store` gets of what others send, in the order in which they send it."""

    def __init__(self, host: OneHost, ear: Ear, pair: Ends) -> None:
        self.host, self.ear, self.pair = host, ear, pair
        self._marks = 0

    def send(self, *packets: bytes, source: str = "web", tracked: bool = True) -> bytes:
        """Send them, and then one datagram that is allowed; what arrived of the first ones, one after the other."""
        self._marks += 1
        mark = b"the end of number %d" % self._marks
        send(self.host.spaces[source], *packets, tracked=tracked)
        send(self.host.spaces["web"], packet(self.pair, UDP, udp(self.pair, 4000, GOOD, mark)))
        heard = self.ear.heard(until=mark)
        assert any(mark in one for one in heard), "not even what is allowed arrives"
        return b"".join(one for one in heard if mark not in one and self._ours(one))

    def _ours(self, one: bytes) -> bool:
        start, end = (8, 40) if self.pair.is_six else (12, 20)
        return one[start:end] == self.pair.packed


@pytest.fixture
def wire(host: OneHost, ear: Ear, pair: Ends) -> Wire:
    return Wire(host, ear, pair)


HEAD, TAIL = b"H" * 1000, b"T" * 1000


def whole(pair: Ends, port: int) -> bytes:
    return udp(pair, 4001, port, HEAD + TAIL)


@families
def test_a_datagram_over_the_mtu_arrives_at_an_allowed_port_only(host: OneHost, wire: Wire, pair: Ends) -> None:
    with (
        bound(host.spaces["store"], "udp", pair.destination, GOOD) as good,
        bound(host.spaces["store"], "udp", pair.destination, BAD) as bad,
        bound(host.spaces["web"], "udp", pair.source, 0) as client,
    ):
        good.settimeout(2)
        client.sendto(b"bad" * 1000, (pair.destination, BAD))
        client.sendto(b"good" * 1000, (pair.destination, GOOD))
        assert good.recv(5000) == b"good" * 1000
        with pytest.raises(BlockingIOError):
            bad.recv(5000)
        assert b"badbad" not in wire.send()


@wishes
@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_fragments_are_judged_together(wire: Wire, pair: Ends, backwards: bool, tracked: bool) -> None:
    for number, port in enumerate((GOOD, BAD)):
        datagram = whole(pair, port)
        parts = [
            fragment(pair, UDP, datagram, 0, 1008, 100 + number),
            fragment(pair, UDP, datagram, 1008, len(datagram), 100 + number),
        ]
        heard = wire.send(*(parts[::-1] if backwards else parts), tracked=tracked)
        assert (HEAD[8:] in heard and TAIL[8:] in heard) == (port == GOOD)
        assert port == GOOD or heard == b""


@wishes
def test_a_later_fragment_alone_slips_past_nothing(wire: Wire, pair: Ends, tracked: bool) -> None:
    """It has no port; and what stands where a port would be is not taken for one."""
    inner = udp(pair, 4002, GOOD, TAIL)
    datagram = udp(pair, 4002, BAD, HEAD[8:] + inner)
    later = fragment(pair, UDP, datagram, 1000, len(datagram), 200)
    assert wire.send(later, later, tracked=tracked) == b""
    assert wire.send(fragment(pair, UDP, datagram, 0, 1000, 200), tracked=tracked) == b""  # and now it is whole


@families
def test_a_fragment_that_overlaps_changes_no_port(wire: Wire, pair: Ends) -> None:
    good, bad = whole(pair, GOOD), whole(pair, BAD)
    firsts = [fragment(pair, UDP, one, 0, 1008, 300) for one in (good, bad)]
    last = fragment(pair, UDP, good, 1008, len(good), 300)
    for parts in ((*firsts, last), (*firsts[::-1], last), (last, *firsts), (firsts[0], last, firsts[1])):
        assert bad[:6] not in wire.send(*parts)


@families
@pytest.mark.parametrize("sender", ["other", "world"])
def test_nobody_adds_fragments_to_the_datagrams_of_somebody_else(wire: Wire, pair: Ends, sender: str) -> None:
    """What is sent with a false source is gone before fragments are put together."""
    tail, forged = b"TTUU" * 250, b"UUTT" * 250  # of one checksum
    datagram, other = udp(pair, 4001, GOOD, HEAD + tail), udp(pair, 4001, GOOD, HEAD + forged)
    number = {"other": 400, "world": 401}[sender]
    wire.send(fragment(pair, UDP, other, 1008, len(other), number), source=sender)
    assert forged not in wire.send(fragment(pair, UDP, datagram, 0, 1008, number))
    assert tail in wire.send(fragment(pair, UDP, datagram, 1008, len(datagram), number))


@pytest.mark.parametrize(
    ("own", "false"),
    [
        ("10.0.0.1", ("0.0.0.0", "169.254.1.2", "10.0.0.65", HOST4)),
        ("fd00::1", ("::", "fe80::1:2", "fd00::41", HOST6)),
    ],
    ids=["ipv4", "ipv6"],
)
def test_an_endpoint_has_no_other_source_towards_the_host(host: OneHost, own: str, false: tuple[str, ...]) -> None:
    """Neither nobody's nor that of its link alone, outside of the search for neighbours."""
    goal = HOST6 if ":" in own else HOST4
    with bound(host.spaces["host"], "udp", goal, GOOD) as server:
        for source in (*false, own):
            ends = Ends(source, goal)
            send(host.spaces["web"], packet(ends, UDP, udp(ends, 4007, GOOD, source.encode())))
        server.settimeout(2)
        assert server.recv(100) == own.encode()


@families
def test_what_has_a_false_source_keeps_no_connection_alive(host: OneHost, pair: Ends) -> None:
    """It is dropped before connection tracking looks at it."""
    entry = ("-p", "udp", "--orig-port-src", "4008", "-f", "ipv6" if pair.is_six else "ipv4")

    def left() -> int:
        """Seconds until the entry is over."""
        return int(host.run("conntrack", "-L", *entry).split()[2])

    def deliver(source: str) -> None:
        with Ear(host.spaces["host"], ENDPOINTS[source].link) as ear:
            send(host.spaces[source], packet(pair, UDP, udp(pair, 4008, GOOD, b"word")))
            assert any(b"word" in one for one in ear.heard(b"word"))

    deliver("web")
    host.run("conntrack", "-U", *entry, "--timeout", "7")
    deliver("other")
    assert left() <= 7
    deliver("web")
    assert left() > 7


WRAPPINGS = {
    "hop-by-hop": [HOP_BY_HOP],
    "destination options": [DESTINATION],
    "routing": [ROUTING],
    "one fragment": [FRAGMENT],
    "authentication": [AUTHENTICATION],
    "in their order": [HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION],
    "many": [DESTINATION] * 30,
}


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=list(WRAPPINGS))
@pytest.mark.parametrize("pair", [PAIRS[6]], ids=[""])
def test_extension_headers_hide_and_open_nothing(wire: Wire, pair: Ends, wrapping: list[int]) -> None:
    """The port that counts is that of the transport behind them."""
    for port, data in ((GOOD, b"allowed"), (BAD, b"denied")):
        heard = wire.send(extended(pair, wrapping, UDP, udp(pair, 4003, port, data)))
        assert (data in heard) == (port == GOOD)
    assert wire.send(extended(pair, wrapping, 253, udp(pair, 4003, GOOD, b"another protocol"))) == b""
    assert wire.send(extended(pair, wrapping, 59, udp(pair, 4003, GOOD, b"no protocol"))) == b""


@pytest.mark.parametrize("pair", [PAIRS[6]], ids=[""])
def test_a_transport_that_cannot_be_found_has_no_port(wire: Wire, pair: Ends) -> None:
    datagram = udp(pair, 4004, GOOD, b"word")
    too_long = packet(pair, DESTINATION, bytes([UDP, 200]) + b"\1\4\0\0\0\0" + datagram)  # says that it has 1608 bytes
    no_header = packet(pair, DESTINATION, bytes([UDP]))
    short = packet(pair, UDP, datagram[:3])
    assert wire.send(too_long, no_header, short) == b""


@pytest.mark.parametrize("pair", [PAIRS[6]], ids=[""])
def test_the_first_fragment_has_all_headers_or_nothing_passes(wire: Wire, pair: Ends) -> None:
    """As RFC 7112 wants it; the kernel sees to it where it joins fragments."""
    datagram = bytes([UDP, 0]) + b"\1\4\0\0\0\0" + udp(pair, 4005, GOOD, b"allowed.")
    for number, (cut, passes) in enumerate(((8, False), (16, True))):
        parts = [fragment(pair, DESTINATION, datagram, *part, 500 + number) for part in ((0, cut), (cut, 24))]
        assert bool(wire.send(*parts)) == passes


@pytest.mark.parametrize("pair", [PAIRS[4]], ids=[""])
def test_options_of_ipv4_hide_and_open_nothing(wire: Wire, pair: Ends) -> None:
    for options in (b"\1" * 40, b"\x94\4\0\0", b"\7\7\4\0\0\0\0\0"):  # padding, router alert, record route
        for port, data in ((GOOD, b"allowed"), (BAD, b"denied")):
            heard = wire.send(packet(pair, UDP, udp(pair, 4006, port, data), options=options))
            assert (data in heard) == (port == GOOD)


@families
def test_sctp_is_judged_by_its_port(host: OneHost, pair: Ends) -> None:
    with bound(host.spaces["store"], "sctp", pair.destination, 0) as server:
        probes = [Probe(host.spaces["web"], "sctp", pair.destination, port) for port in (GOOD, BAD)]
        assert accepted([*probes, Probe(host.spaces["other"], "sctp", pair.destination, GOOD)], [server]) == [
            True,
            False,
            False,
        ]
