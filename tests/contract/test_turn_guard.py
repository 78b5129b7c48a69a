"""What a guard against packets that go round promises: the fake, and nftables in a network namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from romana.adapters.linux.turns import NftTurnGuard
from romana.codec.text import parse_prefix
from romana.model.route import Turns
from romana.ports import TurnGuard
from tests.fakes.kernel import FakeKernel, FakeTurnGuard
from tests.probes.spaces import spaces, within

INSIDE = (parse_prefix("10.0.0.0/8"), parse_prefix("10.1.0.0/16"), parse_prefix("fd00::/48"))
TURNS = Turns(back=(("up1",), ("up2",), ("side1", "side2")), inside=INSIDE)


@pytest.fixture(params=["fake", "kernel"])
def guard(request: pytest.FixtureRequest) -> Iterator[TurnGuard]:
    if request.param == "fake":
        yield FakeTurnGuard(FakeKernel())
        return
    with spaces("router", tag="ct") as made, within(made["router"]):
        nft = NftTurnGuard()
        try:
            yield nft
        finally:
            nft.close()


def test_what_is_kept_already_is_no_change(guard: TurnGuard) -> None:
    assert guard.dropped() == 0
    assert guard.keep(TURNS)
    assert not guard.keep(TURNS)
    assert guard.dropped() == 0
    assert guard.keep(Turns(back=(("up1",),), inside=INSIDE))
    assert guard.keep(Turns(back=(("side1",), ("side2",)), inside=INSIDE[2:]))


@pytest.mark.parametrize("nothing", [Turns(), Turns(inside=INSIDE), Turns(back=(("up1",),))])
def test_without_a_turn_or_an_address_there_is_nothing(guard: TurnGuard, nothing: Turns) -> None:
    assert not guard.keep(nothing)
    assert guard.keep(TURNS)
    assert guard.keep(nothing)
    assert not guard.remove()


def test_what_was_removed_is_kept_again(guard: TurnGuard) -> None:
    assert not guard.remove()
    guard.keep(TURNS)
    assert guard.remove()
    assert not guard.remove()
    assert guard.keep(TURNS)
