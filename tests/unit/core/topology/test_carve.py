from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.topology import carve, leaves
from romana.model.address import Family, Prefix
from romana.model.errors import Invalid
from romana.model.topology import AddressPlan, Group, GroupRequest, NetworkRequest, PlanRequest, TopologyRequest


def plan(cidr: str, groups: list[dict[str, Any]], **network: Any) -> AddressPlan:
    return carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n", "cidr": cidr} | network],
                "topologies": [{"name": "t", "networks": ["n"], "groups": groups}],
            }
        )
    )


def walk(group: Group) -> dict[str, str]:
    found = {group.path: str(group.cidrs["n"]) + (" closed" if group.closed else "")}
    for child in group.groups:
        found |= walk(child)
    return found


def refused(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        carve(read_plan(document))
    return {fault.path: fault.sentence for fault in caught.value.faults}


def named(count: int) -> list[dict[str, Any]]:
    return [{"name": f"g{index}"} for index in range(1, count + 1)]


def test_eight_groups_of_a_12_are_15s() -> None:
    carved = plan("10.112.0.0/12", named(8))
    assert [str(group.cidrs["n"]) for group in carved.topologies[0].root.groups] == [
        f"10.{second}.0.0/15" for second in range(112, 128, 2)
    ]


def test_three_groups_are_padded_to_four() -> None:
    assert walk(plan("10.111.0.0/16", named(3)).topologies[0].root) == {
        "/": "10.111.0.0/16",
        "/g1": "10.111.0.0/18",
        "/g2": "10.111.64.0/18",
        "/g3": "10.111.128.0/18",
        "/spare-4": "10.111.192.0/18 closed",
    }


def test_nested_groups_and_an_only_child() -> None:
    carved = plan("10.0.0.0/16", [{"name": "a", "groups": named(1)}, {"name": "b", "groups": named(2)}])
    assert walk(carved.topologies[0].root) == {
        "/": "10.0.0.0/16",
        "/a": "10.0.0.0/17",
        "/a/g1": "10.0.0.0/17",
        "/b": "10.0.128.0/17",
        "/b/g1": "10.0.128.0/18",
        "/b/g2": "10.0.192.0/18",
    }


def test_spare_parts_stay_closed() -> None:
    carved = plan("10.0.0.0/16", [{"name": "zone", "groups": named(2), "spare": 1}])
    assert walk(carved.topologies[0].root)["/zone/spare-4"] == "10.0.192.0/18 closed"


def test_explicit_cidrs_for_unequal_racks() -> None:
    groups: list[dict[str, Any]] = [
        {"name": "big", "cidrs": {"n": "10.0.0.0/17"}},
        {"name": "small", "cidrs": {"n": "10.0.128.0/20"}, "groups": named(2)},
    ]
    assert walk(plan("10.0.0.0/16", groups).topologies[0].root) == {
        "/": "10.0.0.0/16",
        "/big": "10.0.0.0/17",
        "/small": "10.0.128.0/20",
        "/small/g1": "10.0.128.0/21",
        "/small/g2": "10.0.136.0/21",
    }


@pytest.mark.parametrize(
    ("cidr", "count", "given", "block", "span"),
    [
        pytest.param("10.0.0.0/8", 4, {}, 29, 24, id="v4-default"),
        pytest.param("fd00::/48", 4, {}, 122, 116, id="v6-default"),
        pytest.param("10.0.0.0/30", 1, {}, 30, 30, id="network-longer-than-a-block"),
        pytest.param("10.0.0.0/24", 1, {}, 29, 28, id="small-group-has-room-for-hosts"),
        pytest.param("10.0.0.0/24", 8, {}, 29, 29, id="group-of-few-blocks"),
        pytest.param("10.0.0.0/24", 1, {"span_length": 24}, 29, 24, id="explicit-span"),
        pytest.param("10.0.0.0/16", 1, {"block_length": 32}, 32, 27, id="blocks-of-one-address"),
    ],
)
def test_lengths(cidr: str, count: int, given: dict[str, int], block: int, span: int) -> None:
    network = plan(cidr, named(count), **given).networks[0]
    assert (network.block_length, network.span_length) == (block, span)


def test_a_rack_of_one_listed_host_is_that_hosts_own() -> None:
    root = plan("10.0.0.0/16", [{"name": "a", "hosts": ["h1"]}, {"name": "b", "hosts": ["h2", "h3"]}]).topologies[0]
    assert [leaf.sole_host for leaf in leaves(root.root)] == ["h1", ""]
    assert [(host.name, host.group) for host in root.hosts] == [("h1", "/a"), ("h2", "/b"), ("h3", "/b")]


def test_dual_stack_cuts_both_networks_alike() -> None:
    carved = carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n4", "cidr": "10.0.0.0/8"}, {"name": "n6", "cidr": "fd00::/48"}],
                "topologies": [{"name": "t", "networks": ["n4", "n6"], "groups": named(2)}],
            }
        )
    )
    second = carved.topologies[0].root.groups[1]
    assert {name: str(cidr) for name, cidr in second.cidrs.items()} == {
        "n4": "10.128.0.0/9",
        "n6": "fd00:0:0:8000::/49",
    }


BAD: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "overlapping-networks": (
        {"networks": [{"name": "a", "cidr": "10.0.0.0/8"}, {"name": "b", "cidr": "10.5.0.0/16"}]},
        {"networks[1].cidr": "10.5.0.0/16 overlaps 10.0.0.0/8 of network 'a'; networks must be apart"},
    ),
    "block-longer-than-the-network": (
        {"networks": [{"name": "a", "cidr": "10.0.0.0/24", "block_length": 20}]},
        {
            "networks[0]": "a block of network a must be between /24, all of 10.0.0.0/24, and /32; got /20",
        },
    ),
    "block-longer-than-an-address": (
        {"networks": [{"name": "a", "cidr": "10.0.0.0/24", "block_length": 33}]},
        {
            "networks[0]": "a block of network a must be between /24, all of 10.0.0.0/24, and /32; got /33",
        },
    ),
    "span-smaller-than-a-block": (
        {"networks": [{"name": "a", "cidr": "10.0.0.0/24", "span_length": 30}]},
        {
            "networks[0]": "a span of network a must be between /24, all of 10.0.0.0/24, and /29, one block; got /30",
        },
    ),
    "two-networks-of-one-name": (
        {"networks": [{"name": "a", "cidr": "10.0.0.0/24"}, {"name": "a", "cidr": "10.1.0.0/24"}]},
        {"networks[1].name": "two networks are named 'a'"},
    ),
    "tenants": (
        {"networks": [{"name": "a", "cidr": "10.0.0.0/24", "tenants": ["a b", "x", "x"]}]},
        {
            "networks[0].tenants[0]": "bad tenant name 'a b'; 1 to 63 letters, digits, - and _ are allowed",
            "networks[0].tenants[2]": "tenant 'x' is listed twice",
        },
    ),
    "reserved": (
        {"networks": [{"name": "a", "cidr": "10.0.0.0/24", "reserved": ["10.0.0.0/16", "10.9.0.0/30"]}]},
        {
            "networks[0].reserved[0]": "10.0.0.0/16 leaves nothing of 10.0.0.0/24",
            "networks[0].reserved[1]": "10.9.0.0/30 is not inside 10.0.0.0/24",
        },
    ),
    "four-block-lengths": (
        {
            "networks": [
                {"name": f"n{length}", "cidr": f"10.{length}.0.0/16", "block_length": length}
                for length in (27, 28, 29, 30)
            ]
        },
        {"networks[3]": "at most 3 different block lengths a family; there are already /27, /28, /29"},
    ),
    "group-too-small-for-one-span": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/24", "span_length": 25}],
            "topologies": [{"name": "t", "networks": ["a"], "groups": named(4)}],
        },
        {
            "topologies[0].groups[0]": "group /g1 is a /26 in network a, smaller than one span (/25); 3 more group(s) "
            "are as small; use a larger network, fewer groups, or longer blocks and spans"
        },
    ),
    "group-too-small-for-one-block": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/28"}],
            "topologies": [{"name": "t", "networks": ["a"], "groups": named(4)}],
        },
        {
            "topologies[0].groups[0]": "group /g1 is a /30 in network a, smaller than one span (/29); 3 more group(s) "
            "are as small; use a larger network, fewer groups, or longer blocks and spans"
        },
    ),
    "more-groups-than-addresses": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/31"}],
            "topologies": [{"name": "t", "networks": ["a"], "groups": named(3)}],
        },
        {
            "topologies[0].groups": "3 groups need 4 parts of 10.0.0.0/31 in network a, which has 2 address(es); "
            "use a larger network or fewer groups"
        },
    ),
    "more-hosts-than-spans": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/24", "span_length": 24}],
            "topologies": [{"name": "t", "networks": ["a"], "hosts": ["h1", "h2"]}],
        },
        {
            "topologies[0]": "lists 2 hosts, but its 10.0.0.0/24 in network a has 1 span(s) (/24); a host needs one",
        },
    ),
    "names": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/8"}],
            "topologies": [{"name": "t", "networks": ["a"], "groups": [{"name": "x"}, {"name": "x"}, {"name": "y/z"}]}],
        },
        {
            "topologies[0].groups[1].name": "two groups beside each other are named 'x'",
            "topologies[0].groups[2].name": "a group's name is text without a slash, of 63 characters at most",
        },
    ),
    "networks-of-topologies": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/8"}],
            "topologies": [
                {"name": "t", "networks": ["a", "b"]},
                {"name": "t", "networks": ["a"]},
                {"name": "u", "networks": []},
            ],
        },
        {
            "topologies[0].name": "a topology needs a name of its own, this is 't'",
            "topologies[0].networks[1]": "there is no network 'b'; the document has: a",
            "topologies[1].name": "a topology needs a name of its own, this is 't'",
            "topologies[1].networks[0]": "network 'a' appears more than once, first at topologies[0].networks[0]",
            "topologies[2].networks": "names no network",
        },
    ),
    "hosts": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/8"}, {"name": "b", "cidr": "11.0.0.0/8"}],
            "topologies": [
                {
                    "name": "t",
                    "networks": ["a"],
                    "groups": [
                        {"name": "x", "hosts": ["h1", {"name": "h2", "addresses": ["192.0.2.1"]}]},
                        {"name": "y", "hosts": ["h1", {"name": "h3", "addresses": ["192.0.2.1"]}, ""]},
                        {"name": "z", "hosts": ["h4"], "groups": [{"name": "q"}]},
                    ],
                },
                {"name": "u", "networks": ["b"], "hosts": [{"name": "h2", "addresses": ["192.0.2.9"]}]},
            ],
        },
        {
            "topologies[0].groups[1].hosts[0]": "host 'h1' is in this topology twice",
            "topologies[0].groups[1].hosts[1]": "192.0.2.1 is also an address of host 'h2'",
            "topologies[0].groups[1].hosts[2].name": "a host needs a name",
            "topologies[0].groups[2]": "has groups and hosts; hosts belong in a group of their own",
            "topologies[1].hosts[0]": "host 'h2' has other addresses at topologies[0].groups[0].hosts[1]",
        },
    ),
    "explicit-cidrs": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/8"}],
            "topologies": [
                {
                    "name": "t",
                    "networks": ["a"],
                    "groups": [
                        {"name": "x", "cidrs": {"a": "10.0.0.0/9"}},
                        {"name": "y", "cidrs": {"a": "10.64.0.0/10", "zz": "10.0.0.0/10"}},
                        {"name": "z", "cidrs": {"a": "11.0.0.0/16"}},
                        {"name": "w"},
                    ],
                }
            ],
        },
        {
            "topologies[0].groups[1].cidrs.a": "10.64.0.0/10 overlaps 10.0.0.0/9 of group 'x'",
            "topologies[0].groups[1].cidrs.zz": "'zz' is no network of this topology",
            "topologies[0].groups[2].cidrs.a": "11.0.0.0/16 is not inside 10.0.0.0/8, the CIDR of what is above it",
            "topologies[0].groups[3].cidrs": "has no CIDR in network a, but a group beside it has one; "
            "give all of them or none",
        },
    ),
    "too-much-spare": (
        {
            "networks": [{"name": "a", "cidr": "10.0.0.0/8"}],
            "topologies": [{"name": "t", "networks": ["a"], "groups": named(2), "spare": 10**12}],
        },
        {"topologies[0].spare": "must be between 0 and 4096, got 1000000000000"},
    ),
}


@pytest.mark.parametrize(("document", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_plans_are_refused_with_every_fault(document: dict[str, Any], expected: dict[str, str]) -> None:
    assert refused({"version": 1} | document) == expected


weights = st.integers(1, 9)
trees: st.SearchStrategy[GroupRequest] = st.recursive(
    st.builds(GroupRequest, name=st.just("leaf"), weight=weights),
    lambda inner: st.builds(
        lambda groups, spare, weight: GroupRequest(name="inner", groups=tuple(groups), spare=spare, weight=weight),
        st.lists(inner, min_size=1, max_size=5),
        st.integers(0, 2),
        weights,
    ),
    max_leaves=10,
)


def renamed(group: GroupRequest, name: str) -> GroupRequest:
    groups = tuple(renamed(child, f"g{index}") for index, child in enumerate(group.groups))
    return GroupRequest(name=name, groups=groups, spare=group.spare, weight=group.weight)


@settings(max_examples=100, deadline=None)
@given(trees, st.sampled_from(["10.0.0.0/8", "fd00::/32"]))
def test_siblings_are_apart_and_inside_their_parent(tree: GroupRequest, cidr: str) -> None:
    request = PlanRequest(
        networks=(NetworkRequest(name="n", cidr=parse_prefix(cidr)),),
        topologies=(TopologyRequest(name="t", networks=("n",), root=renamed(tree, "/")),),
    )
    carved = carve(request)
    assert carve(request) == carved
    network = carved.networks[0]
    paths: list[str] = []

    def check(group: Group) -> None:
        paths.append(group.path)
        parts = sorted(child.cidrs["n"] for child in group.groups)
        assert all(group.cidrs["n"].contains(part) for part in parts)
        assert all(left.last < right.value for left, right in itertools.pairwise(parts))
        assert not parts or sum(part.size for part in parts) == group.cidrs["n"].size
        if group.is_leaf and not group.closed:
            assert group.cidrs["n"].length <= network.span_length <= network.block_length
        for child in group.groups:
            check(child)

    check(carved.topologies[0].root)
    assert len(paths) == len(set(paths))


def test_weights_give_larger_parts_and_the_rest_stays_closed() -> None:
    groups: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "weight": 3}, {"name": "c", "weight": 2}]
    carved = plan("10.0.0.0/16", groups)
    assert walk(carved.topologies[0].root) == {
        "/": "10.0.0.0/16",
        "/a": "10.0.192.0/19",
        "/b": "10.0.0.0/17",
        "/c": "10.0.128.0/18",
        "/spare-4": "10.0.224.0/19 closed",
    }


def test_spare_beside_weights_is_one_unit_a_part() -> None:
    carved = plan("10.0.0.0/16", [{"name": "zone", "groups": [{"name": "a", "weight": 8}], "spare": 2}])
    assert walk(carved.topologies[0].root) == {
        "/": "10.0.0.0/16",
        "/zone": "10.0.0.0/16",
        "/zone/a": "10.0.0.0/17",
        "/zone/spare-2": "10.0.128.0/20 closed",
        "/zone/spare-3": "10.0.144.0/20 closed",
        "/zone/spare-4": "10.0.160.0/19 closed",
        "/zone/spare-5": "10.0.192.0/18 closed",
    }


def test_weights_cut_every_network_of_a_topology() -> None:
    carved = carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n4", "cidr": "10.0.0.0/8"}, {"name": "n6", "cidr": "fd00::/48"}],
                "topologies": [
                    {"name": "t", "networks": ["n4", "n6"], "groups": [{"name": "a", "weight": 3}, {"name": "b"}]}
                ],
            }
        )
    )
    parts = [[str(cidr) for cidr in group.cidrs.values()] for group in carved.topologies[0].root.groups]
    assert parts == [
        ["10.0.0.0/9", "fd00::/49"],
        ["10.128.0.0/11", "fd00:0:0:8000::/51"],
        ["10.160.0.0/11", "fd00:0:0:a000::/51"],
        ["10.192.0.0/10", "fd00:0:0:c000::/50"],
    ]


def test_prefixes_of_the_whole_space_are_cut_too() -> None:
    assert plan("0.0.0.0/0", named(2), block_length=29).topologies[0].root.groups[1].cidrs["n"] == Prefix(
        Family.V4, 1 << 31, 1
    )
