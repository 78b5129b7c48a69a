"""Weak points of the original's agent, tried here; `docs/design/weak-points.md` has the table."""

from __future__ import annotations

from typing import Any

import pytest

from romana.core.diff import Changes
from romana.model.address import Prefix
from romana.model.errors import AlreadyExists, RomanaError
from romana.model.route import Route
from tests.unit.services.agent.site import DB, WEB, Site, run


def test_weak_point_12b_an_add_that_fails_leaves_what_was_there_alive() -> None:
    async def test(site: Site) -> None:
        first = await site.add(1)
        before = site.in_kernel()
        with pytest.raises(AlreadyExists):
            await site.add(1, DB)
        site.kernel.broken.add("links")
        with pytest.raises(RomanaError):
            await site.add(2)
        site.kernel.broken.clear()
        assert (await site.add(1)).endpoint.addresses == first.endpoint.addresses
        assert site.in_kernel() == before
        assert set(site.agent.ledger.endpoints) == {"c1/eth0"}
        (one,) = [await site.add(3)]
        assert not set(one.endpoint.addresses) & set(first.endpoint.addresses)

    run(test)


def test_weak_point_19_an_endpoint_that_starts_or_ends_touches_no_other_route() -> None:
    async def test(site: Site) -> None:
        for number in range(3):
            await site.add(number)
        routes: Any = site.kernel.ports.routes
        applied: list[Changes[Prefix, Route]] = []
        apply = routes.apply

        def watched(changes: Changes[Prefix, Route]) -> None:
            applied.append(changes)
            apply(changes)

        routes.apply = watched
        others = dict(site.kernel.routing)
        added = await site.add(7, WEB)
        await site.delete(7)
        assert {prefix: site.kernel.routing[prefix] for prefix in others} == others
        touched = {prefix for one in applied for part in (one.add, one.replace, one.remove) for prefix in part}
        assert touched <= set(added.endpoint.addresses)

    run(test)


def test_weak_point_19_blocks_of_other_hosts_are_no_routes_of_this_one() -> None:
    """A host has a route for each endpoint and each span of its own, whatever others hold: nothing to be skipped."""

    async def test(site: Site) -> None:
        await site.add(1)
        own = {*site.agent.ledger.view.spans, *next(iter(site.agent.ledger.endpoints.values())).addresses}
        assert set(site.kernel.routing) == own
        assert {one.host for one in site.agent.ledger.view.blocks.values()} == {"h1"}

    run(test)
