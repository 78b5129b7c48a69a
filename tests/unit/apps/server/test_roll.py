"""The order of a big table, page by page, while the table changes."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from romana.apps.server import roll as roll_module
from romana.apps.server.roll import Roll


async def _listing(roll: Roll[str], size: int, changes: list[tuple[str, bool]], keys: dict[str, None]) -> list[str]:
    found: list[str] = []
    last = None
    while page := await roll.after(last, size):
        found += page
        last = page[-1]
        if changes:
            key, there = changes.pop()
            if there:
                keys[key] = None
            else:
                keys.pop(key, None)
    return found


@settings(max_examples=100, deadline=None)
@given(
    st.sets(st.text("abc", max_size=3)),
    st.integers(1, 4),
    st.lists(st.tuples(st.text("abc", max_size=3), st.booleans()), max_size=4),
)
def test_a_listing_has_what_was_there_from_its_first_page_to_its_last(
    there: set[str], size: int, changes: list[tuple[str, bool]]
) -> None:
    keys = dict.fromkeys(there)
    revision = [0]

    async def body() -> None:
        roll: Roll[str] = Roll(keys.keys, lambda key: key, lambda: revision[0])
        touched = {key for key, _ in changes}
        found = await _listing(roll, size, list(changes), keys)
        assert found == sorted(found)
        assert set(found) - touched == there - touched
        revision[0] += 1
        assert await _listing(roll, size, [], keys) == sorted(keys)

    short = roll_module.RUN
    roll_module.RUN = 3
    try:
        asyncio.run(body())
    finally:
        roll_module.RUN = short
