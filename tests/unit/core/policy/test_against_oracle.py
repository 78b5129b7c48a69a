"""The compiled program against the specification's words, on random worlds."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import msgspec
import pytest

from romana.codec.json import encode
from romana.core.policy.compile import block_lengths, compile_program
from romana.core.policy.evaluate import verdict
from romana.core.policy.profile import allows
from romana.core.policy.trace import trace
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Family, Prefix
from romana.model.policy import Direction, Traffic
from romana.model.program import Program, profile_ids
from romana.model.tenancy import Identity

from .oracle import allowed, end_allows, host_allows
from .random_worlds import PROBES, random_world

SEEDS = range(100)


@pytest.mark.parametrize("seed", SEEDS)
def test_program_says_what_the_specification_says(seed: int) -> None:
    made = random_world(seed)
    world = made.world
    program = compile_program(world)
    known = {address: one.identity for one in world.endpoints.values() for address in one.addresses}
    random = Random(seed)
    asked = 0
    for identity in world.all_identities().values():
        for peer in random.sample(made.addresses, min(12, len(made.addresses))):
            for direction in Direction:
                protocol, port = random.choice(PROBES)
                _, profile = verdict(program, direction, program.classes[identity.id], peer)
                answer = allows(profile, protocol, port)
                possible = _possible(world, program, peer, known)
                expected = all(end_allows(world, direction, identity, peer, one, protocol, port) for one in possible)
                asked += 1
                assert answer <= expected
                if len(possible) == 1 or not _names(world):
                    assert answer == expected
    assert asked > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_staged_policies_decide_nothing_and_what_they_would_decide_is_known(seed: int) -> None:
    made = random_world(seed)
    world = made.world
    program = compile_program(world)
    known = {address: one.identity for one in world.endpoints.values() for address in one.addresses}
    random = Random(seed)
    for identity in world.all_identities().values():
        row_ids = program.row_ids[program.classes[identity.id]]
        for peer in random.sample(made.addresses, min(8, len(made.addresses))):
            for direction in Direction:
                protocol, port = random.choice(PROBES)
                found = _entry(program.rows[row_ids.of(direction)].entries, peer)
                planned = program.profiles[found.rpartition("~")[2]]
                possible = _possible(world, program, peer, known)
                expected = all(
                    end_allows(world, direction, identity, peer, one, protocol, port, staged=True) for one in possible
                )
                assert allows(planned, protocol, port) <= expected
                if len(possible) == 1 or not _names(world):
                    assert allows(planned, protocol, port) == expected
    if not any(policy.staged for policy in world.policies.values()):
        assert not any("~" in found for row in program.rows.values() for found in row.entries.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_an_endpoint_and_its_own_host_reach_each_other_as_the_specification_says(seed: int) -> None:
    made = random_world(seed)
    world = made.world
    program = compile_program(world)
    random = Random(seed)
    addresses = [*(address for host in world.hosts.values() for address in host.addresses), *made.addresses[:5]]
    for identity in world.all_identities().values():
        row_ids = program.row_ids[program.classes[identity.id]]
        for address, direction in itertools.product(addresses, Direction):
            protocol, port = random.choice(PROBES)
            parts = _entry(program.rows[row_ids.of(direction)].own, address).split("~")
            for place, staged in ((0, False), (-1, True)):
                expected = end_allows(
                    world, direction, identity, address, None, protocol, port, own_host=True, staged=staged
                )
                assert allows(program.profiles[parts[place]], protocol, port) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hosts_rows_say_what_the_specification_says(seed: int) -> None:
    made = random_world(seed)
    world = made.world
    program = compile_program(world)
    known = {address: one.identity for one in world.endpoints.values() for address in one.addresses}
    random = Random(seed)
    for name, direction in itertools.product(world.hosts, Direction):
        ids = program.host_rows.get(name)
        row = program.rows.get(ids.of(direction)) if ids is not None else None
        for peer in random.sample(made.addresses, min(20, len(made.addresses))):
            protocol, port = random.choice(PROBES)
            possible = _possible(world, program, peer, known)
            for place, staged in ((0, False), (-1, True)):
                expected = all(
                    host_allows(world, direction, name, peer, one, protocol, port, staged=staged) for one in possible
                )
                if row is None:
                    assert expected
                    continue
                answer = allows(program.profiles[_entry(row.entries, peer).split("~")[place]], protocol, port)
                assert answer <= expected
                if len(possible) == 1 or not _names(world):
                    assert answer == expected


def _entry(entries: dict[Prefix, str], address: Address) -> str:
    return next(entries[prefix] for prefix in address.supernets() if prefix in entries)


def _names(world: PolicyWorld) -> bool:
    """Whether some policy names a port: then an unknown peer may be refused more than anybody there is would be."""
    return any(
        traffic.name
        for policy in world.policies.values()
        for rule in (*(policy.ingress or ()), *(policy.egress or ()))
        for traffic in rule.traffic
    )


def _possible(
    world: PolicyWorld, program: Program, address: Address, known: dict[Address, Identity]
) -> list[Identity | None]:
    """Who may have an address: what is accepted from it is what is accepted from all of them.

    In a block whose identities are all of one class it is one of them; elsewhere in a network anybody or nobody.
    """
    if address in known:
        return [known[address]]
    everybody = world.all_identities()
    if not any(network.cidr.contains(address) for network in world.networks.values()):
        return [None]
    anybody = [None, *everybody.values()]
    block = next((one for cidr, one in world.blocks.items() if cidr.contains(address)), None)
    if block is None or block.owner is None:
        return anybody
    lodgers = {one.identity.id for one in world.endpoints.values() if block.cidr.contains(one.addresses[0])}
    ids = lodgers | set(block.identities)
    if not ids or not ids <= set(everybody) or len({program.classes[id_] for id_ in ids}) != 1:
        return anybody
    return [everybody[min(ids)]]


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
    endpoints = sorted(made.world.endpoints.values(), key=lambda one: one.id)
    random = Random(seed)
    pairs = [
        (one, other) for one in endpoints for other in endpoints if one.addresses[0].family is other.addresses[0].family
    ]
    for one, other in random.sample(pairs, min(6, len(pairs))):
        protocol, port = random.choice(PROBES)
        told = trace(made.world, program, one.addresses[0], other, Traffic(protocol, port, port))
        assert told.verdict == allowed(made.world, one, other, protocol, port)
        for end in (told.egress, told.ingress):
            if end.tier == "policies":
                assert bool(end.rules) == end.verdict
            if end.tier not in ("isolation", ""):
                assert end.policies
            assert end.sentence


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
