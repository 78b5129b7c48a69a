"""Which prefixes are full, against counting addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.core.ipam.occupied import Occupied
from romana.model.address import Family, Prefix

WHOLE = Prefix(Family.V4, 0x0A000000, 27)


def _inside(length: int, index: int) -> Prefix:
    return WHOLE.subnet(length, index % (1 << (length - WHOLE.length)))


PREFIXES = st.builds(_inside, st.integers(WHOLE.length, 32), st.integers(0, 31))


def _widest(taken: list[Prefix], candidate: Prefix) -> Prefix | None:
    """The same by looking at each address."""
    covered = {value for one in taken for value in range(one.value, one.last + 1)}
    for length in range(candidate.length + 1):
        wider = candidate.supernet(length)
        if wider.size <= WHOLE.size and covered.issuperset(range(wider.value, wider.last + 1)):
            return wider
    return None


@given(st.lists(PREFIXES, max_size=12), st.data())
def test_what_is_full_is_what_counting_addresses_says(added: list[Prefix], data: st.DataObject) -> None:
    occupied = Occupied()
    for prefix in added:
        occupied.add(prefix)
    left = list(added)
    for prefix in data.draw(st.lists(st.sampled_from(added), max_size=12) if added else st.just([])):
        if prefix in left:
            left.remove(prefix)
            occupied.remove(prefix)
    for length in range(WHOLE.length, 33):
        for candidate in WHOLE.subnets(length):
            widest = _widest(left, candidate)
            assert occupied.over(candidate) == widest, candidate
            part = candidate if any(candidate.overlaps(one) for one in left) else None
            assert occupied.touching(candidate) == (widest or part), candidate


@given(st.lists(PREFIXES, max_size=12), st.data())
def test_what_is_touched_stays_so_for_as_long_as_something_is_in_it(added: list[Prefix], data: st.DataObject) -> None:
    occupied = Occupied()
    left: list[Prefix] = []
    for prefix in added:
        candidate = data.draw(PREFIXES)
        assert (occupied.touching(candidate) is not None) == any(candidate.overlaps(one) for one in left)
        goes = data.draw(st.booleans())
        if left and goes:
            gone = data.draw(st.sampled_from(left))
            left.remove(gone)
            occupied.remove(gone)
        else:
            left.append(prefix)
            occupied.add(prefix)


def test_what_was_not_added_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        Occupied().remove(WHOLE)
