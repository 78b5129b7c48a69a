from __future__ import annotations

from typing import Any

import msgspec
import pytest

from romana.codec.text import parse_address, parse_prefix
from romana.core.routing.check import route_differences
from romana.model.report import BlockState, Observation
from romana.model.route import DevicePlan, Mismatch, ObservedRoutes

SPAN, LONE, STRAY = parse_prefix("10.1.0.0/24"), parse_address("10.9.0.1"), parse_prefix("10.7.0.0/24")
ONE = parse_address("10.1.0.3")
PLAN = DevicePlan(device="h1", serves="/r1", originates=(SPAN, LONE), routes=())
ROUTES = ObservedRoutes(blackholes=(SPAN,), announced=(SPAN, LONE), revision=5)
SEEN = Observation(
    host="h1",
    epoch=1,
    number=1,
    incarnation="i",
    revision=5,
    endpoints={"web": {ONE: 1}, "vm": {LONE: 2}},
    blocks={parse_prefix("10.1.0.0/29"): BlockState(sequence=1, used=1)},
    routes=ROUTES,
)


def found(*, new: bool = False, plan: DevicePlan = PLAN, seen: Observation = SEEN, **routes: Any) -> list[Mismatch]:
    seen = msgspec.structs.replace(seen, routes=msgspec.structs.replace(ROUTES, **routes))
    return [one.kind for one in route_differences(plan, seen, lambda _: new)]


def test_nothing_differs_where_all_is_as_planned() -> None:
    assert found() == []
    assert route_differences(PLAN, msgspec.structs.replace(SEEN, routes=None), lambda _: False) == ()


@pytest.mark.parametrize(
    ("routes", "kinds"),
    [
        ({"blackholes": ()}, [Mismatch.NO_BLACKHOLE]),
        ({"blackholes": (SPAN, STRAY)}, [Mismatch.STRAY_BLACKHOLE]),
        ({"announced": (SPAN,)}, [Mismatch.NOT_ANNOUNCED]),
        ({"announced": None}, [Mismatch.NOT_ANNOUNCED] * 2),
        ({"announced": None, "daemon": False}, []),
        ({"announced": (SPAN, LONE, STRAY)}, [Mismatch.STRAY_ANNOUNCEMENT]),
        ({"announced": (SPAN,), "held": False}, [Mismatch.STRAY_ANNOUNCEMENT]),
        ({"announced": (), "held": False}, []),
        ({"unrouted": (ONE,)}, [Mismatch.NO_ENDPOINT_ROUTE]),
    ],
)
def test_every_difference_has_its_name(routes: dict[str, Any], kinds: list[Mismatch]) -> None:
    assert found(**routes) == kinds


def test_what_the_agent_could_not_know_yet_is_no_difference() -> None:
    assert found(new=True, blackholes=(), announced=()) == []


def test_an_endpoint_that_comes_or_goes_is_no_difference() -> None:
    pending = msgspec.structs.replace(SEEN, pending_endpoints=("web",))
    assert found(seen=pending, unrouted=(ONE,)) == []


def test_a_route_that_nobody_allocated_and_a_block_that_lies_elsewhere_are_told() -> None:
    strays = msgspec.structs.replace(SEEN, strays={parse_address("10.1.0.9"): "rom1"})
    assert found(seen=strays) == [Mismatch.STRAY_ENDPOINT_ROUTE]
    moved = msgspec.structs.replace(PLAN, originates=(LONE,))
    assert found(plan=moved, blackholes=(), announced=(LONE,)) == [Mismatch.LED_ELSEWHERE]


def test_a_sentence_says_why_the_agents_last_round_failed() -> None:
    seen = msgspec.structs.replace(SEEN, routes=msgspec.structs.replace(ROUTES, announced=(), problem="BIRD is away"))
    for one in route_differences(PLAN, seen, lambda _: False):
        assert one.sentence.endswith("its last round failed: BIRD is away")
