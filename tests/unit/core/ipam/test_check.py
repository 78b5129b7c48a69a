from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.json import decode, encode
from romana.codec.text import parse_prefix
from romana.core.ipam.findings import sorted_findings
from romana.model.address import Prefix
from romana.model.ipam import Blackout, Retired, Span
from romana.model.report import BlockState, Finding, FindingKind, Observation
from romana.model.tenancy import Owner
from tests.unit.core.ipam.checked_world import STATIC, World

seeds = st.integers(0, 2**32)
Planted = tuple[FindingKind, Prefix, str]
"""What must be found: its kind, where, and a word of its sentence."""


def test_nothing_is_found_in_a_consistent_world_in_which_things_are_under_way() -> None:
    for seed in range(150):
        assert World(seed).check() == []


def leaked(world: World) -> Planted:
    endpoint = world.some_published()
    kept = {name: held for name, held in world.observations["h1"].endpoints.items() if name != endpoint.id}
    world.change("h1", endpoints=kept)
    return FindingKind.LEAKED, endpoint.addresses[0], "a repair removes it"


def forgotten_by_its_agent(world: World) -> Planted:
    endpoint = world.some_published()
    kept = {name: held for name, held in world.observations["h1"].endpoints.items() if name != endpoint.id}
    world.change("h1", endpoints=kept, strays=dict.fromkeys(endpoint.addresses, endpoint.link))
    return FindingKind.DISAGREEMENT, endpoint.addresses[0], "does not remember it"


def reservation_of_a_host_that_is_gone(world: World) -> Planted:
    world.reserve("vm3", "h3", STATIC.address(2))
    del world.endpoints["vm3/eth0"], world.hosts["h3"], world.observations["h3"]
    return FindingKind.LEAKED, STATIC.address(2), "ends that use"


def host_gone(world: World) -> Planted:
    del world.hosts["h3"], world.observations["h3"]
    endpoint = next(one for one in world.endpoints.values() if one.host == "h3")
    return FindingKind.LEAKED, endpoint.addresses[0], "host h3 is gone"


def orphan_span(world: World) -> Planted:
    del world.hosts["h3"], world.observations["h3"]
    span = next(one for one in world.spans.values() if one.host == "h3")
    return FindingKind.ORPHAN_SPAN, span.cidr, "host h3, which is gone"


def orphan_block(world: World) -> Planted:
    block = world.some_block()
    del world.spans[block.span]
    return FindingKind.ORPHAN_BLOCK, block.cidr, "has lost its span"


def address_in_two_endpoints(world: World) -> Planted:
    endpoint = world.some_published()
    other = msgspec.structs.replace(endpoint, id="other", host="h1")
    world.endpoints["other"] = other
    world.hold(other)
    return FindingKind.DOUBLY_OWNED, endpoint.addresses[0], "and to other on host h1"


def address_at_two_agents(world: World) -> Planted:
    endpoint = world.some_published()
    twin = msgspec.structs.replace(endpoint, id="twin", host="h3")
    twin = msgspec.structs.replace(
        twin, allocations=tuple(msgspec.structs.replace(one, endpoint="twin") for one in twin.allocations)
    )
    world.hold(twin)
    return FindingKind.DOUBLY_OWNED, endpoint.addresses[0], f"belongs to {endpoint.id}"


def reserved_address_of_somebody_else(world: World) -> Planted:
    thief = msgspec.structs.replace(world.endpoints["vm1/eth0"], id="thief")
    world.endpoints["thief"] = thief
    world.hold(thief)
    return FindingKind.DOUBLY_OWNED, thief.addresses[0], "belongs to endpoint thief"


def overlapping_spans(world: World) -> Planted:
    span = next(one for one in world.spans.values() if one.host == "h2" and one.network == "n4")
    wider = span.cidr.supernet(25)
    world.spans[wider] = Span(cidr=wider, network="n4", host="h1")
    return FindingKind.DOUBLY_OWNED, span.cidr, f"lies inside {wider}"


def overlapping_blocks(world: World) -> Planted:
    block = world.some_block()
    inner = block.cidr.subnet(block.cidr.length + 1, 1)
    world.blocks[inner] = msgspec.structs.replace(block, cidr=inner)
    world.written[inner] = 101
    return FindingKind.DOUBLY_OWNED, inner, f"lies inside {block.cidr}"


def block_in_another_hosts_span(world: World) -> Planted:
    block = world.some_block()
    world.spans[block.span] = msgspec.structs.replace(world.spans[block.span], host="h2")
    return FindingKind.DOUBLY_OWNED, block.cidr, "of host h2"


def handed_out_while_retired(world: World) -> Planted:
    block = world.some_block()
    world.retired[block.span] = Retired(cidr=block.span, network=block.network, host="h2")
    return FindingKind.DOUBLY_OWNED, block.cidr, "not yet forgotten"


def span_outside_its_group(world: World) -> Planted:
    cidr = parse_prefix("10.0.200.0/26")  # of r2
    world.spans[cidr] = Span(cidr=cidr, network="n4", host="h1")
    return FindingKind.OUT_OF_PLAN, cidr, "outside the host's group"


def span_of_no_network(world: World) -> Planted:
    cidr = parse_prefix("192.168.0.0/26")
    world.spans[cidr] = Span(cidr=cidr, network="gone", host="h1")
    return FindingKind.OUT_OF_PLAN, cidr, "which the plan does not have"


def block_outside_its_span(world: World) -> Planted:
    block = world.some_block()
    cidr = parse_prefix("10.0.77.0/29")
    world.blocks[cidr] = msgspec.structs.replace(block, cidr=cidr, network="n4")
    world.written[cidr] = 101
    return FindingKind.OUT_OF_PLAN, cidr, "outside its span"


def delegated_static_block(world: World) -> Planted:
    block = world.some_block()
    network = next(one for one in world.plan.networks if one.name == block.network)
    fixed = msgspec.structs.replace(network, static=(block.cidr,))
    networks = tuple(fixed if one.name == fixed.name else one for one in world.plan.networks)
    world.plan = msgspec.structs.replace(world.plan, networks=networks)
    return FindingKind.OUT_OF_PLAN, block.cidr, "is delegated"


def address_outside_its_block(world: World) -> Planted:
    endpoint = world.some_published()
    first = endpoint.allocations[0]
    other = next(cidr for cidr, one in world.blocks.items() if one.host == "h1" and cidr != first.block)
    wrong = msgspec.structs.replace(first, block=other)
    world.endpoints[endpoint.id] = msgspec.structs.replace(endpoint, allocations=(wrong, *endpoint.allocations[1:]))
    return FindingKind.OUT_OF_PLAN, first.address, "outside its block"


def address_of_no_block(world: World) -> Planted:
    endpoint = world.some_published()
    del world.blocks[endpoint.allocations[0].block]
    return FindingKind.OUT_OF_PLAN, endpoint.allocations[0].address, "which is not there"


def second_address_of_no_block(world: World) -> Planted:
    endpoint = world.endpoints["h1-0"]
    del world.blocks[endpoint.allocations[1].block]
    return FindingKind.OUT_OF_PLAN, endpoint.allocations[1].address, "which is not there"


def block_of_another_host_than_its_endpoints(world: World) -> Planted:
    endpoint = world.some_published()
    first = endpoint.allocations[0]
    world.blocks[first.block] = msgspec.structs.replace(world.blocks[first.block], host="h2")
    return FindingKind.OUT_OF_PLAN, first.address, "of host h2, not of h1"


def blacked_out(world: World) -> Planted:
    endpoint = world.some_published()
    address = endpoint.addresses[0]
    cidr = Prefix(address.family, address.value, address.length)
    world.blackouts[cidr] = Blackout(cidr=cidr, network="n4")
    return FindingKind.OUT_OF_PLAN, cidr, "is blacked out"


def unallocated(world: World) -> Planted:
    address = STATIC.address(5)
    world.change("h2", strays={address: "romstray"})
    return FindingKind.UNALLOCATED, address, "link romstray"


def another_use(world: World) -> Planted:
    endpoint = world.some_published()
    seen = world.observations["h1"]
    later = {one.address: one.sequence + 1000 for one in endpoint.allocations}
    world.change("h1", endpoints={**seen.endpoints, endpoint.id: later})
    return FindingKind.DISAGREEMENT, endpoint.addresses[0], "in the records and"


def unknown_to_the_records(world: World) -> Planted:
    endpoint = world.some_published()
    del world.endpoints[endpoint.id]
    return FindingKind.DISAGREEMENT, endpoint.addresses[0], "the records do not have it"


def block_unknown_to_its_agent(world: World) -> Planted:
    block = world.some_block()
    seen = world.observations["h1"]
    world.change("h1", blocks={cidr: one for cidr, one in seen.blocks.items() if cidr != block.cidr})
    return FindingKind.DISAGREEMENT, block.cidr, "does not have it"


def block_with_another_owner(world: World) -> Planted:
    block = world.some_block()
    seen = world.observations["h1"]
    other = BlockState(sequence=block.sequence + 1, owner=Owner("blue", "db"))
    world.change("h1", blocks={**seen.blocks, block.cidr: other})
    return FindingKind.DISAGREEMENT, block.cidr, "owned by blue/db"


def block_of_nobody(world: World) -> Planted:
    cidr = parse_prefix("10.0.99.0/29")
    world.change("h1", blocks={**world.observations["h1"].blocks, cidr: BlockState(sequence=3)})
    return FindingKind.DISAGREEMENT, cidr, "nowhere"


def block_of_another_host(world: World) -> Planted:
    block = world.some_block("h3")
    world.change("h1", blocks={**world.observations["h1"].blocks, block.cidr: BlockState(sequence=3)})
    return FindingKind.DOUBLY_OWNED, block.cidr, "at host h3"


PLANTS: list[Callable[[World], Planted]] = [
    leaked,
    forgotten_by_its_agent,
    reservation_of_a_host_that_is_gone,
    host_gone,
    orphan_span,
    orphan_block,
    address_in_two_endpoints,
    address_at_two_agents,
    reserved_address_of_somebody_else,
    overlapping_spans,
    overlapping_blocks,
    block_in_another_hosts_span,
    handed_out_while_retired,
    span_outside_its_group,
    span_of_no_network,
    block_outside_its_span,
    delegated_static_block,
    address_outside_its_block,
    address_of_no_block,
    second_address_of_no_block,
    block_of_another_host_than_its_endpoints,
    blacked_out,
    unallocated,
    another_use,
    unknown_to_the_records,
    block_unknown_to_its_agent,
    block_with_another_owner,
    block_of_nobody,
    block_of_another_host,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_what_is_planted_is_found(plant: Callable[[World], Planted], seed: int) -> None:
    world = World(seed)
    kind, cidr, words = plant(world)
    found = world.check()
    assert [one for one in found if one.kind is kind and one.cidr == cidr and words in one.sentence], found
    assert all(str(one.cidr).count("/") == 1 for one in found)


@given(seed=seeds, plants=st.lists(st.sampled_from(PLANTS[:2]), max_size=2))
@settings(max_examples=20, deadline=None)
def test_a_report_reads_back_as_it_was_written_and_is_always_in_the_same_order(
    seed: int, plants: list[Callable[[World], Planted]]
) -> None:
    world = World(seed)
    for plant in plants:
        plant(world)
    found = world.check()
    report = sorted_findings(found)
    assert report == sorted_findings(reversed(found))
    assert decode(encode(report), tuple[Finding, ...]) == report
    observation = world.observations["h1"]
    assert decode(encode(observation), Observation) == observation


def test_nothing_an_observation_shows_is_actionable_by_itself() -> None:
    for plant in (leaked, unallocated):
        world = World(1)
        plant(world)
        (found,) = world.check()
        assert (found.observed, found.actionable) == (True, False)


def test_a_fixed_address_whose_user_has_no_agent_is_no_finding() -> None:
    world = World(1)
    world.reserve("vm2", "h1", STATIC.address(2))
    endpoint = world.endpoints.pop("vm2/eth0")
    kept = {name: held for name, held in world.observations["h1"].endpoints.items() if name != endpoint.id}
    world.change("h1", endpoints=kept)
    assert world.check() == []


def test_endpoints_without_addresses_are_nothing_to_find() -> None:
    world = World(1)
    for name, host in (("bare", "h1"), ("lost", "nobody")):
        world.endpoints[name] = world.endpoint(name, host, [])
    assert world.check() == []


def test_blocks_of_the_control_plane_are_no_hosts_business() -> None:
    world = World(1)
    assert world.blocks[STATIC].host == ""
    assert not [one for one in world.check() if STATIC.overlaps(one.cidr)]
