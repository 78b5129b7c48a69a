"""Several stores in one etcd: each sees what lies under its own prefix, and nothing else."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.store import open_etcd
from romana.model.errors import Conflict
from romana.ports import Transaction
from tests.probes.etcd import EtcdCluster


def test_weak_point_21_two_stores_with_other_prefixes_share_one_etcd(etcd: EtcdCluster) -> None:
    async def test() -> None:
        word = secrets.token_hex(4)
        # one prefix begins as the other does
        prefixes = (f"/{word}/", f"/{word}/more/", f"/{word}2/")
        stores = [await open_etcd(EtcdAddress(endpoints=tuple(etcd.endpoints), prefix=prefix)) for prefix in prefixes]
        assert len({await store.incarnation() for store in stores}) == len(stores)
        for number, store in enumerate(stores):
            await store.commit(Transaction(compares={"host/h1": 0}, puts={"host/h1": str(number).encode()}))
        for number, store in enumerate(stores):
            _, records = await store.scan()
            assert [(record.key, record.value) for record in records] == [("host/h1", str(number).encode())]
            with pytest.raises(Conflict):
                await store.commit(Transaction(compares={"host/h1": 0}, puts={"host/h1": b"x"}))
        await stores[0].commit(Transaction(deletes=("host/h1",)))
        assert [len((await store.scan())[1]) for store in stores] == [0, 1, 1]
        for store in stores:
            await store.close()

    asyncio.run(asyncio.wait_for(test(), 40))
