"""Notices of routes: changes of ours by others are told from our own, and from those of routes that are not ours."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from romana.adapters.linux.route_events import RouteEvents
from romana.adapters.linux.routes import KernelRoutes
from romana.codec.text import parse_prefix
from romana.core.diff import Changes
from romana.model.address import Prefix
from romana.model.route import Route, RouteKind
from tests.probes.spaces import shell, spaces, within

HELD = [parse_prefix(text) for text in ("10.1.0.0/24", "fd00:1::/64")]


def put(*wanted: Route) -> Changes[Prefix, Route]:
    return Changes({route.prefix: route for route in wanted}, {}, {})


@pytest.fixture
def events() -> Iterator[RouteEvents]:
    with spaces("routes") as made, within(made["routes"]):
        shell("ip link set lo up; ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
        with KernelRoutes() as routes:
            listener = RouteEvents(lambda: (routes.port,))
            routes.apply(put(*(Route(prefix=one, kind=RouteKind.BLACKHOLE) for one in HELD)))
            assert select.select([listener], [], [], 1)[0]
            assert not listener.changed()
            yield listener
            listener.close()


@pytest.mark.parametrize(
    "command",
    [
        "ip route del blackhole 10.1.0.0/24 proto 146",
        "ip -6 route del blackhole fd00:1::/64 proto 146",
        "ip route flush proto 146",
        "ip route add 10.2.0.0/24 dev up0 proto 146",
        "ip route replace 10.1.0.0/24 dev up0 proto 146",
    ],
)
def test_what_others_do_to_our_routes_is_news(events: RouteEvents, command: str) -> None:
    shell(command)
    assert select.select([events], [], [], 1)[0]
    assert events.changed()
    assert not events.changed()


@pytest.mark.parametrize("command", ["ip route add 10.3.0.0/24 dev up0", "ip route add fd03::/64 dev up0 proto bird"])
def test_routes_of_others_are_no_news(events: RouteEvents, command: str) -> None:
    shell(command)
    assert select.select([events], [], [], 1)[0]
    assert not events.changed()
