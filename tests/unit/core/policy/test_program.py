"""The compiled program of random worlds: how it is looked up and explained, and that it depends on nothing else."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest

from romana.codec.json import encode
from romana.core.policy.compile import block_lengths, compile_program
from romana.core.policy.trace import trace
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Family, Prefix
from romana.model.policy import Direction, Traffic
from romana.model.program import profile_ids
from tests.proof.naive import Naive
from tests.proof.queries import end_of, site_of, traffic_of
from tests.proof.random_worlds import PROBES, random_world
from tests.unit.core.policy.evaluate import verdict

SEEDS = range(100)


@pytest.mark.parametrize("seed", SEEDS)
def test_lookup_by_address_block_range_finds_the_most_specific_entry(seed: int) -> None:
    made = random_world(seed)
    program = compile_program(made.world)
    lengths = block_lengths(made.world)
    for class_id, direction in itertools.product(program.row_ids, Direction):
        row = program.rows[program.row_ids[class_id].of(direction)]
        for address in made.addresses:
            expected, _ = verdict(program, direction, class_id, address)
            assert _looked_up(row.entries, address, lengths[address.family]) == expected


def _looked_up(entries: dict[Prefix, str], address: Address, lengths: frozenset[int]) -> Prefix:
    bits = address.family.bits
    ranges = [length for length in range(bits, -1, -1) if length not in lengths and length != bits]
    for length in (bits, *sorted(lengths, reverse=True), *ranges):
        if address.supernet(length) in entries:
            return address.supernet(length)
    raise AssertionError(address)


@pytest.mark.parametrize("seed", SEEDS)
def test_trace_agrees_with_the_specification_and_says_why(seed: int) -> None:
    made = random_world(seed)
    program = compile_program(made.world)
    evaluator = Naive(site_of(made.world, made.documents))
    claims = Counter(address for one in made.world.endpoints.values() for address in one.addresses)
    ends = [
        (address, one)
        for one in made.world.endpoints.values()
        for address in one.addresses
        if max(claims[each] for each in one.addresses) == 1
    ]
    random = Random(seed)
    pairs = [(one, other) for one in ends for other in ends if one[0].family is other[0].family]
    for (source, one), (destination, other) in random.sample(pairs, min(6, len(pairs))):
        protocol, port = random.choice(PROBES)
        told = trace(made.world, program, source, other, Traffic(protocol, port, port))
        expected = evaluator.allows(
            end_of(source, one.identity), end_of(destination, other.identity), traffic_of(protocol, port)
        )
        assert told.verdict == expected
        for end in (told.egress, told.ingress):
            if end.tier == "policies":
                assert bool(end.rules) == end.verdict
            if end.tier not in ("isolation", ""):
                assert end.policies
            assert end.sentence


def test_without_staged_policies_nothing_is_planned() -> None:
    worlds = [made.world for seed in SEEDS for made in (random_world(seed),)]
    unstaged = [one for one in worlds if not any(policy.staged for policy in one.policies.values())]
    assert 0 < len(unstaged) < len(worlds)
    for world in unstaged:
        rows = compile_program(world).rows.values()
        assert not any("~" in found for row in rows for found in (*row.entries.values(), *row.own.values()))


@pytest.mark.parametrize("seed", range(10))
def test_bytes_do_not_depend_on_the_order_of_anything(seed: int) -> None:
    world = random_world(seed).world
    random = Random(seed)

    def shuffled(name: str) -> dict[Any, Any]:
        items = list(getattr(world, name).items())
        random.shuffle(items)
        return dict(items)

    other = PolicyWorld(**{name: shuffled(name) for name in PolicyWorld.__struct_fields__})
    assert encode(compile_program(other)) == encode(compile_program(world))


@pytest.mark.parametrize("seed", range(20))
def test_every_row_answers_for_both_families_and_repeats_nothing(seed: int) -> None:
    program = compile_program(random_world(seed).world)
    for class_id in program.classes.values():
        for direction in Direction:
            row = program.rows[program.row_ids[class_id].of(direction)]
            assert {Prefix(family, 0, 0) for family in Family} <= set(row.entries)
            assert profile_ids(row.entries.values()) <= set(program.profiles)
            assert row.words.isascii()
            assert len(row.words) <= 100
            assert '"' not in row.words
    assert len({msgspec.json.encode((one.default, one.protocols)) for one in program.profiles.values()}) == len(
        program.profiles
    )
