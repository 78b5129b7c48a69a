"""Plan, kernel and daemon of a real agent, compared by the real control plane."""

from __future__ import annotations

from romana.codec.text import parse_prefix
from romana.core.diff import Changes
from romana.model.route import Mismatch, RouteCheck
from romana.services.control.routes import route_check
from tests.unit.services.agent.site import Site, run
from tests.unit.services.agent.test_loops import STRAY, stray


async def check(site: Site) -> RouteCheck:
    number, asked, heard = await site.control.auditor.ask(5)
    return route_check(site.control.core.state, asked, heard, number)


def test_a_host_that_is_as_planned_has_no_differences() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        assert await check(site) == RouteCheck(differences=(), observed=1)

    run(test)


def test_what_is_spoiled_is_told_with_what_it_means() -> None:
    async def test(site: Site) -> None:
        endpoint = (await site.add(1)).endpoint
        await site.until(lambda: len(site.published()) == 1)
        span = parse_prefix("10.1.0.0/26")
        gone = {span: site.kernel.routing[span]} | {one: site.kernel.routing[one] for one in endpoint.addresses[:1]}
        site.kernel.ports.routes.apply(Changes({}, {}, gone))
        stray(site)
        site.daemon.announce({STRAY})
        found = {(one.kind, str(one.prefix)) for one in (await check(site)).differences}
        assert found == {
            (Mismatch.NO_BLACKHOLE, "10.1.0.0/26"),
            (Mismatch.STRAY_BLACKHOLE, "10.77.0.0/24"),
            (Mismatch.NOT_ANNOUNCED, "10.1.0.0/26"),
            (Mismatch.NOT_ANNOUNCED, "fd00:1::/118"),
            (Mismatch.STRAY_ANNOUNCEMENT, "10.77.0.0/24"),
            (Mismatch.NO_ENDPOINT_ROUTE, f"{endpoint.addresses[0]}/32"),
        }
        site.agent.reconciler.disturbed()
        await site.until(lambda: STRAY not in site.daemon.running and STRAY not in site.kernel.routing)
        assert (await check(site)).differences == ()

    run(test)
