from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.json import decode, encode
from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.ipam.usage import KINDS, SUMS, UsageSource, on_host, pruned, usage
from romana.core.topology import carve
from romana.model.address import Prefix
from romana.model.ipam import SERVER, Block, Span
from romana.model.tenancy import Owner
from romana.model.topology import AddressPlan
from romana.model.usage import Usage

OWNER = Owner("red", "web")


def plan_of(reserved: list[str], static: list[str]) -> AddressPlan:
    plan = carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n", "cidr": "10.0.0.0/23", "block_length": 29, "span_length": 27}],
                "topologies": [
                    {
                        "name": "t",
                        "networks": ["n"],
                        "groups": [
                            {"name": "a", "groups": [{"name": "a1", "hosts": []}, {"name": "a2", "hosts": []}]},
                            {"name": "b", "hosts": ["lone"]},
                            {"name": "c", "hosts": []},
                        ],
                    }
                ],
            }
        )
    )
    fields = {"reserved": tuple(map(parse_prefix, reserved)), "static": tuple(map(parse_prefix, static))}
    return msgspec.structs.replace(plan, networks=(msgspec.structs.replace(plan.networks[0], **fields),))


class Random:
    """A random state of one small network, and what each address of it is."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        whole = parse_prefix("10.0.0.0/23")

        def some(length: int, most: int) -> list[Prefix]:
            return [
                whole.subnet(length, chance.randrange(1 << (length - 23))) for _ in range(chance.randrange(most + 1))
            ]

        reserved, static = some(28, 2) + some(32, 3), some(27, 1)
        self.dark = some(30, 2) + some(26, 1)
        self.plan = plan_of(list(map(str, reserved)), list(map(str, static)))
        self.spans: list[Span] = []
        self.blocks: list[Block] = []
        self.retired: list[Prefix] = []
        self.used: dict[Prefix, int] = {}
        self.resting: dict[str, dict[str, int]] = {}
        self.kind_of: dict[int, str] = {}
        self.place_of: dict[int, str] = {}
        for index in range(16):
            cidr = whole.subnet(27, index)
            fate = chance.random()
            if fate < 0.2:
                self.retired.append(cidr)
            elif fate < 0.7:
                self.fill(cidr, chance.choice(["h1", "h2", "h3", SERVER]), chance)
        wide = Span(cidr=whole.subnet(24, 1), network="n", host=SERVER)  # a static range over many groups
        self.spans += [wide] * any(span.host == SERVER for span in self.spans)
        for value in range(whole.value, whole.last + 1):
            address = whole.address(value - whole.value)
            for kind, cidrs in (("reserved", reserved), ("blacked_out", self.dark), ("static", static)):
                if value not in self.kind_of and any(one.contains(address) for one in cidrs):
                    self.kind_of[value] = kind
        for value in range(whole.value, whole.last + 1):
            address = whole.address(value - whole.value)
            if value not in self.kind_of:
                self.kind_of[value] = self.open_kind(address)
        for block in self.blocks:  # used addresses are taken from those that may be given out
            idle = [value for value in range(block.cidr.value, block.cidr.last + 1) if self.kind_of[value] == "idle"]
            chosen = chance.sample(idle, chance.randrange(len(idle) + 1))
            self.used[block.cidr] = len(chosen)
            self.kind_of |= dict.fromkeys(chosen, "used")
        for host in ("h1", "h2", "h3"):
            self.rest(host, chance)

    def fill(self, cidr: Prefix, host: str, chance: random.Random) -> None:
        self.spans.append(Span(cidr=cidr, network="n", host=host))
        for block in cidr.subnets(29):
            fate = chance.random()
            made = Block(cidr=block, span=cidr, network="n", host=host, allocator=host)
            if fate < 0.2:
                self.blocks.append(made)
            elif fate < 0.5:
                self.blocks.append(msgspec.structs.replace(made, owner=OWNER))
            elif fate < 0.6:
                self.blocks.append(msgspec.structs.replace(made, mixed=True))
            elif fate < 0.7:
                self.retired.append(block)

    def open_kind(self, address: Prefix) -> str:
        for block in self.blocks:
            if block.cidr.contains(address):
                return "stock" if block.is_stock else "idle"
        return "retired" if any(one.contains(address) for one in self.retired) else "spare"

    def rest(self, host: str, chance: random.Random) -> None:
        """Some idle addresses rest."""
        cidrs = [block.cidr for block in self.blocks if block.host == host and not block.is_stock]
        idle = [value for cidr in cidrs for value in range(cidr.value, cidr.last + 1) if self.kind_of[value] == "idle"]
        count = chance.randrange(len(idle) + 1)
        if len(self.groups_of(host)) == 1:
            self.resting[host] = {"n": count}
            self.kind_of |= dict.fromkeys(idle[:count], "resting")

    def groups_of(self, host: str) -> set[str]:
        """The leaves in which a host has spans."""
        found = set()
        for span in self.spans:
            if span.host == host:
                found.add(leaf(self.plan, span.cidr))
        return found

    def usage(self) -> Usage:
        (found,) = usage(
            UsageSource(
                plan=self.plan,
                spans=self.spans,
                blocks=self.blocks,
                used=self.used,
                resting=self.resting,
                retired=self.retired,
                blackouts=self.dark,
            )
        )
        return found


def leaf(plan: AddressPlan, cidr: Prefix) -> str:
    group = plan.topologies[0].root
    while True:
        inner = [one for one in group.groups if one.cidrs["n"].contains(cidr)]
        if not inner:
            return group.path
        group = inner[0]


def nodes(whole: Usage) -> Iterator[Usage]:
    yield whole
    for part in whole.parts:
        yield from nodes(part)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_address_counts_once_and_as_what_it_is(seed: int) -> None:
    world = Random(seed)
    whole = world.usage()
    for node in nodes(whole):
        assert sum(getattr(node, kind) for kind in KINDS) == node.addresses
        if node.parts:
            for name in SUMS:
                assert sum(getattr(part, name) for part in node.parts) <= getattr(node, name)
        if node.cidr is not None:
            assert node.addresses == node.cidr.size
            counted = Counter(world.kind_of[value] for value in range(node.cidr.value, node.cidr.last + 1))
            assert {kind: getattr(node, kind) for kind in KINDS} == {kind: counted[kind] for kind in KINDS}
    assert whole.spans == sum(span.host != SERVER for span in world.spans)
    assert whole.blocks + whole.mixed_blocks + whole.stock_blocks == len(world.blocks)
    assert whole.retired_cidrs == len(world.retired)
    for host in ("h1", "h2", "h3", SERVER):
        own = [part for part in nodes(whole) if part.kind == "host" and part.name == host]
        assert sum(part.spans for part in own) == sum(span.host == host != SERVER for span in world.spans)
        assert sum(part.used for part in own) == sum(
            world.used[block.cidr] for block in world.blocks if block.host == host
        )


@given(st.integers(0, 2**32), st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_a_part_of_the_tree_has_the_same_numbers(seed: int, depth: int) -> None:
    whole = Random(seed).usage()
    cut = pruned(whole, depth)
    assert all(getattr(whole, name) == getattr(cut, name) for name in SUMS)
    assert len(list(levels(cut))) <= depth + 1
    mine = on_host(whole, "h1")
    if mine is not None:
        assert {one.name for one in nodes(mine) if one.kind == "host"} == {"h1"}
    assert on_host(whole, "nobody") is None
    assert decode(encode(whole), Usage) == whole


def levels(whole: Usage) -> Iterator[int]:
    """One for each level there is."""
    here = [whole]
    while here:
        yield len(here)
        here = [part for one in here for part in one.parts]


def test_a_network_of_ipv6_is_counted_exactly() -> None:
    plan = carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n6", "cidr": "fd00::/48", "block_length": 122}],
                "topologies": [{"name": "t", "networks": ["n6"], "groups": [{"name": "r", "hosts": ["h"]}]}],
            }
        )
    )
    (whole,) = usage(UsageSource(plan=plan, spans=(), blocks=(), used={}))
    assert whole.spare == whole.addresses == 1 << 80
    assert decode(encode(whole), Usage) == whole


def test_the_cost_grows_with_blocks() -> None:
    """Four times the blocks take four times the calls, not sixteen times; calls are the same on every machine."""

    def calls(hosts: int) -> int:
        plan = carve(
            read_plan(
                {
                    "version": 1,
                    "networks": [{"name": "n", "cidr": "10.0.0.0/8", "block_length": 29, "span_length": 26}],
                    "topologies": [
                        {
                            "name": "t",
                            "networks": ["n"],
                            "groups": [{"name": f"r{number}", "hosts": []} for number in range(hosts // 20)],
                        }
                    ],
                }
            )
        )
        leaves = [group.cidrs["n"] for group in plan.topologies[0].root.groups if not group.closed]
        spans = [
            Span(cidr=leaves[host // 20].subnet(26, host % 20), network="n", host=f"h{host}") for host in range(hosts)
        ]
        blocks = [
            Block(cidr=cidr, span=span.cidr, network="n", host=span.host, allocator=span.host)
            for span in spans
            for cidr in span.cidr.subnets(29)
        ]
        source = UsageSource(
            plan=plan, spans=spans, blocks=blocks, used=dict.fromkeys((block.cidr for block in blocks), 1)
        )
        count = 0

        def counted(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(counted)
        try:
            usage(source)
        finally:
            sys.setprofile(None)
        return count

    assert 2 * calls(100) < calls(400) < 5 * calls(100)
