from __future__ import annotations

import msgspec
import pytest

from romana.codec.text import parse_address, parse_prefix
from romana.core.routing.host import departed, host_routes
from romana.model.fabric import Protocol
from romana.model.ipam import Span
from romana.model.route import RouteKind
from romana.model.speaker import DaemonPlan, Speaker
from romana.model.view import View


def test_a_blackhole_for_each_own_span_in_order() -> None:
    cidrs = [parse_prefix(text) for text in ("fd00:10::/117", "10.112.1.0/24", "10.112.0.0/24")]
    spans = {cidr: Span(cidr=cidr, network="pods", host="h1") for cidr in cidrs}
    routes = host_routes(View(spans=spans))
    assert list(routes) == sorted(cidrs)
    assert all(route.prefix == prefix for prefix, route in routes.items())
    assert {route.kind for route in routes.values()} == {RouteKind.BLACKHOLE}
    assert not any(route.link or route.next_hops for route in routes.values())


def test_a_view_without_spans_has_no_routes() -> None:
    assert host_routes(View()) == {}


@pytest.mark.parametrize(("protocol", "leaves"), [("ospf", True), ("ebgp", False)])
def test_what_left_is_discarded_where_others_take_their_time(protocol: str, leaves: bool) -> None:
    lone = parse_prefix("10.1.0.200/32")
    speaker = Speaker(name="h1", is_host=True, protocol=Protocol(protocol), asn=0, router_id=parse_address("192.0.2.1"))
    before, after = View(announced=(lone,)), View(daemon=DaemonPlan(speaker=speaker))
    assert departed(before, after) == (frozenset({lone}) if leaves else frozenset())
    assert departed(before, msgspec.structs.replace(after, announced=(lone,))) == frozenset()
    assert (lone in host_routes(after, (), departed(before, after))) == leaves
