from __future__ import annotations

from romana.codec.text import parse_prefix
from romana.core.routing.host import host_routes
from romana.model.ipam import Span
from romana.model.route import RouteKind
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
