"""Bits placement and static ranges, at the level of the plan."""

from __future__ import annotations

from typing import Any

import pytest

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.topology import carve
from romana.core.topology.networks import DEFAULT_MIXED, DEFAULT_STOCK
from romana.model.address import Family
from romana.model.errors import Invalid
from romana.model.topology import AddressPlan, BitPlan, Network, Placement

V1 = {"host": 8, "tenant": 4, "segment": 4, "endpoint": 8}
"""Romana v1's own example, in 10.0.0.0/8."""


def document(groups: list[dict[str, Any]] | None = None, **network: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "networks": [{"name": "n", "cidr": "10.0.0.0/8"} | network],
        "topologies": [{"name": "t", "networks": ["n"], "groups": groups or []}],
    }


def plan(groups: list[dict[str, Any]] | None = None, **network: Any) -> AddressPlan:
    return carve(read_plan(document(groups, **network)))


def refused(groups: list[dict[str, Any]] | None = None, **network: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        plan(groups, **network)
    return {fault.path: fault.sentence for fault in caught.value.faults}


def named(count: int) -> list[dict[str, Any]]:
    return [{"name": f"g{index}"} for index in range(1, count + 1)]


def block_of(network: Network, host: int, tenant: int, segment: int) -> str:
    """Romana v1's formula, from the lengths that were carved: the host-th span (from 1), then ids from 0."""
    assert network.bits is not None
    span = network.cidr.subnet(network.span_length, host - 1)
    return str(span.subnet(network.block_length, (tenant << network.bits.segment) + segment))


@pytest.mark.parametrize(
    ("network", "host", "tenant", "segment", "block"),
    [
        pytest.param({"bits": V1}, 2, 1, 2, "10.1.18.0/24", id="first-endpoint-is-10.1.18.3"),
        pytest.param({"bits": V1}, 2, 0, 2, "10.1.2.0/24", id="installer-sample-is-10.1.2.3"),
        pytest.param({"bits": V1}, 1, 0, 0, "10.0.0.0/24", id="first-of-everything"),
        pytest.param({"bits": V1}, 256, 15, 15, "10.255.255.0/24", id="last-of-everything"),
        pytest.param(
            {"bits": {"host": 8, "tenant": 4, "segment": 4, "endpoint": 6, "space": 2}},
            2,
            1,
            2,
            "10.1.18.0/24",
            id="space-is-within-the-block",
        ),
        pytest.param(
            {"cidr": "172.16.0.0/12", "bits": {"host": 6, "tenant": 3, "segment": 3, "endpoint": 8}},
            3,
            7,
            1,
            "172.16.185.0/24",
            id="other-widths",
        ),
        pytest.param(
            {"cidr": "fd00::/64", "bits": {"host": 16, "tenant": 16, "segment": 8, "endpoint": 24}},
            2,
            3,
            4,
            "fd00::1:3:400:0/104",
            id="v6",
        ),
    ],
)
def test_romana_v1s_formula_places_blocks(
    network: dict[str, Any], host: int, tenant: int, segment: int, block: str
) -> None:
    carved = plan(placement="bits", **network).networks[0]
    assert block_of(carved, host, tenant, segment) == block


def test_a_bits_network_has_its_lengths_from_the_widths() -> None:
    carved = plan(placement="bits", bits=V1).networks[0]
    assert carved.placement is Placement.BITS
    assert carved.bits == BitPlan(host=8, tenant=4, segment=4, endpoint=8)
    assert (carved.span_length, carved.block_length, carved.stock, carved.mixed) == (16, 24, 0, 0)


def test_groups_of_a_bits_network_cut_host_bits() -> None:
    groups = plan(named(4), placement="bits", bits=V1).topologies[0].root.groups
    assert [str(group.cidrs["n"]) for group in groups] == [
        "10.0.0.0/10",
        "10.64.0.0/10",
        "10.128.0.0/10",
        "10.192.0.0/10",
    ]


@pytest.mark.parametrize(
    ("groups", "network", "expected"),
    [
        pytest.param(
            [],
            {"placement": "bits", "bits": V1 | {"tenant": 5}},
            {
                "networks[0].bits": "the prefix and the widths must be 32 bits, an address; "
                "/8 + 8 host + 5 tenant + 4 segment + 8 endpoint + 0 space are 33"
            },
            id="too-many-bits",
        ),
        pytest.param(
            [],
            {"placement": "bits", "bits": V1 | {"tenant": -4, "segment": 12}},
            {
                "networks[0].bits.tenant": "is a number of bits, got -4",
            },
            id="negative",
        ),
        pytest.param(
            [],
            {"placement": "bits", "bits": V1 | {"endpoint": 0, "space": 8}},
            {"networks[0].bits.endpoint": "must be at least 1: an endpoint needs an address"},
            id="no-endpoints",
        ),
        pytest.param(
            [],
            {"placement": "bits", "bits": V1, "block_length": 24, "span_length": 16, "stock": 1, "mixed": 1},
            {
                f"networks[0].{key}": "says nothing beside `bits`, which fix every block; take it out"
                for key in ("block_length", "span_length", "stock", "mixed")
            },
            id="lengths-beside-bits",
        ),
        pytest.param(
            [],
            {"placement": "bits"},
            {"networks[0].bits": "`placement: bits` and `bits` go together; give both"},
            id="no-bits",
        ),
        pytest.param(
            [],
            {"bits": V1},
            {"networks[0].placement": "`placement: bits` and `bits` go together; give both"},
            id="no-placement",
        ),
        pytest.param(
            [],
            {"placement": "bits", "bits": {"host": 8, "tenants": 4, "segment": 4, "endpoint": 8}},
            {
                "networks[0].bits.tenants": "unknown field; did you mean `tenant`?",
                "networks[0].bits.tenant": "is missing; expected a whole number",
            },
            id="unknown-key",
        ),
        pytest.param(
            named(3),
            {"cidr": "10.0.0.0/15", "placement": "bits", "bits": V1 | {"host": 1}},
            {
                "topologies[0].groups[0]": "group /g1 is a /17 in network n, smaller than one span (/16); "
                "2 more group(s) are as small; groups cut host bits only; use fewer groups, or more host bits"
            },
            id="groups-cut-into-a-host",
        ),
        pytest.param(
            [{"name": "a", "hosts": ["h1"]}, *named(3)],
            {"cidr": "10.0.0.0/15", "placement": "bits", "bits": V1 | {"host": 1}},
            {
                "topologies[0].groups[0]": "group /a is a /17 in network n, smaller than one span (/16); "
                "3 more group(s) are as small; groups cut host bits only; use fewer groups, or more host bits"
            },
            id="one-hosts-own-group-needs-a-span-too",
        ),
        pytest.param(
            [],
            {"placement": "bits", "bits": V1, "static": ["10.3.0.0/17"]},
            {"networks[0].static[0]": "10.3.0.0/17 is smaller than one host's span (/16); use a larger range"},
            id="static-cuts-a-host",
        ),
        pytest.param(
            [],
            {"static": ["10.0.0.0/30", "10.0.0.0/8", "11.0.0.0/24"]},
            {
                "networks[0].static[0]": "10.0.0.0/30 overlaps 10.0.0.0/8, which is static[1]; they must be apart",
                "networks[0].static[1]": "10.0.0.0/8 leaves nothing of 10.0.0.0/8 for hosts",
                "networks[0].static[2]": "11.0.0.0/24 is not inside 10.0.0.0/8",
            },
            id="static-out-of-place",
        ),
        pytest.param(
            [],
            {"static": ["10.0.0.0/30"]},
            {"networks[0].static[0]": "10.0.0.0/30 is smaller than one block (/29); use a larger range"},
            id="static-smaller-than-a-block",
        ),
        pytest.param(
            [],
            {"static": ["10.1.0.0/24", "10.1.0.128/25"], "reserved": ["10.1.0.0/30"]},
            {
                "networks[0].reserved[0]": "10.1.0.0/30 overlaps 10.1.0.0/24, which is static[0]; they must be apart",
                "networks[0].static[1]": "10.1.0.128/25 overlaps 10.1.0.0/24, which is static[0]; they must be apart",
            },
            id="static-overlaps",
        ),
        pytest.param(
            [],
            {"static": ["10.1.0.0/24"], "reserved": ["10.1.0.0/16"]},
            {"networks[0].static[0]": "10.1.0.0/24 overlaps 10.1.0.0/16, which is reserved[0]; they must be apart"},
            id="static-in-reserved",
        ),
        pytest.param(
            [],
            {"stock": 65, "mixed": -1},
            {
                "networks[0].stock": "must be between 0 and 64, got 65",
                "networks[0].mixed": "must be between 0 and 64, got -1",
            },
            id="counts",
        ),
        pytest.param(
            named(2),
            {"cidr": "10.0.0.0/24", "span_length": 26, "static": ["10.0.0.0/26", "10.0.0.64/29"]},
            {
                "topologies[0].groups[0]": "is open to hosts, but its 10.0.0.0/25 in network n has 0 span(s) (/26) "
                "without the 2 that are reserved or static; a host needs one"
            },
            id="static-leaves-no-span",
        ),
        pytest.param(
            [{"name": "a", "hosts": ["h1", "h2", "h3"]}, {"name": "b"}],
            {"cidr": "10.0.0.0/24", "span_length": 27, "reserved": ["10.0.0.32/27", "10.0.0.40/29", "10.0.0.64/27"]},
            {
                "topologies[0].groups[0]": "lists 3 hosts, but its 10.0.0.0/25 in network n has 2 span(s) (/27) "
                "without the 2 that are reserved or static; a host needs one"
            },
            id="reserved-leaves-too-few",
        ),
        pytest.param(
            [{"name": "a", "hosts": ["h1"]}, {"name": "b"}],
            {"static": ["10.5.0.0/24"]},
            {
                "topologies[0].groups[0]": "is host h1's own, but has a static range of network n in it; "
                "put the range beside it"
            },
            id="static-in-one-hosts-group",
        ),
        pytest.param(
            [{"name": "a"}, {"name": "b", "weight": 0}, {"name": "c", "weight": 2**20}],
            {},
            {
                "topologies[0].groups[1].weight": "must be between 1 and 65536, got 0",
                "topologies[0].groups[2].weight": "must be between 1 and 65536, got 1048576",
            },
            id="weights",
        ),
        pytest.param(
            [{"name": "a", "weight": 2, "cidrs": {"n": "10.0.0.0/9"}}, {"name": "b", "cidrs": {"n": "10.128.0.0/9"}}],
            {},
            {
                "topologies[0].groups[0].weight": "this level has explicit cidrs (group 'a'); "
                "give weights or cidrs, not both",
            },
            id="weights-beside-cidrs",
        ),
        pytest.param(
            [{"name": "a", "weight": 100}, {"name": "b"}],
            {"cidr": "10.0.0.0/27", "block_length": 32},
            {
                "topologies[0].groups": "2 groups need 256 parts of 10.0.0.0/27 in network n, which has 32 "
                "address(es); use a larger network or fewer groups"
            },
            id="weights-need-more-than-there-is",
        ),
    ],
)
def test_bad_networks_are_refused_with_every_fault(
    groups: list[dict[str, Any]], network: dict[str, Any], expected: dict[str, str]
) -> None:
    assert refused(groups, **network) == expected


def test_static_ranges_are_kept_in_order_and_spans_around_them_left() -> None:
    carved = plan(named(2), cidr="10.0.0.0/16", span_length=24, static=["10.0.9.0/24", "10.0.8.0/24"])
    assert [str(cidr) for cidr in carved.networks[0].static] == ["10.0.8.0/24", "10.0.9.0/24"]


def test_defaults_of_stock_and_mixed_are_in_one_place() -> None:
    carved = plan().networks[0]
    assert (carved.stock, carved.mixed) == (DEFAULT_STOCK, DEFAULT_MIXED[Family.V4])
    given = plan(stock=0, mixed=3).networks[0]
    assert (given.stock, given.mixed) == (0, 3)


@pytest.mark.parametrize(
    ("cidr", "length"),
    [("10.0.0.0/24", length) for length in (24, 27, 31, 32)]
    + [("fd00::/64", 64), ("fd00::/64", 100), ("fd00::/64", 128)],
)
def test_any_block_length_up_to_the_full_address(cidr: str, length: int) -> None:
    network = plan(cidr=cidr, block_length=length).networks[0]
    assert network.block_length == length
    assert parse_prefix(cidr).length <= network.span_length <= length


def test_block_lengths_are_counted_by_family_and_with_those_of_bits() -> None:
    networks = [
        {"name": f"n{length}", "cidr": f"10.{length}.0.0/16", "block_length": length} for length in (27, 28, 29)
    ]
    six = [{"name": f"s{length}", "cidr": f"fd00:{length}::/48", "block_length": length} for length in (120, 122, 124)]
    bits = {"name": "bits", "cidr": "10.64.0.0/16", "placement": "bits", "bits": V1 | {"host": 0}}
    assert len(carve(read_plan({"version": 1, "networks": [*networks, *six]})).networks) == 6
    with pytest.raises(Invalid, match="at most 3 different block lengths a family"):
        carve(read_plan({"version": 1, "networks": [*networks, bits]}))


def grown(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"g{index}", **more} for index in range(count)]


def nested(depth: int) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for _ in range(depth):
        groups = [{"name": "g", "groups": groups}]
    return groups


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        pytest.param(nested(21), "groups are nested at most 20 levels deep", id="depth"),
        pytest.param(grown(10_001), "at most 10000 groups with spare parts, this one has 10001", id="groups"),
        pytest.param(
            grown(3, spare=4096, groups=[{"name": "x"}]), "at most 10000 groups with spare parts", id="spare-parts"
        ),
        pytest.param(
            [{"name": "g", "hosts": [f"h{index}" for index in range(10_001)]}],
            "a plan lists at most 10000 hosts, this one has 10001; let hosts join by their labels",
            id="hosts",
        ),
        pytest.param(grown(2, hosts=["a b"]), "a host's name is 1 to 63 letters, digits", id="host-name"),
        pytest.param([{"name": "x" * 64}], "of 63 characters at most", id="group-name"),
    ],
)
def test_what_is_too_large_is_refused_with_the_limit(groups: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        plan(groups)


def test_twenty_levels_and_ten_thousand_groups_are_carved() -> None:
    assert plan(nested(20)).topologies[0].root.groups
    assert len(plan(grown(10_000)).topologies[0].root.groups) == 1 << 14


def test_networks_and_cidrs_have_limits() -> None:
    many = [{"name": f"n{index}", "cidr": f"10.{index >> 8}.{index & 255}.0/24"} for index in range(257)]
    with pytest.raises(Invalid, match="a plan has at most 256 networks, this one has 257"):
        carve(read_plan({"version": 1, "networks": many}))
    topology = {"name": "t", "networks": [one["name"] for one in many[:50]], "groups": grown(900)}
    with pytest.raises(Invalid, match="at most 40000 CIDRs together, these have 45000; use fewer networks"):
        carve(read_plan({"version": 1, "networks": many[:50], "topologies": [topology]}))


def test_of_very_many_faults_the_first_are_told() -> None:
    with pytest.raises(Invalid) as caught:
        plan(tenants=["a b"] * 5000)
    assert len(caught.value.faults) == 101
    assert caught.value.faults[-1].sentence == "and 4900 more faults"


@pytest.mark.parametrize("length", [-(2**31), 2**32])
def test_lengths_out_of_all_bounds_cost_nothing(length: int) -> None:
    wrong = refused(named(3), block_length=length) | refused(named(3), span_length=length)
    assert set(wrong) == {"networks[0]"}
    bits = refused(named(3), placement="bits", bits=V1 | {"host": length})
    assert any(path.startswith("networks[0].bits") for path in bits)
