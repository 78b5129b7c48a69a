"""Checks and repairs: the real control plane, and agents of a few lines that answer when an audit asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from romana.codec.records import BLOCK, ENDPOINT, HOST, RESERVATION, RETIRED, SPAN
from romana.codec.text import parse_address
from romana.core.ipam.findings import uses_of
from romana.core.view import apply_change
from romana.model.address import Address
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict
from romana.model.ipam import Allocation, Reservation, Retired
from romana.model.report import BlockState, Finding, FindingKind, Observation, Outcome, Report
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Hello, Publication, Released, View
from romana.services.control.audit import Auditor, CheckRequest
from romana.services.control.core import Core
from romana.services.control.repair import RepairRequest, Repairs
from tests.fakes.control import FakeControlPlane

PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [{"name": "pods", "cidr": "10.1.0.0/16", "block_length": 29, "span_length": 26, "mixed": 0}],
    "topologies": [{"name": "t", "networks": ["pods"], "groups": [{"name": "rack", "hosts": []}]}],
}
WEB = Identity(owner=Owner("red", "web"))


class Agent:
    """What one host has, as an agent would say."""

    def __init__(self, control: FakeControlPlane, host: str) -> None:
        self.control = control
        self.host = host
        self.epoch = 0
        self.view = View()
        self.endpoints: dict[str, Endpoint] = {}
        self.strays: dict[Address, str] = {}
        self.silent = False
        self.auditor = control.auditor
        self._number = self._sequence = 0
        self._following: asyncio.Task[None] | None = None

    async def join(self, number: int) -> None:
        address = parse_address(f"192.0.2.{number}")
        welcome = await self.control.hello(Hello(host=self.host, instance=f"i-{self.host}", addresses=(address,)))
        self.epoch = welcome.epoch
        self._following = asyncio.create_task(self._follow())

    def leave(self) -> None:
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        answered = 0
        async for change in self.control.view(self.host):
            self.view = apply_change(self.view, change)
            if self.view.audit != answered and not self.silent:
                await self.auditor.observe(self.observation())
                answered = self.view.audit

    def observation(self, **fields: Any) -> Observation:
        found = Observation(
            host=self.host,
            epoch=self.epoch,
            number=self.view.audit,
            incarnation=self.view.incarnation,
            revision=self.view.revision,
            endpoints={name: uses_of(one.allocations) for name, one in self.endpoints.items()},
            blocks={
                cidr: BlockState(sequence=one.sequence, owner=one.owner, mixed=one.mixed, resting=1)
                for cidr, one in self.view.blocks.items()
            },
            strays=self.strays,
        )
        return msgspec.structs.replace(found, **fields)

    async def start(self, name: str) -> Endpoint:
        answer = await self.control.claim(Claim(host=self.host, epoch=self.epoch, identity=WEB))
        block = answer.blocks[0]
        self._sequence += 1
        address = block.address(self._sequence)
        held = Allocation(address=address, block=block, endpoint=name, sequence=self._sequence)
        endpoint = Endpoint(id=name, name=name, host=self.host, identity=WEB, allocations=(held,), link=f"rom{name}")
        self.endpoints[name] = endpoint
        await self.publish(started=(endpoint,))
        return endpoint

    async def end(self, name: str) -> None:
        endpoint = self.endpoints.pop(name)
        sequences = {one.address: one.sequence for one in endpoint.allocations}
        await self.publish(released=(Released(endpoint=name, sequences=sequences),))

    async def publish(self, **what: Any) -> None:
        self._number += 1
        await self.control.publish(Publication(host=self.host, epoch=self.epoch, number=self._number, **what))


class Site:
    """A control plane with two hosts, each with two endpoints."""

    def __init__(self) -> None:
        self.control = FakeControlPlane()
        self.core = self.control.core
        self.repairs = Repairs(self.core, self.control.auditor)
        self.agents = {name: Agent(self.control, name) for name in ("h1", "h2")}
        self.h1, self.h2 = self.agents.values()

    async def open(self) -> None:
        await self.control.open(PLAN, {"red": ("web",)})
        for number, agent in enumerate(self.agents.values(), start=1):
            await agent.join(number)
            for name in "ab":
                await agent.start(f"{agent.host}-{name}")

    def close(self) -> None:
        for agent in self.agents.values():
            agent.leave()
        self.control.close()

    async def check(self, wait: float = 5.0) -> Report:
        return await self.control.auditor.check(CheckRequest(wait=wait))

    async def check_twice(self, seconds: int = 120) -> Report:
        await self.check()
        self.control.clock.now += seconds
        return await self.check()

    async def repair(self, report: Report, **how: Any) -> list[Outcome]:
        return list((await self.repairs.repair(RepairRequest(report=report, **how))).outcomes)

    async def write(self, change: Callable[[Any], None]) -> None:
        """Damage the records."""
        await self.core.commit(lambda _state, draft: change(draft))

    async def lose_host(self, name: str) -> None:
        self.agents[name].leave()
        await self.write(lambda draft: draft.delete(HOST.key(name)))


def run(test: Callable[[Site], Awaitable[None]]) -> None:
    async def body() -> None:
        site = Site()
        await site.open()
        try:
            await asyncio.wait_for(test(site), 20)
        finally:
            site.close()

    asyncio.run(body())


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(one.kind.value, one.endpoint or one.link or str(one.cidr)) for one in report.findings]


def test_a_sound_network_has_no_findings_and_says_what_rests() -> None:
    async def test(site: Site) -> None:
        report = await site.check()
        assert (report.findings, report.observed, report.unreachable) == ((), 2, ())
        resting = site.core.state.audited["h1"].resting
        assert resting == {"pods": len(site.h1.view.blocks)}

    run(test)


def test_a_leak_is_removed_only_after_two_observations_some_minutes_apart() -> None:
    async def test(site: Site) -> None:
        lost = site.h1.endpoints.pop("h1-a")
        first = await site.check()
        assert kinds(first) == [("leaked", "h1-a")]
        assert (first.findings[0].seconds, first.findings[0].actionable) == (0, False)
        assert first.findings[0].cidr == lost.addresses[0]
        (outcome,) = await site.repair(first)
        assert not outcome.done
        assert "twice, 120 s apart" in outcome.sentence
        site.control.clock.now += 119
        early = await site.check()
        assert (early.findings[0].seconds, early.findings[0].actionable) == (119, False)
        assert not (await site.repair(early))[0].done
        site.control.clock.now += 1
        later = await site.check()
        assert (later.findings[0].seconds, later.findings[0].actionable) == (120, True)
        revision = site.core.state.revision
        (planned,) = await site.repair(later, dry_run=True)
        assert planned.done
        assert site.core.state.revision == revision
        (outcome,) = await site.repair(later)
        assert outcome.done
        assert sorted(site.core.state.endpoints) == ["h1-b", "h2-a", "h2-b"]
        (again,) = await site.repair(later)
        assert (again.done, again.sentence) == (False, "it is no longer so; nothing to do")
        assert (await site.check()).findings == ()

    run(test)


def test_time_alone_is_no_second_observation() -> None:
    async def test(site: Site) -> None:
        site.h1.endpoints.pop("h1-a")
        report = await site.check()
        site.control.clock.now += 1000
        (outcome,) = await site.repair(report)
        assert not outcome.done
        assert "h1-a" in site.core.state.endpoints

    run(test)


def test_a_romanad_that_started_anew_counts_from_the_beginning() -> None:
    async def test(site: Site) -> None:
        site.h1.endpoints.pop("h1-a")
        report = await site.check_twice()
        fresh = Repairs(site.core, Auditor(site.core, site.control.clock))
        (outcome,) = (await fresh.repair(RepairRequest(report=report))).outcomes
        assert not outcome.done
        assert "saw it over 0 s" in outcome.sentence
        assert (await site.repair(report))[0].done

    run(test)


def test_another_use_of_the_same_address_begins_anew() -> None:
    async def test(site: Site) -> None:
        lost = site.h1.endpoints.pop("h1-a")
        await site.check()
        sequences = {one.address: one.sequence for one in lost.allocations}
        await site.h1.publish(released=(Released(endpoint="h1-a", sequences=sequences),))
        held = (msgspec.structs.replace(lost.allocations[0], sequence=77),)
        await site.h1.publish(started=(msgspec.structs.replace(lost, allocations=held),))
        site.control.clock.now += 500
        report = await site.check()
        assert [(one.sequence, one.seconds, one.actionable) for one in report.findings] == [(77, 0, False)]

    run(test)


def test_what_came_back_meanwhile_is_skipped() -> None:
    async def test(site: Site) -> None:
        lost = site.h1.endpoints.pop("h1-a")
        report = await site.check_twice()
        site.h1.endpoints["h1-a"] = lost
        await site.check()
        (outcome,) = await site.repair(report)
        assert not outcome.done
        assert "h1-a" in site.core.state.endpoints

    run(test)


def test_another_use_after_the_report_is_left_alone() -> None:
    async def test(site: Site) -> None:
        lost = site.h1.endpoints.pop("h1-a")
        report = await site.check_twice()
        sequences = {one.address: one.sequence for one in lost.allocations}
        await site.h1.publish(released=(Released(endpoint="h1-a", sequences=sequences),))
        held = (msgspec.structs.replace(lost.allocations[0], sequence=78),)
        await site.h1.publish(started=(msgspec.structs.replace(lost, allocations=held),))
        (outcome,) = await site.repair(report)
        assert not outcome.done
        assert site.core.state.endpoints["h1-a"].allocations == held

    run(test)


def test_nothing_is_concluded_about_a_silent_host() -> None:
    async def test(site: Site) -> None:
        site.h2.silent = True
        site.h2.endpoints.clear()
        report = await site.check(wait=0.05)
        assert (report.findings, report.unreachable, report.observed) == ((), ("h2",), 1)

    run(test)


def test_a_silent_host_keeps_what_was_seen_before_from_being_acted_on() -> None:
    async def test(site: Site) -> None:
        site.h2.endpoints.pop("h2-a")
        await site.check()
        site.h2.silent = True
        site.control.clock.now += 500
        report = await site.check(wait=0.05)
        assert report.findings == ()
        forged = Finding(
            kind=FindingKind.LEAKED,
            cidr=site.core.state.endpoints["h2-a"].addresses[0].supernet(32),
            host="h2",
            endpoint="h2-a",
            sequence=1,
            observed=True,
            actionable=True,
            seconds=9999,
            sentence="believe me",
        )
        (outcome,) = await site.repair(msgspec.structs.replace(report, findings=(forged,)))
        assert not outcome.done
        assert "h2-a" in site.core.state.endpoints

    run(test)


@pytest.mark.parametrize("sticky", [True, False])
def test_with_a_leaked_endpoint_ends_its_use_of_a_fixed_address(sticky: bool) -> None:
    async def test(site: Site) -> None:
        endpoint = site.h1.endpoints.pop("h1-a")
        reserved = Reservation(
            name="vm",
            identity=WEB,
            allocations=endpoint.allocations,
            host="h1",
            endpoint="h1-a",
            sticky=sticky,
        )
        await site.write(lambda draft: draft.put(RESERVATION, RESERVATION.key("vm"), reserved))
        assert all(outcome.done for outcome in await site.repair(await site.check_twice()))
        assert "h1-a" not in site.core.state.endpoints
        left = site.core.state.reservations
        assert [(one.name, one.host, one.endpoint) for one in left.values()] == ([("vm", "", "")] if sticky else [])

    run(test)


def test_a_fixed_address_of_a_removed_host_is_free_again() -> None:
    async def test(site: Site) -> None:
        held = (msgspec.structs.replace(site.core.state.endpoints["h2-a"].allocations[0], endpoint="vm/eth0"),)
        reserved = Reservation(name="vm", identity=WEB, allocations=held, host="h2", endpoint="vm/eth0", sticky=True)
        await site.h2.end("h2-a")
        await site.write(lambda draft: draft.put(RESERVATION, RESERVATION.key("vm"), reserved))
        assert (await site.check()).findings == ()
        await site.lose_host("h2")
        report = await site.check()
        (found,) = [one for one in report.findings if one.endpoint == "vm/eth0"]
        assert found.kind is FindingKind.LEAKED
        (outcome,) = await site.repair(msgspec.structs.replace(report, findings=(found,)))
        assert outcome.done
        assert site.core.state.reservations["vm"].host == ""

    run(test)


def test_what_a_removed_host_left_is_retired_from_the_endpoints_up() -> None:
    async def test(site: Site) -> None:
        blocks = sorted(site.core.state.blocks_on("h2"))
        spans = sorted(site.core.state.spans_on("h2"))
        await site.lose_host("h2")
        report = await site.check()
        expected = ["leaked", "leaked", *["orphan-block"] * len(blocks), *["orphan-span"] * len(spans)]
        assert [one.kind for one in report.findings] == expected
        only_spans = msgspec.structs.replace(report, findings=report.findings[-1:])
        (refused,) = await site.repair(only_spans)
        assert "repair those first" in refused.sentence
        assert all(outcome.done for outcome in await site.repair(report))
        assert sorted(site.core.state.retired) == sorted([*blocks, *spans])
        assert not site.core.state.spans_on("h2")
        assert (await site.check()).findings == ()

    run(test)


def test_a_host_that_is_back_keeps_its_blocks() -> None:
    async def test(site: Site) -> None:
        host = site.core.state.hosts["h2"]
        await site.lose_host("h2")
        report = await site.check()
        await site.write(lambda draft: draft.put(HOST, HOST.key("h2"), host))
        outcomes = await site.repair(report)
        assert not any(outcome.done for outcome in outcomes)
        assert site.core.state.blocks_on("h2")

    run(test)


def test_a_block_of_a_living_host_is_not_taken_away() -> None:
    async def test(site: Site) -> None:
        span = next(iter(site.core.state.spans_on("h1")))
        await site.write(lambda draft: draft.delete(SPAN.key(span)))
        report = await site.check()
        assert {one.kind for one in report.findings} == {FindingKind.ORPHAN_BLOCK}
        outcomes = await site.repair(report)
        assert all("drain the host" in outcome.sentence for outcome in outcomes)

    run(test)


def twin_of(endpoint: Endpoint, host: str) -> Endpoint:
    """Another endpoint with its address."""
    held = tuple(msgspec.structs.replace(one, endpoint="twin") for one in endpoint.allocations)
    return msgspec.structs.replace(endpoint, id="twin", host=host, allocations=held)


@pytest.mark.parametrize("last", ["twin", "h1-a"])
def test_of_two_owners_the_one_that_its_agent_confirms_stays(last: str) -> None:
    async def test(site: Site) -> None:
        endpoint = site.core.state.endpoints["h1-a"]
        twin = twin_of(endpoint, "h2")
        await site.write(lambda draft: draft.put(ENDPOINT, ENDPOINT.key("twin"), twin))
        if last == "h1-a":
            await site.write(lambda draft: draft.put(ENDPOINT, ENDPOINT.key("h1-a"), endpoint))
        report = await site.check_twice()
        doubled = [one for one in report.findings if one.kind is FindingKind.DOUBLY_OWNED]
        assert len(doubled) == 1
        (outcome,) = await site.repair(msgspec.structs.replace(report, findings=tuple(doubled)))
        assert outcome.done, outcome.sentence
        assert "twin" not in site.core.state.endpoints
        assert site.core.state.holder(endpoint.addresses[0]) == "h1-a"
        assert (await site.check()).findings == ()

    run(test)


def test_where_both_agents_have_the_address_a_person_decides() -> None:
    async def test(site: Site) -> None:
        twin = twin_of(site.core.state.endpoints["h1-a"], "h2")
        await site.write(lambda draft: draft.put(ENDPOINT, ENDPOINT.key("twin"), twin))
        site.h2.endpoints["twin"] = twin
        report = await site.check_twice()
        outcomes = await site.repair(report)
        assert not any(outcome.done for outcome in outcomes)
        told = next(one.sentence for one in outcomes if one.finding.kind is FindingKind.DOUBLY_OWNED)
        assert told == ("a person must decide which workload ends: the agent of h1 has h1-a, the agent of h2 has twin")
        assert len(site.core.state.endpoints) == 5

    run(test)


def test_what_nobody_allocated_is_cut_off_only_when_told_so() -> None:
    async def test(site: Site) -> None:
        site.h1.strays = {parse_address("10.1.9.9"): "romstray"}
        report = await site.check_twice()
        assert kinds(report) == [("unallocated-in-use", "romstray")]
        (left,) = await site.repair(report)
        assert not left.done
        assert "--cut" in left.sentence
        assert not site.h1.view.cut
        (cut,) = await site.repair(report, cut=True)
        assert cut.done
        await site.core.newer(site.core.state.revision, at_most=0.05)
        assert list(site.h1.view.cut) == ["romstray"]
        site.h1.strays = {}
        assert (await site.check()).findings == ()
        await site.core.newer(site.core.state.revision, at_most=0.05)
        assert not site.h1.view.cut

    run(test)


def test_other_findings_are_left_to_people() -> None:
    async def test(site: Site) -> None:
        block = next(one for one in site.core.state.blocks_on("h1").values() if one.owner)
        other = msgspec.structs.replace(block, sequence=block.sequence + 5)
        site.h1.silent = True
        await site.write(lambda draft: draft.put(BLOCK, BLOCK.key(block.cidr), other))
        await site.core.newer(site.core.state.revision, at_most=0.05)
        number = site.core.state.audit + 1
        asking = asyncio.create_task(site.check())
        await site.core.newer(site.core.state.revision, at_most=1)
        state = site.h1.observation().blocks[block.cidr]
        blocks = {
            **site.h1.observation().blocks,
            block.cidr: msgspec.structs.replace(state, sequence=block.sequence),
        }
        await site.control.observe(site.h1.observation(number=number, blocks=blocks))
        report = await asking
        assert [(one.kind.value, one.cidr) for one in report.findings] == [("disagreement", block.cidr)]
        (outcome,) = await site.repair(report)
        assert not outcome.done
        assert outcome.sentence.startswith("no repair can decide this: ")

    run(test)


def test_reports_and_observations_of_another_store_or_agent_are_refused() -> None:
    async def test(site: Site) -> None:
        report = await site.check()
        with pytest.raises(Conflict, match="check again"):
            await site.repair(msgspec.structs.replace(report, incarnation="other"))
        with pytest.raises(Conflict, match="follows store"):
            await site.control.observe(site.h1.observation(incarnation="other"))
        with pytest.raises(Conflict, match="epoch"):
            await site.control.observe(site.h1.observation(epoch=7))

    run(test)


def test_findings_of_hosts_at_another_replica_are_in_the_report() -> None:
    async def test(site: Site) -> None:
        other = Core(site.core.store)
        await other.load()
        following = asyncio.create_task(other.run())
        site.h2.auditor = Auditor(other, site.control.clock)
        site.h2.endpoints.pop("h2-a")
        report = await site.check_twice()
        assert [(one.endpoint, one.actionable) for one in report.findings] == [("h2-a", True)]
        assert report.observed == 2
        following.cancel()

    run(test)


def test_many_observations_are_few_transactions() -> None:
    async def test(site: Site) -> None:
        agents = [Agent(site.control, f"m{number}") for number in range(60)]
        for number, agent in enumerate(agents, start=10):
            await agent.join(number)
        before = site.core.state.revision
        report = await site.check()
        assert report.observed == 62
        assert site.core.state.revision - before <= 8
        for agent in agents:
            agent.leave()

    run(test)


def test_what_is_under_way_at_another_revision_is_no_finding() -> None:
    """A publication that the agent made after its observation cannot come before it: the agent keeps that order. What
    came from people or from other hosts meanwhile is told by revisions."""

    async def test(site: Site) -> None:
        site.h1.silent = True
        asking = asyncio.create_task(site.check())
        await site.core.newer(site.core.state.revision, at_most=1)
        await asyncio.sleep(0)
        old = site.h1.observation(number=site.core.state.audit)
        await site.control.claim(Claim(host="h1", epoch=1, identity=WEB, full=tuple(site.core.state.blocks_on("h1"))))
        await site.control.observe(old)
        assert (await asking).findings == ()

    run(test)


def test_a_retired_block_that_its_agent_still_has_is_no_finding() -> None:
    async def test(site: Site) -> None:
        cidr = next(cidr for cidr, one in site.core.state.blocks_on("h1").items() if one.owner is None)
        old = site.h1.observation()
        block = site.core.state.blocks[cidr]

        def retire(draft: Any) -> None:
            draft.delete(BLOCK.key(cidr))
            draft.put(RETIRED, RETIRED.key(cidr), Retired(cidr=cidr, network=block.network, host="h1"))

        await site.write(retire)
        site.h1.silent = True
        asking = asyncio.create_task(site.check())
        await site.core.newer(site.core.state.revision, at_most=1)
        await site.control.observe(msgspec.structs.replace(old, number=site.core.state.audit))
        assert (await asking).findings == ()

    run(test)
