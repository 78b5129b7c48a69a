from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from romana.codec.text import parse_address
from romana.model.address import Address
from romana.services.agent.work import Bell
from romana.services.vpc.probing import Probing
from romana.services.vpc.retries import Retries
from romana.services.vpc.turn import Turn, Word
from tests.fakes.vpcs import AWAY, FakeVpcControl


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_the_turn_is_whoever_has_the_lease_s_and_given_up_at_the_end() -> None:
    async def test() -> None:
        control = FakeVpcControl()
        one, two = Turn(control, "one"), Turn(control, "two")
        await one.renew()
        await two.renew()
        assert (one.word, two.word) == (Word.WRITES, Word.STANDS_BY)
        await two.end()
        assert control.holders == {"aws": "one"}
        await one.end()
        await two.renew()
        assert (one.word, two.word) == (Word.STANDS_BY, Word.WRITES)

    run(test)


def test_while_nobody_can_get_the_turn_who_had_it_goes_on_a_little_and_nobody_else() -> None:
    async def test() -> None:
        control = FakeVpcControl()
        one, two = Turn(control, "one"), Turn(control, "two")
        await one.renew()
        control.away = AWAY
        await one.renew()
        await two.renew()
        assert (one.word, two.word) == (Word.FAILS_OVER_ONLY, Word.STANDS_BY)
        control.away = None
        control.holders["aws"] = "two"
        await one.renew()
        assert one.word is Word.STANDS_BY
        control.away = AWAY
        await one.renew()
        assert one.word is Word.STANDS_BY

    run(test)


def test_probes_are_counted_by_host_and_ring_when_they_say_something_new() -> None:
    async def test() -> None:
        bell, answering = Bell(), {"10.0.0.1", "10.0.0.2"}

        async def probe(address: Address) -> bool:
            return str(address) in answering

        probing = Probing(probe, bell, every=1, enough=2)
        probing.targets = {name: parse_address(f"10.0.0.{name[1]}") for name in ("h1", "h2")}
        await probing.round()
        answering.discard("10.0.0.1")
        await probing.round()
        assert probing.unanswered == {"h1": 1, "h2": 0}
        assert not await bell.wait(0)
        await probing.round()
        assert probing.unanswered == {"h1": 2, "h2": 0}
        assert await bell.wait(0)
        await probing.round()
        assert not await bell.wait(0)
        answering.add("10.0.0.1")
        await probing.round()
        assert await bell.wait(0)
        probing.targets = {}
        await probing.round()
        assert probing.unanswered == {}

    run(test)


def test_a_refused_call_is_tried_later_each_time_and_by_itself() -> None:
    retries = Retries()
    waited = []
    for _ in range(9):
        retries.failed("call", "why")
        assert retries.waits("call") == "why"
        assert retries.waits("other") == ""
        began = retries.now
        while retries.waits("call"):
            retries.now += 1
        waited.append(retries.now - began)
    assert waited == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    retries.worked("call")
    retries.failed("call", "again")
    retries.now += 10
    assert retries.waits("call") == ""
