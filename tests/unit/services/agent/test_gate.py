"""The gate when the machine stands still, and when a stream of views is older than the cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

import pytest

from romana.model.errors import Unavailable
from romana.model.view import ViewChange
from tests.unit.services.agent.site import Site, here, run

DAY = 24 * 3600


def stand_still(site: Site, where: str, seconds: int) -> None:
    """The machine stands still once when the gate is opened next: `before` the kernel's worker has its turn, or
    `inside` the kernel's own call; and romanad does not answer any more.
    """
    stops = [seconds]

    def stop() -> None:
        if stops:
            site.clock.now += stops.pop()
            site.control.leave()

    async def late(function: Callable[..., Any], *arguments: object) -> Any:
        if function.__name__.strip("_") == "hold":
            stop()
        return await here(function, *arguments)

    if where == "before":
        site.agent.lease._workers.kernel = late
    else:
        site.kernel.fence.while_holding = stop


@pytest.mark.parametrize("where", ["before", "inside"])
def test_the_gate_is_not_open_for_longer_because_the_machine_stood_still(where: str) -> None:
    async def test(site: Site) -> None:
        site.clock.now += 1000
        stand_still(site, where, 400)
        site.agent.follower.beat.ring()
        await site.until(lambda: site.clock.now == 2400)
        await site.until(lambda: site.kernel.fence.open_for == DAY - 400)
        assert site.agent.lease.left == DAY - 400

    run(test)


@pytest.mark.parametrize("where", ["before", "inside"])
def test_a_lease_that_ended_while_the_gate_was_opened_leaves_it_closed(where: str) -> None:
    async def test(site: Site) -> None:
        site.clock.now += 1000
        stand_still(site, where, DAY)
        site.agent.follower.beat.ring()
        await site.until(lambda: site.clock.now == 2000 + DAY)
        await site.until(lambda: not site.agent.lease._gate)
        assert site.kernel.fence.open_for == 0
        with pytest.raises(Unavailable, match="cut off"):
            await site.add(1)
        site.control.come_back()
        await site.until(lambda: site.kernel.fence.open_for == DAY)

    run(test)


def test_a_slow_kernel_does_not_keep_the_gate_closed() -> None:
    async def test(site: Site) -> None:
        def slow() -> None:
            site.clock.now += 2

        site.kernel.fence.while_holding = slow
        site.clock.now += 1000
        held = site.kernel.fence.holds
        site.agent.follower.beat.ring()
        await site.until(lambda: site.kernel.fence.holds > held)
        await asyncio.sleep(0.01)
        assert site.agent.lease._gate
        assert site.kernel.fence.open_for == site.agent.lease.left + 2
        await site.add(1)

    run(test)


def test_a_view_that_was_asked_for_before_the_cut_does_not_open_the_gate() -> None:
    async def test(site: Site) -> None:
        ask = site.control.view
        answers = [asyncio.Event(), asyncio.Event()]
        asked: list[str] = []
        cutting, turn = asyncio.Event(), asyncio.Event()

        async def view(host: str) -> AsyncGenerator[ViewChange, None]:
            asked.append(host)
            await answers[min(len(asked), 2) - 1].wait()
            async with aclosing(cast("AsyncGenerator[ViewChange, None]", ask(host))) as changes:
                async for change in changes:
                    yield change

        async def busy(function: Callable[..., Any], *arguments: object) -> Any:
            if function.__name__ == "cut":
                cutting.set()
                await turn.wait()
            return await here(function, *arguments)

        site.control.view = view  # type: ignore[method-assign]
        site.agent.lease._workers.kernel = busy
        site.agent.follower.restart()
        await site.until(lambda: bool(asked))
        site.clock.now += DAY
        site.agent.follower.beat.ring()
        await cutting.wait()
        answers[0].set()
        await asyncio.sleep(0.02)
        turn.set()
        await site.until(lambda: len(asked) > 1)
        for _ in range(3):
            site.agent.follower.beat.ring()
            await asyncio.sleep(0.01)
        assert site.kernel.fence.open_for == 0
        answers[1].set()
        await site.until(lambda: site.kernel.fence.open_for == DAY)

    run(test)
