"""What a host holds depends on the state alone, never on the way to it: every state is reached from every other one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from romana.codec.nft import render_table
from romana.core.diff import diff
from romana.core.policy.compile import compile_program
from romana.core.routing import host_routes
from romana.core.ruleset import Ruleset, desired_ruleset, ruleset_changes
from romana.core.view import apply_change, diff_view
from romana.model.address import Prefix
from romana.model.ipam import Span
from romana.model.route import Route, RouteKind
from romana.model.view import View
from tests.fakes.filter import FakeFilter
from tests.fakes.views import view_of_world

from .policy_states import STATES, State

HOST = "h1"


def view_of(state: State, revision: int) -> View:
    """The host's view, in which each of its blocks is a span of its own."""
    world = state.world
    spans = {cidr: Span(cidr=cidr, network=one.network, host=one.host) for cidr, one in world.blocks.items()}
    return view_of_world(world, compile_program(world), HOST, revision=revision, spans=spans)


def holds(state: State, view: View) -> tuple[Ruleset, dict[Prefix, Route]]:
    """The table and the routes that the host should have."""
    local = [endpoint for endpoint in state.world.endpoints.values() if endpoint.host == HOST]
    return desired_ruleset(view, local), dict(host_routes(view))


@pytest.mark.parametrize("make", STATES, ids=[one.__name__ for one in STATES])
def test_a_host_has_a_blackhole_a_span_and_an_element_an_address(make: Callable[[], State]) -> None:
    state = make()
    table, routes = holds(state, view_of(state, 1))
    assert {prefix: route.kind for prefix, route in routes.items()} == dict.fromkeys(
        state.world.blocks, RouteKind.BLACKHOLE
    )
    sources = {key.prefix for key in table.elements if key.map.startswith("sources")}
    assert sources == {address for endpoint in state.world.endpoints.values() for address in endpoint.addresses}
    assert "table inet romana" in render_table(table)


@pytest.mark.parametrize("first", STATES, ids=[one.__name__ for one in STATES])
def test_every_state_is_the_same_from_wherever_it_is_reached(first: Callable[[], State]) -> None:
    for second in STATES:
        table = FakeFilter()
        kernel: dict[Prefix, Route] = {}
        view = View()
        for number, state in enumerate((first(), second(), first()), start=1):
            new = view_of(state, number)
            change = diff_view(view, new)
            view = apply_change(view, change) if change is not None else new
            desired, routes = holds(state, view)
            table.apply(ruleset_changes(desired, table.read()))
            changes = diff(routes, kernel)
            kernel = {
                key: route
                for key, route in {**kernel, **changes.add, **changes.replace}.items()
                if key not in changes.remove
            }
            straight, straight_routes = holds(state, view_of(state, number))
            assert table.read() == straight
            assert kernel == straight_routes


def test_three_states_in_every_order_end_alike() -> None:
    ends: dict[str, Ruleset | None] = {}
    for order in permutations(STATES[:4]):
        table = FakeFilter()
        for number, make in enumerate(order, start=1):
            state = make()
            desired, _ = holds(state, view_of(state, number))
            table.apply(ruleset_changes(desired, table.read()))
        assert ends.setdefault(order[-1].__name__, table.read()) == table.read()
    assert len(ends) == 4
