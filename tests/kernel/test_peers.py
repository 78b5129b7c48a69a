"""A peer that no plan describes, configured by hand, and what the plan's sessions with it are like; real BIRDs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from romana.adapters.bird import Bird
from romana.adapters.bird_forms import Template
from romana.codec.text import parse_address, parse_prefix
from romana.codec.topology import carved
from romana.core.routing import RoutePlan
from romana.core.topology import listed_hosts
from romana.model.errors import Unavailable
from romana.model.ipam import Span
from romana.model.speaker import DaemonPlan
from romana.model.topology import Host
from tests.probes.birds import Side, address, link, until
from tests.probes.spaces import shell, spaces, within
from tests.unit.codec.test_bird_v1 import BGP, STATIC

SPAN4, SPAN6 = parse_prefix("10.112.1.0/24"), parse_prefix("fd00:10:112::800/117")
PEER = """\
router id 192.168.99.1;
protocol device {{ }}
protocol kernel {{ ipv4 {{ export all; }}; }}
protocol kernel {{ ipv6 {{ export all; }}; }}
protocol static told4 {{
    ipv4;
    route 10.112.0.0/12 blackhole;
    route 10.112.0.0/13 blackhole;
    route 10.112.7.0/24 blackhole;
    route 203.0.113.192/27 blackhole;
    route 203.0.113.0/30 blackhole;
}}
protocol static told6 {{ ipv6; route fd00:10:112::/48 blackhole; route fd00:10:112::7000/117 blackhole; }}
protocol bgp host4 {{
    local 192.168.99.1 as {asn};
    neighbor 192.168.99.2 as {other};
    direct;
    connect delay time 1; error wait time 1, 2;
    {more}
    ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
protocol bgp host6 {{
    local fd99::1 as {asn};
    neighbor fd99::2 as {other};
    direct;
    connect delay time 1; error wait time 1, 2;
    {more}
    ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""


class Pair:
    """A host of a plan, and a peer that a person configured."""

    def __init__(self, peer: Side, host: Side) -> None:
        self.peer = peer
        self.host = host

    def start(self, routes: RoutePlan, *, asn: int = 64999, other: int = 65101, more: str = "") -> None:
        (self.peer.directory / "bird.conf").write_text(PEER.format(asn=asn, other=other, more=more))
        self.peer.start()
        with pytest.raises(Unavailable, match="is it running"):
            self.host.announce(routes)
        self.host.start()
        self.host.announce(routes)

    def up(self, routes: RoutePlan) -> bool:
        return not self.host.down(routes)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    tmp_path.chmod(0o755)
    with spaces("peer", "host", tag="kp") as made:
        link(made["peer"], "to-h11", made["host"], "to-peer")
        address(made["peer"], to_h11="192.168.99.1/24 fd99::1/64")
        address(made["host"], to_peer="192.168.99.2/24 fd99::2/64")
        found = Pair(Side(tmp_path, made["peer"], "peer"), Side(tmp_path, made["host"], "h11"))
        try:
            yield found
        finally:
            found.peer.stop()
            found.host.stop()


def plan(protocol: str = "ebgp", **session: Any) -> RoutePlan:
    """Two racks; hosts of the first with the label `port=2`, which all have, have the peer."""
    peer: dict[str, Any] = {
        "name": "switch",
        "group": "/rack1",
        "selector": {"port": "2"},
        "addresses": ["192.168.99.1", "fd99::1"],
        "session": session,
    }
    hosts = [{"name": "h11", "addresses": ["192.168.99.2", "fd99::2"]}, {"name": "h12", "addresses": ["192.168.99.3"]}]
    asns = {"asn": 65101} if protocol == "ebgp" else {}
    groups = [{"name": "rack1", "hosts": hosts, **asns}, {"name": "rack2", "hosts": ["h21", "h22"], **asns}]
    routing: dict[str, Any] = {"protocol": protocol, "peers": [peer]}
    if protocol == "ebgp":
        peer["asn"] = 64999
    else:
        routing["asn"] = 65000
    document = {
        "version": 1,
        "networks": [
            {"name": "v4", "cidr": "10.112.0.0/12", "span_length": 24},
            {"name": "v6", "cidr": "fd00:10:112::/48", "span_length": 117},
        ],
        "topologies": [{"name": "dc", "networks": ["v4", "v6"], "groups": groups}],
        "routing": routing,
    }
    found = carved(document)
    spans = [Span(cidr=SPAN4, network="v4", host="h11"), Span(cidr=SPAN6, network="v6", host="h11")]
    return RoutePlan(found, [msgspec.structs.replace(one, labels={"port": "2"}) for one in listed_hosts(found)], spans)


def known(side: Side) -> set[str]:
    """The prefixes that BIRD has by BGP."""
    lines = side.ask("show", "route", "where", "source", "=", "RTS_BGP").replace("\t", " ").splitlines()
    return {line.split()[0] for line in lines if "/" in line.split(" ")[0]}


@pytest.mark.parametrize("protocol", ["ebgp", "ibgp"])
def test_a_selected_host_has_the_peer_and_tells_it_its_spans(pair: Pair, protocol: str) -> None:
    routes = plan(protocol)
    asn, other = (64999, 65101) if protocol == "ebgp" else (65000, 65000)
    pair.start(routes, asn=asn, other=other)
    until(lambda: pair.up(routes))
    until(lambda: known(pair.peer) == {str(SPAN4), str(SPAN6)})
    until(lambda: f"{SPAN4} via 192.168.99.2" in pair.peer.routes())
    until(lambda: "10.112.0.0/13 via 192.168.99.1" in pair.host.routes())


def test_labels_decide_who_has_a_peer(pair: Pair) -> None:
    routes = plan()
    pair.start(routes)
    until(lambda: pair.up(routes))
    assert [one.neighbor for one in pair.host.sessions(routes)] == ["switch", "switch"]
    moved = routes.host("h11")
    assert moved is not None
    assert "h11" in routes.put_host(Host(name="h11", groups=moved.groups, addresses=moved.addresses))
    pair.host.announce(routes)
    until(lambda: not known(pair.peer))
    assert pair.host.sessions(routes) == ()
    routes.put_host(moved)
    pair.host.announce(routes)
    until(lambda: known(pair.peer) == {str(SPAN4), str(SPAN6)})


def test_only_what_the_plan_or_the_session_says_is_taken_and_told(pair: Pair) -> None:
    """A peer that tells too much misleads nobody: only the aggregates above the host, and what `import` lists."""
    options: dict[str, Any] = {"import": ["203.0.113.128/25 ge 26 le 28"]}
    routes = plan(**options)
    pair.start(routes)
    until(lambda: pair.up(routes))
    wanted = {"10.112.0.0/12", "10.112.0.0/13", "203.0.113.192/27", "fd00:10:112::/48"}
    until(lambda: known(pair.host) == wanted)
    shown = pair.host.routes()
    assert "10.112.7.0/24" not in shown
    assert "203.0.113.0/30" not in shown
    assert "fd00:10:112::7000/117" not in shown


def test_standard_and_large_communities_are_on_what_is_announced(pair: Pair) -> None:
    routes = plan(communities=["65001:100", "65001:1:2", "no-export"])
    pair.start(routes)
    until(lambda: known(pair.peer) == {str(SPAN4), str(SPAN6)})
    for span in (SPAN4, SPAN6):
        shown = pair.peer.ask("show", "route", str(span), "all")
        assert "BGP.community: (65001,100) (65535,65281)" in shown
        assert "BGP.large_community: (65001, 1, 2)" in shown


@pytest.mark.parametrize("agrees", [True, False])
def test_gtsm_lets_nobody_in_who_may_be_further_away(pair: Pair, agrees: bool) -> None:
    routes = plan(ttl_security=True)
    pair.start(routes, more="ttl security on;" if agrees else "multihop 20;")
    if agrees:
        until(lambda: pair.up(routes))
        return
    for _ in range(40):  # each side tries every two seconds
        time.sleep(0.1)
        down = pair.host.down(routes)
        assert len(down) == 2
        assert not known(pair.host)
    assert all("192.168.99.1" in one or "fd99::1" in one for one in down)


def test_a_password_at_one_end_alone_keeps_the_session_down_and_is_said(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    routes = plan(password_file=str(tmp_path / "key"))
    pair.start(routes)
    until(lambda: any("wrong password" in one for one in pair.host.down(routes)))
    assert not any("s3cret" in one for one in pair.host.down(routes))


def test_a_peer_with_another_as_number_is_said_and_the_rest_stays(pair: Pair) -> None:
    routes = plan()
    pair.start(routes, asn=64000)
    until(lambda: any("the AS numbers differ" in one for one in pair.host.down(routes)))
    assert pair.host.bird.read() == frozenset({SPAN4, SPAN6})


def test_a_peer_that_nobody_reaches_is_said(pair: Pair) -> None:
    routes = plan()
    pair.start(routes)
    until(lambda: pair.up(routes))
    pair.peer.stop()
    until(lambda: any("refuses the connection" in one or "ended" in one for one in pair.host.down(routes)), 30)
    with within(pair.peer.space):
        shell("ip link set to-h11 down")
    until(lambda: any("is down, or its address is not there" in one for one in pair.host.down(routes)), 30)


def test_bfd_sees_a_silent_peer_long_before_the_hold_time(pair: Pair) -> None:
    routes = plan(bfd=True, hold_seconds=90)
    pair.start(routes, more="bfd on;")
    with within(pair.peer.space):
        (pair.peer.directory / "bird.conf").write_text(
            PEER.format(asn=64999, other=65101, more="bfd on;")
            + 'protocol bfd { interface "*" { interval 100 ms; }; }\n'
        )
    pair.peer.ask("configure")
    until(lambda: pair.up(routes) and {one.protocol for one in pair.host.sessions(routes)} == {"bgp", "bfd"}, 30)
    with within(pair.peer.space):
        shell(
            "nft add table inet silent;"
            "nft add chain inet silent out '{ type filter hook output priority 0; policy drop; }'"
        )
    until(lambda: len(pair.host.down(routes)) == 4, 10)
    assert any("BFD gets no answer from 192.168.99.1" in one for one in pair.host.down(routes))


def test_a_directory_of_romana_v2_runs_a_daemon(tmp_path: Path, pair: Pair) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "bird.conf").write_text(STATIC)
    (templates / "publisher.conf").write_text(BGP)
    own = [(parse_address("192.168.99.2"), parse_prefix("192.168.99.0/24"))]
    host = pair.host
    host.bird = Bird(
        host.directory / "bird.conf", host.directory / "bird.ctl", form=Template(templates, 65534, lambda: own)
    )
    (pair.peer.directory / "bird.conf").write_text(PEER.format(asn=65534, other=65534, more="passive on;"))
    pair.peer.start()
    first = DaemonPlan(groups={"pods": parse_prefix("10.112.0.0/15")})
    with pytest.raises(Unavailable, match="is it running"):
        host.bird.announce([SPAN4], first)
    host.start()
    until(lambda: "10.112.0.0/15" in known(pair.peer), 30)
    assert host.bird.read() == frozenset({SPAN4})
    host.bird.announce([SPAN4], DaemonPlan(groups={"pods": parse_prefix("10.116.0.0/15")}))
    until(lambda: known(pair.peer) == {"10.116.0.0/15"})
    before = (host.directory / "bird.conf").read_text()
    (templates / "publisher.conf").write_text("protocol nonsense {{.LocalAS}};\n")
    with pytest.raises(Unavailable, match=r"BIRD refuses .*bird\.conf.*syntax error"):
        host.bird.announce([SPAN4], first)
    assert (host.directory / "bird.conf").read_text() == before
    assert known(pair.peer) == {"10.116.0.0/15"}
