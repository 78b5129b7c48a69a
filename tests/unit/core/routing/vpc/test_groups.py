from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.routing.vpc.groups import vpc_routes
from romana.core.topology import carve, leaf_groups
from romana.model.address import Prefix
from romana.model.topology import AddressPlan, Host
from romana.model.vpc import VpcRoute
from tests.unit.core.routing.vpc.sites import longest
from tests.unit.core.routing.worlds import world


def carved(*groups: Any, **more: Any) -> AddressPlan:
    document = {
        "version": 1,
        "networks": [{"name": "v4", "cidr": "100.96.0.0/11"}, {"name": "v6", "cidr": "fd00:64::/40"}],
        "topologies": [{"name": "site", "networks": ["v4", "v6"], "groups": list(groups), **more}],
    }
    return carve(read_plan(document))


def host(name: str, path: str) -> Host:
    return Host(name=name, groups={"site": path})


def told(routes: tuple[VpcRoute, ...]) -> dict[str, str]:
    return {str(route.prefix): ",".join(route.hosts) for route in routes}


def test_a_group_with_hosts_has_one_route_a_family_whatever_its_hosts_hold() -> None:
    plan = carved({"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"})
    hosts = [host("h1", "/a"), host("h2", "/a"), host("h3", "/c")]
    assert told(vpc_routes(plan, hosts)) == {
        "100.96.0.0/13": "h1,h2",
        "100.112.0.0/13": "h3",
        "fd00:64::/42": "h1,h2",
        "fd00:64:80::/42": "h3",
    }
    assert {route.group for route in vpc_routes(plan, hosts)} == {"site:/a", "site:/c"}


def test_a_marked_group_stands_for_all_below_it() -> None:
    zone = {"name": "z", "routing": "block-host-routes,prefix-announce-vpc", "groups": [{"name": "a"}, {"name": "b"}]}
    plan = carved(zone, {"name": "y", "groups": [{"name": "c"}, {"name": "d"}]})
    hosts = [host("h1", "/z/a"), host("h2", "/z/b"), host("h3", "/y/c")]
    assert told(vpc_routes(plan, hosts)) == {
        "100.96.0.0/12": "h1,h2",
        "100.112.0.0/13": "h3",
        "fd00:64::/41": "h1,h2",
        "fd00:64:80::/42": "h3",
    }


def test_the_innermost_mark_counts() -> None:
    inner = {"name": "a", "routing": "prefix-announce-vpc"}
    plan = carved({"name": "z", "routing": "prefix-announce-vpc", "groups": [inner, {"name": "b"}]}, {"name": "y"})
    found = told(vpc_routes(plan, [host("h1", "/z/a"), host("h2", "/z/b")]))
    assert {prefix: names for prefix, names in found.items() if "." in prefix} == {
        "100.96.0.0/12": "h2",
        "100.96.0.0/13": "h1",
    }


def test_what_lives_away_from_its_group_has_a_route_of_its_own() -> None:
    plan = carved({"name": "a"}, {"name": "b"})
    hosts = [host("h1", "/a"), host("h2", "/b")]

    def on(text: str, name: str) -> tuple[Prefix, str]:
        return parse_prefix(text), name

    held = [
        on("100.96.1.0/24", "h2"),  # in a's range, on b's host
        on("100.96.1.7/32", "h2"),  # within that, on the same host
        on("100.96.1.8/32", "h1"),  # within that, back home
        on("100.96.2.0/24", "h1"),  # where its group is anyway
        on("192.0.2.1/32", "h1"),  # in no group
        on("100.96.3.0/24", "h9"),  # of a host that nobody knows
    ]
    found = told(vpc_routes(plan, hosts, held))
    assert {prefix: names for prefix, names in found.items() if prefix.endswith(("/24", "/32"))} == {
        "100.96.1.0/24": "h2",
        "100.96.1.8/32": "h1",
        "192.0.2.1/32": "h1",
    }


def test_a_plan_without_hosts_gives_no_route() -> None:
    assert vpc_routes(carved({"name": "a"}), []) == ()


@given(st.integers(0, 2**32))
@example(19276)  # a span of one group on a host of another, all on one layer 2 network
def test_whatever_a_host_announces_is_led_to_hosts_of_its_group_or_to_itself(seed: int) -> None:
    found = world(seed)
    routes = found.routes()
    table = {route.prefix: route for route in vpc_routes(found.plan, found.hosts.values(), routes.held())}
    for name in found.hosts:
        for prefix in routes.device_plan(name).originates:
            around = longest(table, prefix)
            assert around is not None
            assert name in around.hosts
    leaves = [group for one in found.hosts.values() for group in leaf_groups(found.plan, one).values()]
    assert {cidr for group in leaves for cidr in group.cidrs.values()} <= table.keys()
    assert {name for route in table.values() for name in route.hosts} == found.hosts.keys()
