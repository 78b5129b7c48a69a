"""A host on a layer 2 network: its agent sets the routes to what is beside it, and takes them away again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from romana.codec.text import parse_prefix
from romana.model.address import Prefix
from romana.model.route import Mismatch, Route, RouteCheck, RouteKind
from romana.model.view import Hello
from romana.services.control.routes import route_check
from tests.unit.services.agent.site import PLAN, WEB, Site, run


def plan(**router: Any) -> dict[str, Any]:
    hosts = [
        {"name": f"h{number}", "addresses": [f"192.0.2.{number}", f"2001:db8::{number}"]} for number in range(1, 4)
    ]
    group = {"name": "r1", "hosts": hosts, "layer2": True, **router}
    return {**PLAN, "topologies": [{"name": "rack", "networks": ["pods4", "pods6"], "groups": [group]}]}


FLAT: dict[str, Any] = {
    **PLAN,
    "topologies": [
        {
            "name": "rack",
            "networks": ["pods4", "pods6"],
            "layer2": True,
            "hosts": plan()["topologies"][0]["groups"][0]["hosts"],
        }
    ],
}
NETWORKS = {parse_prefix("192.0.2.0/24"), parse_prefix("2001:db8::/64")}


async def join(site: Site, host: str) -> None:
    """Another host reports in, and gets its stock of spans."""
    await site.control._verbs.hello(Hello(host=host, instance=f"i-{host}"))


def via(site: Site) -> dict[str, list[str]]:
    """Prefixes and next hops of the routes to others."""
    return {
        str(prefix): [hop.text for hop in route.next_hops]
        for prefix, route in sorted(site.kernel.routing.items())
        if route.next_hops
    }


def spans_of(site: Site, host: str) -> list[str]:
    return sorted(str(span.cidr) for span in site.control.core.state.spans.values() if span.host == host)


async def check(site: Site) -> RouteCheck:
    number, asked, heard = await site.control.auditor.ask(0.5)
    return route_check(site.control.core.state, asked & {"h1"}, heard, number)


def test_what_others_claim_is_reached_by_their_addresses() -> None:
    async def test(site: Site) -> None:
        await join(site, "h2")
        four, six = spans_of(site, "h2")
        await site.until(lambda: via(site) == {four: ["192.0.2.2"], six: ["2001:db8::2"]})
        await site.until(lambda: not site.agent.status().problems)
        assert (await check(site)).differences == ()

    run(test, FLAT, NETWORKS)


def test_without_routers_the_whole_network_is_discarded_where_nobody_has_it() -> None:
    async def test(site: Site) -> None:
        whole = parse_prefix("10.1.0.0/24")
        assert site.kernel.routing[whole] == Route(prefix=whole, kind=RouteKind.BLACKHOLE)
        assert whole not in site.daemon.running

    run(test, FLAT, NETWORKS)


def test_a_change_reads_nothing_that_is_there_and_what_failed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    async def test(site: Site) -> None:
        routes = site.kernel.ports.routes
        read = routes.read

        def counted() -> Mapping[Prefix, Route]:
            nonlocal reads
            reads += 1
            return read()

        monkeypatch.setattr(routes, "read", counted)
        await join(site, "h2")
        await site.until(lambda: len(via(site)) == 2)
        assert not reads
        site.kernel.broken.add("routes")
        await join(site, "h3")
        await site.until(lambda: "no buffer space" in site.agent.reconciler.problem)
        site.kernel.routing.clear()
        site.kernel.broken.clear()
        await site.until(
            lambda: len(via(site)) == 4 and site.kernel.routing.keys() >= site.agent.ledger.view.spans.keys()
        )
        assert reads

    run(test, FLAT, NETWORKS)


def test_a_host_that_leaves_takes_its_routes_with_it() -> None:
    async def test(site: Site) -> None:
        await join(site, "h2")
        await join(site, "h3")
        await site.until(lambda: len(via(site)) == 4)
        await site.control.hosts.lost("h2")
        await site.until(lambda: sorted(via(site)) == sorted(spans_of(site, "h3")))

    run(test, FLAT, NETWORKS)


def test_a_neighbour_in_no_network_of_this_host_is_said_and_comes_with_the_network() -> None:
    async def test(site: Site) -> None:
        await join(site, "h2")
        await site.until(lambda: "segment" in site.agent.status().problems)
        assert (
            "no network of this host has an address of whoever has 10.1.0." in site.agent.status().problems["segment"]
        )
        found = (await check(site)).differences
        assert {one.kind for one in found} == {Mismatch.NO_NEXT_HOP}
        assert "no network of it has a next hop (192.0.2.2)" in found[0].sentence
        site.kernel.networks |= dict.fromkeys(NETWORKS, frozenset({"eth0"}))
        site.agent.reconciler.disturbed()
        await site.until(lambda: len(via(site)) == 2)

    run(test, FLAT)


def test_an_agent_that_starts_again_finds_its_routes_and_keeps_them() -> None:
    async def test(site: Site) -> None:
        await join(site, "h2")
        await site.until(lambda: len(via(site)) == 2)
        before = dict(site.kernel.routing)
        await site.stop()
        site.control.leave()
        await site.start(ready=False)
        await site.until(lambda: site.agent.reconciler.last_success is not None)
        assert site.kernel.routing == before
        site.control.come_back()

    run(test, FLAT, NETWORKS)


def test_routes_that_somebody_else_set_are_told_and_ours_are_put_right() -> None:
    async def test(site: Site) -> None:
        await join(site, "h2")
        await site.until(lambda: len(via(site)) == 2)
        prefix = parse_prefix(spans_of(site, "h2")[0])
        site.kernel.routing[prefix] = Route(prefix=prefix, next_hops=(next(iter(NETWORKS)).address(9),))
        site.agent.reconciler.disturbed()
        await site.until(lambda: via(site)[str(prefix)] == ["192.0.2.2"])
        assert site.agent.reconciler.drift > 0

    run(test, FLAT, NETWORKS)


def test_the_rest_goes_through_a_router_of_the_rack_that_has_addresses() -> None:
    routers = {"routers": [{"name": "tor", "addresses": ["192.0.2.254"]}]}

    async def test(site: Site) -> None:
        await site.add(1, WEB)
        await site.until(lambda: via(site) == {"10.1.0.0/24": ["192.0.2.254"]})
        assert (await check(site)).differences == ()

    run(test, plan(**routers), NETWORKS)


def test_a_fixed_address_of_another_host_is_known_to_all_on_the_network() -> None:
    document = {**FLAT, "networks": [{**FLAT["networks"][0], "static": ["10.1.0.192/28"]}, FLAT["networks"][1]]}

    async def test(site: Site) -> None:
        await join(site, "h2")
        await site.control.addresses.give({"name": "vip", "tenant": "red", "segment": "web"})
        user = {"host": "h2", "endpoint": "vm", "tenant": "red", "segment": "web", "labels": {}}
        used = await site.control.addresses.use("vip", user)
        address = used.allocations[0].address
        await site.until(
            lambda: via(site).get(f"{address}/32") == ["192.0.2.2"] or via(site).get(str(address)) == ["192.0.2.2"]
        )
        await site.control.addresses.end_use("vip", "vm")
        await site.until(lambda: len(via(site)) == 2)

    run(test, document, NETWORKS)
