"""Giving back: what the agent closes, what the control plane retires, and when it may be used again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from romana.model.address import Prefix
from romana.model.errors import Conflict
from romana.model.view import BlockReturned
from tests.unit.services.agent.site import DB, PLAN, WEB, Site, run

PATIENCE = 300
REST = 180
NONE: dict[str, Any] = {
    **PLAN,
    "networks": [{**PLAN["networks"][0], "stock": 1}, {**PLAN["networks"][1], "stock": 0}],
}


def giving(test: Callable[[Site], Awaitable[None]]) -> None:
    """A test in which blocks are given back after PATIENCE."""

    async def body(site: Site) -> None:
        await site.stop()
        site.give_back = PATIENCE
        await site.start()
        await test(site)

    run(body, NONE)


def blocks(site: Site) -> set[Prefix]:
    return set(site.control.core.state.blocks)


async def looks(site: Site, count: int = 3) -> None:
    """Until the agent looked again."""
    for _ in range(count):
        await site.agent.returns.look()


def test_an_idle_block_is_given_back_after_two_looks_and_retired() -> None:
    async def test(site: Site) -> None:
        made = (await site.add(1)).endpoint
        await site.until(lambda: len(site.published()) == 1)
        mine = {one.block for one in made.allocations}
        assert mine < blocks(site)
        await site.delete(1)
        await site.until(lambda: not site.published())
        site.clock.now += REST - 1
        await looks(site)
        site.clock.now += PATIENCE - 1
        await looks(site)
        assert mine < blocks(site), "seen idle once"
        site.clock.now += 1
        await looks(site)
        site.clock.now += PATIENCE
        await site.until(lambda: mine.isdisjoint(blocks(site)))
        state = site.control.core.state
        assert mine <= set(state.retired)
        assert all(state.retired[cidr].host == "h1" for cidr in mine)
        assert len(blocks(site)) == 1, "the stock stays"
        await site.until(lambda: mine.isdisjoint(site.agent.ledger.view.blocks))
        again = (await site.add(2)).endpoint
        assert mine.isdisjoint(one.block for one in again.allocations)

    giving(test)


def test_a_block_that_was_used_in_between_stays() -> None:
    async def test(site: Site) -> None:
        made = (await site.add(1)).endpoint
        await site.delete(1)
        await site.until(lambda: not site.state.load().pending)
        site.clock.now += REST
        await looks(site)
        site.clock.now += PATIENCE - REST
        await site.add(2)
        await site.delete(2)
        await site.until(lambda: not site.state.load().pending)
        site.clock.now += REST
        await looks(site)
        assert {one.block for one in made.allocations} < blocks(site)
        assert not site.agent.ledger.book.closed()

    giving(test)


def test_nothing_is_given_back_while_romanad_is_away() -> None:
    async def test(site: Site) -> None:
        made = (await site.add(1)).endpoint
        await site.delete(1)
        await site.until(lambda: not site.state.load().pending)
        site.control.leave()
        await site.until(lambda: not site.agent.follower.connected)
        site.clock.now += REST
        await looks(site)
        site.clock.now += PATIENCE
        await looks(site)
        assert not site.agent.ledger.book.closed()
        assert (await site.add(2)).endpoint.allocations[0].block == made.allocations[0].block

    giving(test)


def test_what_was_given_back_stays_so_over_a_kill_before_romanad_knows() -> None:
    async def test(site: Site) -> None:
        made = (await site.add(1)).endpoint
        await site.delete(1)
        await site.until(lambda: not site.state.load().pending)
        site.clock.now += REST
        await looks(site)
        site.clock.now += PATIENCE
        site.control.refusing = True
        await site.until(lambda: bool(site.agent.ledger.book.closed()))
        await site.until(lambda: len(site.state.load().closed) == 2)
        await site.stop()
        site.control.leave()
        await site.start(ready=False)
        await site.until(lambda: site.agent.status().ready)
        mine = {one.block for one in made.allocations}
        assert mine == set(site.agent.ledger.book.closed())
        assert mine < set(site.agent.ledger.view.blocks), "the view that was kept has them"
        later = (await site.add(2)).endpoint
        assert mine.isdisjoint(one.block for one in later.allocations)
        site.control.refusing = False
        site.control.come_back()
        await site.until(lambda: mine.isdisjoint(blocks(site)))
        await site.until(lambda: not site.state.load().closed)

    giving_with_stock(test)


def giving_with_stock(test: Callable[[Site], Awaitable[None]]) -> None:
    async def body(site: Site) -> None:
        site.give_back = PATIENCE
        await site.stop()
        await site.start()
        await test(site)

    run(body, PLAN)


def test_links_and_connections_are_gone_before() -> None:
    async def test(site: Site) -> None:
        made = (await site.add(1)).endpoint
        site.kernel.broken = {"connections"}
        await site.delete(1)
        await site.until(lambda: not site.state.load().pending)
        site.clock.now += REST
        await looks(site)
        site.clock.now += PATIENCE
        await looks(site, 99)
        assert not site.agent.ledger.book.closed()
        site.kernel.broken = set()
        await site.until(lambda: {one.block for one in made.allocations}.isdisjoint(blocks(site)))
        assert not site.agent.ledger.unlinking

    giving(test)


def test_a_return_that_romanad_did_not_take_is_said_again() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        made = site.published()["c1/eth0"]
        closed = site.agent.ledger.book.close(made.allocations[0].block)
        site.state.give_back(BlockReturned(cidr=closed.cidr, sequence=closed.sequence))
        site.agent.ledger.grown.ring()
        await site.until(lambda: not site.state.load().pending)
        assert closed.cidr in blocks(site), "an endpoint is in it"
        await site.delete(1)
        await site.until(lambda: not site.published())
        site.clock.now += REST
        await looks(site)
        site.clock.now += PATIENCE
        await site.until(lambda: closed.cidr not in blocks(site))

    giving(test)


def test_a_draining_host_gives_everything_back_and_gets_nothing() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.add(2, DB)
        await site.delete(2)
        await site.until(lambda: list(site.published()) == ["c1/eth0"])
        await site.control.hosts.drain("h1")
        await site.until(lambda: site.agent.ledger.view.draining)
        held = {one.block for one in site.published()["c1/eth0"].allocations}
        site.clock.now += REST
        await looks(site)
        site.clock.now += PATIENCE
        await site.until(lambda: blocks(site) == held)
        await site.delete(1)
        await site.until(lambda: not site.published())
        site.clock.now += REST
        await looks(site)
        site.clock.now += PATIENCE
        await site.until(lambda: not blocks(site))
        with pytest.raises(Conflict, match="host h1 is draining, so it gets no more room"):
            await site.add(3, WEB)

    giving(test)
