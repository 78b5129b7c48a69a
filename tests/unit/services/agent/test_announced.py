"""What a host announces beside its spans: a fixed address that an endpoint of it uses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from romana.codec.text import parse_address
from romana.model.errors import NotFound
from romana.model.route import Route, RouteKind
from romana.services.agent.attachments import link_plan
from romana.services.agent.kernel import Kernel
from romana.services.control.addresses import AddressVerbs
from tests.unit.services.agent.site import PLAN, Site, run

FIXED: dict[str, Any] = {
    **PLAN,
    "networks": [{**PLAN["networks"][0], "static": ["10.1.0.128/28"]}, PLAN["networks"][1]],
}


def test_a_fixed_address_is_announced_and_blackholed_as_long_as_the_host_uses_it() -> None:
    async def test(site: Site) -> None:
        spans = set(site.agent.ledger.view.spans)
        addresses = AddressVerbs(site.control.core)
        request = {"name": "vm", "tenant": "red", "segment": "web", "networks": ["pods4"], "sticky": True}
        lone = (await addresses.give(request)).allocations[0].address
        await addresses.use("vm", {"host": "h1", "endpoint": "vm/eth0"})
        await site.until(lambda: site.daemon.running == {*spans, lone})
        assert site.kernel.routing[lone] == Route(prefix=lone, kind=RouteKind.BLACKHOLE)
        routes = site.control.core.state.routes
        assert [(one.prefix, one.host, one.name, one.home) for one in routes.exceptions()] == [
            (lone, "h1", "vm", "/r1")
        ]
        assert lone in {route.prefix for route in routes.device_plan("/r1").routes}
        await addresses.end_use("vm")
        await site.until(lambda: site.daemon.running == spans)
        assert not list(routes.exceptions())
        assert site.kernel.routing[lone] == Route(prefix=lone, kind=RouteKind.BLACKHOLE)  # others may send it here
        site.clock.now += 3
        await site.until(lambda: lone not in site.kernel.routing)

    run(test, FIXED)


def test_an_endpoints_route_takes_the_place_of_its_blackhole_and_leaves_it_again() -> None:
    async def test(site: Site) -> None:
        endpoint = (await site.add(1)).endpoint
        view = msgspec.structs.replace(site.agent.ledger.view, announced=endpoint.addresses)
        await site.delete(1)
        await site.until(lambda: not site.kernel.plans)
        await site.stop()
        kernel = Kernel(site.kernel.ports, [])
        kernel.plumb(view, complete=True, fresh=True)
        black = {one: Route(prefix=one, kind=RouteKind.BLACKHOLE) for one in endpoint.addresses}
        linked = {one: Route(prefix=one, link=endpoint.link) for one in endpoint.addresses}
        assert site.kernel.routing.items() >= black.items()
        kernel.admit(endpoint, link_plan(endpoint), view)
        assert site.kernel.routing.items() >= linked.items()
        kernel.dismiss(endpoint)
        assert site.kernel.routing.items() >= black.items()
        site.kernel.ports.links.delete(endpoint.link)
        assert site.kernel.routing.items() >= black.items()
        site.kernel.namespaces.clear()
        with pytest.raises(NotFound, match="namespace"):
            kernel.admit(endpoint, link_plan(endpoint), view)
        assert site.kernel.routing.items() >= black.items()
        assert kernel.plumb(view, complete=True, fresh=True).total == 0
        assert parse_address("10.1.0.200") not in site.kernel.routing

    run(test)


def test_a_view_that_begins_or_ends_to_announce_an_endpoints_address_leaves_its_route() -> None:
    async def test(site: Site) -> None:
        endpoint = (await site.add(1)).endpoint
        view = site.agent.ledger.view
        kernel = Kernel(site.kernel.ports, [endpoint])
        kernel.plumb(view, complete=True, fresh=True)
        before = dict(site.kernel.routing)
        for announced in (endpoint.addresses, ()):
            kernel.plumb(msgspec.structs.replace(view, announced=announced), complete=True, fresh=False)
            assert site.kernel.routing == before

    run(test)
