"""Notices of nftables: changes by others are told from our own."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from romana.adapters.linux.netns import inside
from romana.adapters.linux.nft_events import TableEvents
from romana.core.ruleset import desired_ruleset, ruleset_changes
from tests.fakes.rulesets import endpoint, entries, view
from tests.probes.onehost import OneHost, one_host

WORLD = view({"in_web": entries(), "out_web": entries("0.0.0.0/0 accept")})


@pytest.fixture(scope="module")
def built() -> Iterator[OneHost]:
    with one_host("e") as host:
        yield host


@pytest.fixture
def host(built: OneHost) -> OneHost:
    desired = desired_ruleset(WORLD, [endpoint(1)])
    built.table.apply(ruleset_changes(desired, None))
    return built


@pytest.fixture
def events(host: OneHost) -> Iterator[TableEvents]:
    with inside(host.spaces["host"]):
        listener = TableEvents(lambda: host.table.ports)
    yield listener
    listener.close()


def news(events: TableEvents) -> bool:
    select.select([events], [], [], 1)
    return events.changed()


def test_nothing_happened(events: TableEvents) -> None:
    assert not events.changed()


def test_our_own_changes_are_no_news(host: OneHost, events: TableEvents) -> None:
    host.table.add_endpoint(endpoint(2), "in_web", "out_web")
    host.table.remove_endpoint(endpoint(2))
    host.table.apply(ruleset_changes(desired_ruleset(WORLD, [endpoint(1)]), None))
    assert select.select([events], [], [], 1)[0]
    assert not events.changed()


@pytest.mark.parametrize(
    "command",
    [
        "flush ruleset",
        "delete table inet romana",
        "insert rule inet romana ingress accept",
        "delete element inet romana endpoints_in4 { 10.0.0.1 }",
        "flush chain inet romana source",
    ],
)
def test_changes_by_others_are_news(host: OneHost, events: TableEvents, command: str) -> None:
    host.nft(command)
    assert news(events)
    assert not events.changed()


def test_other_tables_are_no_news(host: OneHost, events: TableEvents) -> None:
    host.nft("add table inet other\nadd chain inet other romana\nadd table ip romana\ndelete table inet other")
    assert select.select([events], [], [], 1)[0]
    assert not events.changed()


def test_news_beside_our_own_changes_are_news(host: OneHost, events: TableEvents) -> None:
    host.table.add_endpoint(endpoint(2), "in_web", "out_web")
    host.nft("flush chain inet romana source")
    assert news(events)


def test_more_than_the_socket_holds_is_news(host: OneHost, events: TableEvents) -> None:
    elements = ", ".join(f"10.{a}.{b}.{c}" for a in range(4) for b in range(100) for c in range(0, 250, 5))
    host.nft(f"add table ip big\nadd set ip big many {{ type ipv4_addr; }}\nadd element ip big many {{ {elements} }}")
    assert news(events)
    host.nft("delete table ip big")
