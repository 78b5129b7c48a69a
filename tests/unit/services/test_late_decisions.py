"""Decisions whose transaction arrives late: what they rest on has changed meanwhile, so they are made again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from romana.codec.text import parse_prefix
from romana.model.errors import Conflict, NotFound
from romana.model.view import BlockTaken, Publication
from romana.services.control.blackouts import BlackoutVerbs
from romana.services.control.plan import PlanVerbs
from tests.unit.services.cluster import PLAN, WEB, Cluster, run
from tests.unit.services.test_fixed_addresses import Site, texts
from tests.unit.services.test_races import HeldStore


async def late(
    store: HeldStore, key: str, decision: Coroutine[Any, Any, object], meanwhile: Coroutine[Any, Any, object]
) -> None:
    """The decision that writes a key is stored only after another one that was made meanwhile."""
    store.held_key = key
    deciding = asyncio.ensure_future(decision)
    await store.waiting.wait()
    await meanwhile
    store.let_go.set()
    await deciding


def test_stock_that_is_filled_up_for_a_publication_is_of_the_plan_in_force() -> None:
    store = HeldStore()

    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await PlanVerbs(one.core).set_topology({**PLAN, "networks": [{**PLAN["networks"][0], "stock": 2}]})
        await one.hello("h1")
        state = one.core.state
        await one.start("h1", "c0")
        first = next(block for block in state.blocks.values() if block.is_stock)
        following = parse_prefix("10.1.0.24/29")
        assert following not in state.blocks
        taken = BlockTaken(cidr=first.cidr, owner=WEB.owner, identity=WEB.id, sequence=first.sequence + 1)
        publication = Publication(host="h1", epoch=1, number=2, taken=(taken,))
        dark = BlackoutVerbs(one.core).add({"cidr": str(following)})
        await late(store, "published/h1", one.rooms.publish(publication), dark)
        assert state.blocks[first.cidr].owner == WEB.owner
        assert sum(block.is_stock for block in state.blocks.values()) == 2
        assert following not in state.blocks

    run(test, store)


def test_nobody_gets_a_span_that_another_host_had_and_lost_meanwhile() -> None:
    store = HeldStore()

    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        state = one.core.state

        async def come_and_go() -> None:
            await one.hello("h2")
            cluster.clock.now += 61
            await one.hosts.lost("h2")
            assert parse_prefix("10.1.0.0/26") in state.retired

        for host in ("h1", "h2"):
            await one.hosts.set_host(host, {})
        await late(store, "span/10.1.0.0/26", one.hello("h1"), come_and_go())
        (span,) = state.spans_on("h1")
        assert not any(span.overlaps(gone) for gone in state.retired)

    run(test, store)


@pytest.mark.parametrize("lost", [False, True], ids=["removed", "lost"])
def test_a_first_publication_is_not_forgotten_when_its_host_is(lost: bool) -> None:
    store = HeldStore()

    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        epoch = 0
        await one.hosts.set_host("h1", {})
        if lost:
            epoch = (await one.hello("h1")).epoch
            cluster.clock.now += 61
        first = one.rooms.publish(Publication(host="h1", epoch=epoch, number=1))
        if lost:
            await late(store, "host/h1", one.hosts.lost("h1"), first)
        else:
            await late(store, "roster/current", one.hosts.remove_host("h1"), first)
        assert not one.core.state.published

    run(test, store)


@pytest.mark.parametrize("lost", [False, True], ids=["removed", "lost"])
def test_a_first_publication_does_not_outlive_its_host(lost: bool) -> None:
    store = HeldStore()

    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        epoch = 0
        await one.hosts.set_host("h1", {})
        if lost:
            epoch = (await one.hello("h1")).epoch
            cluster.clock.now += 61
        publishing = one.rooms.publish(Publication(host="h1", epoch=epoch, number=1))
        forget = one.hosts.lost("h1") if lost else one.hosts.remove_host("h1")
        with pytest.raises((Conflict, NotFound)):
            await late(store, "published/h1", publishing, forget)
        assert not one.core.state.published

    run(test, store)


def with_fixed_addresses(test: Callable[[Site, HeldStore], Awaitable[None]]) -> None:
    async def body() -> None:
        store = HeldStore()
        site = Site(store)
        await site.open()
        try:
            await site.make()
            await asyncio.wait_for(test(site, store), 20)
        finally:
            site.close()

    asyncio.run(body())


def test_an_endpoint_that_begins_to_use_two_fixed_addresses_at_once_uses_one() -> None:
    async def test(site: Site, store: HeldStore) -> None:
        for name in ("a", "b"):
            await site.give(name)
        uses = [
            site.addresses.use(name, {"host": host, "endpoint": "c/eth0"}) for name, host in (("a", "h1"), ("b", "h2"))
        ]
        with pytest.raises(Conflict, match="uses the addresses of b already"):
            await late(store, "reservation/a", *uses)
        assert [one.name for one in site.core.state.reservations.values() if one.endpoint] == ["b"]
        await site.addresses.end_use("b")
        await site.addresses.use("a", {"host": "h1", "endpoint": "c/eth0"})
        assert set(site.core.state.bound) == {"c/eth0"}
        await site.addresses.end_use("a")
        assert not site.core.state.bound

    with_fixed_addresses(test)


def test_an_endpoint_is_given_no_further_address_while_it_begins_to_use_one() -> None:
    async def test(site: Site, store: HeldStore) -> None:
        await site.give("a")
        use = site.addresses.use("a", {"host": "h1", "endpoint": "c/eth0"})
        with pytest.raises(Conflict, match="uses the addresses of a already"):
            await late(store, "reservation/b", site.give("b", host="h2", endpoint="c/eth0"), use)
        assert "b" not in site.core.state.reservations

    with_fixed_addresses(test)


def test_a_lost_host_uses_no_fixed_address_that_it_began_to_use_meanwhile() -> None:
    async def test(site: Site, store: HeldStore) -> None:
        await site.give("a", host="h1", endpoint="a/eth0")
        await site.give("b", sticky=True)
        use = site.addresses.use("b", {"host": "h1", "endpoint": "b/eth0"})
        await late(store, "host/h1", site.hosts.lost("h1"), use)
        assert not site.core.state.reservations_on("h1")
        assert set(site.core.state.reservations) == {"b"}

    with_fixed_addresses(test)


@pytest.mark.parametrize("given", [False, True], ids=["used", "given"])
def test_a_host_is_not_removed_while_it_uses_a_fixed_address(given: bool) -> None:
    async def test(site: Site, store: HeldStore) -> None:
        use = {"host": "h2", "endpoint": "a/eth0"}
        if not given:
            await site.give("a")
        begun = site.give("a", **use) if given else site.addresses.use("a", use)
        with pytest.raises(Conflict, match="h2 still holds address a for a/eth0"):
            await late(store, "roster/current", site.hosts.remove_host("h2"), begun)
        await site.addresses.end_use("a")
        await site.hosts.remove_host("h2")

    with_fixed_addresses(test)


def test_no_fixed_address_is_used_on_a_host_that_was_removed_meanwhile() -> None:
    async def test(site: Site, store: HeldStore) -> None:
        await site.give("a")
        use = site.addresses.use("a", {"host": "h2", "endpoint": "a/eth0"})
        with pytest.raises(NotFound, match="no host 'h2'"):
            await late(store, "reservation/a", use, site.hosts.remove_host("h2"))
        assert not site.core.state.bound

    with_fixed_addresses(test)


def test_an_address_rests_after_a_use_that_only_another_replica_saw() -> None:
    async def test(site: Site, store: HeldStore) -> None:
        other = await site.replica()
        address = texts(await site.give("a", networks=["pods"]))[0]
        await site.addresses.release("a")
        for one in (site, other):
            await one.core.reached(site.core.state.revision)
            with pytest.raises(Conflict, match="rests"):
                await one.give("b", addresses=[address])
            one.clock.now += 1000
        await other.give("b", addresses=[address])
        await other.addresses.release("b")
        await site.core.reached(other.core.state.revision)
        with pytest.raises(Conflict, match="rests for 180 s"):
            await site.give("c", addresses=[address])
        site.clock.now += 180
        await site.give("c", addresses=[address])
        other.close()

    with_fixed_addresses(test)
