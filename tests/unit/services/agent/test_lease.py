"""The host's lease: cut off, asleep, rebooted, with a full disk, declared lost, or before a restored store."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Any

import pytest

from romana.codec.records import RETIRED, UNSETTLED
from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.ipam import Retired
from romana.model.view import Hello, Inventory, InventoryAnswer, Welcome
from romana.services.agent import publisher
from tests.fakes.kernel import FakeKernel
from tests.unit.services.agent.site import DB, FAILSAFE, Site, new_epoch, restore, run

DAY = 24 * 3600
PEER = parse_prefix("10.1.0.192/29")
"""A block of another host."""


async def beat(site: Site) -> None:
    """The next heartbeat is due, and was sent or failed."""
    before = (len(site.control.beats), site.agent.lease.problem)
    site.agent.follower.beat.ring()
    async with asyncio.timeout(5):
        while (len(site.control.beats), site.agent.lease.problem) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


async def retire(site: Site, cidr: Prefix = PEER) -> int:
    gone = Retired(cidr=cidr, network="pods4", host="h2")
    revision, _ = await site.control.core.commit(lambda _, draft: draft.put(RETIRED, RETIRED.key(cidr), gone))
    return revision


def acknowledged(site: Site) -> int:
    return max((beat.applied for beat in site.control.beats), default=0)


def test_the_lease_opens_the_gate_and_is_remembered() -> None:
    async def test(site: Site) -> None:
        assert site.kernel.fence.open_for == DAY
        assert site.state.load().renewed == (1000, "boot-1", DAY)
        assert site.agent.status().lease == DAY

    run(test)


def test_renewals_are_seldom_written() -> None:
    async def test(site: Site) -> None:
        held = site.kernel.fence.holds
        for _ in range(20):
            site.clock.now += 10
            await beat(site)
        assert site.kernel.fence.holds == held
        site.clock.now += 200
        await beat(site)
        assert site.kernel.fence.holds == held + 1
        assert site.state.load().renewed == (1400, "boot-1", DAY)

    run(test)


def test_a_host_that_cannot_renew_cuts_itself_off_and_comes_back() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        site.control.leave()
        site.clock.now += DAY - 1
        await beat(site)
        await site.add(2)
        assert site.kernel.fence.open_for
        site.clock.now += 1
        site.agent.follower.beat.ring()
        await site.until(lambda: site.kernel.fence.open_for == 0)
        await site.until(lambda: not site.daemon.running)
        with pytest.raises(Unavailable, match="could not renew its lease at romanad for 86400 s"):
            await site.add(3)
        assert not site.agent.status().ready
        site.control.come_back()
        await site.until(lambda: site.kernel.fence.open_for == DAY)
        await site.until(lambda: site.daemon.running == set(site.agent.ledger.view.spans))
        assert len(site.agent.ledger.endpoints) == 2
        await site.add(3)

    run(test)


def test_the_gate_opens_only_with_a_view_that_was_asked_for_since() -> None:
    async def test(site: Site) -> None:
        await site.until(lambda: site.agent.reconciler.applied is not None)
        site.kernel.broken = {"filter"}
        site.clock.now += DAY  # it slept: the stream of views is still there, and nothing was missed on it
        before = site.agent.follower.stream
        site.agent.follower.beat.ring()
        await site.until(lambda: site.agent.follower.stream > before)
        assert site.kernel.fence.open_for in (0, DAY)
        await site.until(lambda: site.kernel.fence.open_for == DAY)
        assert site.agent.reconciler.applied_stream > before

    run(test)


def test_a_restart_within_the_lease_goes_on_and_one_after_it_does_not() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: site.agent.follower.kept[1] == site.agent.ledger.view.revision)
        site.control.leave()
        await site.stop()
        site.clock.now += DAY - 100
        await site.start(ready=False)
        await site.until(lambda: site.agent.status().ready)
        assert site.kernel.fence.open_for == 100
        await site.add(2)
        await site.stop()
        site.clock.now += 100
        await site.start(ready=False)
        await site.until(lambda: site.kernel.fence.open_for == 0)
        with pytest.raises(Unavailable, match="cut off"):
            await site.add(3)

    run(test)


def test_after_a_reboot_nothing_is_used_before_the_lease_is_renewed() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: site.agent.follower.kept[1] == site.agent.ledger.view.revision)
        site.control.leave()
        await site.stop()
        site.kernel = FakeKernel(*site.kernel.namespaces)
        site.clock.boot, site.clock.now = "boot-2", 5
        await site.start(ready=False)
        await site.until(lambda: site.agent.reconciler.last_success is not None)
        assert site.kernel.fence.open_for == 0
        assert not site.daemon.running
        with pytest.raises(Unavailable, match="since the machine started"):
            await site.add(2)
        site.control.come_back()
        await site.until(lambda: site.agent.status().ready)
        await site.add(2)

    run(test)


def test_a_lost_memory_leaves_the_gate_as_it_is() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.stop()
        site.control.leave()
        site.forget()
        await site.start(ready=False)
        await asyncio.sleep(0.02)
        assert site.kernel.fence.open_for == DAY  # its own timer closes it

    run(test)


def test_a_gate_that_somebody_took_away_is_put_back() -> None:
    async def test(site: Site) -> None:
        site.clock.now += 50
        site.kernel.fence.open_for = None
        site.agent.reconciler.disturbed()
        await site.until(lambda: site.kernel.fence.open_for == DAY - 50)

    run(test)


def test_what_is_remembered_is_never_later_than_the_truth() -> None:
    async def test(site: Site) -> None:
        sent = []

        def slow() -> None:
            sent.append(site.clock.now)
            site.clock.now += 400

        site.clock.now += 1000
        site.control.while_beating = slow
        await beat(site)
        assert site.state.load().renewed == (sent[-1], "boot-1", DAY)
        assert site.kernel.fence.open_for == DAY - 400
        site.control.while_beating = site.control.leave  # the answer is lost
        site.clock.now += 1000
        await beat(site)
        assert site.state.load().renewed == (sent[-1], "boot-1", DAY)

    run(test)


def test_a_full_disk_does_not_end_the_lease() -> None:
    async def test(site: Site) -> None:
        site.state.broken = True
        for _ in range(3):
            site.clock.now += DAY // 2
            await beat(site)
        assert site.agent.lease.is_held
        assert site.kernel.fence.open_for == DAY
        assert site.state.load().renewed == (1000, "boot-1", DAY)

    run(test)


def test_a_view_is_acknowledged_when_kernel_and_disk_have_it() -> None:
    async def test(site: Site) -> None:
        for broken in ("connections", "disk"):
            site.kernel.broken = {broken}
            site.state.broken = broken == "disk"
            retired = await retire(site)
            await site.until(lambda retired=retired: site.agent.ledger.view.revision >= retired)  # type: ignore[misc]
            await asyncio.sleep(0.02)
            await beat(site)
            assert acknowledged(site) < retired
            site.kernel.broken, site.state.broken = set(), False
            site.agent.follower._to_keep.ring()
            await site.until(lambda retired=retired: acknowledged(site) >= retired)  # type: ignore[misc]

    run(test)


def test_a_restart_between_applying_and_acknowledging_does_it_again() -> None:
    async def test(site: Site) -> None:
        site.kernel.broken = {"connections"}
        retired = await retire(site)
        await site.until(lambda: site.agent.follower.kept[1] >= retired)
        await site.stop()
        site.kernel.broken = set()
        site.kernel.connections = [(parse_address("10.1.0.1"), PEER.address(1))]
        await site.start()
        await site.until(lambda: acknowledged(site) >= retired)
        assert not site.kernel.connections

    run(test)


def test_a_peer_forgets_connections_with_what_retired_after_its_rules_are_gone() -> None:
    async def test(site: Site) -> None:
        own, gone, other = parse_address("10.1.0.1"), PEER.address(1), parse_address("10.1.0.201")
        site.kernel.connections = [(own, gone), (gone, own), (own, other)]
        site.kernel.broken = {"filter"}
        site.flush()
        retired = await retire(site)
        await site.until(lambda: site.agent.ledger.view.revision >= retired)
        await site.until(lambda: site.kernel.connections == [(own, other)])
        await site.until(lambda: acknowledged(site) >= retired)

    run(test)


def test_a_host_declared_lost_stops_what_it_had_and_starts_anew() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.add(2, DB)
        await site.until(lambda: len(site.published()) == 2)
        site.control.leave()
        await site.add(3)
        had = set(site.agent.ledger.view.spans)
        site.control.clock.now += 61
        await site.until(lambda: not site.agent.follower.connected)
        await site.control.hosts.lost("h1")
        assert not site.published()
        site.control.come_back()
        await site.until(lambda: site.agent.ledger.epoch == 3)
        await site.until(lambda: site.agent.status().ready)
        assert not site.agent.ledger.endpoints
        await site.until(lambda: site.in_kernel() == (set(), set(), set()))
        assert not had & set(site.agent.ledger.view.spans)
        await site.until(lambda: not had & site.daemon.running)
        await site.until(lambda: site.state.load().pending == ())
        site.clock.now += 180  # what it has now rests first
        endpoint = (await site.add(4)).endpoint
        await site.until(lambda: list(site.published()) == ["c4/eth0"])
        assert not any(span.contains(address) for span in had for address in endpoint.addresses)

    run(test)


def test_what_was_being_started_when_a_host_was_lost_is_not_started() -> None:
    async def test(site: Site) -> None:
        finish, goes_on = site.agent.removals.finish, asyncio.Event()

        async def slow(*arguments: Any) -> None:
            await goes_on.wait()
            await finish(*arguments)

        site.agent.removals.finish = slow  # type: ignore[method-assign, assignment]
        late = asyncio.create_task(site.add(1))
        await site.until(lambda: bool(site.agent.ledger.book.counts(site.clock.now)["in-use"]))
        site.control.clock.now += 61
        site.control._views.live.clear()
        await site.control.hosts.lost("h1")
        await site.until(lambda: site.agent.ledger.epoch == 3 and site.agent.status().ready)
        goes_on.set()
        with pytest.raises(Unavailable, match="is not host h1's any more"):
            await late
        await site.until(lambda: not site.state.load().pending)
        assert not site.agent.ledger.endpoints
        assert site.in_kernel() == (set(), set(), set())
        assert not site.agent.ledger.book.counts(site.clock.now)["in-use"]

    run(test)


def test_nothing_is_allocated_while_the_host_finds_out_what_it_may_keep() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        site.kernel.broken = {"routes"}  # so what is to be stopped cannot be
        site.control.clock.now += 61
        site.control._views.live.clear()
        await site.control.hosts.lost("h1")  # wrongly: the host is there, and hears of it at once
        await site.until(lambda: site.agent.follower.epoch == 3)
        with pytest.raises(Unavailable, match="may keep"):
            await site.add(2)
        site.kernel.broken = set()
        await site.until(lambda: site.agent.status().ready)
        assert not site.agent.ledger.endpoints

    run(test)


def test_a_restored_store_is_told_what_the_host_holds() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        control = await restore(site)
        for number in range(2, 12):  # after the backup; more than one block
            await site.add(number)
        await site.delete(1)
        await site.until(lambda: len(site.published()) == 10)
        site.control.leave()
        await site.add(12)
        await site.stop()
        site.control.close()
        site.control = control
        await site.start()
        await site.until(lambda: len(site.published()) == 11)
        assert site.published() == {one.id: one for one in site.agent.ledger.endpoints.values()}
        assert not control.core.state.unsettled
        assert site.agent.ledger.view.incarnation == control.core.incarnation
        await site.until(lambda: site.state.load().pending == ())
        await site.add(13, DB)
        await site.until(lambda: len(site.published()) == 12)

    run(test)


def test_what_happens_while_a_restored_store_is_told_is_told_as_well() -> None:
    async def test(site: Site) -> None:
        for number in (1, 2, 3):
            await site.add(number)
        await site.until(lambda: len(site.published()) == 3)
        control = await restore(site)
        tell = control.inventory

        async def told(inventory: Inventory) -> InventoryAnswer:
            answer = await tell(inventory)
            await site.delete(1)
            await site.delete(2)
            await site.add(1)
            return answer

        control.inventory = told  # type: ignore[method-assign]
        await site.stop()
        site.control.close()
        site.control = control
        await site.start()
        await site.until(lambda: site.state.load().pending == ())
        assert site.published() == {one.id: one for one in site.agent.ledger.endpoints.values()}
        assert len(site.published()) == 2

    run(test)


def test_what_is_deleted_while_a_lost_memory_is_recovered_stays_deleted() -> None:
    async def test(site: Site) -> None:
        for number in range(1, 7):
            await site.add(number)
        await site.until(lambda: len(site.published()) == 6)
        ask = site.control.endpoints
        deleting: list[asyncio.Task[bool]] = []

        async def asked(host: str) -> tuple[Endpoint, ...]:
            found = await ask(host)
            deleting.extend(asyncio.create_task(site.delete(number)) for number in (6, 3, 1))
            return found

        site.control.endpoints = asked  # type: ignore[method-assign]
        await site.stop()
        site.forget()
        await site.start()
        assert await asyncio.gather(*deleting) == [True] * 3
        await site.until(lambda: site.state.load().pending == ())
        assert set(site.published()) == {f"c{number}/eth0" for number in (2, 4, 5)}
        assert site.published() == {one.id: one for one in site.agent.ledger.endpoints.values()}
        await site.until(lambda: len(site.in_kernel()[0]) == 3)

    run(test)


@pytest.mark.parametrize("at_once", [1, 200])
def test_a_new_epoch_hears_of_the_end_of_what_has_other_addresses_by_now(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(site: Site) -> None:
        first = (await site.add(1)).endpoint
        await site.add(2)
        await site.until(lambda: len(site.published()) == 2)
        site.control.leave()
        await site.delete(1)
        await site.add(3)
        again = (await site.add(1)).endpoint
        assert set(again.addresses).isdisjoint(first.addresses)
        await site.stop()
        await new_epoch(site)
        site.control.come_back()
        await site.start()
        await site.until(lambda: site.state.load().pending == ())
        assert site.published() == {one.id: one for one in site.agent.ledger.endpoints.values()}
        assert site.published()[again.id].addresses == again.addresses

    monkeypatch.setattr(publisher, "AT_ONCE", at_once)
    run(test)


def test_an_endpoint_that_starts_while_a_new_epoch_begins_comes_after_the_end_of_its_last_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        site.control.leave()
        await site.delete(1)
        await site.stop()
        await new_epoch(site)
        site.control.come_back()
        ask = site.control.endpoints

        async def asked(host: str) -> tuple[Endpoint, ...]:
            found = await ask(host)
            site.agent.ledger.check_lease, check = (lambda: None), site.agent.ledger.check_lease
            await site.add(1)  # it was on its way already
            site.agent.ledger.check_lease = check
            return found

        site.control.endpoints = asked  # type: ignore[method-assign]
        await site.start()
        await site.until(lambda: site.state.load().pending == ())
        assert site.published() == {one.id: one for one in site.agent.ledger.endpoints.values()}
        assert list(site.published()) == ["c1/eth0"]

    monkeypatch.setattr(publisher, "AT_ONCE", 1)
    run(test)


def test_a_kill_while_a_dead_endpoint_is_taken_in_does_not_bring_it_back() -> None:
    async def test(site: Site) -> None:
        endpoint = (await site.add(1)).endpoint
        await site.until(lambda: len(site.published()) == 1)
        await site.stop()
        site.forget()
        site.kernel.ports.links.delete(endpoint.link)
        killed = asyncio.Event()
        release = site.state.release

        def kill(*_: object) -> None:
            killed.set()
            raise Unavailable("killed before it was written")

        site.state.release = kill  # type: ignore[method-assign, assignment]
        await site.start(ready=False)
        await killed.wait()
        await site.stop()
        site.state.release = release  # type: ignore[method-assign]
        await site.start()
        assert not site.agent.ledger.endpoints
        await site.until(lambda: not site.published() and not site.state.load().pending)
        rests = dict.fromkeys(endpoint.addresses, (site.clock.now, "boot-1", endpoint.identity.id))
        assert site.state.load().resting == rests

    run(test)


def test_a_disk_that_was_set_back_swallows_nothing() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: bool(site.published()) and not site.state.load().pending)
        copy = deepcopy(site.state)
        for number in (2, 3, 4):
            await site.add(number)
        await site.until(lambda: len(site.published()) == 4)
        await site.stop()
        site.state = copy
        await site.start()
        assert site.agent.ledger.epoch == 2
        await site.until(lambda: len(site.agent.ledger.endpoints) == 4)
        site.clock.now += 180
        await site.add(5)
        await site.delete(2)
        await site.until(lambda: set(site.published()) == {f"c{number}/eth0" for number in (1, 3, 4, 5)})
        assert site.published() == {one.id: one for one in site.agent.ledger.endpoints.values()}

    run(test)


def test_an_agent_that_reports_in_again_while_it_publishes_keeps_its_epoch() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        greet = site.control.hello

        async def greeted(hello: Hello) -> Welcome:
            await site.add(2)
            await asyncio.sleep(0.02)
            return await greet(hello)

        site.control.hello = greeted  # type: ignore[method-assign]
        before = site.agent.follower.stream
        site.agent.follower.restart()
        await site.until(lambda: site.agent.follower.stream > before and len(site.published()) == 2)
        assert site.agent.ledger.epoch == 1

    run(test)


def test_an_agent_says_what_no_policy_can_close_when_it_reports_in() -> None:
    async def test(site: Site) -> None:
        await site.until(lambda: site.control.core.state.hosts["h1"].failsafe == FAILSAFE)

    run(test)


def test_an_agent_works_on_with_its_own_blocks_until_everybody_is_settled() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        control = await restore(site, "h9")
        await site.stop()
        site.control.close()
        site.control = control
        await site.start()
        await site.add(2)
        with pytest.raises(Unavailable, match="h9 did not say yet"):
            await site.add(3, DB)
        await control.core.commit(lambda _, draft: draft.delete(UNSETTLED.key("h9")))
        await site.add(3, DB)

    run(test)
