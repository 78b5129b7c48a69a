"""A real agent's observations, judged by the real control plane, whatever happens in between."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from romana.model.errors import RomanaError
from romana.model.report import FindingKind, Observation, Report
from romana.model.route import Route
from romana.ports import LinkPlan
from romana.services.control.audit import CheckRequest
from romana.services.control.repair import RepairRequest, Repairs
from tests.unit.services.agent.site import DB, WEB, Site, run


async def check(site: Site) -> Report:
    report = await site.control.auditor.check(CheckRequest(wait=5))
    assert report.unreachable == ()
    return report


async def check_twice(site: Site) -> Report:
    await check(site)
    site.control.clock.now += 120
    return await check(site)


async def published(site: Site, count: int) -> None:
    await site.until(lambda: len(site.published()) == count and not site.state.pending(1))


def test_an_agent_answers_what_an_audit_asks() -> None:
    async def test(site: Site) -> None:
        for number in range(3):
            await site.add(number)
        await published(site, 3)
        await site.delete(0)
        report = await check(site)
        assert (report.findings, report.observed) == ((), 1)
        assert site.control.core.state.audited["h1"].resting == {"pods4": 1, "pods6": 1}

    run(test)


def test_what_starts_and_ends_while_an_observation_travels_is_no_finding() -> None:
    async def test(site: Site) -> None:
        judge = site.control.observe

        async def slow(observation: Observation) -> int:
            await asyncio.gather(site.add(9), site.add(8, DB), site.delete(1))
            for _ in range(200):  # time enough to publish all that, were it allowed now
                await asyncio.sleep(0)
            return await judge(observation)

        for number in range(3):
            await site.add(number)
        await published(site, 3)
        site.control.observe = slow  # type: ignore[method-assign]
        assert (await check(site)).findings == ()
        site.control.observe = judge  # type: ignore[method-assign]
        await published(site, 4)
        assert (await check(site)).findings == ()

    run(test)


@pytest.mark.parametrize("seed", range(3))
def test_checks_in_a_storm_of_endpoints_find_nothing(seed: int) -> None:
    async def test(site: Site) -> None:
        chance = random.Random(seed)
        over = asyncio.Event()

        async def churn(number: int) -> None:
            while not over.is_set():
                try:
                    await site.add(number, chance.choice((WEB, DB)))
                    await asyncio.sleep(chance.random() * 0.003)
                    await site.delete(number)
                except RomanaError:
                    await asyncio.sleep(0.001)

        storm = [asyncio.create_task(churn(number)) for number in range(8)]
        for _ in range(15):
            site.clock.now += 100
            assert (await check(site)).findings == ()
            if chance.random() < 0.2:
                site.control.leave()
                await asyncio.sleep(0.005)
                site.control.come_back()
            await asyncio.sleep(chance.random() * 0.01)
        over.set()
        await asyncio.gather(*storm)
        await published(site, 0)
        assert (await check(site)).findings == ()

    run(test)


def test_an_endpoint_that_the_agent_forgot_is_leaked_once_the_kernel_has_it_no_more() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await published(site, 1)
        forgotten = site.state._endpoints.pop("c1/eth0")
        (found,) = (await check(site)).findings
        assert found.kind is FindingKind.DISAGREEMENT
        site.kernel.ports.links.delete(forgotten.link)
        report = await check_twice(site)
        assert [(one.kind.value, one.endpoint, one.actionable) for one in report.findings] == [
            ("leaked", "c1/eth0", True)
        ]
        repairs = Repairs(site.control.core, site.control.auditor)
        assert (await repairs.repair(RepairRequest(report=report))).outcomes[0].done
        assert not site.published()

    run(test)


def test_a_link_that_nobody_allocated_is_reported_and_cut_off_when_told() -> None:
    async def test(site: Site) -> None:
        await site.stop()
        block = next(iter(site.agent.ledger.view.blocks))
        address = block.address(3)
        plan = LinkPlan(link="romstray", netns="/run/netns/p5", interface="eth0", addresses=(address,), mtu=1450)
        site.kernel.plans["romstray"] = plan
        site.kernel.routing[address] = Route(prefix=address, link="romstray")
        await site.start()
        await site.add(1)
        report = await check_twice(site)
        assert [(one.kind.value, one.link, str(one.cidr)) for one in report.findings] == [
            ("unallocated-in-use", "romstray", f"{address}/{block.family.bits}")
        ]
        repairs = Repairs(site.control.core, site.control.auditor)
        assert not (await repairs.repair(RepairRequest(report=report))).outcomes[0].done
        await asyncio.sleep(0.01)
        assert "romstray" in site.kernel.plans
        assert (await repairs.repair(RepairRequest(report=report, cut=True))).outcomes[0].done
        await site.until(lambda: "romstray" not in site.kernel.plans and address not in site.kernel.routing)
        assert (await check(site)).findings == ()
        assert "c1/eth0" in site.agent.ledger.endpoints

    run(test)


def test_an_agent_that_romanad_could_not_hear_answers_again() -> None:
    async def test(site: Site) -> None:
        judge = site.control.observe
        refused: list[int] = []

        async def deaf(observation: Observation) -> int:
            refused.append(observation.number)
            if len(refused) < 3:
                site.control._gone.set()
                try:
                    return await judge(observation)
                finally:
                    site.control._gone.clear()
            return await judge(observation)

        site.control.observe = deaf  # type: ignore[method-assign]
        report: Any = await check(site)
        assert report.findings == ()
        assert len(refused) >= 3

    run(test)


def test_an_epoch_that_two_loops_join_at_once_is_joined() -> None:
    """Else the next connection would be taken for another memory's, and endpoints that are gone taken in again."""

    async def test(site: Site) -> None:
        recovery = site.agent.recovery
        recovery._epoch = site.agent.ledger.joined
        await asyncio.gather(recovery.end(), recovery.end())
        assert site.agent.ledger.joined == 1
        assert recovery._epoch == 0

    run(test)
