from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.core.planner.load import Course, Load, draw

LOADS = st.builds(
    Load,
    hosts=st.integers(1, 12),
    pods=st.integers(0, 120),
    tenants=st.integers(1, 9),
    apart=st.sampled_from([0.0, 0.4, 1.0]),
    spread=st.booleans(),
    churn=st.sampled_from([0.0, 3.0, 40.0]),
    hours=st.just(1.0),
    seed=st.integers(0, 1000),
)


def alive(course: Course) -> Counter[int]:
    """Endpoints of each workload at the end."""
    found: Counter[int] = Counter()
    for event in (event for events in course.events for event in events):
        found[event.workload] += 1 if event.starts else -1
    return found


@given(LOADS)
@settings(max_examples=60, deadline=None)
def test_a_load_has_its_endpoints_and_each_starts_and_ends_once(load: Load) -> None:
    course = draw(load)
    assert len(course.events) == load.hosts
    assert sum(alive(course).values()) == load.pods
    for host, events in enumerate(course.events):
        assert [event.at for event in events] == sorted(event.at for event in events), host
        running: set[int] = set()
        for event in events:
            assert (event.pod in running) is not event.starts
            running ^= {event.pod}
    assert draw(load).events == course.events


@given(LOADS)
@settings(max_examples=30, deadline=None)
def test_churn_changes_neither_the_workloads_nor_their_sizes(load: Load) -> None:
    still = msgspec.structs.replace(load, churn=0.0)
    assert +alive(draw(load)) == +alive(draw(still))


def test_workloads_share_owners_by_tenant_or_have_their_own() -> None:
    load = Load(hosts=10, pods=500, tenants=5, seed=4)
    together, apart = draw(load), draw(msgspec.structs.replace(load, apart=1.0))
    assert set(together.owner_of) == set(range(5))
    assert len(set(apart.owner_of)) == len(apart.owner_of) == len(together.owner_of)


def test_spread_workloads_go_to_different_hosts() -> None:
    course = draw(Load(hosts=40, pods=600, tenants=3, median=10, sigma=0.5, churn=0, spread=True))
    hosts_of: dict[int, list[int]] = {}
    for host, events in enumerate(course.events):
        for event in events:
            hosts_of.setdefault(event.workload, []).append(host)
    assert all(len(set(hosts)) == min(len(hosts), 40) for hosts in hosts_of.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_first_tenants_are_the_large_ones(seed: int) -> None:
    course = draw(Load(hosts=100, pods=20_000, tenants=50, churn=0, seed=seed, sigma=1.0))
    sizes = Counter(course.tenant_of[event.workload] for events in course.events for event in events)
    assert len(sizes) == 50
    assert sum(sizes[tenant] for tenant in range(5)) > 0.35 * 20_000


def test_watching_some_hosts_changes_nothing_about_them() -> None:
    load = Load(hosts=30, pods=600, tenants=3, hours=2.0)
    assert draw(load, 4).events == draw(load).events[:4]
    assert len(draw(load, 99).events) == 30
