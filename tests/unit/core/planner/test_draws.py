from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from romana.core.planner.draws import Draws


def test_the_numbers_are_those_of_splitmix64() -> None:
    """The first numbers of the seed 1234567, as the generator's authors publish them."""
    draws = Draws(1234567)
    assert [draws.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(0, 1 << 64), st.integers(1, 50))
def test_draws_stay_below_their_limit_and_repeat_with_the_seed(seed: int, limit: int) -> None:
    one, other = Draws(seed), Draws(seed)
    found = [one.below(limit) for _ in range(20)]
    assert found == [other.below(limit) for _ in range(20)]
    assert all(0 <= number < limit for number in found)
    assert 0 <= one.unit() < 1


def test_every_number_comes_about_as_often() -> None:
    draws = Draws(7)
    counts = Counter(draws.below(8) for _ in range(16_000))
    assert min(counts.values()) > 1_800
    assert max(counts.values()) < 2_200


def test_normal_numbers_have_mean_0_and_deviation_1() -> None:
    draws = Draws(3)
    found = [draws.normal() for _ in range(20_000)]
    assert abs(sum(found) / len(found)) < 0.03
    assert abs(sum(number**2 for number in found) / len(found) - 1) < 0.03


def test_shuffling_keeps_all_values() -> None:
    values = list(range(100))
    Draws(1).shuffle(values)
    assert sorted(values) == list(range(100))
    assert values != list(range(100))
