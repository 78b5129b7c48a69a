"""Fixed addresses that were given after the backup of which a store was restored: nobody else gets them."""

from __future__ import annotations

import io
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.restore import empty_etcd
from romana.adapters.store.etcd.store import open_etcd
from romana.adapters.store.sqlite import SqliteStore
from romana.adapters.store.sqlite_file import EmptyFile
from romana.model.errors import Conflict, Unavailable
from romana.ports import EmptyStore, Store
from romana.services.control.addresses import IDLE
from romana.services.control.backup import backup, restore
from romana.services.control.plan import PlanVerbs
from tests.probes.etcd import EtcdCluster
from tests.unit.services.test_fixed_addresses import PLAN, Site, run, texts

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
