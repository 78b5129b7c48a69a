"""The arithmetic of weights, against Romana v2's formula and against what any cutting must keep."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.core.topology.parts import cut
from romana.model.address import Family, Prefix


def romana_v2(cidr: Prefix, count: int) -> list[Prefix]:
    """The published formula: P parts, the next power of two; child i starts at start + (i << bits)."""
    slots = 1
    while slots < count:
        slots *= 2
    free = cidr.family.bits - cidr.length
    bits = free - (slots.bit_length() - 1)
    return [Prefix(cidr.family, cidr.value + (index << bits), cidr.family.bits - bits) for index in range(slots)]


cidrs = st.sampled_from(["10.0.0.0/8", "10.112.0.0/12", "100.96.0.0/11", "192.168.0.0/24", "fd00::/48"])


@given(cidrs, st.integers(1, 40), st.integers(0, 20))
def test_equal_weights_are_romana_v2s_parts_bit_for_bit(cidr: str, count: int, spare: int) -> None:
    whole = parse_prefix(cidr)
    parts = cut(whole, [1] * count, spare)
    assert parts is not None
    assert [*parts.children, *parts.spare] == romana_v2(whole, count + spare)


@given(cidrs, st.integers(1, 8), st.integers(1, 9))
def test_weights_that_are_all_the_same_change_nothing_for_the_children(cidr: str, count: int, weight: int) -> None:
    whole = parse_prefix(cidr)
    one, many = cut(whole, [1] * count), cut(whole, [weight] * count)
    assert one is not None
    assert many is not None
    assert one.children == many.children


@given(cidrs, st.lists(st.integers(1, 300), min_size=1, max_size=12), st.integers(0, 5))
def test_parts_are_apart_and_the_whole_and_in_proportion(cidr: str, weights: list[int], spare: int) -> None:
    whole = parse_prefix(cidr)
    parts = cut(whole, weights, spare)
    if parts is None:
        assert whole.family is Family.V4
        return
    every = sorted([*parts.children, *parts.spare])
    assert all(one.last + 1 == two.value for one, two in pairwise(every))
    assert (every[0].value, every[-1].last) == (whole.value, whole.last)
    unit = Fraction(min(part.size for part in parts.children), 1 << (min(weights) - 1).bit_length())
    for part, weight in zip(parts.children, weights, strict=True):
        assert weight * unit <= part.size < 2 * weight * unit
    assert [part.size for part in parts.spare[:spare]] == [unit] * spare


def test_parts_of_one_weight_keep_their_order() -> None:
    parts = cut(parse_prefix("10.0.0.0/24"), [1, 4, 1, 4, 2])
    assert parts is not None
    assert [str(part) for part in parts.children] == [
        "10.0.0.160/28",
        "10.0.0.0/26",
        "10.0.0.176/28",
        "10.0.0.64/26",
        "10.0.0.128/27",
    ]


@pytest.mark.parametrize(
    ("cidr", "weights", "spare", "fits"),
    [
        pytest.param("10.0.0.0/31", [1, 1], 0, True, id="one-address-each"),
        pytest.param("10.0.0.0/31", [1, 1, 1], 0, False, id="three-of-two"),
        pytest.param("10.0.0.0/31", [2, 2], 0, True, id="weights-without-a-unit"),
        pytest.param("10.0.0.0/31", [2], 1, False, id="spare-needs-a-unit"),
        pytest.param("10.0.0.0/32", [5], 0, True, id="an-only-child-has-all"),
        pytest.param("fd00::/126", [3, 1], 0, False, id="v6"),
    ],
)
def test_what_does_not_fit(cidr: str, weights: list[int], spare: int, fits: bool) -> None:
    assert (cut(parse_prefix(cidr), weights, spare) is not None) is fits
