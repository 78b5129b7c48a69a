from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.apps.lab.file import FabricKind
from romana.codec.bird_router import render
from romana.codec.topology import carved
from romana.core.routing import RoutePlan
from romana.core.routing.speakers import speaker
from romana.model.address import Family
from romana.model.route import Reach
from tests.unit.core.routing.fabrics import Cut, Network, fabric, go_away

KINDS = st.sampled_from([FabricKind.EBGP, FabricKind.IBGP])
RACKS = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=3)
SEEDS = st.integers(0, 1 << 32)


def spans(routes: RoutePlan) -> list[tuple[str, object]]:
    hosts = [name for name in routes.devices() if routes.seat(name) is not None]
    return [(name, prefix) for name in hosts for prefix in routes.device_plan(name).originates]


def links(routes: RoutePlan) -> list[frozenset[str]]:
    return [frozenset(link.ends) for link in routes.fabric.routing.links]


@given(KINDS, st.integers(1, 3), RACKS, SEEDS)
@settings(max_examples=60, deadline=None)
def test_bgp_brings_every_device_the_routes_of_the_plan(
    kind: FabricKind, spines: int, racks: list[tuple[int, int]], seed: int
) -> None:
    routes = fabric(kind, spines, racks)
    draw = random.Random(seed)
    for _ in range(draw.randint(0, 3)):
        routes.put_exception(go_away(draw, routes))
    network = Network(routes)
    inside = [cidr for path in routes.fabric.routers for cidr in routes.fabric.cidrs_at(path)]
    for name in network.speakers:
        table = {
            prefix: by for prefix, by in network.table(name).items() if any(one.contains(prefix) for one in inside)
        }
        planned = {route.prefix: route for route in routes.device_plan(name).routes}
        assert table.keys() == planned.keys(), name
        for prefix, by in table.items():
            route = planned[prefix]
            assert {routes.place_of(one) for one in by} == (
                {route.toward} if route.reach is not Reach.DISCARD else set()
            )


@given(KINDS, st.integers(1, 3), RACKS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_packet_reaches_its_host_by_whatever_equal_way(
    kind: FabricKind, spines: int, racks: list[tuple[int, int]], seed: int
) -> None:
    routes = fabric(kind, spines, racks)
    draw = random.Random(seed)
    for _ in range(draw.randint(0, 2)):
        routes.put_exception(go_away(draw, routes))
    network = Network(routes)
    away = {one.prefix: one.host for one in routes.exceptions()}
    for source in network.speakers:
        for host, span in spans(routes):
            address = span.address(draw.randrange(span.size))  # type: ignore[attr-defined]
            holder = next((to for prefix, to in away.items() if prefix.contains(address)), host)
            assert network.ends(source, address) == {holder}


@pytest.mark.parametrize("kind", [FabricKind.EBGP, FabricKind.IBGP])
@pytest.mark.parametrize("spines", [2, 3])
def test_no_cut_link_stops_a_packet_where_another_way_is_left(kind: FabricKind, spines: int) -> None:
    routes = fabric(kind, spines, [(2, 2), (2, 1)])
    for gone in links(routes):
        check_all(Network(routes, frozenset({gone})))


@given(KINDS, SEEDS)
@settings(max_examples=12, deadline=None)
def test_no_cut_link_stops_a_packet_to_what_lives_away(kind: FabricKind, seed: int) -> None:
    routes, draw = fabric(kind, 2, [(2, 2), (2, 1), (1, 2)]), random.Random(seed)
    routes.put_exception(go_away(draw, routes))
    for one in routes.exceptions():
        for gone in draw.sample(links(routes), k=8):
            network = Network(routes, frozenset({gone}))
            alone = {host for host in gone if routes.seat(host) is not None and "r3a" in gone}
            for source in network.speakers.keys() - alone - gone:
                assert network.ends(source, one.prefix.address(0)) == {one.host} or one.host in alone, (source, gone)


def check_all(network: Network) -> None:
    for source in network.speakers:
        for host, span in spans(network.routes):
            assert network.ends(source, span.address(3)) == {host}, (source, host, network.cut)  # type: ignore[attr-defined]


def test_two_cut_links_loop_nothing_and_stop_only_what_has_no_way_left() -> None:
    routes = fabric(FabricKind.EBGP, 2, [(2, 2), (2, 1)])
    for one, other in itertools.combinations(links(routes), 2):
        cut: Cut = frozenset({one, other})
        network = Network(routes, cut)
        for source in network.speakers:
            for _, span in spans(routes):
                network.ends(source, span.address(3))  # type: ignore[attr-defined]


def test_without_the_link_between_two_rack_routers_a_cut_downlink_discards() -> None:
    """What the planner refuses, and why: the aggregate has two originators, one of which lost a host."""
    routes = fabric(FabricKind.EBGP, 2, [(2, 2), (2, 1)])
    (host, span), *_ = spans(routes)
    gone: Cut = frozenset({frozenset({"r1a", host}), frozenset({"r1a", "r1b"})})
    ends = Network(routes, gone).ends("h21", span.address(3))  # type: ignore[attr-defined]
    assert ends == {host, "r1a"}


def test_spines_without_a_link_hand_down_what_is_below_them() -> None:
    routes = fabric(FabricKind.EBGP, 2, [(1, 1), (1, 1)])
    assert [str(one) for one in routes.fabric.routers["/"].specifics] == [
        "10.112.0.0/13",
        "10.120.0.0/13",
        "fd00:10:112::/49",
        "fd00:10:112:8000::/49",
    ]
    assert fabric(FabricKind.EBGP, 1, [(1, 1), (1, 1)]).fabric.routers["/"].specifics == ()


def test_ospf_takes_what_routers_below_originate_from_no_further_than_they_are() -> None:
    def nearest(routes: RoutePlan, name: str) -> dict[str, int]:
        found = speaker(routes, name)
        assert found is not None
        assert found.ospf is not None
        return {str(prefix): cost for prefix, cost in found.ospf.nearest.items() if prefix.family is Family.V4}

    assert nearest(fabric(FabricKind.OSPF, 2, [(2, 1), (1, 1)]), "s1") == {
        "10.112.0.0/13": 10,
        "10.120.0.0/13": 10,
        "192.168.1.0/24": 10,
        "192.168.2.0/24": 10,
    }
    assert nearest(fabric(FabricKind.OSPF, 2, [(2, 1), (1, 1)]), "r1a") == {}
    rows = {
        "version": 1,
        "networks": [{"name": "n", "cidr": "10.0.0.0/8"}],
        "topologies": [
            {
                "name": "t",
                "networks": ["n"],
                "groups": [{"name": "row", "routers": ["ra", "rb"], "groups": [{"name": "rack", "routers": ["tor"]}]}],
            }
        ],
        "routing": {
            "protocol": "ospf",
            "links": [
                {"ends": ["ra", "rb"], "interfaces": ["side", "side"], "cost": 5},
                {"ends": ["ra", "tor"], "interfaces": ["down", "up1"], "cost": 10},
                {"ends": ["rb", "tor"], "interfaces": ["down", "up2"], "cost": 30},
            ],
        },
    }
    routes = RoutePlan(carved(rows))
    assert nearest(routes, "ra") == {"10.0.0.0/8": 35}  # by rb, when its own link is cut
    assert nearest(routes, "rb") == {"10.0.0.0/8": 30}


@pytest.mark.parametrize("kind", list(FabricKind)[:3])
def test_what_is_away_on_a_host_is_discarded_by_its_own_routers_when_they_have_no_way(kind: FabricKind) -> None:
    routes = fabric(kind, 2, [(2, 2), (2, 1)])
    routes.put_exception(go_away(random.Random(1), routes))
    (one,) = routes.exceptions()
    own = routes.fabric.routers[next(path for path in one.devices if path in routes.fabric.routers)].members
    for name in routes.fabric.devices:
        said = speaker(routes, name)
        assert said is not None
        assert said.fallbacks == ((one.prefix,) if name in own else ())
        if said.ospf is not None:  # directly, or by the other router, and what the host counts
            assert said.ospf.nearest.get(one.prefix) == (10 * len(own) + 10 if name in own else None)
        text = render(said)
        assert ("protocol static fallback" in text) == (name in own)
