"""Routes in the kernel: every kind becomes every other, others' routes are left alone, and large changes are quick."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from romana.adapters.linux.host import KernelHost
from romana.adapters.linux.links import KernelLinks
from romana.adapters.linux.routes import KernelRoutes
from romana.codec.text import parse_address, parse_prefix
from romana.core.diff import Changes, diff
from romana.model.address import Family, Prefix
from romana.model.errors import AlreadyExists, NotFound, RomanaError
from romana.model.route import Route, RouteKind
from romana.ports import LinkPlan
from tests.probes.spaces import shell, spaces, within

UPLINK = """
    ip link set lo up; ip link add up0 type veth peer name up1; ip link set up0 up mtu 1450; ip link set up1 up
    ip addr add 192.168.1.1/24 dev up0; ip addr add fd01::1/64 dev up0 nodad
"""
SPAN, SPAN6 = parse_prefix("10.1.0.0/16"), parse_prefix("fd00:1::/48")
HOPS = {Family.V4: ("192.168.1.2", "192.168.1.3"), Family.V6: ("fd01::2", "fd01::3")}


@pytest.fixture
def paths() -> Iterator[dict[str, str]]:
    with spaces("host", "pod") as made, within(made["host"]):
        shell(UPLINK)
        yield made


@pytest.fixture
def routes(paths: dict[str, str]) -> Iterator[KernelRoutes]:
    with KernelRoutes() as made:
        yield made


def forms(prefix: Prefix) -> dict[str, Route]:
    hops = tuple(map(parse_address, HOPS[prefix.family]))
    return {
        "blackhole": Route(prefix=prefix, kind=RouteKind.BLACKHOLE),
        "link": Route(prefix=prefix, link="up0"),
        "hop": Route(prefix=prefix, next_hops=hops[:1]),
        "hops": Route(prefix=prefix, next_hops=hops),
    }


def put(*wanted: Route) -> Changes[Prefix, Route]:
    return Changes({route.prefix: route for route in wanted}, {}, {})


@pytest.mark.parametrize("prefix", [SPAN, SPAN6], ids=["v4", "v6"])
def test_every_kind_becomes_every_other(routes: KernelRoutes, prefix: Prefix) -> None:
    for before, after in itertools.permutations(forms(prefix).values(), 2):
        routes.apply(put(before))
        assert routes.read() == {prefix: before}
        routes.apply(Changes({}, {prefix: after}, {}))
        assert routes.read() == {prefix: after}
        routes.apply(Changes({}, {}, {prefix: before}))  # whatever it is by now
        assert routes.read() == {}


def test_what_iproute_shows_is_what_was_asked(routes: KernelRoutes) -> None:
    source = parse_address("192.168.1.1")
    hop = parse_address("192.168.1.2")
    routes.apply(put(Route(prefix=SPAN, next_hops=(hop,), source=source), forms(SPAN6)["blackhole"]))
    (span,) = json.loads(shell("ip -j -N route show 10.1.0.0/16"))
    assert (span["gateway"], span["protocol"], span["prefsrc"]) == ("192.168.1.2", "146", "192.168.1.1")
    (span6,) = json.loads(shell("ip -j -N -6 -d route show fd00:1::/48"))
    assert (span6["type"], span6["protocol"]) == ("6", "146")


def test_a_link_local_next_hop_keeps_its_link(routes: KernelRoutes) -> None:
    wanted = Route(prefix=SPAN6, link="up0", next_hops=(parse_address("fe80::2"),))
    routes.apply(put(wanted))
    assert routes.read() == {SPAN6: wanted}


def test_adding_twice_and_removing_what_is_gone_succeed(routes: KernelRoutes) -> None:
    wanted = [forms(prefix)[kind] for prefix, kind in ((SPAN, "blackhole"), (SPAN6, "hops"))]
    for _ in range(2):
        routes.apply(put(*wanted))
    gone = Changes({}, {}, {route.prefix: route for route in wanted})
    for _ in range(2):
        routes.apply(gone)
    assert routes.read() == {}


def test_other_programs_routes_are_neither_read_nor_touched(routes: KernelRoutes) -> None:
    shell("ip route add blackhole 10.1.0.0/16 proto static; ip -6 route add blackhole fd00:1::/48 proto static")
    shell("ip route add 10.2.0.0/16 dev up0 proto 146 table 100")
    before = shell("ip route show table all; ip -6 route show table all")
    assert routes.read() == {}
    routes.apply(Changes({}, {}, {route.prefix: route for route in (forms(SPAN)["link"], forms(SPAN6)["link"])}))
    with pytest.raises(AlreadyExists, match=r"setting route 10.1.0.0/16: File exists"):
        routes.apply(put(forms(SPAN)["link"]))
    assert shell("ip route show table all; ip -6 route show table all") == before


def test_one_refusal_does_not_stop_the_rest(routes: KernelRoutes) -> None:
    away = Route(prefix=SPAN, next_hops=(parse_address("203.0.113.1"),))
    with pytest.raises(RomanaError, match=r"setting route 10.1.0.0/16: Network is unreachable"):
        routes.apply(put(away, forms(SPAN6)["blackhole"]))
    assert routes.read() == {SPAN6: forms(SPAN6)["blackhole"]}


def test_a_link_that_is_not_there_is_named(routes: KernelRoutes) -> None:
    with pytest.raises(NotFound, match="no link 'up9'"):
        routes.apply(put(Route(prefix=SPAN, link="up9")))


def test_endpoint_routes_are_read_and_can_be_put_back(routes: KernelRoutes, paths: dict[str, str]) -> None:
    addresses = (parse_address("10.1.0.9"), parse_address("fd00:1::9"))
    plan = LinkPlan(link="rom0123456789ab", netns=paths["pod"], interface="eth0", addresses=addresses, mtu=1450)
    with KernelLinks() as links:
        links.create(plan)
        wanted = {prefix: Route(prefix=prefix, link=plan.link) for prefix in map(host_prefix, addresses)}
        assert routes.read() == wanted
        shell("ip route flush proto 146; ip -6 route flush proto 146")
        routes.apply(diff(wanted, routes.read()))
        assert links.check(plan) == []


def host_prefix(address: Prefix) -> Prefix:
    return Prefix(address.family, address.value, address.length)


def test_a_blackhole_gives_way_to_an_endpoint_and_outlives_its_link(
    routes: KernelRoutes, paths: dict[str, str]
) -> None:
    addresses = (parse_address("10.1.0.7"), parse_address("fd00:1::7"))
    black: dict[Prefix, Route] = {one: Route(prefix=one, kind=RouteKind.BLACKHOLE) for one in addresses}
    plan = LinkPlan(link="romtest1", netns=paths["pod"], interface="eth0", addresses=addresses, mtu=1450)
    routes.apply(Changes(black, {}, {}))
    with KernelLinks() as links:
        with pytest.raises(AlreadyExists):
            links.create(plan)
        routes.apply(Changes({}, {}, black))
        links.create(plan)
        assert {route.link for route in routes.read().values()} == {"romtest1"}
        routes.apply(Changes({}, black, {}))
        assert routes.read() == black
        links.delete("romtest1")
    assert routes.read() == black


def test_thousands_of_routes_go_in_and_out(routes: KernelRoutes) -> None:
    spans = [*SPAN.subnets(27), *itertools.islice(SPAN6.subnets(120), 2048)]
    wanted = {span: forms(span)["blackhole"] for span in spans}
    routes.apply(diff(wanted, routes.read()))
    assert routes.read() == wanted
    routes.apply(diff({}, wanted))
    assert routes.read() == {}


def test_the_uplinks_mtu_and_the_hosts_families_are_found(paths: dict[str, str]) -> None:
    host = KernelHost()
    assert (host.uplink_mtu(), host.families()) == (1500, frozenset(Family))
    shell("ip route add default via 192.168.1.2")
    assert host.uplink_mtu() == 1450
    shell("ip addr flush dev up0; ip -6 addr flush dev up0 scope global; ip addr add 192.168.1.1/24 dev up0")
    assert host.families() == {Family.V4}


def test_the_hosts_own_addresses_are_its_uplinks_or_else_its_loopbacks(paths: dict[str, str]) -> None:
    host = KernelHost()
    assert host.uplink_addresses() == ()
    shell("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo")
    assert host.uplink_addresses() == (parse_address("192.0.2.1"), parse_address("2001:db8::1"))
    shell("ip route add default via 192.168.1.2")
    assert host.uplink_addresses() == (parse_address("192.168.1.1"), parse_address("fd01::1"))


def test_a_namespace_without_any_route_has_none_of_ours() -> None:
    with spaces("bare") as made, within(made["bare"]), KernelRoutes() as routes:
        assert routes.read() == {}
        assert KernelHost().families() == frozenset()
