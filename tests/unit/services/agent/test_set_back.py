"""An agent whose memory is an older copy of itself, over a kernel that went on."""

from __future__ import annotations

from copy import deepcopy

import pytest

from romana.model.address import Address
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from tests.fakes.agent_state import MemoryAgentState
from tests.unit.services.agent.site import Site, run


async def copied(site: Site) -> MemoryAgentState:
    """A copy of the memory, when romanad knows all of it."""
    await site.until(lambda: not site.state.load().pending)
    return deepcopy(site.state)


async def set_back(site: Site, copy: MemoryAgentState, *, noticed: bool) -> None:
    """The agent is killed, and starts with the copy; its mark says that it is one where that is `noticed`."""
    await site.stop()
    site.state = copy
    if noticed:
        copy.disown()


@pytest.mark.parametrize("noticed", [False, True])
@pytest.mark.parametrize("away", [False, True])
def test_what_ended_and_what_began_since_the_copy_is_as_in_the_kernel(away: bool, noticed: bool) -> None:
    async def test(site: Site) -> None:
        stays = (await site.add(1)).endpoint
        ended = (await site.add(2)).endpoint
        again = (await site.add(3)).endpoint
        copy = await copied(site)
        if away:  # so romanad knows no more than the copy
            site.control.refusing = True
        await site.delete(2)
        await site.delete(3)
        new = (await site.add(3)).endpoint
        added = (await site.add(4)).endpoint
        assert set(new.addresses).isdisjoint(again.addresses)
        if not away:
            await site.until(lambda: not site.state.load().pending)
        site.control.refusing = False
        await set_back(site, copy, noticed=noticed)
        before = dict(site.kernel.routing)
        await site.start()
        assert site.kernel.routing == before
        ledger = site.agent.ledger
        await site.until(lambda: not site.state.load().pending)
        assert ledger.endpoints["c1/eth0"].allocations == stays.allocations
        for endpoint in (new, added):
            held = ledger.endpoints.get(endpoint.id)
            known = held.addresses if held is not None else ledger.orphans[endpoint.link].addresses
            assert set(known) == set(endpoint.addresses)
            assert all(ledger.book.holder(address) for address in endpoint.addresses)
        if noticed or not away:
            assert "c2/eth0" not in ledger.endpoints
            assert not set(ended.addresses) & {one for held in site.published().values() for one in held.addresses}
        assert site.published() == ledger.endpoints
        for number in (1, 3, 4):
            assert await site.delete(number)
        await site.delete(2)
        await site.until(lambda: site.in_kernel() == (set(), set(), set()) and not site.published())
        assert not ledger.book.counts(site.clock.now)["in-use"]

    run(test)


def test_an_address_that_was_given_to_another_since_the_copy_stays_there() -> None:
    async def test(site: Site) -> None:
        ended = (await site.add(1)).endpoint
        copy = await copied(site)
        await site.delete(1)
        site.clock.now += 180
        holders: dict[Address, Endpoint] = {}
        for number in range(2, 40):
            made = (await site.add(number)).endpoint
            holders |= dict.fromkeys(made.addresses, made)
            if set(made.addresses) & set(ended.addresses):
                break
        assert set(ended.addresses) & set(holders)
        await copied(site)
        await set_back(site, copy, noticed=False)
        before = dict(site.kernel.routing)
        await site.start()
        assert site.agent.ledger.epoch == 2
        assert site.kernel.routing == before
        assert "c1/eth0" not in site.agent.ledger.endpoints
        await site.until(lambda: not site.state.load().pending)
        assert {one for held in site.published().values() for one in held.addresses} == set(holders)

    run(test)


def test_a_link_that_was_to_be_removed_at_the_time_of_the_copy_stays_when_it_is_another_endpoints_now() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        site.kernel.broken = {"links"}
        await site.delete(1)
        copy = await copied(site)
        site.kernel.broken = set()
        await site.until(lambda: not site.kernel.plans)
        again = (await site.add(1)).endpoint
        await site.until(lambda: "c1/eth0" in site.published())
        await set_back(site, copy, noticed=True)
        await site.start()
        assert site.agent.ledger.endpoints["c1/eth0"].allocations == again.allocations
        assert (await site.agent.attachments.check("c1", "eth0"))[1] == []

    run(test)


def test_a_memory_that_was_set_back_gives_nothing_before_romanad_was_asked() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        copy = await copied(site)
        used = (await site.add(2)).endpoint
        await site.delete(2)
        await set_back(site, copy, noticed=True)
        site.control.leave()
        await site.start(ready=False)
        for _ in range(2):
            with pytest.raises(Unavailable, match="is not the one that romanad knows"):
                await site.add(3)
            await site.stop()  # a restart changes nothing about it
            await site.start(ready=False)
        site.control.come_back()
        await site.until(lambda: site.agent.status().ready)
        made = (await site.add(3)).endpoint
        assert set(made.addresses).isdisjoint(used.addresses)

    run(test)


def test_a_recovery_that_a_restart_cuts_short_goes_on_only_with_romanad() -> None:
    """Its rests are in memory alone, and nothing else keeps what others had from being used again."""

    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        await site.stop()
        site.forget()
        await site.start()
        await site.until(lambda: site.state.load().view is not None)
        await site.stop()
        site.control.leave()
        await site.start(ready=False)
        with pytest.raises(Unavailable, match="is not the one that romanad knows"):
            await site.add(2)

    run(test)


def test_a_new_epoch_takes_an_endpoint_without_a_link_for_ended() -> None:
    async def test(site: Site) -> None:
        gone = (await site.add(1)).endpoint
        stays = (await site.add(2)).endpoint
        copy = await copied(site)
        await site.add(3)
        await site.until(lambda: len(site.published()) == 3)
        site.kernel.ports.links.delete(gone.link)  # with its container
        await set_back(site, copy, noticed=False)
        await site.start()
        assert set(site.agent.ledger.endpoints) == {"c2/eth0", "c3/eth0"}
        assert site.agent.ledger.endpoints["c2/eth0"].allocations == stays.allocations
        await site.until(lambda: set(site.published()) == {"c2/eth0", "c3/eth0"})

    run(test)


def test_a_host_declared_lost_has_no_link_left_that_nobody_knew() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await copied(site)
        site.control.refusing = True
        await site.add(2)
        await site.stop()
        site.forget()
        site.control.refusing = False
        await site.start()
        assert len(site.agent.ledger.orphans) == 1
        site.control.clock.now += 61
        site.control._views.live.clear()
        await site.control.hosts.lost("h1")
        await site.until(lambda: site.agent.ledger.epoch == 4 and site.agent.status().ready)
        await site.until(lambda: site.in_kernel() == (set(), set(), set()))

    run(test)


def test_what_is_left_of_an_endpoint_that_began_and_ended_since_the_copy_goes() -> None:
    """Its runtime was answered its DEL, so it will never ask for one again."""

    async def test(site: Site) -> None:
        await site.add(1)
        copy = await copied(site)
        site.control.refusing = True
        await site.add(2)
        site.kernel.broken = {"links"}
        assert await site.delete(2)
        await set_back(site, copy, noticed=True)
        site.kernel.broken = set()
        await site.start(ready=False)
        assert [orphan.addresses for orphan in site.agent.ledger.orphans.values()] == [()]
        site.control.refusing = False
        await site.until(lambda: not site.agent.ledger.orphans and len(site.kernel.plans) == 1)
        assert await site.delete(1)
        await site.until(lambda: site.in_kernel() == (set(), set(), set()) and not site.published())

    run(test)
