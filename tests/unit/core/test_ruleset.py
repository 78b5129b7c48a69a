"""What the table of a host should be, without nftables."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.core.ruleset import (
    Element,
    Kind,
    Range,
    Ruleset,
    Shape,
    desired_ruleset,
    lookups,
    ruleset_changes,
)
from romana.model.address import Address, Family, Prefix
from romana.model.errors import Invalid
from tests.fakes.rulesets import HTTP, NOT_HTTP, STORE, WEB, endpoint, entries, prefix, view

SPACE = prefix("10.0.0.0/26")


def small(length: int, number: int) -> Prefix:
    return SPACE.subnet(length, number % (1 << (length - SPACE.length)))


row_entries = st.dictionaries(
    st.builds(small, st.integers(26, 32), st.integers(0, 63)), st.sampled_from(["accept", "drop", HTTP.id]), max_size=14
)


def most_specific(row: dict[Prefix, str], address: Address) -> str:
    return row[max((one for one in row if one.contains(address)), key=lambda one: one.length)]


def looked_up(ruleset: Ruleset, row: str, address: Address) -> str:
    """What the chain of the row finds: each map in turn, then drop."""
    for name, lookup in lookups(ruleset.shape, (row,), common=False).items():
        if lookup.family is not address.family:
            continue
        if lookup.kind is Kind.RANGE:
            found = [part.verdict for part in ruleset.ranges[name] if part.first <= address.value <= part.last]
            assert len(found) < 2, "ranges overlap"
            return found[0] if found else "drop"
        key = Element(name, address.supernet(lookup.length) if lookup.length else address)
        if key in ruleset.elements:
            return ruleset.elements[key]
    return "drop"


@given(row_entries, st.sampled_from([(29,), (27, 30), (28, 29, 30), (32,), ()]))
@settings(max_examples=150, deadline=None)
def test_looking_up_finds_the_most_specific_entry(row: dict[Prefix, str], lengths: tuple[int, ...]) -> None:
    full = {**entries(), **row}
    world = view({"in_web": full, "out_web": entries()}, block_lengths=tuple((length, 122) for length in lengths))
    ruleset = desired_ruleset(world, [endpoint(1)])
    assert ruleset.shape.blocks4 == tuple(sorted({length for length in lengths if length < 32}, reverse=True))
    for offset in range(SPACE.size):
        address = SPACE.address(offset)
        assert looked_up(ruleset, "in_web", address) == most_specific(full, address)
    assert looked_up(ruleset, "in_web", Address(Family.V4, SPACE.value - 1)) == "drop"


def test_a_block_that_hides_a_range_becomes_one() -> None:
    row = entries("0.0.0.0/0 accept", "192.168.0.0/29 drop", "192.168.0.4/30 accept", "10.0.0.0/29 drop")
    ruleset = desired_ruleset(view({"in_web": row, "out_web": entries()}), [endpoint(1)])
    assert [key for key in ruleset.elements if key.map == "in_web_4_block29"] == [
        Element("in_web_4_block29", prefix("10.0.0.0/29"))
    ]
    hidden = prefix("192.168.0.0/29").value
    assert ruleset.ranges["in_web_4_range"] == (
        Range(0, hidden - 1, "accept"),
        Range(hidden + 4, (1 << 32) - 1, "accept"),
    )


def test_neighbouring_ranges_of_one_verdict_are_one() -> None:
    row = entries("10.0.0.0/9 accept", "10.128.0.0/9 accept", f"11.0.0.0/8 {HTTP.id}")
    ruleset = desired_ruleset(view({"in_web": row, "out_web": entries()}), [endpoint(1)])
    assert ruleset.ranges["in_web_4_range"] == (
        Range(10 << 24, (11 << 24) - 1, "accept"),
        Range(11 << 24, (12 << 24) - 1, HTTP.id),
    )


def test_only_what_is_in_use_is_there() -> None:
    rows = {
        "in_web": entries(f"10.0.0.9 {HTTP.id}"),
        "out_web": entries(),
        "in_store": entries(f"10.0.0.1 {NOT_HTTP.id}"),
        "out_store": entries(),
    }
    ruleset = desired_ruleset(view(rows), [endpoint(1)])
    assert set(ruleset.rows) == {"in_web", "out_web"}
    assert set(ruleset.profiles) == {HTTP.id}
    assert desired_ruleset(view(rows), []).rows == {}


def test_an_endpoint_of_both_families_is_six_elements() -> None:
    world = view({"in_web": entries(), "out_web": entries()})
    one = desired_ruleset(world, [endpoint(1)])
    two = desired_ruleset(world, [endpoint(1), endpoint(2)])
    changes = ruleset_changes(two, one)
    assert len(changes) == len(changes.elements.add) == 6
    assert len(desired_ruleset(world, [endpoint(2, families=(Family.V4,))]).elements) == 3


def test_an_endpoint_without_an_identity_or_a_row_keeps_only_its_source() -> None:
    unknown = desired_ruleset(view({"in_web": entries(), "out_web": entries()}, identities={}), [endpoint(1)])
    rowless = desired_ruleset(view({"in_web": entries()}), [endpoint(1)])
    for ruleset in (unknown, rowless):
        assert {key.map for key in ruleset.elements} == {"sources4", "sources6"}
        assert not ruleset.rows


def test_a_profile_that_is_missing_drops() -> None:
    world = view({"in_web": entries(f"10.0.0.9 {HTTP.id}"), "out_web": entries()}, profiles=())
    ruleset = desired_ruleset(world, [endpoint(1)])
    assert ruleset.elements[Element("in_web_4", prefix("10.0.0.9"))] == "drop"
    assert not ruleset.profiles


def test_a_fourth_block_length_is_refused_with_all_of_them() -> None:
    world = view({}, block_lengths=((29, 122), (28, 121), (27, 120), (26, 119)))
    with pytest.raises(Invalid, match="/26, /27, /28, /29") as refused:
        desired_ruleset(world, [])
    assert len(refused.value.faults) == 2


def test_other_words_of_a_row_are_no_change() -> None:
    world = view({"in_web": entries(), "out_web": entries()})
    ruleset = desired_ruleset(world, [endpoint(1)])
    read = Ruleset(
        shape=ruleset.shape,
        rows=dict.fromkeys(ruleset.rows, "old words"),
        maps=ruleset.maps,
        ranges=ruleset.ranges,
    )
    assert not ruleset_changes(ruleset, read)


def test_a_missing_table_or_another_shape_replaces_all() -> None:
    world = view({"in_web": entries(), "out_web": entries()})
    ruleset = desired_ruleset(world, [endpoint(1)])
    assert ruleset_changes(ruleset, None).table == ruleset
    assert ruleset_changes(ruleset, Ruleset(shape=Shape((28,), (122,)))).table == ruleset


def test_the_order_of_endpoints_changes_nothing() -> None:
    world = view({name: entries() for name in ("in_web", "out_web", "in_store", "out_store")})
    some = [endpoint(1, WEB), endpoint(2, STORE), endpoint(3, WEB)]
    one, other = desired_ruleset(world, some), desired_ruleset(world, reversed(some))
    assert one == other
    assert list(one.elements) == list(other.elements)


def test_addresses_outside_of_the_spans_are_kept_for_endpoints_too() -> None:
    """A span may be withdrawn while its endpoints live: the world must not send with their addresses."""
    without = msgspec.structs.replace(view({}), spans={})
    start = Address(Family.V4, (10 << 24) + 1)
    assert desired_ruleset(without, [endpoint(1)]).ranges["spans4"] == (Range(start.value, start.value, "accept"),)
    assert len(desired_ruleset(without, [endpoint(1), endpoint(9)]).ranges["spans6"]) == 2
    inside = desired_ruleset(view({}), [endpoint(1), endpoint(9)])
    assert inside.ranges == desired_ruleset(view({}), []).ranges
