from __future__ import annotations

from typing import Any

import pytest

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.routing.plan import device_plan, devices
from romana.core.topology import carve, place_host
from romana.model.errors import NotFound
from romana.model.ipam import Span
from romana.model.route import DevicePlan, Reach
from romana.model.topology import AddressPlan, Host

TWO_RACKS = [{"name": "rack1", "hosts": ["h11", "h12"]}, {"name": "rack2", "hosts": ["h21", "h22"]}]


def carved(groups: list[dict[str, Any]]) -> AddressPlan:
    networks = [{"name": "v4", "cidr": "10.112.0.0/12"}, {"name": "v6", "cidr": "fd00:10:112::/48"}]
    topology = {"name": "dc", "networks": ["v4", "v6"], "groups": groups}
    return carve(read_plan({"version": 1, "networks": networks, "topologies": [topology]}))


def placed(plan: AddressPlan, *names: str) -> dict[str, Host]:
    hosts: dict[str, Host] = {}
    for name in names:
        hosts[name] = place_host(plan, hosts, Host(name=name))
    return hosts


def span(host: str, cidr: str) -> Span:
    prefix = parse_prefix(cidr)
    return Span(cidr=prefix, network="v4" if prefix.family == 4 else "v6", host=host)


def routes(plan: DevicePlan) -> dict[str, str]:
    return {str(route.prefix): f"{route.reach} {route.toward}".strip() for route in plan.routes}


PLAN = carved(TWO_RACKS)
HOSTS = placed(PLAN, "h11", "h12", "h21", "h22")
SPANS = [
    span("h11", "10.112.0.0/24"),
    span("h11", "fd00:10:112::/117"),
    span("h12", "10.112.1.0/24"),
    span("h21", "10.120.0.0/24"),
]


def test_the_spine_holds_one_route_per_rack_and_family() -> None:
    spine = device_plan(PLAN, HOSTS, SPANS, "/")
    assert routes(spine) == {
        "10.112.0.0/12": "discard",
        "10.112.0.0/13": "below /rack1",
        "10.120.0.0/13": "below /rack2",
        "fd00:10:112::/48": "discard",
        "fd00:10:112::/49": "below /rack1",
        "fd00:10:112:8000::/49": "below /rack2",
    }
    assert len(spine.endpoint_routes) == 4


def test_no_span_changes_what_the_spine_holds() -> None:
    more = [span("h22", f"10.120.{index}.0/24") for index in range(1, 60)]
    assert device_plan(PLAN, HOSTS, [*SPANS, *more], "/") == device_plan(PLAN, HOSTS, [], "/")


def test_a_rack_router_holds_the_spans_of_its_hosts_and_what_is_above() -> None:
    tor = device_plan(PLAN, HOSTS, SPANS, "/rack1")
    assert routes(tor) == {
        "10.112.0.0/12": "above /",
        "10.112.0.0/13": "discard",
        "10.112.0.0/24": "below h11",
        "10.112.1.0/24": "below h12",
        "fd00:10:112::/48": "above /",
        "fd00:10:112::/49": "discard",
        "fd00:10:112::/117": "below h11",
    }
    assert [str(prefix) for prefix in tor.originates] == ["10.112.0.0/13", "fd00:10:112::/49"]


def test_a_host_originates_its_spans_and_holds_the_aggregates_above() -> None:
    host = device_plan(PLAN, HOSTS, SPANS, "h11")
    assert host.serves == "/rack1"
    assert routes(host) == {
        "10.112.0.0/12": "above /rack1",
        "10.112.0.0/13": "above /rack1",
        "10.112.0.0/24": "discard",
        "fd00:10:112::/48": "above /rack1",
        "fd00:10:112::/49": "above /rack1",
        "fd00:10:112::/117": "discard",
    }


def test_a_group_of_one_host_has_no_router_of_its_own() -> None:
    plan = carved([{"name": "rack1", "groups": [{"name": "a", "hosts": ["h1"]}, {"name": "b", "hosts": ["h2"]}]}])
    hosts = placed(plan, "h1", "h2")
    spans = [span("h1", "10.112.0.0/13"), span("h2", "10.120.0.0/13")]
    assert devices(plan, hosts) == ("/", "/rack1", "h1", "h2")
    assert routes(device_plan(plan, hosts, spans, "/rack1"))["10.112.0.0/13"] == "below h1"
    assert routes(device_plan(plan, hosts, spans, "h1"))["10.112.0.0/12"] == "above /rack1"


def test_an_only_child_announces_for_its_parent() -> None:
    plan = carved([{"name": "rack1"}])
    spine = device_plan(plan, {}, [], "/")
    assert spine.originates == ()
    assert [str(prefix) for prefix in spine.endpoint_routes] == ["10.112.0.0/12", "fd00:10:112::/48"]


def test_spare_parts_have_no_router() -> None:
    plan = carved([{"name": "rack1"}, {"name": "rack2"}, {"name": "rack3"}])
    assert devices(plan, {}) == ("/", "/rack1", "/rack2", "/rack3")
    with pytest.raises(NotFound, match="spare-4"):
        device_plan(plan, {}, [], "/spare-4")


def test_what_a_device_has_from_below_is_what_those_originate() -> None:
    below = {route.prefix for route in device_plan(PLAN, HOSTS, SPANS, "/rack1").routes if route.reach is Reach.BELOW}
    announced = {cidr for host in ("h11", "h12") for cidr in device_plan(PLAN, HOSTS, SPANS, host).originates}
    assert below == announced


def test_an_unknown_device_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFound, match=r"'tor9'; known are /, /rack1, /rack2, h11"):
        device_plan(PLAN, HOSTS, SPANS, "tor9")
