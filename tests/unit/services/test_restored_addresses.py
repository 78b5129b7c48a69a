"""Fixed addresses that were given after the backup of which a store was restored: nobody else gets them."""

from __future__ import annotations

import io
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.restore import empty_etcd
from romana.adapters.store.etcd.store import open_etcd
from romana.adapters.store.sqlite import SqliteStore
from romana.adapters.store.sqlite_file import EmptyFile
from romana.codec.records import SPAN
from romana.codec.text import parse_address
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Unavailable
from romana.model.ipam import Span
from romana.model.view import Inventory, Publication, Released
from romana.ports import EmptyStore, Store
from romana.services.control.addresses import IDLE, AddressVerbs
from romana.services.control.backup import backup, restore
from romana.services.control.plan import PlanVerbs
from romana.services.control.tenancy import TenancyVerbs
from tests.probes.etcd import EtcdCluster
from tests.unit.services.cluster import PLAN as CLUSTER_PLAN
from tests.unit.services.cluster import Replica
from tests.unit.services.test_fixed_addresses import PLAN, Site, run, texts
from tests.unit.services.test_inventory import restored as with_hosts

Stores = tuple[Callable[[], Awaitable[EmptyStore]], Callable[[], Awaitable[Store]]]


@pytest.fixture(params=["sqlite", "etcd"])
def stores(request: pytest.FixtureRequest, tmp_path: Path, etcd: EtcdCluster) -> Stores:
    """How an empty store is made, and how it is opened."""
    address = EtcdAddress(endpoints=tuple(etcd.endpoints), prefix=f"/{secrets.token_hex(4)}/")

    async def empty_file() -> EmptyStore:
        return EmptyFile(tmp_path / "store.db")

    async def opened_file() -> Store:
        return SqliteStore(tmp_path / "store.db")

    if request.param == "sqlite":
        return empty_file, opened_file
    return (lambda: empty_etcd(address)), (lambda: open_etcd(address))


def restored(stores: Stores, after: Callable[[Site], Awaitable[None]], test: Callable[[Site], Awaitable[None]]) -> None:
    """`after` is done after the backup, and before it is restored for `test`."""
    empty, opened = stores

    async def body(site: Site) -> None:
        await site.give("old", networks=["pods"])
        text = b"".join([bytes(line) + b"\n" async for line in backup(site.store)])
        await after(site)
        done = await restore(lambda: io.BytesIO(text), await empty())
        assert not done.unsettled
        store = await opened()
        again = Site(store)
        await again.open()
        try:
            await test(again)
        finally:
            again.close()
            await store.close()

    run(body)


async def _gives_one(site: Site) -> None:
    assert texts(await site.give("late", networks=["pods"])) == ["10.0.254.9"]


def test_an_address_that_was_given_after_the_backup_is_given_to_nobody_else(stores: Stores) -> None:
    async def test(site: Site) -> None:
        for more in ({}, {"networks": ["pods"]}, {"addresses": ["10.0.254.9"], "host": "h1", "endpoint": "x"}):
            with pytest.raises(Unavailable, match="romana address confirm"):
                await site.give("new", **more)
        assert texts(await site.give("old", networks=["pods"])) == ["10.0.254.8"]
        with pytest.raises(Conflict, match="belongs to old"):
            await site.give("late", addresses=["10.0.254.8"])
        assert texts(await site.give("late", addresses=["10.0.254.9"])) == ["10.0.254.9"]
        assert (await site.addresses.use("late", {"host": "h1", "endpoint": "vm/eth0"})).host == "h1"
        await site.addresses.end_use("old")
        assert await site.addresses.confirm()
        assert not await site.addresses.confirm()
        assert texts(await site.give("new", networks=["pods"])) == ["10.0.254.10"]

    restored(stores, _gives_one, test)


def test_what_may_hold_unknown_addresses_is_given_back_by_nobody(stores: Stores) -> None:
    async def test(site: Site) -> None:
        await site.addresses.release("old")
        for _ in range(2):
            site.clock.now += 2 * IDLE
            assert not await site.addresses.give_back_idle()
        wider, narrower = ([{**PLAN["networks"][0], "static": ranges}] for ranges in (["10.0.254.0/23"], []))
        with pytest.raises(Unavailable, match="romana address confirm"):
            await PlanVerbs(site.core).set_topology({**PLAN, "networks": [*narrower, *PLAN["networks"][1:]]})
        await PlanVerbs(site.core).set_topology({**PLAN, "networks": [*wider, *PLAN["networks"][1:]]})
        await site.addresses.confirm()
        await PlanVerbs(site.core).set_topology({**PLAN, "networks": [*narrower, *PLAN["networks"][1:]]})

    restored(stores, _gives_one, test)


def test_the_list_is_confirmed_only_when_hosts_have_said_what_they_use(stores: Stores) -> None:
    async def after(site: Site) -> None:
        await _gives_one(site)

    async def test(site: Site) -> None:
        site.core.state.unsettled["h1"] = None  # type: ignore[assignment]
        with pytest.raises(Unavailable, match="h1 did not say yet"):
            await site.addresses.confirm()
        with pytest.raises(Unavailable, match="h1 did not say yet"):
            await site.give("late", addresses=["10.0.254.9"])

    restored(stores, after, test)


NETWORK = {**CLUSTER_PLAN["networks"][0], "static": ["10.1.15.192/26"]}


class Uses:
    """Fixed addresses of endpoints, as they are given and used."""

    def __init__(self, one: Replica) -> None:
        self.one = one
        self.addresses = AddressVerbs(one.core)

    async def start(self, host: str, name: str, endpoint: str, **more: Any) -> None:
        """A name, which may be known already, begins to be used by an endpoint."""
        if name not in self.one.core.state.reservations:
            await self.addresses.give({"name": name, "tenant": "a", "segment": "web", **more})
        used = await self.addresses.use(name, {"host": host, "endpoint": endpoint})
        made = Endpoint(
            id=endpoint, name=name, host=host, identity=used.identity, allocations=used.allocations, link=f"rom{name}"
        )
        await self.publish(host, started=(made,))

    async def stop(self, endpoint: str) -> None:
        gone = self.one.core.state.endpoints[endpoint]
        released = Released(endpoint=endpoint, sequences={one.address: one.sequence for one in gone.allocations})
        await self.publish(gone.host, released=(released,))

    async def publish(self, host: str, **more: Any) -> None:
        state = self.one.core.state
        known = state.published.get(host)
        number = known.number + 1 if known is not None else 1
        await self.one.rooms.publish(Publication(host=host, epoch=state.hosts[host].epoch, number=number, **more))


def used_after(
    before: Callable[[Uses], Awaitable[None]],
    after: Callable[[Uses], Awaitable[None]],
    test: Callable[[Replica, dict[str, Inventory]], Awaitable[None]],
) -> None:
    """`before` was done before the backup, `after` after it and before the restore."""
    uses: list[Uses] = []

    async def make(one: Replica) -> None:
        await PlanVerbs(one.core).set_topology({**CLUSTER_PLAN, "networks": [NETWORK]})
        await TenancyVerbs(one.core).set_segment("a", "db")
        uses.append(Uses(one))
        await before(uses[0])

    with_hosts(make, lambda _: after(uses[0]), test)


async def _nothing(_: Uses) -> None: ...


def users(one: Replica) -> dict[str, tuple[str, str, list[str]]]:
    """Who uses which addresses; each one's record is looked at too."""
    state = one.core.state
    for name, used in state.reservations.items():
        for allocation in used.allocations:
            assert state.fixed[allocation.address].reservation == name
            assert used.identity.id in state.blocks[allocation.block].identities
            assert state.blocks[allocation.block].allocator == ""
            assert state.holder(allocation.address) in (used.endpoint or None, None)
    given = [address for address, fixed in state.fixed.items() if fixed.reservation]
    assert len(given) == sum(len(used.allocations) for used in state.reservations.values())
    return {name: (used.host, used.endpoint, texts(used)) for name, used in state.reservations.items()}


@pytest.mark.parametrize("with_block", [True, False], ids=["block known", "block unknown"])
def test_a_fixed_address_that_an_endpoint_uses_since_the_backup_has_a_reservation_again(with_block: bool) -> None:
    async def before(uses: Uses) -> None:
        if with_block:
            await uses.addresses.give({"name": "first", "tenant": "a", "segment": "web"})

    async def after(uses: Uses) -> None:
        await uses.start("h1", "vm", "vm", addresses=["10.1.15.193"])
        await uses.start("h1", "pod", "c0ffee/eth0", addresses=["10.1.15.194"], labels={"app": "db"})

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        for _ in range(2):  # a repeated one changes nothing
            assert not (await one.inventories.inventory(inventories["h1"])).refused
            revision = one.core.state.revision
            inventories["h1"] = msgspec.structs.replace(inventories["h1"], since=revision)
        assert one.core.state.revision == revision
        await one.inventories.inventory(inventories["h2"])
        found = users(one)
        assert found.pop("restored.vm") == ("h1", "vm", ["10.1.15.193"])
        other = next(name for name in found if name.startswith("restored.c0ffee-eth0."))
        assert found.pop(other) == ("h1", "c0ffee/eth0", ["10.1.15.194"])
        assert set(found) == ({"first"} if with_block else set())
        await one.view("h1")
        uses = Uses(one)
        with pytest.raises(Conflict, match=r"belongs to restored\.vm"):
            await uses.addresses.give({"name": "x", "tenant": "a", "segment": "web", "addresses": ["10.1.15.193"]})
        await uses.stop("vm")
        assert "restored.vm" not in one.core.state.reservations

    used_after(before, after, test)


def test_names_that_the_backup_knows_are_used_by_who_uses_them_now() -> None:
    async def before(uses: Uses) -> None:
        for name, host in (("a", "h1"), ("b", "h2"), ("c", "h1"), ("d", "h1")):
            await uses.start(host, name, name, sticky=True)
        await uses.addresses.give({"name": "free", "tenant": "a", "segment": "web"})
        await uses.start("h2", "gone", "gone")

    async def after(uses: Uses) -> None:
        for name in ("a", "b", "c", "d", "gone"):
            await uses.stop(name)
        for name, host, endpoint in (("a", "h2", "b"), ("b", "h1", "a"), ("c", "h1", "d"), ("d", "h1", "c")):
            await uses.start(host, name, endpoint)
        await uses.start("h2", "free", "new")

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        for host in ("h1", "h2"):
            assert not (await one.inventories.inventory(inventories[host])).refused
        found = {name: use[:2] for name, use in users(one).items()}
        assert found == {
            "a": ("h2", "b"),
            "b": ("h1", "a"),
            "c": ("h1", "d"),
            "d": ("h1", "c"),
            "free": ("h2", "new"),
        }
        assert set(one.core.state.endpoints) == {"a", "b", "c", "d", "new"}

    used_after(before, after, test)


def test_a_fixed_address_that_somebody_else_has_is_refused_with_who_has_it() -> None:
    async def before(uses: Uses) -> None:
        await uses.start("h1", "mine", "mine", addresses=["10.1.15.193"])
        await uses.addresses.give({"name": "db", "tenant": "a", "segment": "db", "addresses": ["10.1.15.200"]})

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        await one.inventories.inventory(inventories["h1"])
        (mine,) = inventories["h1"].endpoints
        stolen = msgspec.structs.replace(mine, id="x", host="h2")
        foreign = [_moved(stolen, address, f"y{address[-3:]}") for address in ("10.1.15.200", "10.1.15.201")]
        twice = [_moved(stolen, "10.1.15.194", name) for name in ("z1", "z2")]
        sent = msgspec.structs.replace(inventories["h2"], endpoints=(stolen, *foreign, *twice))
        refused = (await one.inventories.inventory(sent)).refused
        assert [words in why for words, why in zip(REFUSED, refused, strict=True)] == [True] * len(REFUSED), refused
        assert set(one.core.state.endpoints) == {"mine", "z1"}
        assert set(users(one)) == {"mine", "db", "restored.z1"}

    used_after(before, _nothing, test)


REFUSED = (
    "which endpoint mine has",
    "10.1.15.200/29 of a/db, and is of a/web",
    "10.1.15.200/29 of a/db, and is of a/web",
    "which another endpoint of the host has",
)


def test_a_block_is_restored_over_nothing_that_somebody_holds() -> None:
    async def after(uses: Uses) -> None:
        await uses.start("h1", "vm", "vm")

    async def test(one: Replica, inventories: dict[str, Inventory]) -> None:
        cidr = inventories["h1"].endpoints[0].allocations[0].block.supernet(26)
        span = Span(cidr=cidr, network="pods", host="h2")
        await one.core.commit(lambda _, draft: draft.put(SPAN, SPAN.key(cidr), span))
        whole = msgspec.structs.replace(inventories["h1"], since=one.core.state.revision)
        with pytest.raises(Unavailable, match="gives to h2, which did not say"):
            await one.inventories.inventory(whole)
        theirs = inventories["h2"]
        await one.inventories.inventory(msgspec.structs.replace(theirs, spans=(*theirs.spans, span)))
        (refused,) = (await one.inventories.inventory(whole)).refused
        assert "over which 10.1.15.192/26 of host h2 lies" in refused
        assert not users(one)

    used_after(_nothing, after, test)


def _moved(endpoint: Endpoint, address: str, name: str) -> Endpoint:
    """The same endpoint under another id, with another address."""
    there = parse_address(address)
    allocation = msgspec.structs.replace(
        endpoint.allocations[0], address=there, block=there.supernet(29), endpoint=name
    )
    return msgspec.structs.replace(endpoint, id=name, allocations=(allocation,))
