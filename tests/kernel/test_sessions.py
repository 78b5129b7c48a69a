"""Two real BIRDs on one link, configured by what the plan says of two devices: sessions that come up, or do not."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from romana.adapters.linux.discovery import find_router
from romana.adapters.linux.link_events import LinkEvents
from romana.codec.text import parse_prefix
from romana.codec.topology import carved
from romana.core.routing import RoutePlan
from romana.core.topology import listed_hosts
from romana.model.errors import Unavailable
from romana.model.ipam import Span
from tests.probes.agenthost import PROGRAMS
from tests.probes.birds import LINK, Side, address, link, until
from tests.probes.spaces import shell, spaces, within

SPAN = parse_prefix("10.112.1.0/24")


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """A rack router and its host, with a link between them."""
    tmp_path.chmod(0o755)
    with spaces("tor", "host", tag="ks") as made:
        link(made["tor"], "to-h11", made["host"], "to-tor1")
        address(made["tor"], to_h11="192.0.2.0/31", lo="198.51.100.1/32")
        address(made["host"], to_tor1="192.0.2.1/31", lo="198.51.100.2/32")
        tor, host = Side(tmp_path, made["tor"], "tor1"), Side(tmp_path, made["host"], "h11")
        try:
            yield tor, host
        finally:
            tor.stop()
            host.stop()


def plan(protocol: str = "ebgp", *, asn: int = 65011, addresses: bool = True, **session: Any) -> RoutePlan:
    """A rack with its router and host; `asn` is what the router thinks that the host has."""
    ebgp = protocol == "ebgp"
    wire: dict[str, Any] = {"ends": ["tor1", "h11"], "interfaces": ["to-h11", "to-tor1"], "session": session}
    if addresses:
        wire["addresses"] = [["192.0.2.0", "192.0.2.1"]]
    rack = {
        "name": "rack1",
        "routers": [{"name": "tor1", "addresses": ["198.51.100.1"], **({"asn": 65001} if ebgp else {})}],
        "hosts": [{"name": "h11", "addresses": ["198.51.100.2"]}, "h12"],
        **({"asn": asn} if ebgp else {"area": 1}),
    }
    document = {
        "version": 1,
        "networks": [{"name": "v4", "cidr": "10.112.0.0/12"}, {"name": "v6", "cidr": "fd00:10:112::/48"}],
        "topologies": [{"name": "dc", "networks": ["v4", "v6"], "groups": [rack, {"name": "rack2"}]}],
        "routing": {"protocol": protocol, "links": [wire], **({"asn": 65000} if protocol == "ibgp" else {})},
    }
    if protocol == "ibgp":
        del rack["area"]
    carvedplan = carved(document)
    hosts = listed_hosts(carvedplan)
    return RoutePlan(carvedplan, hosts, [Span(cidr=SPAN, network="v4", host="h11")])


def start(sides: tuple[Side, Side], at_tor: RoutePlan, at_host: RoutePlan | None = None) -> None:
    for side, routes in zip(sides, (at_tor, at_host or at_tor), strict=True):
        with pytest.raises(Unavailable, match="is it running"):
            side.announce(routes)
        side.start()
        side.announce(routes)


@pytest.mark.parametrize("protocol", ["ebgp", "ibgp", "ospf"])
def test_what_the_plan_says_comes_up_and_brings_the_routes(sides: tuple[Side, Side], protocol: str) -> None:
    routes = plan(protocol)
    start(sides, routes)
    tor, host = sides
    until(lambda: not tor.down(routes) and not host.down(routes), 25)
    until(lambda: "10.112.1.0/24 via 192.0.2.1" in tor.routes())
    until(lambda: "10.112.0.0/13 via 192.0.2.0" in host.routes())
    assert "src 198.51.100.2" in host.routes()
    assert tor.bird.state().daemon.startswith("BIRD 2.")
    assert tor.sessions(routes)[0].neighbor == "h11"
    assert tor.bird.up() == frozenset({"down_h11_4"} if protocol != "ospf" else ())
    host.stop(signal.SIGKILL)
    until(lambda: tor.bird.up() == frozenset(), 25)


def test_a_span_more_is_told_whatever_its_length(sides: tuple[Side, Side]) -> None:
    """BIRD takes two sets for one that differ only in prefixes whose length is no multiple of 4."""
    routes = plan()
    start(sides, routes)
    tor, host = sides
    until(lambda: "10.112.1.0/24 via 192.0.2.1" in tor.routes())
    for third in (4, 8, 12):
        routes.put_span(Span(cidr=parse_prefix(f"10.112.{third}.0/22"), network="v4", host="h11"))
        host.announce(routes)
        until(lambda third=third: f"10.112.{third}.0/22 via 192.0.2.1" in tor.routes(), 5)  # type: ignore[misc]


def test_a_span_more_is_told_alone(sides: tuple[Side, Side]) -> None:
    """BIRD tells all again when a filter is another one; from 256 on, the rest waits until something wakes BIRD."""
    routes = plan()
    for number in range(300):
        routes.put_span(Span(cidr=parse_prefix("10.113.0.0/16").subnet(28, number), network="v4", host="h11"))
    start(sides, routes)
    tor, host = sides
    until(lambda: tor.routes().count("/28 via 192.0.2.1") >= 300)
    before = updates(tor)
    routes.put_span(Span(cidr=parse_prefix("10.114.0.0/28"), network="v4", host="h11"))
    host.announce(routes)
    until(lambda: "10.114.0.0/28 via 192.0.2.1" in tor.routes(), 5)
    assert updates(tor) == before + 1


def updates(side: Side) -> int:
    """How often its one neighbour told a device of a route."""
    (told,) = re.findall(
        r"^\S+ +BGP .*?Import updates: +(\d+)", side.ask("show protocols all"), re.DOTALL | re.MULTILINE
    )
    return int(told)


def test_link_local_neighbours_are_found_and_carry_both_families(sides: tuple[Side, Side]) -> None:
    routes = plan(addresses=False)
    start(sides, routes)
    tor, host = sides

    def found() -> bool:
        for side in sides:
            side.announce(routes)
        return not tor.down(routes) and not host.down(routes)

    until(found)
    until(lambda: "10.112.1.0/24 via inet6 fe80::" in tor.routes())
    until(lambda: "fd00:10:112::/49 via fe80::" in host.routes())


def test_a_password_and_gtsm_and_bfd_at_both_ends(sides: tuple[Side, Side], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret!\n")
    routes = plan(password_file=str(secret), ttl_security=True, bfd=True)
    start(sides, routes)
    until(lambda: not sides[0].down(routes) and not sides[1].down(routes))
    assert {one.protocol for one in sides[0].sessions(routes)} == {"bgp", "bfd"}
    mode = (sides[0].directory / "romana.conf").stat().st_mode & 0o777
    assert mode == 0o640


def test_a_password_that_changes_is_noticed_once_and_taken_in(sides: tuple[Side, Side], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("before")
    routes = plan(password_file=str(secret))
    start(sides, routes)
    until(lambda: not sides[0].down(routes) and not sides[1].down(routes))
    assert not any(side.bird.is_stale() for side in sides)
    secret.write_text("behind")  # of the same length
    assert all(side.bird.is_stale() for side in sides)
    for side in sides:
        side.announce(routes)
        assert 'password "behind"' in (side.directory / "romana.conf").read_text()
    assert not any(side.bird.is_stale() for side in sides)
    until(lambda: not sides[0].down(routes) and not sides[1].down(routes))
    secret.unlink()
    assert sides[0].bird.is_stale()
    with pytest.raises(Unavailable, match="cannot be read"):
        sides[0].announce(routes)
    assert not sides[0].bird.is_stale()  # told already, and tried again by whoever was told


def test_a_wrong_as_number_is_said(sides: tuple[Side, Side]) -> None:
    theirs, ours = plan(asn=65099), plan()
    start(sides, theirs, ours)
    until(lambda: any("the AS numbers differ" in one for one in sides[0].down(theirs)))
    until(lambda: any("the AS numbers differ" in one for one in sides[1].down(ours)))


def test_a_wrong_password_is_said(sides: tuple[Side, Side], tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
    theirs, ours = plan(password_file=str(tmp_path / "one")), plan(password_file=str(tmp_path / "other"))
    start(sides, theirs, ours)
    until(lambda: any("which is how a wrong password looks" in one for one in sides[0].down(theirs)))
    assert not any("one" in one.split() or "other" in one.split() for one in sides[0].down(theirs))


def test_a_password_file_that_is_missing_keeps_what_was(sides: tuple[Side, Side], tmp_path: Path) -> None:
    routes = plan()
    start(sides, routes)
    before = (sides[0].directory / "romana.conf").read_text()
    with pytest.raises(Unavailable, match=f"password file {tmp_path}/gone cannot be read: No such file"):
        sides[0].announce(plan(password_file=f"{tmp_path}/gone"))
    assert (sides[0].directory / "romana.conf").read_text() == before


def test_a_neighbour_that_is_not_there_is_said(sides: tuple[Side, Side]) -> None:
    routes = plan(addresses=False)
    tor, _ = sides
    with within(sides[1].space):
        shell("ip link set to-tor1 down")
    (tor.directory / "romana.conf").write_text("router id 192.0.2.1;\nprotocol device { }\n")
    tor.start()
    tor.announce(routes)
    assert tor.down(routes) == [
        "no router answers on to-h11 by a link-local address; is the link up, and its router there?"
    ]


def test_graceful_restart_keeps_the_routes_of_a_killed_bird(sides: tuple[Side, Side]) -> None:
    routes = plan()
    start(sides, routes)
    tor, host = sides
    until(lambda: "10.112.1.0/24 via 192.0.2.1" in tor.routes() and "10.112.0.0/13" in host.routes())
    tor.stop(signal.SIGKILL)
    tor.start("-R")
    until(lambda: not host.down(routes))
    for _ in range(20):
        assert "10.112.0.0/13 via 192.0.2.0" in host.routes()
        assert "10.112.1.0/24 via 192.0.2.1" in tor.routes()
        time.sleep(0.1)


@pytest.mark.parametrize("protocol", ["ebgp", "ospf"])
def test_a_clean_up_ends_all_that_is_ours_and_nothing_else(sides: tuple[Side, Side], protocol: str) -> None:
    tor, host = sides
    link(tor.space, "to-them", host.space, "to-those")
    address(tor.space, to_them="192.0.2.2/31")
    address(host.space, to_those="192.0.2.3/31")
    theirs(tor, "192.0.2.2", "192.0.2.3", "203.0.113.0/25")
    theirs(host, "192.0.2.3", "192.0.2.2", "203.0.113.128/25")
    routes = plan(protocol)
    start(sides, routes)
    until(lambda: "10.112.1.0/24 via 192.0.2.1" in tor.routes() and "10.112.0.0/13 via 192.0.2.0" in host.routes(), 25)
    until(lambda: "203.0.113.128/25" in tor.ask("show route") and "203.0.113.0/25" in host.ask("show route"))
    others = [line for line in host.routes().splitlines() if "203.0.113.0/25" in line]
    assert len(others) == (protocol == "ebgp")  # with OSPF, no other protocol's routes go into the kernel
    with within(host.space):
        shell("ip route add blackhole 10.112.1.0/24 proto 146; ip route add blackhole 198.18.0.0/15")
    assert "what" in clean_up(host)
    until(lambda: "10.112.1.0/24" not in tor.routes() and "198.51.100.2" not in tor.routes())
    until(lambda: "10.112." not in host.routes() and "198.51.100.1" not in host.routes())
    assert "blackhole 198.18.0.0/15" in host.routes()
    assert [line for line in host.routes().splitlines() if "203.0.113.0/25" in line] == others
    assert "203.0.113.128/25" in tor.ask("show route")
    assert host.ask("show protocols").count("Established") == 1
    assert host.bird.originated() == frozenset()
    left = (host.directory / "romana.conf").read_text()
    assert left.startswith("# Left by romana-agent --cleanup: no route of romana is announced here any more.\n")
    host.stop()
    host.start()
    until(lambda: "203.0.113.0/25" in host.ask("show route"))
    assert "nothing of romana's agent was here" in clean_up(host)


def theirs(side: Side, local: str, remote: str, prefix: str) -> None:
    """A session and a route of the machine's own, beside what the agent writes."""
    with (side.directory / "bird.conf").open("a") as file:
        file.write(
            f"protocol static mine {{ ipv4; route {prefix} blackhole; }}\n"
            f"protocol bgp them {{ local {local} as 65100; neighbor {remote} as 65100; connect delay time 1;"
            ' ipv4 { import all; export where proto = "mine"; }; }\n'
        )


def clean_up(side: Side) -> str:
    """What `romana-agent --cleanup` prints in the side's namespace."""
    files = {word: side.directory / word for word in ("state", "agent.sock", "romana-cni", "romana.conflist")}
    configuration = side.directory / "agent.toml"
    bird = f'include = "{side.directory}/romana.conf"\nsocket = "{side.directory}/bird.ctl"\n'
    configuration.write_text(
        f'[agent]\nhost = "{side.name}"\nstate = "{files["state"]}"\nsocket = "{files["agent.sock"]}"\n'
        f'[cni]\nplugin = "{files["romana-cni"]}"\nconflist = "{files["romana.conflist"]}"\n'
        f'[bird]\nwrite = "everything"\n{bird}'
    )
    with within(side.space):
        return shell(f"{PROGRAMS}/romana-agent --config {configuration} --cleanup")


def test_links_that_go_and_come_are_news_and_ours_are_not() -> None:
    with spaces("host", tag="kl") as made, within(made["host"]):
        events = LinkEvents()
        try:
            assert not events.changed()
            shell("ip link add up0 type veth peer name up1")
            assert events.changed()
            shell("ip link set up0 up; ip address add 192.0.2.1/24 dev up0")
            assert events.changed()
            assert not events.changed()
            shell("ip link add rom0123456789ab type veth peer name rom0123456789ac")
            shell("ip address add 192.0.2.9/32 dev rom0123456789ab; ip link set rom0123456789ab up")
            assert not events.changed()
        finally:
            events.close()


def test_several_routers_on_a_link_are_nobody() -> None:
    with spaces("a", "b", "c", "sw", tag="km") as made:
        names = {name: Path(path).name for name, path in made.items()}
        with within(made["sw"]):
            shell("ip link add br0 type bridge; ip link set br0 up")
            for name in "abc":
                shell(
                    f"ip link add p{name} type veth peer name eth0 netns {names[name]};"
                    f"ip link set p{name} master br0 up"
                )
        for name in "abc":
            with within(made[name]):
                shell(LINK.replace("DEV", "eth0"))
        time.sleep(2.5)  # until addresses are no longer tentative
        with within(made["a"]):
            with pytest.raises(Unavailable, match=r"2 routers answer on eth0 \(fe80"):
                find_router("eth0")
            with pytest.raises(Unavailable, match="has no interface nope"):
                find_router("nope")
        with within(made["c"]):
            shell("ip link set eth0 down")
        with within(made["a"]):
            assert find_router("eth0").text.startswith("fe80::")
