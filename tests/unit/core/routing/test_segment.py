from __future__ import annotations

from typing import Any

from romana.apps.lab.file import FabricKind
from romana.codec.text import parse_address, parse_prefix
from romana.codec.topology import carved
from romana.core.routing import RoutePlan
from romana.core.routing.segment import private_discards, routes_via, segment_routes
from romana.core.routing.speakers import speaker
from romana.core.topology import listed_hosts
from romana.model.ipam import Span
from romana.model.route import Away, Reach, Route, RouteException
from tests.unit.core.routing.fabrics import fabric

NETWORKS = [{"name": "v4", "cidr": "10.112.0.0/12", "span_length": 24}]
MIXED = fabric(FabricKind.EBGP, 1, [(1, 2), (2, 2)], layer2=frozenset({1}))


def shown(routes: RoutePlan, device: str) -> dict[str, list[str]]:
    return {str(prefix): [hop.text for hop in hops] for prefix, hops in segment_routes(routes, device).items()}


def flat(*hosts: dict[str, Any]) -> RoutePlan:
    topology = {"name": "dc", "networks": ["v4"], "layer2": True, "hosts": list(hosts)}
    plan = carved({"version": 1, "networks": NETWORKS, "topologies": [topology]})
    spans = [
        Span(cidr=parse_prefix(f"10.112.{number}.0/24"), network="v4", host=host["name"])
        for number, host in enumerate(hosts)
    ]
    return RoutePlan(plan, listed_hosts(plan), spans)


def test_every_address_of_a_neighbour_in_a_network_of_ours_is_a_next_hop() -> None:
    via = {
        parse_prefix("10.112.1.0/24"): tuple(map(parse_address, ("192.0.2.2", "198.51.100.2", "203.0.113.2"))),
        parse_prefix("10.112.2.0/24"): (parse_address("203.0.113.3"),),
        parse_prefix("10.112.3.0/24"): (),
    }
    connected = [parse_prefix("192.0.2.0/24"), parse_prefix("198.51.100.0/24")]
    (route,) = routes_via(via, connected).values()
    hops = tuple(map(parse_address, ("192.0.2.2", "198.51.100.2")))
    assert route == Route(prefix=parse_prefix("10.112.1.0/24"), next_hops=hops)


def test_hosts_with_several_addresses_are_reached_by_all() -> None:
    routes = flat(
        {"name": "h1", "addresses": ["192.0.2.1"]}, {"name": "h2", "addresses": ["192.0.2.2", "198.51.100.2"]}
    )
    assert shown(routes, "h1") == {"10.112.1.0/24": ["192.0.2.2", "198.51.100.2"]}
    assert [str(one) for one in private_discards(routes, "h1")] == ["10.112.0.0/12"]


def test_a_rack_without_daemons_between_racks_with_them() -> None:
    assert shown(MIXED, "h11") == {
        "10.112.0.0/12": ["192.168.1.1"],
        "10.112.0.0/13": ["192.168.1.1"],
        "10.112.1.0/24": ["192.168.1.3"],
        "fd00:10:112::/48": ["fd00:192:168:1::1"],
        "fd00:10:112::/49": ["fd00:192:168:1::1"],
        "fd00:10:112::800/117": ["fd00:192:168:1::3"],
    }
    assert shown(MIXED, "r1a") == {
        "10.112.0.0/24": ["192.168.1.2"],
        "10.112.1.0/24": ["192.168.1.3"],
        "fd00:10:112::/117": ["fd00:192:168:1::2"],
        "fd00:10:112::800/117": ["fd00:192:168:1::3"],
    }
    assert speaker(MIXED, "h11") is None
    assert shown(MIXED, "h21") == shown(MIXED, "r2a") == shown(MIXED, "s1") == {}
    tor = speaker(MIXED, "r1a")
    assert tor is not None
    assert {one.neighbor for one in tor.sessions} == {"s1"}


def test_what_lives_away_takes_the_same_ways() -> None:
    routes = fabric(FabricKind.EBGP, 1, [(1, 2), (1, 2)], layer2=frozenset({1}))
    routes.put_exception(RouteException(prefix=parse_prefix("10.120.0.9/32"), host="h12", reason=Away.ENDPOINT))
    assert shown(routes, "r1a")["10.120.0.9/32"] == ["192.168.1.3"]
    assert "10.120.0.9/32" not in shown(routes, "h11")
    routes.put_exception(RouteException(prefix=parse_prefix("10.112.0.9/32"), host="h21", reason=Away.ENDPOINT))
    assert shown(routes, "h11")["10.112.0.9/32"] == ["192.168.1.1"]


def test_a_host_that_comes_or_goes_touches_all_beside_it_and_its_router() -> None:
    routes = fabric(FabricKind.EBGP, 1, [(1, 2), (1, 2)], layer2=frozenset({1}))
    span = Span(cidr=parse_prefix("10.112.7.0/24"), network="v4", host="h11")
    assert routes.put_span(span) == {"h11", "h12", "r1a"}
    known = routes.host("h11")
    assert known is not None
    assert routes.drop_host("h11") >= {"h11", "h12", "r1a"}
    assert routes.put_host(known) >= {"h11", "h12", "r1a"}
    assert not routes.put_host(known)


def test_hosts_beside_each_other_are_counted_so() -> None:
    routes = flat(*({"name": f"h{number}", "addresses": [f"192.0.2.{number}"]} for number in range(1, 5)))
    counts = routes.counts("h1")
    assert (counts.above, counts.below, counts.beside, counts.discards, counts.total) == (0, 0, 3, 2, 5)
    assert [str(one) for one in counts.originates] == ["10.112.0.0/24"]
    assert {route.reach for route in routes.device_plan("h1").routes} == {Reach.DISCARD, Reach.BESIDE}
