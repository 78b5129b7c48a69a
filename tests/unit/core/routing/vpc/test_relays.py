from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from romana.core.routing.vpc.health import Level
from romana.core.routing.vpc.relays import choose, preference
from tests.unit.core.routing.vpc.sites import route

HOSTS = ["a", "b", "c"]
LEVELS = st.fixed_dictionaries({host: st.sampled_from(Level) for host in HOSTS})


def given_levels(a: Level, b: Level, c: Level = Level.GONE) -> dict[str, Level]:
    return {"a": a, "b": b, "c": c}


def test_tables_and_groups_are_spread_over_hosts_and_families_are_together() -> None:
    names = tuple(f"h{number}" for number in range(4))
    firsts = Counter(
        preference(f"rtb-{number}", route("100.96.0.0/13", *names, group="s:/a"))[0] for number in range(400)
    )
    assert len(firsts) == 4
    assert min(firsts.values()) > 50
    four, six = route("100.96.0.0/13", *names, group="s:/a"), route("fd00::/40", *names, group="s:/a")
    assert preference("rtb-1", four) == preference("rtb-1", six)


def test_one_host_more_takes_only_what_it_gets() -> None:
    few = route("100.96.0.0/13", "h1", "h2", "h3", group="s:/a")
    more = msgspec.structs.replace(few, hosts=("h1", "h2", "h3", "h4"))
    for number in range(100):
        old, new = preference(f"rtb-{number}", few), preference(f"rtb-{number}", more)
        assert new[0] in (old[0], "h4")
        assert [host for host in new if host != "h4"] == old


def test_away_from_a_host_that_fails_and_back_when_the_preferred_one_is_settled() -> None:
    assert choose(HOSTS, "a", given_levels(Level.GONE, Level.SETTLED)) == "b"
    assert choose(HOSTS, "a", given_levels(Level.FAILING, Level.WELL)) == "b"
    assert choose(HOSTS, "b", given_levels(Level.WELL, Level.SETTLED)) == "b"
    assert choose(HOSTS, "b", given_levels(Level.SETTLED, Level.SETTLED)) == "a"


def test_with_nobody_better_the_route_stays() -> None:
    assert choose(HOSTS, "b", given_levels(Level.FAILING, Level.FAILING)) == "b"
    assert choose(HOSTS, "b", given_levels(Level.GONE, Level.GONE)) == "b"
    assert choose(HOSTS, "b", given_levels(Level.FAILING, Level.GONE)) == "a"
    assert choose(HOSTS, "b", given_levels(Level.WELL, Level.WELL)) == "b"
    assert choose([], "", {}) == ""


def test_a_new_route_goes_to_the_best_and_to_nobody_when_all_are_gone() -> None:
    assert choose(HOSTS, "", given_levels(Level.WELL, Level.SETTLED)) == "b"
    assert choose(HOSTS, "", given_levels(Level.FAILING, Level.GONE)) == "a"
    assert choose(HOSTS, "", given_levels(Level.GONE, Level.GONE)) == ""
    assert choose(HOSTS, "elsewhere", given_levels(Level.WELL, Level.WELL)) == "a"


def test_a_host_that_drains_is_left_for_another_that_is_settled() -> None:
    assert choose(HOSTS, "a", given_levels(Level.SETTLED, Level.SETTLED), {"a"}) == "b"
    assert choose(HOSTS, "a", given_levels(Level.WELL, Level.SETTLED), {"a"}) == "b"
    assert choose(HOSTS, "a", given_levels(Level.SETTLED, Level.FAILING), {"a"}) == "a"


@given(LEVELS, st.sampled_from([*HOSTS, ""]), st.sets(st.sampled_from(HOSTS)))
def test_a_choice_is_at_least_as_good_and_stays(levels: dict[str, Level], current: str, draining: set[str]) -> None:
    chosen = choose(HOSTS, current, levels, draining)
    assert choose(HOSTS, chosen, levels, draining) == chosen
    if current and chosen != current:
        assert levels[chosen] >= levels[current]
        assert levels[chosen] > Level.GONE
    if not current:
        assert bool(chosen) == any(level > Level.GONE for level in levels.values())
