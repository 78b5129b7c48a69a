"""Endpoints that ask for addresses of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from romana.codec.text import parse_address
from romana.model.errors import AlreadyExists, Conflict, Invalid, NotFound, RomanaError, Unavailable
from romana.model.tenancy import Identity
from romana.model.view import AddressUse
from romana.services.agent.attachments import Attached
from tests.unit.services.agent.site import DB, PLAN, WEB, Site, new_epoch, restore, run


def fixed(test: Callable[[Site], Awaitable[None]]) -> None:
    network = {**PLAN["networks"][0], "static": ["10.1.0.64/26"]}
    topology = {**PLAN["topologies"][0], "networks": ["pods4"]}
    run(test, {**PLAN, "networks": [network], "topologies": [topology]})


async def reserve(site: Site, name: str, *, sticky: bool = True) -> str:
    document = {"name": name, "tenant": "red", "segment": "web", "networks": ["pods4"], "sticky": sticky}
    given = await site.control.addresses.give(document)
    return str(given.allocations[0].address)


async def add(site: Site, number: int, name: str = "", *addresses: str, identity: Identity = WEB) -> Attached:
    wanted = site.wanted(number, identity)
    asked = tuple(map(parse_address, addresses))
    return await site.agent.attachments.add(msgspec.structs.replace(wanted, reservation=name, addresses=asked))


def user(site: Site, name: str) -> tuple[str, str]:
    reservation = site.control.core.state.reservations[name]
    return reservation.host, reservation.endpoint


def test_an_endpoint_has_the_addresses_of_its_reservation_until_it_ends() -> None:
    async def test(site: Site) -> None:
        address = await reserve(site, "db-1")
        made = (await add(site, 1, "db-1")).endpoint
        assert list(map(str, made.addresses)) == [address]
        assert user(site, "db-1") == ("h1", "c1/eth0")
        await site.until(lambda: "c1/eth0" in site.published())
        assert (await add(site, 1, "db-1")).endpoint == made
        assert (await site.agent.attachments.check("c1", "eth0"))[1] == []
        with pytest.raises(Conflict, match="in use by c1/eth0 on host h1"):
            await add(site, 2, "db-1")
        await site.delete(1)
        await site.until(lambda: user(site, "db-1") == ("", ""))
        site.clock.now += 180
        again = (await add(site, 3, "db-1")).endpoint
        assert again.addresses == made.addresses
        assert again.allocations[0].sequence > made.allocations[0].sequence

    fixed(test)


def test_an_endpoint_that_asks_for_an_address_has_it_and_gives_it_back() -> None:
    async def test(site: Site) -> None:
        made = (await add(site, 1, "", "10.1.0.70")).endpoint
        assert list(map(str, made.addresses)) == ["10.1.0.70"]
        with pytest.raises(AlreadyExists, match=r"with 10\.1\.0\.70; DEL comes before"):
            await add(site, 1, "", "10.1.0.71")
        await site.until(lambda: "c1/eth0" in site.published())
        await site.delete(1)
        await site.until(lambda: not site.control.core.state.reservations)

    fixed(test)


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("10.1.0.1", Invalid, r"10\.1\.0\.1 is in block 10\.1\.0\.0/29, which is delegated to host h1"),
        ("10.1.0.60", Invalid, r"10\.1\.0\.60 is outside every static range"),
        ("10.9.0.1", Invalid, r"outside every static range; fixed addresses come from static ranges: 10\.1\.0\.64/26"),
    ],
)
def test_an_address_that_is_not_romanads_to_give_is_refused_by_name(
    address: str, error: type[RomanaError], words: str
) -> None:
    async def test(site: Site) -> None:
        await site.add(9)
        with pytest.raises(error, match=words):
            await add(site, 1, "", address)
        assert "c1/eth0" not in site.agent.ledger.endpoints

    fixed(test)


def test_a_reservation_of_another_identity_is_refused_and_stays_unused() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1", sticky=False)
        with pytest.raises(Invalid, match=r"db-1 was given to red/web .*, the endpoint is of red/db"):
            await add(site, 1, "db-1", identity=DB)
        assert user(site, "db-1") == ("", "")
        with pytest.raises(NotFound, match="no address 'nobody'"):
            await add(site, 1, "nobody")
        with pytest.raises(Invalid, match="leave out the addresses"):
            await add(site, 1, "db-1", "10.1.0.70")

    fixed(test)


def test_a_start_that_fails_ends_the_use() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.kernel.broken = {"links"}
        with pytest.raises(Unavailable):
            await add(site, 1, "db-1")
        site.kernel.broken = set()
        await site.until(lambda: user(site, "db-1") == ("", ""))
        assert not site.agent.ledger.endpoints
        site.clock.now += 180
        await add(site, 2, "db-1")

    fixed(test)


def test_an_endpoint_that_came_and_went_before_romanad_heard_of_it_uses_nothing() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.control.refusing = True
        await add(site, 1, "db-1")
        await site.delete(1)
        site.control.refusing = False
        await site.until(lambda: user(site, "db-1") == ("", ""))
        assert not site.published()

    fixed(test)


def test_a_restarted_agent_keeps_fixed_addresses() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        made = (await add(site, 1, "db-1")).endpoint
        await site.until(lambda: "c1/eth0" in site.published())
        await site.stop()
        await site.start()
        assert site.agent.ledger.book.holder(made.addresses[0]) == made.allocations[0]
        assert (await site.agent.attachments.check("c1", "eth0"))[1] == []
        await site.delete(1)
        await site.until(lambda: user(site, "db-1") == ("", ""))

    fixed(test)


def test_without_romanad_there_is_no_fixed_address() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.control.leave()
        with pytest.raises(Unavailable):
            await add(site, 1, "db-1")

    fixed(test)


async def ask(site: Site, name: str, endpoint: str) -> None:
    """What the agent asks romanad for before it starts an endpoint, and no more: it is killed then."""
    epoch = site.agent.ledger.epoch
    await site.control.use_addresses(AddressUse(name=name, host="h1", epoch=epoch, endpoint=endpoint, identity=WEB))


def test_a_use_of_which_no_endpoint_came_is_ended() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        await site.stop()
        await ask(site, "db-1", "c1/eth0")
        assert user(site, "db-1") == ("h1", "c1/eth0")
        await site.start()
        await site.until(lambda: user(site, "db-1") == ("", ""))
        await add(site, 2, "db-1")
        assert user(site, "db-1") == ("h1", "c2/eth0")

    fixed(test)


def test_the_end_of_a_use_is_said_again_to_a_restored_store() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.control.refusing = True
        await ask(site, "db-1", "c1/eth0")
        await site.until(lambda: site.state.load().pending != ())
        site.control.become(await restore(site))
        await site.until(lambda: user(site, "db-1") == ("", ""))

    fixed(test)


def test_a_use_that_a_person_said_is_left_alone() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "vm-1")
        await reserve(site, "db-1")
        await site.control.addresses.use("vm-1", {"host": "h1", "endpoint": "vm-1/eth0"})
        await ask(site, "db-1", "c1/eth0")
        await site.until(lambda: user(site, "db-1") == ("", ""))
        assert user(site, "vm-1") == ("h1", "vm-1/eth0")

    fixed(test)


def test_an_endpoint_that_comes_again_before_romanad_heard_of_its_end_is_another_use() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        made = (await add(site, 1, "db-1")).endpoint
        await site.until(lambda: "c1/eth0" in site.published())
        site.control.refusing = True
        await site.delete(1)
        with pytest.raises(Unavailable):
            await add(site, 1, "db-1")
        assert user(site, "db-1") == ("h1", "c1/eth0")
        site.control.refusing = False
        again = (await add(site, 1, "db-1")).endpoint
        assert again.addresses == made.addresses
        assert again.allocations[0].sequence > made.allocations[0].sequence
        await site.until(lambda: not site.state.load().pending)
        assert site.published() == site.agent.ledger.endpoints
        assert site.published()["c1/eth0"].allocations == again.allocations
        assert user(site, "db-1") == ("h1", "c1/eth0")

    fixed(test)


def test_a_start_that_could_not_even_be_written_ends_the_use() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.state.broken = True
        with pytest.raises(Unavailable, match="disk full"):
            await add(site, 1, "db-1")
        site.state.broken = False
        await site.until(lambda: user(site, "db-1") == ("", ""))

    fixed(test)


def test_a_lost_memory_ends_a_use_when_its_link_goes() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.control.refusing = True  # so romanad never hears of the endpoint
        made = (await add(site, 1, "db-1")).endpoint
        await site.stop()
        site.forget()
        site.control.refusing = False
        await site.start()
        assert site.agent.ledger.book.holder(made.addresses[0]) is not None
        assert user(site, "db-1") == ("h1", "c1/eth0")
        with pytest.raises(AlreadyExists, match="DEL comes before"):
            await add(site, 1, "db-1")
        assert await site.delete(1)
        await site.until(lambda: user(site, "db-1") == ("", ""))

    fixed(test)


def test_a_new_epoch_keeps_a_fixed_address_that_was_not_published() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.control.refusing = True
        made = (await add(site, 1, "db-1")).endpoint
        await site.stop()
        await new_epoch(site)
        site.control.refusing = False
        await site.start()
        await site.until(lambda: bool(site.published()))
        assert site.published()["c1/eth0"].allocations == made.allocations
        assert user(site, "db-1") == ("h1", "c1/eth0")

    fixed(test)


def test_a_host_declared_lost_has_no_fixed_address_any_more() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        await reserve(site, "db-2")
        await add(site, 1, "db-1")
        await site.until(lambda: "c1/eth0" in site.published())
        site.control.refusing = True
        await add(site, 2, "db-2")  # of which romanad never hears
        epoch = site.agent.ledger.epoch
        site.control.leave()
        await site.until(lambda: not site.agent.follower.connected)
        site.control.clock.now += 61
        await site.control.hosts.lost("h1")
        assert {user(site, name) for name in ("db-1", "db-2")} == {("", "")}
        site.control.refusing = False
        site.control.come_back()
        late = AddressUse(name="db-1", host="h1", epoch=epoch, endpoint="c3/eth0", identity=WEB)
        with pytest.raises(Conflict, match="report in again"):
            await site.control.use_addresses(late)
        await site.until(lambda: site.agent.ledger.epoch > epoch and site.agent.status().ready)
        assert not site.agent.ledger.endpoints
        await site.until(lambda: site.in_kernel() == (set(), set(), set()))
        await site.until(lambda: not site.state.load().pending)
        assert not site.published()

    fixed(test)


def test_a_draining_host_starts_nothing_with_a_fixed_address() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        await site.control.hosts.drain("h1")
        with pytest.raises(Conflict, match="host h1 is draining"):
            await add(site, 1, "db-1")
        with pytest.raises(Conflict, match="host h1 is draining"):
            await add(site, 1, "", "10.1.0.70")
        await site.control.hosts.drain("h1", undo=True)
        await add(site, 1, "db-1")

    fixed(test)


def test_a_person_does_not_end_what_an_agent_asked_for() -> None:
    async def test(site: Site) -> None:
        await reserve(site, "db-1")
        site.control.refusing = True  # so romanad does not know that the endpoint runs
        await add(site, 1, "db-1")
        with pytest.raises(Conflict, match=r"the agent of host h1 has address db-1 for c1/eth0; the use ends with"):
            await site.control.addresses.end_use("db-1")

    fixed(test)
