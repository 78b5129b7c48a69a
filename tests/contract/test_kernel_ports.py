"""What links and routes of every host promise to the agent's services: the fake, and the kernel in namespaces."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from romana.adapters.linux.links import KernelLinks
from romana.adapters.linux.routes import KernelRoutes
from romana.codec.text import parse_address, parse_prefix
from romana.core.diff import Changes
from romana.model.errors import AlreadyExists, NotFound
from romana.model.route import Route, RouteKind
from romana.ports import LinkPlan, Links, Routes
from tests.fakes.kernel import FakeKernel
from tests.probes.spaces import spaces, within

ADDRESSES = (parse_address("10.1.2.3"), parse_address("fd00:1::3"))
SPAN = parse_prefix("10.1.2.0/24")


class Ports:
    """Links and routes of a host with one pod's namespace."""

    def __init__(self, links: Links, routes: Routes, pod: str) -> None:
        self.links = links
        self.routes = routes
        self.plan = LinkPlan(link="rom0123456789ab", netns=pod, interface="eth0", addresses=ADDRESSES, mtu=1400)


@pytest.fixture(params=["fake", "kernel"])
def ports(request: pytest.FixtureRequest) -> Iterator[Ports]:
    if request.param == "fake":
        kernel = FakeKernel("/run/netns/pod")
        yield Ports(kernel.ports.links, kernel.ports.routes, "/run/netns/pod")
        return
    with spaces("host", "pod") as made, within(made["host"]), KernelLinks() as links, KernelRoutes() as routes:
        yield Ports(links, routes, made["pod"])


def test_created_link_is_read_with_its_routes_and_checks(ports: Ports) -> None:
    state = ports.links.create(ports.plan)
    assert ports.links.read() == {state.link: state}
    assert ports.routes.read() == {address: Route(prefix=address, link=state.link) for address in ADDRESSES}
    assert ports.links.check(ports.plan) == []
    assert ports.links.check(msgspec.structs.replace(ports.plan, mtu=1300)) != []


def test_second_link_of_a_name_or_interface_is_refused_and_the_first_stays(ports: Ports) -> None:
    ports.links.create(ports.plan)
    with pytest.raises(AlreadyExists, match="rom0123456789ab"):
        ports.links.create(ports.plan)
    with pytest.raises(AlreadyExists, match="eth0"):
        ports.links.create(msgspec.structs.replace(ports.plan, link="romffffffffffff"))
    assert ports.links.check(ports.plan) == []
    assert list(ports.links.read()) == ["rom0123456789ab"]


def test_link_without_a_namespace_leaves_nothing(ports: Ports) -> None:
    with pytest.raises(NotFound):
        ports.links.create(msgspec.structs.replace(ports.plan, netns="/run/netns/romt-none"))
    assert (ports.links.read(), ports.routes.read()) == ({}, {})


def test_deleted_link_takes_its_routes_along_and_deleting_repeats(ports: Ports) -> None:
    ports.links.create(ports.plan)
    ports.links.delete(ports.plan.link, "romffffffffffff")
    assert (ports.links.read(), ports.routes.read()) == ({}, {})
    assert len(ports.links.check(ports.plan)) == 1
    ports.links.delete(ports.plan.link)


def test_routes_go_in_and_out_and_name_a_missing_link(ports: Ports) -> None:
    blackhole = Route(prefix=SPAN, kind=RouteKind.BLACKHOLE)
    ports.routes.apply(Changes({SPAN: blackhole}, {}, {}))
    ports.routes.apply(Changes({SPAN: blackhole}, {}, {}))
    assert ports.routes.read() == {SPAN: blackhole}
    ports.routes.apply(Changes({}, {}, {SPAN: blackhole}))
    ports.routes.apply(Changes({}, {}, {SPAN: blackhole}))
    assert ports.routes.read() == {}
    with pytest.raises(NotFound, match="romffffffffffff"):
        ports.routes.apply(Changes({ADDRESSES[0]: Route(prefix=ADDRESSES[0], link="romffffffffffff")}, {}, {}))


def test_route_of_a_link_that_was_taken_away_can_be_put_back(ports: Ports) -> None:
    ports.links.create(ports.plan)
    route = Route(prefix=ADDRESSES[0], link=ports.plan.link)
    ports.routes.apply(Changes({}, {}, {ADDRESSES[0]: route}))
    assert ports.links.check(ports.plan) == ["the host has no route to 10.1.2.3 on that link"]
    ports.routes.apply(Changes({ADDRESSES[0]: route}, {}, {}))
    assert ports.links.check(ports.plan) == []
