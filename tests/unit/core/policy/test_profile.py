"""The algebra of profiles against plain sets of (protocol, port)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.core.policy.profile import (
    allows,
    complement,
    covers,
    intersection,
    meets,
    profile_from,
    profile_words,
    union,
)
from romana.model.policy import ICMP, TCP, UDP, Traffic
from romana.model.program import ACCEPT, DROP, Profile

PROTOCOLS = (TCP, UDP, 132, ICMP, 58, 47)
PORTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 65533, 65534, 65535)
POINTS = frozenset({(protocol, port) for protocol in PROTOCOLS if protocol != 47 for port in PORTS} | {(47, 0)})

some_traffic = st.builds(
    lambda protocol, ends: Traffic(protocol, min(ends), max(ends)),
    st.sampled_from([None, *PROTOCOLS]),
    st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)),
)
some_profile = st.lists(some_traffic, max_size=4).map(profile_from) | st.lists(some_traffic, max_size=4).map(
    lambda traffic: complement(profile_from(traffic))
)


def points(profile: Profile) -> frozenset[tuple[int, int]]:
    return frozenset(point for point in POINTS if allows(profile, *point))


def named(traffic: Traffic) -> frozenset[tuple[int, int]]:
    """The points a rule's traffic means, from the words of the model."""
    if traffic.protocol is None and (traffic.first, traffic.last) == (0, 65535):
        return POINTS
    protocols = (6, 17, 132) if traffic.protocol is None else (traffic.protocol,)
    return frozenset(
        (protocol, port) for protocol, port in POINTS if protocol in protocols and traffic.first <= port <= traffic.last
    )


@given(st.lists(some_traffic, min_size=1, max_size=4))
def test_traffic_is_the_sum_of_its_parts(traffic: list[Traffic]) -> None:
    assert points(profile_from(traffic)) == frozenset[tuple[int, int]]().union(*map(named, traffic))


def test_no_traffic_is_all_traffic() -> None:
    assert profile_from(()) == ACCEPT


@given(some_profile, some_profile)
def test_operations_are_those_of_sets(one: Profile, other: Profile) -> None:
    assert points(union(one, other)) == points(one) | points(other)
    assert points(intersection(one, other)) == points(one) & points(other)
    assert points(complement(one)) == POINTS - points(one)


@given(some_profile, some_profile, some_profile)
def test_equal_functions_are_equal_values(one: Profile, other: Profile, third: Profile) -> None:
    assert union(one, other) == union(other, one)
    assert union(one, union(other, third)) == union(union(one, other), third)
    assert complement(complement(one)) == one
    assert complement(union(one, other)) == intersection(complement(one), complement(other))
    assert union(intersection(one, other), intersection(one, complement(other))) == one
    assert union(one, complement(one)) == ACCEPT
    assert intersection(one, complement(one)) == DROP
    assert union(one, one) == intersection(one, one) == one


@given(some_profile)
def test_canonical_form(profile: Profile) -> None:
    protocols = [protocol for protocol, _ in profile.protocols]
    assert protocols == sorted(set(protocols))
    for _, intervals in profile.protocols:
        assert intervals != (((0, 65535),) if profile.default else ())
        assert all(one[1] + 1 < other[0] for one, other in pairwise(intervals))
        assert all(0 <= first <= last <= 65535 for first, last in intervals)


@given(some_profile, some_traffic)
def test_covering_and_meeting(profile: Profile, traffic: Traffic) -> None:
    asked = profile_from([traffic])
    assert covers(profile, traffic) == (intersection(profile, asked) == asked)
    assert meets(profile, traffic) == (intersection(profile, asked) != DROP)


def test_adjacent_ranges_become_one() -> None:
    assert profile_from([Traffic(TCP, 80, 80), Traffic(TCP, 81, 90)]) == profile_from([Traffic(TCP, 80, 90)])
    assert profile_from([Traffic(TCP, 0, 79), Traffic(TCP, 80, 65535)]) == profile_from([Traffic(TCP)])


@pytest.mark.parametrize(
    ("traffic", "text"),
    [
        (Traffic(), "any"),
        (Traffic(TCP), "tcp"),
        (Traffic(TCP, 80, 80), "tcp/80"),
        (Traffic(UDP, 53, 60), "udp/53-60"),
        (Traffic(ICMP, 2048, 2303), "icmp/8"),
        (Traffic(ICMP, 769, 769), "icmp/3/1"),
        (Traffic(47), "47"),
    ],
)
def test_traffic_in_words(traffic: Traffic, text: str) -> None:
    assert str(traffic) == text


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (ACCEPT, "accept"),
        (DROP, "drop"),
        (profile_from([Traffic(UDP, 53, 60), Traffic(TCP, 80, 80)]), "tcp/80, udp/53-60"),
        (complement(profile_from([Traffic(TCP, 25, 25)])), "all but tcp/25"),
    ],
)
def test_profiles_in_words(profile: Profile, words: str) -> None:
    assert profile_words(profile) == words
