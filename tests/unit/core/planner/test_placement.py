from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.core.planner import placement
from romana.core.planner.load import Load, draw
from romana.core.planner.placement import HostNeeds, Rules, needs
from romana.services.agent import rooms
from tests.unit.core.planner.real_host import RealHost

SIMPLE = Rules(block=8, span=16, mixed=0, stock=0, low=0)
RULES = st.builds(
    Rules,
    block=st.sampled_from([1, 2, 4, 8, 16]),
    span=st.sampled_from([1, 2, 8, 32]),
    mixed=st.integers(0, 4),
    stock=st.integers(0, 4),
    low=st.integers(0, 4),
)
LOADS = st.builds(
    Load,
    hosts=st.integers(1, 4),
    pods=st.integers(0, 90),
    tenants=st.integers(1, 12),
    apart=st.sampled_from([0.0, 0.5, 1.0]),
    churn=st.sampled_from([0.0, 5.0, 60.0]),
    sigma=st.sampled_from([0.5, 1.9]),
    hours=st.just(1.0),
    seed=st.integers(0, 1000),
)


def in_all(load: Load, rules: Rules) -> Counter[str]:
    course = draw(load)
    found: Counter[str] = Counter()
    for host in range(load.hosts):
        found.update(msgspec.structs.asdict(needs(course, rules, host=host)))
    return found


def test_the_look_ahead_is_the_agents() -> None:
    assert placement.LOOK_AHEAD == rooms.LOW


def test_workload_sized_owners_leave_most_of_each_block_empty() -> None:
    """1,000 hosts, 49,000 endpoints at random, /29: about 1.14 endpoints a block, and 14 % of the addresses used."""
    found = in_all(Load(hosts=1000, pods=49_000, tenants=245, apart=1.0, churn=0.0), SIMPLE)
    assert found["endpoints"] == 49_000
    assert found["endpoints"] / found["owned"] == pytest.approx(1.14, abs=0.03)
    assert found["endpoints"] / (found["owned"] * 8) == pytest.approx(0.14, abs=0.005)


def test_tenants_as_owners_and_mixed_blocks_each_need_fewer_blocks() -> None:
    load = Load(hosts=200, pods=200 * 49, tenants=49, churn=0.0)
    apart = in_all(msgspec.structs.replace(load, apart=1.0), SIMPLE)
    together = in_all(load, SIMPLE)
    shared = in_all(load, msgspec.structs.replace(SIMPLE, mixed=2))
    assert apart["owned"] > 1.4 * together["owned"]
    assert together["owned"] > 1.5 * (shared["owned"] + shared["mixed"])


@given(LOADS, RULES)
@settings(max_examples=80, deadline=None)
def test_what_a_host_has_fits_together(load: Load, rules: Rules) -> None:
    course = draw(load)
    there = [needs(course, rules, host=host) for host in range(load.hosts)]
    for one in there:
        assert one.endpoints <= (one.owned + one.mixed) * rules.block
        assert one.blocks <= one.spans * rules.span
        assert one.in_mixed <= one.mixed * rules.block
        assert one.blocks <= one.most_blocks
        assert one.stock <= rules.stock
        assert one.away_unknown + one.away_full <= one.away_starts
        assert rules.mixed or not one.mixed
    before_away = msgspec.structs.replace(load, away=0.0)
    if load.churn == 0:
        assert sum(one.endpoints for one in there) == load.pods
        assert [needs(draw(before_away), rules, host=host) for host in range(load.hosts)] == there


@given(LOADS, RULES)
@settings(max_examples=40, deadline=None)
def test_networks_of_some_tenants_share_the_endpoints_among_them(load: Load, rules: Rules) -> None:
    course = draw(load)
    some = frozenset(range(0, load.tenants, 2))
    rest = frozenset(range(load.tenants)) - some
    for host in range(load.hosts):
        whole = needs(course, rules, host=host)
        parts = [needs(course, rules, host=host, only=only) for only in (some, rest)]
        assert sum(part.endpoints for part in parts) == whole.endpoints
        assert sum(part.starts for part in parts) == whole.starts


@given(LOADS, RULES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_model_has_the_blocks_that_claims_and_address_books_have(load: Load, rules: Rules, still: bool) -> None:
    """Each owner with one identity, and claims only when they are needed: then the model is not an estimate.

    With churn there is one long span, since the real host leaves the places of what is given back empty.
    """
    course = draw(msgspec.structs.replace(load, apart=1.0, away=0.0, churn=0.0 if still else load.churn))
    rules = msgspec.structs.replace(rules, low=0, span=rules.span if still else 1 << 13)
    for host in range(load.hosts):
        real = RealHost(rules, course).run(course.events[host])
        assert numbers(needs(course, rules, host=host)) == numbers(real)


@given(LOADS, RULES.filter(lambda rules: rules.block >= 8))
@settings(max_examples=30, deadline=None)
def test_identities_that_share_blocks_and_claims_ahead_differ_by_little(load: Load, rules: Rules) -> None:
    """An identity may use the blocks that it is declared in, where the model knows owners only, and an address book may
    see addresses that are gone when it looks whether few are left.
    """
    course = draw(msgspec.structs.replace(load, away=0.0))
    rules = msgspec.structs.replace(rules, span=1 << 13)
    for host in range(load.hosts):
        real = RealHost(rules, course).run(course.events[host])
        assert abs(needs(course, rules, host=host).blocks - real.blocks) <= 2 + 0.15 * real.blocks


def numbers(found: HostNeeds) -> dict[str, int]:
    return {key: getattr(found, key) for key in ("endpoints", "owned", "mixed", "stock", "spans", "in_mixed", "claims")}
