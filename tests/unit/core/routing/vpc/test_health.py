from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.core.routing.vpc.health import Health, HealthTimes, Level, Sign, Verdict, follow, judge, settling_time
from romana.model.vpc import VpcPlan
from tests.unit.core.routing.vpc.sites import instance, places, vpc_host

TIMES = HealthTimes(silent=60, fail_over=5, fail_back=100, most_fail_back=1000)


def levels(*looks: tuple[int, Sign]) -> Iterator[Level]:
    known: dict[str, Health] = {}
    for now, sign in looks:
        known = follow(known, {"h": Verdict(sign=sign)}, now, TIMES)
        yield known["h"].level


@pytest.mark.parametrize(
    ("host", "machine", "unanswered", "sign", "why"),
    [
        ({}, {}, 0, Sign.WELL, ""),
        ({}, {}, 2, Sign.WELL, ""),
        ({}, {}, 3, Sign.UNWELL, "did not answer 3 probes"),
        ({"silent": 61}, {}, 0, Sign.UNWELL, "not heard from for 61 s"),
        ({"silent": None}, {}, 0, Sign.WELL, ""),
        ({"fenced": True}, {}, 0, Sign.GONE, "lease is over"),
        ({"joined": False}, {}, 0, Sign.UNWELL, "no agent"),
        ({}, {"status": "impaired"}, 0, Sign.UNWELL, "status checks of instance i-one fail"),
        ({}, {"status": "initializing"}, 0, Sign.WELL, ""),
        ({}, {"state": "stopping"}, 0, Sign.GONE, "instance i-one is stopping"),
    ],
    ids=[
        "well",
        "two-probes",
        "three-probes",
        "silent",
        "unknown",
        "fenced",
        "no-agent",
        "impaired",
        "young",
        "stopping",
    ],
)
def test_what_is_seen_has_a_sign_and_a_reason(
    host: dict[str, str], machine: dict[str, str], unanswered: int, sign: Sign, why: str
) -> None:
    one = msgspec.structs.replace(vpc_host("h", "10.0.0.1"), **host)
    place = places(VpcPlan(revision=1, hosts=(one,)), instance("one", "10.0.0.1", **machine))["h"]
    found = judge(one, place, unanswered, TIMES)
    assert (found.sign, found.awaited) == (sign, "probes" in why)
    assert why in found.why


def test_what_may_pass_is_waited_for_and_what_is_certain_is_not() -> None:
    start = [(0, Sign.WELL), (100, Sign.WELL)]
    assert list(levels(*start, (101, Sign.UNWELL), (105, Sign.UNWELL), (106, Sign.UNWELL))) == [
        *(Level.WELL, Level.SETTLED, Level.SETTLED, Level.SETTLED, Level.FAILING)
    ]
    assert list(levels(*start, (101, Sign.GONE)))[-1] is Level.GONE
    assert list(levels(*start, (101, Sign.UNWELL), (104, Sign.WELL), (106, Sign.UNWELL)))[-1] is Level.SETTLED


def test_a_host_that_failed_is_preferred_again_when_it_was_well_for_a_time_that_doubles() -> None:
    known: dict[str, Health] = {}
    waited = []
    now = 0
    for _ in range(6):
        known = follow(known, {"h": Verdict(sign=Sign.GONE)}, now, TIMES)
        began = now = now + 1
        while True:
            known = follow(known, {"h": Verdict(sign=Sign.WELL)}, now, TIMES)
            if known["h"].level is Level.SETTLED:
                break
            now += 1
        waited.append(now - began)
        now += 1
    assert waited == [100, 200, 400, 800, 1000, 1000]
    for later in (now, now + 4000):
        known = follow(known, {"h": Verdict(sign=Sign.WELL)}, later, TIMES)
    assert settling_time(known["h"], TIMES) == 100


def test_probes_were_waited_for_when_they_were_made() -> None:
    known = follow({}, {"h": Verdict(sign=Sign.WELL)}, 0, TIMES)
    assert follow(known, {"h": Verdict(sign=Sign.UNWELL)}, 1, TIMES)["h"].level is Level.WELL
    assert follow(known, {"h": Verdict(sign=Sign.UNWELL, awaited=True)}, 1, TIMES)["h"].level is Level.FAILING


def test_a_host_that_was_never_seen_well_is_not_waited_for() -> None:
    assert list(levels((0, Sign.UNWELL))) == [Level.FAILING]


def test_a_host_that_goes_from_gone_to_unwell_is_still_failing() -> None:
    assert list(levels((0, Sign.GONE), (1, Sign.UNWELL), (2, Sign.WELL))) == [Level.GONE, Level.FAILING, Level.WELL]


def test_hosts_that_are_not_looked_at_are_forgotten() -> None:
    known = follow({}, {"a": Verdict(sign=Sign.WELL), "b": Verdict(sign=Sign.WELL)}, 0, TIMES)
    assert set(follow(known, {"b": Verdict(sign=Sign.WELL)}, 1, TIMES)) == {"b"}


@given(st.lists(st.tuples(st.integers(1, 60), st.sampled_from(Sign)), max_size=60))
def test_settled_means_well_for_long_and_nothing_certain_is_overlooked(looks: list[tuple[int, Sign]]) -> None:
    known: dict[str, Health] = {}
    now, unbroken = 0, 0
    for passed, sign in looks:
        now += passed
        before = known.get("h")
        known = follow(known, {"h": Verdict(sign=sign)}, now, TIMES)
        health = known["h"]
        unbroken = unbroken + passed if before is not None and before.sign is Sign.WELL and sign is Sign.WELL else 0
        assert (health.level is Level.GONE) == (sign is Sign.GONE)
        if health.level is Level.SETTLED and (before is None or not before.settled):
            assert unbroken >= TIMES.fail_back
