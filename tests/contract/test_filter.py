"""What every filter promises: the fake, and nftables in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from romana.adapters.linux.netns import inside, opened
from romana.adapters.linux.nftables import NftTable
from romana.core.ruleset import Ruleset, RulesetChanges, by_map, desired_ruleset, ruleset_changes
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, NotFound
from romana.model.view import View
from romana.ports import Filter
from tests.fakes.filter import FakeFilter
from tests.fakes.rulesets import HTTP, NOT_HTTP, STORE, WEB, endpoint, entries, view


@contextmanager
def namespace() -> Iterator[str]:
    name = f"romt-d{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture(params=["fake", "kernel"])
def table(request: pytest.FixtureRequest) -> Iterator[Filter]:
    if request.param == "fake":
        yield FakeFilter()
        return
    with namespace() as path, opened(path) as descriptor:
        with inside(descriptor):
            nft = NftTable()
        try:
            yield nft
        finally:
            nft.close()


WORLD = view(
    {
        "in_web": entries(
            f"10.0.0.0/8 {HTTP.id}", "10.0.0.8/29 accept", f"10.0.0.9 {NOT_HTTP.id}", "fd00::/122 accept"
        ),
        "out_web": entries("0.0.0.0/0 accept", "::/0 accept", "192.168.0.0/16 drop"),
        "in_store": entries("10.0.0.0/29 accept"),
        "out_store": entries(),
    }
)


def settle(table: Filter, world: View, *endpoints: Endpoint) -> Ruleset:
    desired = desired_ruleset(world, endpoints)
    table.apply(ruleset_changes(desired, table.read()))
    actual = table.read()
    assert actual is not None
    assert not ruleset_changes(desired, actual)
    assert (actual.elements, actual.ranges, actual.profiles) == (desired.elements, desired.ranges, desired.profiles)
    return actual


def test_there_is_no_table_at_first(table: Filter) -> None:
    assert table.read() is None


def test_what_is_applied_is_read_back(table: Filter) -> None:
    settle(table, WORLD, endpoint(1), endpoint(2, STORE))


@pytest.mark.parametrize(
    "order",
    [("none", "web", "both", "store", "none"), ("both", "none", "store", "web", "both"), ("web", "store", "web")],
    ids="-".join,
)
def test_the_result_depends_on_the_state_and_not_on_the_way(table: Filter, order: tuple[str, ...]) -> None:
    states = {
        "none": (),
        "web": (endpoint(1),),
        "both": (endpoint(1), endpoint(2, STORE)),
        "store": (endpoint(2, STORE),),
    }
    for state in order:
        settle(table, WORLD, *states[state])


def test_a_changed_verdict_replaces_its_element(table: Filter) -> None:
    settle(table, WORLD, endpoint(1))
    rows = {row: dict(WORLD.entries[row]) for row in WORLD.entries}
    rows["in_web"] = entries(
        "10.0.0.0/8 accept", f"10.0.0.8/29 {NOT_HTTP.id}", "10.0.0.9 accept", f"fd00::/122 {HTTP.id}"
    )
    settle(table, view(rows), endpoint(1))


def test_other_block_lengths_replace_the_table(table: Filter) -> None:
    settle(table, WORLD, endpoint(1))
    settle(table, view(WORLD.entries, block_lengths=((29, 122), (28, 120))), endpoint(1))


def test_an_endpoint_comes_and_goes_in_few_elements(table: Filter) -> None:
    before = settle(table, WORLD, endpoint(1))
    table.add_endpoint(endpoint(3), "in_web", "out_web")
    after = table.read()
    assert after is not None
    assert len(after.elements.keys() - before.elements.keys()) == 6
    assert after == settle(table, WORLD, endpoint(1), endpoint(3))
    table.remove_endpoint(endpoint(3))
    assert table.read() == before


def test_adding_an_endpoint_again_changes_its_rows(table: Filter) -> None:
    settle(table, WORLD, endpoint(1), endpoint(2, STORE), endpoint(3))
    table.add_endpoint(endpoint(3), "in_web", "out_web")
    table.add_endpoint(endpoint(3), "in_store", "out_store")
    table.add_endpoint(endpoint(1), "in_web", "out_web")
    settle(table, WORLD, endpoint(1), endpoint(2, STORE), endpoint(3, STORE))


def test_removing_an_endpoint_again_is_success(table: Filter) -> None:
    before = settle(table, WORLD, endpoint(1))
    table.remove_endpoint(endpoint(3))
    assert table.read() == before


def test_half_an_endpoint_is_taken_away(table: Filter) -> None:
    before = settle(table, WORLD, endpoint(1))
    desired = desired_ruleset(WORLD, [endpoint(1), endpoint(3)])
    half = dict([*sorted(desired.elements.items() - before.elements.items())][:3])
    partial = Ruleset(
        shape=before.shape,
        rows=before.rows,
        profiles=before.profiles,
        maps=by_map({**before.elements, **half}),
        ranges=before.ranges,
    )
    table.apply(ruleset_changes(partial, before))
    table.remove_endpoint(endpoint(3))
    assert table.read() == before


def test_an_endpoint_of_an_unknown_row_is_refused(table: Filter) -> None:
    before = settle(table, WORLD, endpoint(1))
    with pytest.raises(NotFound, match="in_store"):
        table.add_endpoint(endpoint(2, STORE), "in_store", "out_store")
    assert table.read() == before


def test_an_endpoint_without_a_table_is_refused(table: Filter) -> None:
    with pytest.raises(NotFound):
        table.add_endpoint(endpoint(1), "in_web", "out_web")
    table.remove_endpoint(endpoint(1))
    assert table.read() is None


def test_changes_made_from_a_stale_reading_change_nothing_that_a_packet_meets(table: Filter) -> None:
    stale = settle(table, WORLD, endpoint(1))
    before = settle(table, WORLD)
    wanted = desired_ruleset(WORLD, [endpoint(2, STORE)])
    with pytest.raises(Conflict):
        table.apply(ruleset_changes(wanted, stale))
    after = table.read()
    assert after is not None
    assert {name: after.maps[name] for name in before.maps} == before.maps
    assert {name: after.ranges[name] for name in before.ranges} == before.ranges
    settle(table, WORLD, endpoint(2, STORE))  # what is left over is no hindrance
    assert settle(table, WORLD) == before
    settle(table, WORLD, endpoint(1))
    with pytest.raises(Conflict):
        table.apply(ruleset_changes(desired_ruleset(WORLD, [endpoint(1)]), before))


def test_no_change_is_no_transaction(table: Filter) -> None:
    before = settle(table, WORLD, endpoint(1))
    changes = ruleset_changes(desired_ruleset(WORLD, [endpoint(1)]), before)
    assert not changes
    table.apply(changes)
    table.apply(RulesetChanges())
    assert table.read() == before


def test_an_identity_that_is_not_known_has_a_source_and_no_row(table: Filter) -> None:
    actual = settle(table, view(WORLD.entries, identities={"store": STORE}), endpoint(1, WEB))
    assert {key.map for key in actual.elements} == {"sources4", "sources6"}
