"""Owners that share a block on a host, until they have enough endpoints for one of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from romana.model.errors import Exhausted
from romana.model.tenancy import Identity, Owner
from romana.services.control.tenancy import TenancyVerbs
from tests.unit.services.agent.site import DB, PLAN, WEB, Site, run

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "closed", "namespace": "red"},
    "spec": {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"]},
}


def sharing(
    test: Callable[[Site], Awaitable[None]], cidr: str = "10.1.0.0/24", span: int = 26, block: int = 29
) -> None:
    network = {"name": "pods4", "cidr": cidr, "block_length": block, "span_length": span, "mixed": 2, "stock": 0}
    topology: dict[str, Any] = {**PLAN["topologies"][0], "networks": ["pods4"]}
    run(test, {**PLAN, "networks": [network], "topologies": [topology]})


def test_two_endpoints_of_an_owner_share_and_the_third_has_a_block_of_its_owner() -> None:
    async def test(site: Site) -> None:
        made = [(await site.add(number)).endpoint for number in (1, 2)]
        other = (await site.add(3, DB)).endpoint
        (shared,) = {one.allocations[0].block for one in (*made, other)}
        assert site.control.core.state.blocks[shared].mixed
        third = (await site.add(4)).endpoint
        own = site.control.core.state.blocks[third.allocations[0].block]
        assert (own.owner, own.mixed) == (WEB.owner, False)
        await site.until(lambda: len(site.published()) == 4)
        claims = site.control.claims
        assert (await site.add(5)).endpoint.allocations[0].block == own.cidr
        assert site.control.claims == claims

    sharing(test)


def test_nobody_needs_a_block_ahead_of_a_third_endpoint() -> None:
    async def test(site: Site) -> None:
        for number in (1, 2):
            await site.add(number)
        await site.until(lambda: len(site.published()) == 2)
        assert all(block.mixed for block in site.control.core.state.blocks.values())

    sharing(test)


def test_peers_know_the_addresses_of_a_mixed_block_one_by_one() -> None:
    async def test(site: Site) -> None:
        web, db = (await site.add(1)).endpoint, (await site.add(2, DB)).endpoint
        await site.until(lambda: len(site.published()) == 2)
        view = site.agent.ledger.view
        await site.until(lambda: {*web.addresses, *db.addresses} <= entries(site))
        assert web.allocations[0].block not in entries(site)
        assert view.blocks[web.allocations[0].block].owner is None

    def entries(site: Site) -> set[object]:
        view = site.agent.ledger.view
        return set(view.entries[view.identities[WEB.id].ingress])

    sharing(test)


def test_when_space_is_short_owners_share_and_then_rests_are_shorter() -> None:
    async def test(site: Site) -> None:
        made = [(await site.add(number)).endpoint for number in range(11)]
        own = made[2].allocations[0].block
        assert sum(one.allocations[0].block == own for one in made) == 8, "the third to the tenth"
        shared = site.control.core.state.blocks[made[10].allocations[0].block]
        assert shared.mixed, "the last one shares again"
        for number in range(11, 16):
            await site.add(number)
        with pytest.raises(Exhausted):
            await site.add(16)
        await site.delete(0)
        site.clock.now += 29
        with pytest.raises(Exhausted):
            await site.add(16)
        site.clock.now += 1
        assert (await site.add(16)).endpoint.addresses == made[0].addresses
        assert site.agent.status().addresses["hurried"] == 1

    sharing(test, "10.1.0.0/28", 28)


def test_an_address_is_not_given_to_another_class_over_a_restart() -> None:
    a, b = (Identity(owner=Owner("red", "web"), labels={"app": app}) for app in "ab")

    async def test(site: Site) -> None:
        await TenancyVerbs(site.control.core).apply_policies(POLICY)
        for number, identity in enumerate((a, DB, Identity(owner=Owner("blue", "web")), DB)):
            await site.add(number, identity)
        await site.until(lambda: len(site.published()) == 4)
        was_a = site.published()["c0/eth0"].addresses
        await site.delete(0)
        await site.until(lambda: not site.state.load().pending)
        site.clock.now += 200
        await site.until(lambda: site.agent.status().addresses["resting"] == 0)
        await site.stop()
        await site.start()
        other = (await site.add(20, b)).endpoint
        assert other.addresses != was_a
        assert (await site.add(21, a)).endpoint.addresses == was_a

    sharing(test, block=30)
