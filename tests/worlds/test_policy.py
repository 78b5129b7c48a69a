"""Named states have exactly the rows that are written beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from romana.core.policy.compile import compile_program
from romana.core.policy.profile import profile_words
from romana.core.policy.world import PolicyWorld
from romana.model.address import Prefix
from romana.model.policy import Direction

from .policy_states import STATES, State, readable_rows


def compiled_rows(world: PolicyWorld) -> dict[str, dict[str, str]]:
    program = compile_program(world)

    def entries(identity: str, direction: str) -> Mapping[Prefix, str]:
        row = program.rows[program.row_ids[program.classes[identity]].of(Direction(direction))]
        return {prefix: profile_words(program.profiles[id_]) for prefix, id_ in row.entries.items()}

    return readable_rows(world, entries)


@pytest.mark.parametrize("make", STATES, ids=[one.__name__ for one in STATES])
def test_rows_of(make: Callable[[], State]) -> None:
    state = make()
    rows = compiled_rows(state.world)
    assert {name: rows[name] for name in state.rows} == state.rows
