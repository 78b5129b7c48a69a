"""Several hosts and the control plane through every order of events; the long run is `tests/soak/ipam_machine.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from romana.core.ipam.occupied import Occupied
from romana.core.ipam.own_blocks import OwnBlocks
from romana.core.ipam.rooms import Rest
from romana.model.errors import RomanaError
from tests.soak import ipam_control
from tests.soak.ipam_machine import OPERATIONS, Machine, run_part


class Hosts(RuleBasedStateMachine):
    """The same machine, with hypothesis to decide."""

    @initialize()
    def start(self) -> None:
        self.machine = Machine(lambda count: 0)

    @rule(operation=st.sampled_from(OPERATIONS), data=st.data())
    def step(self, operation: Callable[[Machine], None], data: st.DataObject) -> None:
        self.machine.choose = lambda count: data.draw(st.integers(0, count - 1))
        operation(self.machine)
        self.machine.check()

    def teardown(self) -> None:
        """Nothing is left when everything was given back."""
        if hasattr(self, "machine"):
            self.machine.finish()


TestHosts = Hosts.TestCase
STEPS = 50
EXAMPLES = int(os.environ.get("ROMANA_TEST_EXAMPLES", "40"))  # many more in the soak
TestHosts.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_part_ends_empty_and_every_operation_was_made(seed: int) -> None:
    machine = run_part(seed, 1500)
    assert machine.counts.keys() == {operation.__name__ for operation in OPERATIONS}


know = OwnBlocks._know


def forget_since(blocks: OwnBlocks, rest: Rest) -> None:
    rest.since = -999
    know(blocks, rest)


PLANTED: dict[str, tuple[object, str, Callable[..., object]]] = {
    "anybody may have an address": (OwnBlocks, "may_have", lambda blocks, rest, identity: True),
    "nothing is taken": (Occupied, "over", lambda occupied, candidate: None),
    "a closed block goes on": (OwnBlocks, "close", lambda blocks, cidr, sequence: None),
    "what was taken is stock again": (OwnBlocks, "_as_taken", lambda blocks, block: block),
    "nothing rests": (OwnBlocks, "_know", forget_since),
    "what is retired is free": (ipam_control, "acknowledged", lambda retired, applied: list(retired)),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*PLANTED[bug])
    with pytest.raises((AssertionError, KeyError, RomanaError)):
        run_parts(range(1, 9))


def run_parts(seeds: Iterable[int]) -> None:
    for seed in seeds:
        run_part(seed, 1500)
