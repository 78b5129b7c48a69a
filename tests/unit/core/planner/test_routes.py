from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.topology import read_plan
from romana.core.planner.load import Load, draw
from romana.core.planner.routes import DeviceCount, Kind, alternatives, by_kind, device_counts
from romana.core.planner.usage import LeafUse, Usage, joined, modelled
from romana.core.routing.plan import device_plan, devices
from romana.core.topology import carve, leaf_groups
from romana.model.errors import Invalid
from romana.model.ipam import Span
from romana.model.route import Reach
from romana.model.topology import AddressPlan, Host

NETWORKS = [
    {"name": "v4", "cidr": "10.0.0.0/14", "span_length": 25},
    {"name": "v6", "cidr": "fd00::/56", "span_length": 118},
    {"name": "other", "cidr": "10.8.0.0/16", "span_length": 26},
]


def tree(shape: Any, number: list[int]) -> dict[str, Any]:
    """A group of as many groups as `shape` has, or a leaf that lists `shape` hosts."""
    number[0] += 1
    name = f"g{number[0]}"
    if isinstance(shape, int):
        return {"name": name, "hosts": [f"h{number[0]}-{host}" for host in range(shape)]}
    return {"name": name, "groups": [tree(part, number) for part in shape]}


SHAPES = st.recursive(st.integers(0, 2), lambda part: st.lists(part, min_size=1, max_size=3), max_leaves=7)
DOCUMENTS = st.builds(
    lambda shape, other, spare: {
        "version": 1,
        "networks": NETWORKS,
        "topologies": [
            {
                "name": "a",
                "networks": ["v4", "v6"],
                "spare": spare if shape else 0,
                "groups": [tree(part, [index * 100]) for index, part in enumerate(shape)],
            },
            {
                "name": "b",
                "networks": ["other"],
                "groups": [tree(part, [1000 + index * 100]) for index, part in enumerate(other)],
            },
        ],
    },
    st.lists(SHAPES, max_size=3),
    st.lists(SHAPES, max_size=2),
    st.integers(0, 2),
)


def claimed(plan: AddressPlan, hosts: list[Host], counts: list[int]) -> tuple[list[Span], Usage]:
    """Spans for every host in each of its networks, as many as `counts` says in turn, and the use that they are."""
    taken: dict[str, int] = {}
    spans: list[Span] = []
    at: dict[tuple[str, str, str], LeafUse] = {}
    networks = {network.name: network for network in plan.networks}
    for number, host in enumerate(hosts):
        for name, group in leaf_groups(plan, host).items():
            whole = group.sole_host
            wanted = 1 if whole else counts[number % len(counts)]
            held = []
            for _ in range(wanted):
                cidr = group.cidrs[name]
                if not whole:
                    place = f"{name} {group.path}"
                    cidr = cidr.subnet(networks[name].span_length, taken.setdefault(place, 0))
                    taken[place] += 1
                held.append(Span(cidr=cidr, network=name, host=host.name))
            spans += held
            topology = next(topology.name for topology in plan.topologies if name in topology.networks)
            key = (topology, group.path, name)
            use = LeafUse(hosts=1, spans=wanted, most_spans=wanted, owned=wanted)
            at[key] = at.get(key, LeafUse()).plus(use)
    seats: dict[tuple[tuple[str, str], ...], int] = {}
    for host in hosts:
        seat = tuple(host.groups.items())
        seats[seat] = seats.get(seat, 0) + 1
    return spans, Usage(hosts=len(hosts), endpoints=0, at=at, seats=seats)


@given(DOCUMENTS, st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(0, 6))
@settings(max_examples=80, deadline=None)
def test_the_counts_are_those_of_walking_the_devices(document: Any, counts: list[int], more: int) -> None:
    try:
        plan = carve(read_plan(document))
    except Invalid:
        return
    hosts = joined(plan, more)
    spans, usage = claimed(plan, hosts, counts)
    by_name = {host.name: host for host in hosts}
    counted = device_counts(plan, usage)
    routers = {one.device: one for one in counted if one.kind not in (Kind.HOST, Kind.VPC)}
    assert set(routers) == set(devices(plan, by_name)) - set(by_name)
    for name, one in routers.items():
        walked = device_plan(plan, by_name, spans, name)
        reaches = [route.reach for route in walked.routes]
        assert (one.above, one.below, one.discards) == (
            reaches.count(Reach.ABOVE),
            reaches.count(Reach.BELOW),
            reaches.count(Reach.DISCARD),
        ), name
    check_hosts(plan, hosts, spans, [one for one in counted if one.kind is Kind.HOST])


def check_hosts(plan: AddressPlan, hosts: list[Host], spans: list[Span], counted: list[DeviceCount]) -> None:
    walks: dict[str, list[list[Reach]]] = {}
    for host in hosts:
        walked = device_plan(plan, {host.name: host}, spans, host.name)
        walks.setdefault(" ".join(host.groups.values()), []).append([route.reach for route in walked.routes])
    assert sum(one.devices for one in counted) == len(hosts)
    for path, reaches in walks.items():
        lines = [one for one in counted if one.device == path]
        assert {one.above for one in lines} == {each.count(Reach.ABOVE) for each in reaches}
        assert max(map(len, reaches)) <= max(one.most for one in lines)


def test_more_endpoints_change_nothing_above_a_rack() -> None:
    groups = [{"name": "rack1"}, {"name": "rack2"}]
    plan = carve(
        read_plan(
            {
                "version": 1,
                "networks": NETWORKS[:2],
                "topologies": [{"name": "a", "networks": ["v4", "v6"], "groups": groups}],
            }
        )
    )
    small, large = (modelled(plan, draw(Load(hosts=8, pods=pods, tenants=3, churn=0.0))) for pods in (40, 1200))
    before, after = ({one.kind: one for one in by_kind(device_counts(plan, use))} for use in (small, large))
    assert before[Kind.SPINE] == after[Kind.SPINE]
    assert before[Kind.SPINE].total == 2 * 2 + 2
    assert before[Kind.VPC].total == 4
    assert alternatives(large).per_endpoint == 2 * 1200
    assert alternatives(large).per_node == 16
