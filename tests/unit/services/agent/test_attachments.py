"""ADD, DEL, CHECK and GC over fakes: order, undoing, repeating, running out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from romana.codec.text import parse_address
from romana.model.errors import AlreadyExists, NotFound, RomanaError, Unavailable
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity, Owner
from romana.services.agent.attachments import Attached, link_name
from romana.services.agent.ledger import stand_in
from romana.services.control.tenancy import TenancyVerbs
from tests.fakes.kernel import HOST_MAC
from tests.unit.services.agent.site import DB, WEB, Site, here, run


def test_added_endpoint_is_in_memory_kernel_and_plan() -> None:
    async def test(site: Site) -> None:
        attached = await site.add(1)
        addresses = {str(address) for address in attached.endpoint.addresses}
        assert len(addresses) == 2
        link = link_name("c1/eth0")
        assert site.in_kernel() == ({link}, addresses, addresses)
        assert (attached.endpoint.mac, attached.host_mac) != ("", "")
        assert list(site.state.load().endpoints) == ["c1/eth0"]
        await site.until(lambda: "c1/eth0" in site.published())
        assert {str(one) for one in site.published()["c1/eth0"].addresses} == addresses

    run(test)


@pytest.mark.parametrize("port", ["links", "namespace", "memory"])
def test_failed_add_leaves_nothing(port: str) -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        before = site.in_kernel()
        if port == "links":
            site.kernel.broken = {"links"}
        elif port == "namespace":
            site.kernel.namespaces.discard("/run/netns/p2")
        else:
            site.state.broken = True
        with pytest.raises(RomanaError):
            await site.add(2)
        site.kernel.broken, site.state.broken = set(), False
        site.kernel.namespaces.add("/run/netns/p2")
        assert site.in_kernel() == before
        assert list(site.state.load().endpoints) == ["c1/eth0"]
        await site.until(lambda: not site.state.load().pending)
        assert list(site.published()) == ["c1/eth0"]
        await site.until(lambda: not site.agent.ledger.unlinking)
        assert (await site.add(2)).endpoint.addresses

    run(test)


def test_repeated_add_gives_the_same_answer_and_another_identity_is_refused() -> None:
    async def test(site: Site) -> None:
        first = await site.add(1)
        assert await site.add(1) == first
        with pytest.raises(AlreadyExists, match="red/web"):
            await site.add(1, DB)
        site.kernel.routing.pop(first.endpoint.addresses[0])
        with pytest.raises(AlreadyExists, match="no route"):
            await site.add(1)

    run(test)


def test_add_that_a_crash_cut_short_is_completed_with_the_same_addresses() -> None:
    async def test(site: Site) -> None:
        first = await site.add(1)
        await site.stop()
        site.kernel.ports.links.delete(first.endpoint.link)
        await site.start()
        assert site.agent.status().missing_links == (first.endpoint.link,)
        assert await site.add(1) == first
        assert site.kernel.ports.links.read()

    run(test)


def test_deleted_endpoint_is_cut_off_and_its_address_rests() -> None:
    async def test(site: Site) -> None:
        first = (await site.add(1)).endpoint
        peer = parse_address("10.9.9.9")
        site.kernel.connections = [(peer, first.addresses[0]), (first.addresses[1], peer), (peer, peer)]
        assert await site.delete(1)
        assert not await site.delete(1)
        await site.until(lambda: site.in_kernel() == (set(), set(), set()))
        await site.until(lambda: site.kernel.connections == [(peer, peer)])
        await site.until(lambda: not site.published())
        others = [address for number in range(2, 10) for address in (await site.add(number)).endpoint.addresses]
        assert not set(others) & set(first.addresses)

    run(test)


def test_address_is_used_again_after_its_rest_over_restarts_and_a_new_boot_rests_anew() -> None:
    async def test(site: Site) -> None:
        used = [(await site.add(number)).endpoint for number in range(1, 9)]
        block = used[0].allocations[0].block
        for number in range(1, 9):
            await site.delete(number)
        await site.until(lambda: not site.state.load().pending)
        site.clock.now += 179
        await site.stop()
        await site.start()
        assert site.agent.ledger.book.counts(site.clock.now)["resting"] == 16
        site.clock.now += 1
        assert site.agent.ledger.book.counts(site.clock.now)["resting"] == 0
        await site.stop()
        site.clock.boot, site.clock.now = "boot-2", 5
        await site.start()
        assert site.agent.ledger.book.counts(site.clock.now)["resting"] == 16
        assert (await site.add(9)).endpoint.allocations[0].block != block

    run(test)


@pytest.mark.parametrize("half_made", [False, True])
def test_an_add_that_waited_for_its_turn_does_not_bring_back_an_older_view(half_made: bool) -> None:
    async def test(site: Site) -> None:
        first = (await site.add(1)).endpoint
        turn = asyncio.Event()
        waiting: list[str] = []

        async def busy(function: Callable[..., Any], *arguments: object) -> Any:
            if (name := function.__name__.strip("_")) in ("make", "complete"):
                waiting.append(name)
                await turn.wait()
            return await here(function, *arguments)

        site.agent.attachments._workers.kernel = busy
        if half_made:
            site.kernel.ports.links.delete(first.link)
        adding = asyncio.create_task(site.add(1 if half_made else 2))
        await site.until(lambda: bool(waiting))
        assert site.kernel.filter.table is not None
        before = site.kernel.filter.table
        await TenancyVerbs(site.control.core).set_tenant("red", {"isolation": "none"})
        await site.until(lambda: site.kernel.filter.table != before)
        newer = site.kernel.filter.table
        turn.set()
        await adding
        assert (newer.rows, newer.profiles) != (before.rows, before.profiles)
        assert site.kernel.filter.table.rows == newer.rows
        assert site.kernel.filter.table.profiles == newer.profiles

    run(test)


def test_many_at_once_outgrow_their_blocks_and_share_no_address() -> None:
    async def test(site: Site) -> None:
        attached = await asyncio.gather(*(site.add(number, WEB if number % 3 else DB) for number in range(40)))
        addresses = [address for one in attached for address in one.endpoint.addresses]
        assert len(set(addresses)) == 80
        await site.until(lambda: len(site.published()) == 40)
        assert site.control.claims < 20

    run(test)


def test_next_block_is_claimed_before_it_is_needed() -> None:
    async def test(site: Site) -> None:
        for number in range(5):
            await site.add(number)
        await site.until(lambda: site.control.claims == 2)
        site.control.leave()
        for number in range(5, 14):
            await site.add(number)

    run(test)


def test_unknown_tenant_and_unknown_segment_are_named() -> None:
    async def test(site: Site) -> None:
        with pytest.raises(NotFound, match="green"):
            await site.add(1, Identity(owner=Owner("green", "web")))
        with pytest.raises(NotFound, match="cache"):
            await site.add(1, Identity(owner=Owner("red", "cache")))
        assert site.in_kernel() == (set(), set(), set())

    run(test)


def test_without_the_control_plane_a_known_identity_uses_up_blocks_and_stock_then_fails() -> None:
    async def test(site: Site) -> None:
        await site.add(0)
        await site.until(lambda: len(site.published()) == 1)
        site.control.leave()
        started = 24  # the block's, and those of two in stock
        for number in range(1, started):
            await site.add(number)
        with pytest.raises(Unavailable, match="no ownerless block"):
            await site.add(started)
        with pytest.raises(Unavailable):
            await site.add(60, DB)
        site.control.come_back()
        await site.until(lambda: len(site.published()) == started)
        await site.add(60, DB)
        owners = {block.owner for block in site.agent.ledger.view.blocks.values()}
        assert WEB.owner in owners

    run(test)


def test_check_says_what_the_kernel_lacks() -> None:
    async def test(site: Site) -> None:
        endpoint = (await site.add(1)).endpoint
        assert (await site.agent.attachments.check("c1", "eth0"))[1] == []
        site.kernel.filter.remove_endpoint(endpoint)
        missing = (await site.agent.attachments.check("c1", "eth0"))[1]
        assert len(missing) == 6
        assert all("table" in sentence for sentence in missing)
        with pytest.raises(NotFound):
            await site.agent.attachments.check("c2", "eth0")

    run(test)


def test_nothing_is_collected_on_one_observation() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.add(2)
        collect = site.agent.attachments.collect
        assert await collect({"c1/eth0"}, patience=120) == []
        site.clock.now += 119
        assert await collect({"c1/eth0"}, patience=120) == []
        site.clock.now += 1
        assert await collect({"c1/eth0", "c2/eth0"}, patience=120) == []
        assert await collect({"c1/eth0"}, patience=120) == []
        site.clock.now += 120
        assert await collect({"c1/eth0"}, patience=120) == ["c2/eth0"]
        await site.until(lambda: list(site.published()) == ["c1/eth0"])

    run(test)


def test_link_that_nobody_knows_keeps_its_address_until_it_is_deleted() -> None:
    async def test(site: Site) -> None:
        endpoint = (await site.add(1)).endpoint
        await site.until(lambda: len(site.published()) == 1)
        await site.stop()
        site.forget()
        site.control.leave()
        await site.start(ready=False)
        assert list(site.agent.ledger.orphans) == [endpoint.link]
        with pytest.raises(AlreadyExists, match="lost its memory"):
            await site.add(1)
        assert await site.delete(1)
        await site.until(lambda: site.kernel.plans == {})

    run(test)


def test_lost_memory_is_recovered_from_kernel_and_control_plane_and_the_rest_rests() -> None:
    async def test(site: Site) -> None:
        first, gone = (await site.add(1)).endpoint, (await site.add(2)).endpoint
        await site.until(lambda: len(site.published()) == 2)
        await site.stop()
        site.forget()
        site.kernel.ports.links.delete(gone.link)
        await site.start()
        assert site.agent.ledger.epoch == 2
        assert site.agent.ledger.endpoints == {first.id: msgspec.structs.replace(first, mac="")}
        assert await site.add(1) == Attached(endpoint=first, host_mac=HOST_MAC)
        assert (await site.agent.attachments.check("c1", "eth0"))[1] == []
        await site.until(lambda: list(site.published()) == [first.id])
        old = {allocation.block for allocation in first.allocations}
        later = (await site.add(3)).endpoint
        assert old.isdisjoint(allocation.block for allocation in later.allocations)
        await site.until(lambda: len(site.published()) == 2)
        await site.stop()
        site.clock.now += 170
        await site.start()  # again, because the rests were not over
        assert old <= set(site.agent.ledger.book.full(WEB.id, ["pods4", "pods6"], site.clock.now + 179))
        assert site.agent.ledger.book.full(WEB.id, ["pods4", "pods6"], site.clock.now + 180) == ()
        site.clock.now += 180
        await site.until(lambda: site.state.load().epoch == 2)
        for number in range(4, 12):
            await site.add(number)
        await site.until(lambda: len(site.published()) == 10)

    run(test)


def test_adopted_address_is_not_given_away() -> None:
    async def test(site: Site) -> None:
        first = (await site.add(1)).endpoint
        free = first.allocations[0].block.address(1)
        holder = stand_in(
            "h1",
            "rom000000000000",
            (
                Allocation(
                    address=free, block=first.allocations[0].block, endpoint="unknown/rom000000000000", sequence=0
                ),
            ),
        )
        site.agent.ledger.adopt(holder)
        for number in range(2, 9):
            assert (await site.add(number)).endpoint.addresses[0] != free

    run(test)


def test_interrupted_removal_is_finished_by_the_next_agent() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        site.kernel.broken = {"links"}
        await site.delete(1)
        await site.stop()
        assert len(site.kernel.plans) == 1
        site.kernel.broken = set()
        await site.start()
        await site.until(lambda: site.in_kernel() == (set(), set(), set()))
        assert site.state.load().unlinking == {}

    run(test)


def test_failing_removal_is_tried_again_and_holds_nobody_up() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        site.kernel.broken = {"links"}
        assert await site.delete(1)
        await site.until(lambda: len(site.pauses) > 3)
        site.kernel.broken = set()
        await site.until(lambda: site.kernel.plans == {})
        assert msgspec.structs.asdict(site.agent.status())["endpoints"] == 0

    run(test)
