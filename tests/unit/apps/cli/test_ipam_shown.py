from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.apps.cli.ipam import SHARES, bar, shares, short

KINDS = [kind for _, _, kinds, _ in SHARES for kind in kinds]
counts = st.fixed_dictionaries(dict.fromkeys(KINDS, st.integers(0, 1 << 80)))


@given(counts, st.integers(10, 40))
def test_a_bar_fills_its_width_and_shows_everything_that_is_there(item: dict[str, int], width: int) -> None:
    found = shares(item, width)
    whole = sum(item.values())
    assert sum(found) == (width if whole else 0)
    for size, (_, _, kinds, _) in zip(found, SHARES, strict=True):
        assert bool(size) == any(item[kind] for kind in kinds)


def test_a_bar_is_in_proportion() -> None:
    item = dict.fromkeys(KINDS, 0) | {"used": 50, "spare": 50}
    assert shares(item, 20) == [10, 0, 0, 0, 10]
    plain = bar(item, 20).replace("\x1b[32m", "").replace("\x1b[0m", "")
    assert plain == "#" * 10 + "." * 10


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (99_999, "99999"), (100_000, "100k"), (999_999, "1M"), (16_777_216, "16.8M"), (1 << 80, "2^80")],
)
def test_numbers_stay_short(number: int, text: str) -> None:
    assert short(number) == text


@given(st.integers(0, 1 << 128))
def test_no_number_is_long(number: int) -> None:
    assert len(short(number)) <= 5
