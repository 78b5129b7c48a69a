from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.planner.capacity import Capacities, Capacity
from romana.core.topology import carve
from romana.model.address import Prefix
from romana.model.errors import Invalid
from romana.model.topology import AddressPlan, Group, Network


def carved(network: dict[str, Any], groups: list[dict[str, Any]], **more: Any) -> AddressPlan:
    topology = {"name": "dc", "networks": ["n"], "groups": groups, **more}
    return carve(read_plan({"version": 1, "networks": [{"name": "n", **network}], "topologies": [topology]}))


def capacities(plan: AddressPlan) -> dict[str, Capacity]:
    counted = Capacities(plan.networks[0])
    return {group.path: counted.of(group) for group in groups(plan.topologies[0].root)}


def groups(group: Group) -> Iterator[Group]:
    yield group
    for child in group.groups:
        yield from groups(child)


RACKS = [{"name": "rack1"}, {"name": "rack2"}, {"name": "rack3"}]


def test_an_open_group_holds_its_spans_and_a_spare_part_nothing() -> None:
    found = capacities(carved({"cidr": "10.0.0.0/16", "block_length": 29, "span_length": 24}, RACKS))
    rack = found["/rack1"]
    assert (rack.addresses, rack.spans, rack.blocks, rack.usable) == (16384, 64, 2048, 16384)
    assert (found["/spare-4"].spans, found["/spare-4"].spare) == (0, 16384)
    assert (found["/"].spans, found["/"].usable, found["/"].spare) == (192, 3 * 16384, 16384)


def test_reserved_spans_blocks_and_addresses_are_not_for_endpoints() -> None:
    reserved = ["10.0.0.0/24", "10.0.1.8/29", "10.0.1.16/32", "10.0.1.0/28"]
    found = capacities(carved({"cidr": "10.0.0.0/16", "span_length": 24, "reserved": reserved}, RACKS))
    rack = found["/rack1"]
    assert rack.reserved == 256 + 16 + 1
    assert (rack.spans, rack.blocks, rack.usable) == (63, 63 * 32 - 2, 16384 - 273)


def test_no_span_is_cut_around_a_static_range() -> None:
    found = capacities(carved({"cidr": "10.0.0.0/16", "span_length": 24, "static": ["10.0.0.64/28"]}, RACKS))
    rack = found["/rack1"]
    assert (rack.static, rack.kept, rack.spans, rack.usable) == (16, 240, 63, 63 * 256)


def test_a_host_of_its_own_has_one_span() -> None:
    plan = carved({"cidr": "10.0.0.0/24"}, [{"name": "a", "hosts": ["h1"]}, {"name": "b", "hosts": ["h2"]}])
    assert [capacities(plan)[path].spans for path in ("/a", "/b")] == [1, 1]
    assert capacities(plan)["/a"].blocks == 16


def test_what_lies_between_explicit_cidrs_is_spare() -> None:
    explicit = [{"name": "a", "cidrs": {"n": "10.0.0.0/20"}}, {"name": "b", "cidrs": {"n": "10.0.128.0/17"}}]
    whole = capacities(carved({"cidr": "10.0.0.0/16", "reserved": ["10.0.64.0/24"]}, explicit))["/"]
    assert whole.spare == 65536 - 4096 - 32768 - 256
    assert whole.reserved == 256


def test_computed_blocks_leave_out_the_addresses_before_the_first_endpoint() -> None:
    bits = {"host": 8, "tenant": 4, "segment": 4, "endpoint": 8}
    plan = carved({"cidr": "10.0.0.0/8", "placement": "bits", "bits": bits}, [])
    whole = capacities(plan)["/"]
    assert (whole.spans, whole.blocks, whole.usable) == (256, 65536, 65536 * 253)
    assert whole.kept == 65536 * 3


CIDR = parse_prefix("10.0.0.0/20")
RANGES = st.tuples(st.integers(21, 32), st.integers(0, 1 << 12)).map(
    lambda pair: CIDR.subnet(pair[0], pair[1] % (1 << (pair[0] - 20)))
)
NAMES = st.integers(1, 5)


@given(
    st.lists(RANGES, max_size=4),
    st.lists(RANGES.filter(lambda cidr: cidr.length <= 29), max_size=2),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=0, max_size=4),
    st.integers(0, 3),
    st.sampled_from([26, 27, 29]),
)
@settings(max_examples=150, deadline=None)
def test_the_parts_sum_to_the_whole_and_are_those_counted_one_by_one(
    reserved: list[Prefix], static: list[Prefix], shape: list[tuple[int, int]], spare: int, span: int
) -> None:
    network = {
        "cidr": str(CIDR),
        "block_length": 29,
        "span_length": span,
        "reserved": [str(cidr) for cidr in reserved],
        "static": [str(cidr) for cidr in static],
    }
    tree = [
        {"name": f"g{index}", "weight": weight, "groups": [{"name": f"s{part}"} for part in range(parts)]}
        for index, (parts, weight) in enumerate(shape)
    ]
    try:
        plan = carved(network, tree, spare=spare if tree else 0)
    except Invalid:
        return
    found = capacities(plan)
    for group in groups(plan.topologies[0].root):
        one = found[group.path]
        assert one.usable + one.reserved + one.static + one.spare + one.kept == one.addresses
        assert min(one.usable, one.spare, one.kept, one.spans, one.blocks) >= 0
        below = [found[child.path] for child in group.groups]
        for field in ("addresses", "spans", "blocks", "usable", "reserved", "static", "spare", "kept"):
            if below:
                assert getattr(one, field) == sum(getattr(part, field) for part in below), field
        if group.is_leaf and not group.closed:
            assert (one.spans, one.usable) == counted(plan.networks[0], group)


def counted(network: Network, group: Group) -> tuple[int, int]:
    """Spans that can be claimed, and addresses in them for endpoints, by looking at each."""
    cidr = group.cidrs["n"]
    spans = [
        span
        for span in ([cidr] if group.sole_host else cidr.subnets(network.span_length))
        if not any(one.contains(span) for one in network.reserved) and not any(map(span.overlaps, network.static))
    ]
    free = [
        address
        for span in spans
        for address in span.subnets(32)
        if not any(one.contains(address) for one in network.reserved)
    ]
    return len(spans), len(free)


@pytest.mark.parametrize("length", [28, 29, 32])
def test_every_block_length_counts(length: int) -> None:
    found = capacities(carved({"cidr": "10.0.0.0/20", "block_length": length}, RACKS))
    assert found["/rack1"].blocks == 1 << (length - 22)
