from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.planner.compare import compare
from romana.core.planner.load import Load, draw
from romana.core.planner.report import PlanReport, plan_report
from romana.core.planner.usage import joined, modelled, recorded
from romana.core.topology import PlanChange, carve, place_host
from romana.model.ipam import Block, Span
from romana.model.tenancy import Owner
from romana.model.topology import AddressPlan, Host

V4 = {"name": "v4", "cidr": "10.0.0.0/16", "span_length": 25}
V6 = {"name": "v6", "cidr": "fd00::/56", "span_length": 116}
RACKS: list[dict[str, Any]] = [{"name": "rack1"}, {"name": "rack2"}, {"name": "rack3"}]


def carved(networks: list[dict[str, Any]], groups: list[dict[str, Any]], **more: Any) -> AddressPlan:
    names = [network["name"] for network in networks]
    topology = {"name": "dc", "networks": names, "groups": groups, **more}
    return carve(read_plan({"version": 1, "networks": networks, "topologies": [topology]}))


def reported(plan: AddressPlan, load: Load) -> PlanReport:
    return plan_report(plan, modelled(plan, draw(load)), load)


@given(st.integers(1, 30), st.integers(0, 400), st.sampled_from([1, 2, 3]))
@settings(max_examples=25, deadline=None)
def test_inner_groups_hold_and_use_what_their_children_do(hosts: int, pods: int, racks: int) -> None:
    found = reported(carved([V4, V6], RACKS[:racks]), Load(hosts=hosts, pods=pods, tenants=4, churn=2.0))
    root, *leaves = found.groups
    assert root.hosts == sum(leaf.hosts for leaf in leaves) == hosts
    for index, part in enumerate(root.parts):
        below = [leaf.parts[index] for leaf in leaves]
        assert part.use.spans == sum(one.use.spans for one in below)
        assert part.use.endpoints == sum(one.use.endpoints for one in below) == found.endpoints == pods
        assert part.capacity.usable == sum(one.capacity.usable for one in below)
    for network in found.networks:
        assert network.claimed_in_blocks <= network.claimed_in_spans
        assert network.use.endpoints <= network.claimed_in_blocks


def test_hosts_join_where_the_plan_lists_them_and_the_others_where_there_are_fewest() -> None:
    groups: list[dict[str, Any]] = [
        {"name": "a", "hosts": ["h1", "h2"]},
        {"name": "b"},
        {"name": "c", "assignment": {"zone": "c"}},
    ]
    plan = carved([V4], groups)
    members = [host.groups["dc"] for host in joined(plan, 9)]
    assert members[:2] == ["/a", "/a"]
    assert sorted(members) == ["/a"] * 3 + ["/b"] * 3 + ["/c"] * 3
    assert len(joined(plan, 1)) == 2


def test_tenants_draw_from_their_own_networks() -> None:
    own = {"name": "own", "cidr": "10.1.0.0/16", "tenants": ["bank"]}
    found = reported(carved([own, V4], RACKS), Load(hosts=6, pods=300, tenants=5, churn=0.0))
    bank, rest = (network.use.endpoints for network in found.networks)
    assert 0 < bank < rest
    assert bank + rest == 300
    assert found.homeless == 0


def test_endpoints_of_tenants_without_a_network_are_said_to_be_homeless() -> None:
    found = reported(carved([{**V4, "tenants": ["bank"]}], RACKS), Load(hosts=6, pods=300, tenants=5))
    assert found.homeless == 300 - found.networks[0].use.endpoints > 0


def test_a_group_that_is_too_small_is_named() -> None:
    groups: list[dict[str, Any]] = [{"name": "large", "weight": 8}, {"name": "small"}]
    found = reported(carved([{**V4, "cidr": "10.0.0.0/21"}], groups), Load(hosts=8, pods=800, tenants=8, churn=0.0))
    assert found.spare.too_small == ("/small",)
    assert found.spare.first_full == ("/small",)
    assert next(group for group in found.groups if group.path == "/small").room_for == 0


def test_who_announces_a_cidr() -> None:
    groups: list[dict[str, Any]] = [
        {"name": "rack1", "hosts": ["h1"]},
        {"name": "row", "groups": [{"name": "rack2"}]},
        {"name": "rack3"},
    ]
    found = reported(carved([V4], groups), Load(hosts=4, pods=10, tenants=1))
    assert {group.path: group.parts[0].announced_by for group in found.groups} == {
        "/": "/",
        "/rack1": "h1",
        "/row": "/row/rack2",
        "/row/rack2": "/row/rack2",
        "/rack3": "/rack3",
        "/spare-4": "",
    }


def test_the_present_use_is_that_of_the_records() -> None:
    plan = carved([V4], RACKS)
    host = place_host(plan, {}, Host(name="h1"))
    span = Span(cidr=parse_prefix("10.0.0.0/25"), network="v4", host="h1")
    blocks = [
        Block(cidr=cidr, span=span.cidr, network="v4", host="h1", allocator="h1", owner=owner, mixed=mixed)
        for cidr, owner, mixed in (
            (parse_prefix("10.0.0.0/29"), Owner("t", "s"), False),
            (parse_prefix("10.0.0.8/29"), None, True),
            (parse_prefix("10.0.0.16/29"), None, False),
        )
    ]
    usage = recorded(plan, [host], [span], blocks, {"10.0.0.0/29": 3, "10.0.0.8/29": 1}, 4)
    found = plan_report(plan, usage)
    rack = next(group for group in found.groups if group.path == "/rack1").parts[0]
    assert (rack.use.hosts, rack.use.spans, rack.use.endpoints) == (1, 1, 4)
    assert (rack.use.owned, rack.use.mixed, rack.use.stock) == (1, 1, 1)
    assert rack.fill == pytest.approx(1 / 128, abs=1e-4)
    assert found.load is None
    assert (found.hosts, found.endpoints) == (1, 4)


def test_an_empty_plan_has_a_report() -> None:
    found = plan_report(
        AddressPlan(networks=(), topologies=()),
        modelled(AddressPlan(networks=(), topologies=()), draw(Load(hosts=2, pods=5, tenants=1))),
    )
    assert (found.hosts, found.networks, found.groups) == (0, (), ())


def test_a_network_that_no_topology_has_is_nobody_s() -> None:
    document = {
        "version": 1,
        "networks": [V4, {"name": "idle", "cidr": "10.9.0.0/24"}],
        "topologies": [{"name": "dc", "networks": ["v4"]}],
    }
    found = reported(carve(read_plan(document)), Load(hosts=2, pods=9, tenants=1))
    assert found.networks[1].capacity.spans == 0
    assert found.networks[1].capacity.spare == 256


def test_two_plans_beside_each_other() -> None:
    old, new = carved([V4], RACKS[:2]), carved([V4, V6], RACKS)
    found = {one.network: one for one in compare(old, new, PlanChange()).networks}
    before, after = found["v4"].before, found["v4"].after
    assert before is not None
    assert after is not None
    assert (before.groups, after.groups) == (2, 3)
    assert (before.capacity.spans, after.capacity.spans) == (512, 384)
    assert found["v6"].before is None
