"""A store restored from a backup: who holds what is asked, nobody gets anything before, and answers are believed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from romana.adapters.store.memory import MemoryStore
from romana.codec.records import UNSETTLED, Unsettled
from romana.codec.text import parse_prefix
from romana.model.errors import Conflict, Unavailable
from romana.model.ipam import Span
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Inventory
from romana.ports import Transaction
from tests.unit.services.cluster import WEB, Cluster, Replica, run

LATE = Identity(owner=Owner("late", "web"))


async def backup(cluster: Cluster) -> MemoryStore:
    """A copy of the store in which every host is unsettled."""
    _, records = await cluster.store.scan()
    copy = MemoryStore()
    puts = {record.key: record.value for record in records if not record.key.startswith("lease/")}
    for key in [key for key in puts if key.startswith("host/")]:
        name = key.removeprefix("host/")
        puts[UNSETTLED.key(name)] = UNSETTLED.encode(Unsettled(host=name))
    await copy.commit(Transaction(puts=puts))
    return copy


def held(one: Replica, host: str) -> Inventory:
    """What the host's agent would say it holds."""
    state = one.core.state
    endpoints = tuple(state.endpoints_on(host))
    return Inventory(
        host=host,
        epoch=state.hosts[host].epoch,
        spans=tuple(state.spans_on(host).values()),
        blocks=tuple(state.blocks_on(host).values()),
        identities=tuple({endpoint.identity for endpoint in endpoints}),
        ids=tuple(endpoint.id for endpoint in endpoints),
        endpoints=endpoints,
    )


def restored(
    before: Callable[[Replica], Awaitable[None]],
    after: Callable[[Replica], Awaitable[None]],
    test: Callable[[Replica, dict[str, Inventory]], Awaitable[None]],
) -> None:
    """`before` was done before the backup, `after` after it and before the restore."""

    async def body(cluster: Cluster) -> None:
        one = await cluster.replica()
        for host in ("h1", "h2"):
            await one.hello(host)
        await before(one)
        copy = await backup(cluster)
        await after(one)
        inventories = {host: held(one, host) for host in one.core.state.hosts}
        again = Cluster(copy)
        restored = await again.replica()
        for host in inventories:
            await restored.hello(host)
        try:
            await test(restored, inventories)
        finally:
            restored.following.cancel()

    run(body)


async def nothing(_: Replica) -> None: ...


def test_nobody_gets_anything_before_every_host_said_what_it_holds() -> None:
    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        state = one.core.state
        assert (await one.hello("h1")).unsettled
        await one.beat("h1", incarnation="before")  # it renews its lease all the same
        with pytest.raises(Unavailable, match="did not say yet"):
            await one.view("h1")
        await one.inventories.inventory(inventories["h1"])
        await one.view("h1")
        claim = Claim(host="h1", epoch=1, identity=WEB)
        with pytest.raises(Unavailable, match=r"h2 did not say yet.*romana host lost"):
            await one.rooms.claim(claim)
        retired = await one.retire("10.1.15.0/29", "h1")
        await one.beat("h1", retired)
        assert await one.is_retired("10.1.15.0/29")
        await one.hosts.lost("h2")
        assert not state.unsettled
        await one.rooms.claim(claim)
        assert not await one.is_retired("10.1.15.0/29")

    restored(nothing, nothing, test)


def test_what_was_claimed_after_the_backup_is_taken_over_and_what_was_given_back_is_retired() -> None:
    async def before(one: Replica) -> None:
        await one.start("h1", "old")

    async def after(one: Replica) -> None:
        await one.core.commit(lambda _, draft: draft.delete("endpoint/old"))
        await one.start("h2", "new", 2)
        await one.start("h1", "newer", 3)
        (gone,) = [block.cidr for block in one.core.state.blocks_on("h1").values() if block.owner is None][:1]
        await one.give_back(gone)

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        for host in ("h2", "h1"):
            for _ in range(2):  # a repeated one changes nothing
                assert not (await one.inventories.inventory(inventories[host])).refused
        state = one.core.state
        assert set(state.endpoints) == {"new", "newer"}
        for host, inventory in inventories.items():
            assert set(state.spans_on(host).values()) == set(inventory.spans)
            assert state.blocks_on(host) == {block.cidr: block for block in inventory.blocks}
        assert len(state.retired) == 1

    restored(before, after, test)


@pytest.mark.parametrize("at_once", [1, 2], ids=["in parts", "whole"])
def test_endpoints_that_exchanged_addresses_after_the_backup_are_taken_over(at_once: int) -> None:
    async def before(one: Replica) -> None:
        await one.start("h1", "a", 1)
        await one.start("h1", "b", 2)

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        whole = inventories["h1"]
        first, second = sorted(whole.endpoints, key=lambda endpoint: endpoint.id)
        swapped = [
            msgspec.structs.replace(
                mine, allocations=tuple(msgspec.structs.replace(one, endpoint=mine.id) for one in other.allocations)
            )
            for mine, other in ((first, second), (second, first))
        ]
        for at in range(0, 2, at_once):
            part = msgspec.structs.replace(
                whole, endpoints=tuple(swapped[at : at + at_once]), first=at == 0, last=at + at_once == 2
            )
            assert not (await one.inventories.inventory(part)).refused
        state = one.core.state
        assert [state.endpoints[endpoint.id] for endpoint in swapped] == swapped
        for endpoint in swapped:
            assert [state.holder(address) for address in endpoint.addresses] == [endpoint.id] * len(endpoint.addresses)

    restored(before, nothing, test)


def test_a_host_that_the_backup_does_not_know_brings_its_tenant_with_it() -> None:
    async def after(one: Replica) -> None:
        await one.hello("h3")
        (span,) = one.core.state.spans_on("h3")
        block = one.core.state.blocks_on("h3")[min(one.core.state.blocks_on("h3"))]
        assert block.span == span

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        whole = inventories["h3"]
        block = msgspec.structs.replace(whole.blocks[0], owner=LATE.owner, identities=(LATE.id,), sequence=9)
        sent = msgspec.structs.replace(whole, blocks=(block,), identities=(LATE,))
        assert not (await one.inventories.inventory(sent)).refused
        state = one.core.state
        assert state.blocks[block.cidr] == block
        assert state.identities[LATE.id] == LATE
        assert ("late", "web") in state.segments
        assert "late" in state.tenants
        assert LATE.id in (await one.view("h3")).identities

    restored(nothing, after, test)


def test_two_hosts_that_exchanged_spans_after_the_backup_get_what_they_hold() -> None:
    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        first, second = inventories["h1"].spans[0].cidr, inventories["h2"].spans[0].cidr
        swapped = {"h1": _bare("h1", second), "h2": _bare("h2", first)}
        with pytest.raises(Unavailable, match="h2, which did not say"):
            await one.inventories.inventory(swapped["h1"])
        assert not (await one.inventories.inventory(swapped["h2"])).refused
        assert not (await one.inventories.inventory(swapped["h1"])).refused
        assert {cidr: span.host for cidr, span in one.core.state.spans.items()} == {first: "h2", second: "h1"}
        assert not one.core.state.retired

    restored(nothing, nothing, test)


def test_what_a_settled_host_holds_is_refused_to_the_next_one_with_both_names() -> None:
    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        await one.inventories.inventory(inventories["h1"])
        span = inventories["h1"].spans[0].cidr
        stolen = inventories["h1"].blocks[0]
        block = msgspec.structs.replace(stolen, host="h2", allocator="h2")
        sent = msgspec.structs.replace(_bare("h2", span), blocks=(block,))
        refused = (await one.inventories.inventory(sent)).refused
        assert "of host h2 overlaps" in refused[0]
        assert "of host h1" in refused[0]
        assert one.core.state.spans[span].host == "h1"
        assert one.core.state.blocks[block.cidr].host == "h1"
        assert not one.core.state.unsettled

    restored(nothing, nothing, test)


def test_endpoints_come_in_parts_and_those_of_others_are_refused() -> None:
    async def after(one: Replica) -> None:
        await one.start("h1", "a", 1)
        await one.start("h1", "b", 2)
        await one.start("h2", "x", 3)

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        await one.inventories.inventory(inventories["h2"])
        whole = inventories["h1"]
        foreign = msgspec.structs.replace(inventories["h2"].endpoints[0], id="y", host="h1")
        first = msgspec.structs.replace(whole, endpoints=whole.endpoints[:1], last=False)
        await one.inventories.inventory(first)
        assert "h1" in one.core.state.unsettled
        rest = Inventory(host="h1", epoch=1, endpoints=(*whole.endpoints[1:], foreign), first=False)
        assert "not the host's" in (await one.inventories.inventory(rest)).refused[0]
        assert set(one.core.state.endpoints) == {"a", "b", "x"}
        assert "h1" not in one.core.state.unsettled

    restored(nothing, after, test)


def test_an_agent_without_a_memory_keeps_what_the_backup_knows() -> None:
    async def before(one: Replica) -> None:
        await one.start("h1", "a")

    async def test(one: Replica, _: dict[str, Inventory]) -> None:
        state, spans = one.core.state, dict(one.core.state.spans)
        await one.inventories.inventory(Inventory(host="h1", epoch=1, memory=False))
        assert state.spans == spans
        assert "a" in state.endpoints
        assert "h1" not in state.unsettled

    restored(before, nothing, test)


def test_an_inventory_of_an_earlier_epoch_changes_nothing() -> None:
    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        await one.hello("h1", instance="another")
        with pytest.raises(Conflict, match="epoch"):
            await one.inventories.inventory(inventories["h1"])
        assert "h1" in one.core.state.unsettled

    restored(nothing, nothing, test)


def _bare(host: str, cidr: object) -> Inventory:
    span = Span(cidr=parse_prefix(str(cidr)), network="pods", host=host)
    return Inventory(host=host, epoch=1, spans=(span,))


def test_an_inventory_that_was_held_up_takes_nothing_away_that_began_after_it() -> None:
    async def before(one: Replica) -> None:
        await one.start("h1", "a")

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        welcome = await one.hello("h1")
        late = msgspec.structs.replace(inventories["h1"], since=welcome.revision, ids=(), endpoints=())
        await one.inventories.inventory(inventories["h1"])
        await one.inventories.inventory(inventories["h2"])
        await one.start("h1", "b", 2)
        for part in (late, msgspec.structs.replace(late, first=False)):
            with pytest.raises(Conflict, match="after this inventory began"):
                await one.inventories.inventory(part)
        assert set(one.core.state.endpoints) == {"a", "b"}

    restored(before, nothing, test)


def test_a_host_that_is_settled_may_only_say_more() -> None:
    async def before(one: Replica) -> None:
        await one.start("h1", "a")

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        await one.inventories.inventory(inventories["h1"])
        await one.inventories.inventory(inventories["h2"])
        spans, blocks = dict(one.core.state.spans), dict(one.core.state.blocks)
        await one.inventories.inventory(Inventory(host="h1", epoch=1))
        assert (one.core.state.spans, one.core.state.blocks) == (spans, blocks)
        assert "a" in one.core.state.endpoints

    restored(before, nothing, test)
