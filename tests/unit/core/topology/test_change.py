"""Changing a plan while endpoints live: what is refused, what moves, and what a change depends on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.text import parse_address, parse_prefix
from romana.codec.topology import read_plan
from romana.core.topology import InUse, affected, carve, check_change, place_host, plan_change
from romana.core.topology.settle import Leaves
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Blackout, Block, Reservation, Retired, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import AddressPlan, Host

OWNER = Owner("acme", "web")
IDENTITY = Identity(owner=OWNER)
RACKS = ({"name": "a"}, {"name": "b"})
BITS = {"host": 8, "tenant": 2, "segment": 2, "endpoint": 4}


def plan(*groups: dict[str, Any], root: dict[str, Any] | None = None, **network: Any) -> AddressPlan:
    return carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n", "cidr": "10.0.0.0/16"} | network],
                "topologies": [{"name": "t", "networks": ["n"], "groups": list(groups)} | (root or {})],
            }
        )
    )


class Live:
    """Host h in rack /b with a span, a block and an endpoint in it; and a reservation in a static range."""

    def __init__(self, **network: Any) -> None:
        self.plan = plan(*RACKS, **network)
        host = place_host(self.plan, {"g": Host(name="g", groups={"t": "/a"})}, Host(name="h"))
        self.hosts = {"h": host}
        span, cidr = parse_prefix("10.0.128.0/24"), parse_prefix("10.0.128.0/29")
        address = cidr.address(0)
        self.spans = {span: Span(cidr=span, network="n", host="h")}
        self.blocks = {
            cidr: Block(cidr=cidr, span=span, network="n", host="h", allocator="h", owner=OWNER, identities=("i",))
        }
        self.endpoints = [
            Endpoint(
                id="c/eth0",
                name="pod",
                host="h",
                identity=IDENTITY,
                link="rom1",
                allocations=(Allocation(address=address, block=cidr, endpoint="c/eth0", sequence=1),),
            )
        ]
        self.retired: dict[Prefix, Retired] = {}
        self.reservations: dict[str, Reservation] = {}
        self.blackouts: dict[Prefix, Blackout] = {}

    def endpoints_in(self, block: Prefix) -> list[Endpoint]:
        return [one for one in self.endpoints if any(block.contains(address) for address in one.addresses)]

    def in_use(self) -> InUse:
        return InUse(
            hosts=self.hosts,
            spans=self.spans,
            blocks=self.blocks,
            endpoints_in=self.endpoints_in,
            retired=self.retired,
            reservations=self.reservations,
            blackouts=self.blackouts,
        )

    def reserve(self, name: str, address: str) -> None:
        allocation = Allocation(
            address=parse_address(address), block=parse_prefix(f"{address}/32"), endpoint="", sequence=1
        )
        self.reservations[name] = Reservation(name=name, identity=IDENTITY, allocations=(allocation,), sticky=True)

    def refusals(self, new: AddressPlan) -> list[str]:
        return [str(fault) for fault in check_change(self.plan, new, self.in_use()).faults]

    def group(self, new: AddressPlan) -> str:
        return check_change(self.plan, new, self.in_use()).hosts["h"].groups["t"]


def test_the_same_plan_and_a_deeper_one_change_nothing() -> None:
    live = Live()
    assert live.refusals(live.plan) == []
    nested = plan({"name": "a", "groups": [{"name": "1"}]}, {"name": "b", "groups": [{"name": "1"}]})
    assert live.refusals(nested) == []
    assert live.group(nested) == "/b/1"


@pytest.mark.parametrize(
    ("new", "words"),
    [
        pytest.param(plan(*RACKS, cidr="10.1.0.0/16"), "outside the group", id="other-cidr"),
        pytest.param(
            plan(*RACKS, root={"networks": ["m"]}, name="m"),
            "networks.n: is not in the new plan, but 10.0.128.0/24 (1 block(s), 1 endpoint(s)) of it are in use",
            id="network-gone",
        ),
        pytest.param(plan(*RACKS, block_length=28), "they cannot become", id="other-blocks"),
        pytest.param(plan(*RACKS, tenants=["beta"]), "tenant acme is not listed, but owns 10.0.128.0/29", id="tenants"),
        pytest.param(plan(*RACKS, reserved=["10.0.128.0/30"]), "10.0.128.0 of pod", id="reserved"),
        pytest.param(
            plan({"name": "a"}, {"name": "b", "hosts": ["z"]}),
            "host z is to have all of 10.0.128.0/17, group /b",
            id="sole-host",
        ),
        pytest.param(plan(*RACKS, root={"spare": 6}), "outside the group the new plan gives it", id="smaller-racks"),
        pytest.param(
            plan({"name": "a", "hosts": ["h", "x"]}, {"name": "b"}),
            "hosts.h: is listed in group /a of topology t, but holds 10.0.128.0/24; list it in /b, where that is, "
            "or move it with what it holds (`romana topology apply --move h`), or empty it first",
            id="listed-elsewhere",
        ),
        pytest.param(
            plan(*RACKS, static=["10.0.128.0/28"]),
            "networks.n.static: 10.0.128.0/28 covers 10.0.128.0/24 (1 block(s), 1 endpoint(s)) that hosts hold",
            id="static-over-a-span",
        ),
        pytest.param(
            plan(*RACKS, placement="bits", bits=BITS | {"host": 8}),
            "10.0.128.0/24 (1 block(s), 1 endpoint(s)) in use, spans of /24 with blocks of /29; "
            "they cannot become spans of /24 with blocks of /28 by ids in 10.0.0.0/16 (8+2+2+4+0 bits)",
            id="bits-instead",
        ),
    ],
)
def test_a_change_that_would_orphan_something_says_what(new: AddressPlan, words: str) -> None:
    found = Live().refusals(new)
    assert any(words in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("new", "group"),
    [
        pytest.param(plan({"name": "a"}), "/a", id="one-rack-has-all"),
        pytest.param(plan(*({"name": name} for name in "abcde")), "/e", id="smaller-rack-that-contains-it"),
        pytest.param(plan({"name": "y"}, {"name": "z"}), "/z", id="other-names"),
        pytest.param(plan({"name": "z", "weight": 2}, {"name": "y", "weight": 2}), "/y", id="weights"),
        pytest.param(plan({"name": "a"}, {"name": "c", "hosts": ["h", "x"]}), "/c", id="listed-where-its-span-is"),
    ],
)
def test_a_host_follows_its_spans(new: AddressPlan, group: str) -> None:
    live = Live()
    assert live.refusals(new) == []
    assert live.group(new) == group


def test_a_host_without_spans_goes_where_the_new_plan_lists_it() -> None:
    live = Live()
    live.spans, live.blocks, live.endpoints = {}, {}, []
    new = plan({"name": "a", "hosts": ["h", "x"]}, {"name": "b"})
    assert live.refusals(new) == []
    assert live.group(new) == "/a"


@pytest.mark.parametrize(
    ("new", "group"),
    [
        pytest.param(plan({"name": "a", "hosts": ["h", "x"]}, {"name": "b"}), "/a", id="listed"),
        pytest.param(plan({"name": "a"}, {"name": "b", "assignment": {"never": "met"}}), "/a", id="by-labels"),
        pytest.param(plan(*RACKS, root={"spare": 6}), "/a", id="its-span-in-a-spare-part"),
    ],
)
def test_a_host_that_is_moving_takes_its_spans_along(new: AddressPlan, group: str) -> None:
    live = Live()
    verdict = check_change(live.plan, new, live.in_use(), moving=("h",))
    assert verdict.faults == ()
    assert verdict.hosts["h"].groups == {"t": group}


def test_a_host_that_is_moving_has_the_addresses_that_the_plan_gives_it_there() -> None:
    live = Live()
    live.hosts["h"] = msgspec.structs.replace(live.hosts["h"], addresses=(parse_address("192.0.2.1"),))
    new = plan({"name": "a", "hosts": [{"name": "h", "addresses": ["198.51.100.1"]}, "x"]}, {"name": "b"})
    assert any("topology t knows it by 198.51.100.1" in words for words in live.refusals(new))
    verdict = check_change(live.plan, new, live.in_use(), moving=("h",))
    assert verdict.faults == ()
    assert verdict.hosts["h"].addresses == (parse_address("198.51.100.1"),)


def test_what_is_away_stays_so_over_other_changes_until_its_host_is_back() -> None:
    live = Live()
    moved = plan({"name": "a", "hosts": ["h", "x"]}, {"name": "b"})
    live.hosts = check_change(live.plan, moved, live.in_use(), moving=("h",)).hosts
    live.plan = moved
    assert live.refusals(moved) == []
    larger = plan({"name": "a", "hosts": ["h", "x", "y"]}, {"name": "b"}, {"name": "c"}, {"name": "d"})
    assert check_change(live.plan, larger, live.in_use()).hosts["h"].groups == {"t": "/a"}
    claimed = parse_prefix("10.0.1.0/24")
    back = plan({"name": "a", "hosts": ["x", "y"]}, {"name": "b", "hosts": ["h", "z"]})
    assert check_change(live.plan, back, live.in_use()).hosts["h"].groups == {"t": "/b"}
    live.spans[claimed] = Span(cidr=claimed, network="n", host="h")
    assert "holds 10.0.1.0/24" in live.refusals(back)[0]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        pytest.param(
            plan({"name": "a"}, {"name": "b", "hosts": ["z"]}),
            "hosts.h: 10.0.128.0/24 (1 block(s), 1 endpoint(s)) of network n would be in the part of host z alone",
            id="sole-host",
        ),
        pytest.param(
            plan(
                {"name": "b", "cidrs": {"n": "10.0.128.0/24"}},
                {"name": "a", "cidrs": {"n": "10.0.0.0/17"}, "hosts": ["h", "x"]},
                span_length=24,
            ),
            "would be all of group /b",
            id="whole-group",
        ),
        pytest.param(
            plan(*RACKS, cidr="10.1.0.0/16"), "would be in no group, where nothing leads to it", id="other-cidr"
        ),
        pytest.param(plan(*RACKS, root={"networks": ["m"]}, name="m"), "is not in the new plan", id="network-gone"),
        pytest.param(plan(*RACKS, static=["10.0.128.0/28"]), "static: 10.0.128.0/28 covers", id="static"),
    ],
)
def test_what_cannot_be_away_is_refused(new: AddressPlan, words: str) -> None:
    live = Live()
    assert words in str(check_change(live.plan, new, live.in_use(), moving=("h",)).faults[0])


def test_a_host_that_is_not_there_does_not_move() -> None:
    live = Live()
    verdict = check_change(live.plan, live.plan, live.in_use(), moving=("hh",))
    assert [str(fault) for fault in verdict.faults] == ["moving: no host 'hh'"]


def test_hosts_that_lose_their_place_spread_over_what_the_others_left() -> None:
    old = plan({"name": "a"}, {"name": "b"}, {"name": "c"})
    hosts = {name: Host(name=name, groups={"t": f"/{name[0]}"}) for name in ("a1", "a2", "b1", "c1", "c2")}
    new = plan({"name": "a"}, {"name": "b"})
    verdict = check_change(old, new, InUse(hosts=hosts, spans={}, blocks={}, endpoints_in=lambda _: []))
    assert {name: host.groups["t"] for name, host in verdict.hosts.items()} == {
        "a1": "/a",
        "a2": "/a",
        "b1": "/b",
        "c1": "/b",
        "c2": "/a",
    }


def test_bits_widths_and_what_they_count_from_stay_while_spans_live() -> None:
    live = Live(placement="bits", bits=BITS)
    assert live.refusals(live.plan) == []
    other = plan(*RACKS, placement="bits", bits=BITS | {"tenant": 3, "segment": 1})
    assert "they cannot become" in live.refusals(other)[0]
    wider = plan(*RACKS, cidr="10.0.0.0/15", placement="bits", bits=BITS | {"host": 9})
    assert any("by ids in 10.0.0.0/15" in sentence for sentence in live.refusals(wider))


def test_what_was_just_given_back_still_counts() -> None:
    live = Live()
    live.spans, live.blocks, live.endpoints = {}, {}, []
    assert live.refusals(plan(*RACKS, block_length=28)) == []
    cidr = parse_prefix("10.0.128.0/24")
    live.retired[cidr] = Retired(cidr=cidr, network="n", host="h")
    assert "10.0.128.0/24" in live.refusals(plan(*RACKS, block_length=28))[0]
    assert live.refusals(plan({"name": "y"}, {"name": "z"})) == []


def test_a_static_range_stays_while_reservations_live_in_it() -> None:
    live = Live(static=["10.0.4.0/24"])
    assert live.refusals(plan(*RACKS)) == []
    live.reserve("vm-1", "10.0.4.9")
    assert live.refusals(live.plan) == []
    assert live.refusals(plan(*RACKS, static=["10.0.0.0/21"])) == []
    assert live.refusals(plan(*RACKS, static=["10.0.4.0/25"])) == []
    gone = "networks.n.static: 10.0.4.0/24 is no longer static, but has the addresses of reservation(s) vm-1 (10.0.4.9)"
    assert [sentence.partition(";")[0] for sentence in live.refusals(plan(*RACKS))] == [gone]
    assert gone in live.refusals(plan(*RACKS, static=["10.0.4.128/25"]))[0]


def test_reservations_count_for_tenants_and_reserved_ranges() -> None:
    live = Live(static=["10.0.4.0/24"])
    live.spans, live.blocks, live.endpoints = {}, {}, []
    live.reserve("vm-1", "10.0.4.9")
    shut = plan(*RACKS, static=["10.0.4.0/24"], tenants=["beta"])
    assert live.refusals(shut) == ["networks.n.tenants: tenant acme is not listed, but owns 10.0.4.9"]


def test_mixed_blocks_count_by_the_tenants_of_their_endpoints() -> None:
    live = Live()
    live.blocks = {cidr: msgspec.structs.replace(block, owner=None, mixed=True) for cidr, block in live.blocks.items()}
    assert live.refusals(plan(*RACKS, tenants=["acme"])) == []
    assert "tenant acme is not listed, but owns 10.0.128.0" in live.refusals(plan(*RACKS, tenants=["beta"]))[0]


def test_blackouts_need_their_network_around_them() -> None:
    live = Live()
    cidr = parse_prefix("10.0.0.0/24")
    live.blackouts[cidr] = Blackout(cidr=cidr, network="n")
    assert live.refusals(live.plan) == []
    live.spans, live.blocks, live.endpoints = {}, {}, []
    gone = "blackouts.10.0.0.0/24: is in network n, which is not in the new plan; remove the blackout first"
    assert live.refusals(plan(*RACKS, name="m", root={"networks": ["m"]})) == [gone]
    assert "which becomes 10.0.128.0/17" in live.refusals(plan(*RACKS, cidr="10.0.128.0/17"))[0]
    assert "which becomes 10.0.0.0/24" in live.refusals(plan(*RACKS, cidr="10.0.0.0/24"))[0]


def test_an_address_that_was_reserved_before_is_nobodys_reason() -> None:
    live = Live(reserved=["10.0.128.0/28"])
    assert live.refusals(plan(*RACKS, reserved=["10.0.128.0/30"])) == []
    assert "10.0.128.0 of pod" in live.refusals(plan(*RACKS, reserved=["10.0.128.0/27"]))[0]


def test_the_difference_lists_networks_groups_and_hosts() -> None:
    old = plan({"name": "a"}, {"name": "b"}, {"name": "c"})
    new = plan({"name": "a"}, {"name": "b"}, tenants=["acme"], static=["10.0.0.0/24"], stock=3)
    hosts = {"h": Host(name="h", groups={"t": "/c"}), "g": Host(name="g", groups={"t": "/a"})}
    verdict = check_change(old, new, InUse(hosts=hosts, spans={}, blocks={}, endpoints_in=lambda _: []))
    change = plan_change(old, new, hosts, verdict.hosts, verdict.faults)
    assert [(one.field, one.before, one.after) for one in change.networks] == [
        ("tenants", "", "acme"),
        ("static", "", "10.0.0.0/24"),
        ("stock", "2", "3"),
    ]
    assert [(one.group, str(one.before or "-"), str(one.after or "-")) for one in change.groups] == [
        ("/a", "10.0.0.0/18", "10.0.0.0/17"),
        ("/b", "10.0.64.0/18", "10.0.128.0/17"),
        ("/c", "10.0.128.0/18", "-"),
        ("/spare-4", "10.0.192.0/18", "-"),
    ]
    assert [(one.host, one.before, one.after) for one in change.hosts] == [("h", "/c", "/b")]
    whole = plan_change(old, plan(*RACKS, name="m", root={"networks": ["m"]}), {}, {})
    assert [(one.network, one.field, one.before, one.after) for one in whole.networks] == [
        ("n", "", "10.0.0.0/16", ""),
        ("m", "", "", "10.0.0.0/16"),
    ]


SHAPES = st.fixed_dictionaries(
    {
        "groups": st.lists(st.integers(1, 3), min_size=1, max_size=5),
        "spare": st.integers(0, 2),
        "static": st.sampled_from([[], ["10.0.0.0/28"], ["10.0.255.0/24"]]),
        "span_length": st.sampled_from([24, 25]),
    }
)


def shaped(shape: dict[str, Any]) -> AddressPlan:
    groups = [{"name": f"g{index}", "weight": weight} for index, weight in enumerate(shape["groups"])]
    return plan(*groups, root={"spare": shape["spare"]}, static=shape["static"], span_length=shape["span_length"])


@settings(max_examples=150, deadline=None)
@given(SHAPES, SHAPES, st.data())
def test_whatever_a_host_that_is_not_affected_claims_meanwhile_fits_the_new_plan(
    one: dict[str, Any], two: dict[str, Any], data: st.DataObject
) -> None:
    old, new = shaped(one), shaped(two)
    hosts: dict[str, Host] = {}
    for index in range(data.draw(st.integers(1, 4))):
        hosts[f"h{index}"] = place_host(old, hosts, Host(name=f"h{index}"))
    nothing = InUse(hosts=hosts, spans={}, blocks={}, endpoints_in=lambda _: [])
    verdict = check_change(old, new, nothing)
    free = sorted(hosts.keys() - affected(old, new, hosts, verdict.hosts))
    length = old.networks[0].span_length
    spans: dict[Prefix, Span] = {}
    for name in free:
        leaf = Leaves(old).of(hosts[name], "n")
        assert leaf is not None
        cidr = leaf.cidrs["n"]
        last = (1 << (length - cidr.length)) - 1  # the static ranges are at the ends
        span = cidr.subnet(length, data.draw(st.sampled_from([0, last // 2, last])))
        if not any(static.overlaps(span) for static in old.networks[0].static):
            spans.setdefault(span, Span(cidr=span, network="n", host=name))
    later = msgspec.structs.replace(nothing, spans=spans, hosts=verdict.hosts)
    assert check_change(old, new, later).faults == ()


def big(racks: int, extra: Iterable[dict[str, Any]] = ()) -> AddressPlan:
    groups = [{"name": f"r{number}", "assignment": {"rack": str(number)}} for number in range(racks)]
    return plan(*groups, *extra, cidr="10.0.0.0/8", root={"spare": 256 - racks})


def test_five_thousand_hosts_and_a_new_rack_take_a_second_and_touch_nobody() -> None:
    old, new = big(200), big(201)
    hosts = {
        f"h{number}": Host(name=f"h{number}", labels={"rack": str(number % 200)}, groups={"t": f"/r{number % 200}"})
        for number in range(5000)
    }
    spans = {}
    for number, name in enumerate(hosts):
        span = parse_prefix("10.0.0.0/8").subnet(16, number % 200).subnet(24, number // 200)
        spans[span] = Span(cidr=span, network="n", host=name)
    in_use = InUse(hosts=hosts, spans=spans, blocks={}, endpoints_in=lambda _: [])
    start = time.process_time()
    verdict = check_change(old, new, in_use)
    touched = affected(old, new, hosts, verdict.hosts)
    taken = time.process_time() - start
    assert verdict.faults == ()
    assert touched == frozenset()
    assert all(verdict.hosts[name] is host for name, host in hosts.items())
    assert taken < 5, f"{taken:.1f} s of processor time"
