from __future__ import annotations

import msgspec

from romana.codec.json import decode, encode
from romana.codec.text import parse_address, parse_prefix
from romana.core.routing.plan import RoutePlan
from romana.model.route import Away, DevicePlan, RouteException
from romana.model.topology import Host
from romana.model.view import View
from tests.unit.core.routing.test_plan import HOSTS, PLAN, SPANS, carved, placed, routes, span
from tests.unit.core.routing.worlds import all_plans

WORLD = (PLAN, HOSTS.values(), SPANS)


def fixed(text: str, host: str) -> RouteException:
    return RouteException(prefix=parse_address(text), host=host, reason=Away.FIXED, name="dns")


def held(plan: RoutePlan, text: str) -> dict[str, str]:
    found = {}
    for device, one in all_plans(plan).items():
        for route in one.routes:
            if route.prefix == parse_address(text) and route.exception:
                found[device] = f"{route.reach} {route.toward}".strip()
    return found


def test_a_fixed_address_in_its_own_rack_is_no_matter_above_it() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.112.9.1", "h12")])
    assert held(plan, "10.112.9.1") == {"h12": "discard", "/rack1": "below h12"}
    assert [(one.home, one.devices) for one in plan.exceptions()] == [("/rack1", ("h12", "/rack1"))]
    assert [str(prefix) for prefix in plan.exceptions_of("h12")] == ["10.112.9.1/32"]


def test_away_from_its_rack_it_goes_up_to_where_both_meet_and_down_to_its_rack() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.112.9.1", "h21")])
    assert held(plan, "10.112.9.1") == {
        "h21": "discard",
        "/rack2": "below h21",
        "/": "below /rack2",
        "/rack1": "above /",
    }
    onward = {device: [r.onward for r in one.routes if r.exception] for device, one in all_plans(plan).items()}
    assert onward["h21"] == ["/rack2"]
    assert onward["/"] == ["/rack1"]
    assert onward["/rack1"] == [""]
    assert onward["h11"] == []


def test_an_address_out_of_a_span_is_known_to_the_host_that_would_discard_it() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.112.0.7", "h12")])
    assert held(plan, "10.112.0.7") == {"h12": "discard", "/rack1": "below h12", "h11": "above /rack1"}


def test_an_address_in_a_span_of_its_own_host_is_no_exception() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.112.0.7", "h11")])
    assert not list(plan.exceptions())
    assert plan.drop_span(parse_prefix("10.112.0.0/24")) == {"h11", "/rack1"}
    assert [one.devices for one in plan.exceptions()] == [("h11", "/rack1")]


def test_the_span_of_a_host_that_is_in_another_group_is_an_exception_as_a_whole() -> None:
    plan = RoutePlan(*WORLD)
    moved = Host(name="h12", groups={"dc": "/rack2"})
    assert plan.put_host(moved) == {"h12", "/rack1", "/rack2", "/"}
    assert [(one.reason, one.host, one.home) for one in plan.exceptions()] == [(Away.SPAN, "h12", "/rack1")]
    assert routes(plan.device_plan("/rack1"))["10.112.1.0/24"] == "above /"
    assert routes(plan.device_plan("/rack2"))["10.112.1.0/24"] == "below h12"
    plan.put_host(HOSTS["h12"])
    assert not list(plan.exceptions())


def test_what_lives_away_from_what_lives_away_is_known_to_where_that_is() -> None:
    away = RouteException(prefix=parse_prefix("10.112.9.0/29"), host="h21", reason=Away.ENDPOINT)
    plan = RoutePlan(*WORLD, [away, fixed("10.112.9.1", "h22")])
    assert held(plan, "10.112.9.1") == {"h22": "discard", "/rack2": "below h22", "h21": "above /rack2"}
    plan.drop_exception(away.prefix)
    assert set(held(plan, "10.112.9.1")) == {"h22", "/rack2", "/", "/rack1"}


def test_a_host_that_is_not_known_announces_nothing() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.112.9.1", "h99")])
    assert not list(plan.exceptions())
    assert plan.put_host(Host(name="h99", groups={"dc": "/rack2"})) >= {"h99", "/rack2", "/", "/rack1"}
    assert len(list(plan.exceptions())) == 1
    assert "/" in plan.drop_host("h99")
    assert not list(plan.exceptions())


def test_another_plan_places_everything_anew() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.120.9.1", "h11")])
    other = carved([{"name": name} for name in ("rack1", "rack2", "rack3", "rack4")])
    plan.set_plan(other)
    fresh = RoutePlan(other, HOSTS.values(), SPANS, [fixed("10.120.9.1", "h11")])
    assert all_plans(plan) == all_plans(fresh)
    assert [one.home for one in plan.exceptions() if one.reason is Away.FIXED] == ["/rack3"]


def test_counts_are_those_of_the_plan() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.112.9.1", "h21")])
    one = plan.counts("/")
    assert (one.above, one.below, one.discards, one.exceptions, one.total) == (0, 5, 2, 1, 7)


def test_a_spare_part_that_is_the_only_child_is_discarded_by_its_parent() -> None:
    plan = carved([{"name": "a", "groups": [{"name": "later"}]}, {"name": "b"}])
    [topology] = plan.topologies
    a, b = topology.root.groups
    a = msgspec.structs.replace(a, groups=(msgspec.structs.replace(a.groups[0], closed=True),))
    root = msgspec.structs.replace(topology.root, groups=(a, b))
    plan = msgspec.structs.replace(plan, topologies=(msgspec.structs.replace(topology, root=root),))
    assert routes(RoutePlan(plan).device_plan("/a"))["10.112.0.0/13"] == "discard"


def test_a_host_that_is_alone_in_all_of_a_group_is_not_discarded_there() -> None:
    only = {"name": "only", "hosts": ["h1"], "cidrs": {"v4": "10.112.0.0/13"}}
    plan = carved([{"name": "a", "groups": [only], "spare": 1}, {"name": "b"}])
    hosts = placed(plan, "h1")
    empty = RoutePlan(plan, hosts.values())
    assert routes(empty.device_plan("/a"))["10.112.0.0/13"] == "discard"
    assert empty.put_span(span("h1", "10.112.0.0/13")) == {"h1", "/a"}
    assert routes(empty.device_plan("/a"))["10.112.0.0/13"] == "below h1"
    assert routes(empty.device_plan("/"))["10.112.0.0/13"] == "below /a"


def test_everything_about_an_address_can_be_written_and_read_again() -> None:
    plan = RoutePlan(*WORLD, [fixed("10.112.9.1", "h21")])
    [one] = plan.exceptions()
    assert decode(encode(one), RouteException) == one
    assert decode(encode(plan.device_plan("/")), DevicePlan) == plan.device_plan("/")
    view = View(announced=plan.exceptions_of("h21"))
    assert decode(encode(view), View) == view
