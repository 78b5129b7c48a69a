"""Backups and restores between all stores: everything, or nothing."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Iterable
from pathlib import Path

import pytest

from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.restore import empty_etcd
from romana.adapters.store.etcd.store import open_etcd
from romana.adapters.store.memory import MemoryStore
from romana.adapters.store.sqlite import SqliteStore
from romana.adapters.store.sqlite_file import EmptyFile
from romana.codec.backup import BackupWriter
from romana.codec.records import HELD, HELD_KEY, HOST, TENANT, UNSETTLED, Held, Unsettled
from romana.model.errors import Conflict, Invalid, Unavailable
from romana.model.tenancy import Tenant
from romana.model.topology import Host
from romana.ports import Store, Transaction
from romana.services.control.backup import Restored, backup, check_backup, restore
from tests.probes.etcd import EtcdCluster

HOSTS = (Host(name="h1", instance="abc", epoch=1), Host(name="h2"), Host(name="h3", instance="def", epoch=2))


def content(tenants: int = 1500) -> dict[str, bytes]:
    found = {TENANT.key(f"t{number:04}"): TENANT.encode(Tenant(name=f"t{number:04}")) for number in range(tenants)}
    return found | {HOST.key(host.name): HOST.encode(host) for host in HOSTS}


async def filled() -> MemoryStore:
    store = MemoryStore()
    await store.commit(Transaction(puts=content()))
    await store.lease("watch", 9)
    return store


async def copy(store: Store) -> bytes:
    return b"".join([bytes(line) + b"\n" async for line in backup(store)])


async def records(store: Store) -> dict[str, bytes]:
    return {record.key: record.value for record in (await store.scan())[1]}


def lines(text: bytes) -> Iterable[bytes]:
    return io.BytesIO(text)


@pytest.mark.parametrize("kind", ["sqlite", "etcd"])
def test_a_restored_store_has_everything_but_leases_and_knows_who_must_report(
    kind: str, tmp_path: Path, etcd: EtcdCluster
) -> None:
    address = EtcdAddress(endpoints=tuple(etcd.endpoints), prefix=f"/{secrets.token_hex(4)}/")

    async def opened() -> Store:
        return SqliteStore(tmp_path / "store.db") if kind == "sqlite" else await open_etcd(address)

    async def restored(text: bytes) -> Restored:
        target = EmptyFile(tmp_path / "store.db") if kind == "sqlite" else await empty_etcd(address)
        return await restore(lambda: lines(text), target)

    async def body() -> None:
        original = await filled()
        text = await copy(original)
        assert check_backup(lines(text)).incarnation == await original.incarnation()
        done = await restored(text)
        assert done.unsettled == ("h1", "h3")
        store = await opened()
        expected = content() | {UNSETTLED.key(name): UNSETTLED.encode(Unsettled(host=name)) for name in done.unsettled}
        expected[HELD_KEY] = HELD.encode(Held())
        assert await records(store) == expected
        assert await store.incarnation() == done.incarnation != await original.incarnation()
        await store.commit(Transaction(compares={"tenant/t0000": (await store.scan("tenant/t0000"))[1][0].revision}))
        with pytest.raises(Unavailable if kind == "sqlite" else Conflict):
            await restored(text)  # romanad has it open, or it is not empty
        again = await copy(store)
        await store.close()
        with pytest.raises(Conflict, match="has records"):
            await restored(text)
        assert [
            line for line in again.splitlines()[1:-1] if b"unsettled" not in line and b"held/" not in line
        ] == text.splitlines()[1:-1]

    asyncio.run(body())


@pytest.mark.parametrize("kind", ["sqlite", "etcd"])
def test_a_restore_that_fails_leaves_the_store_empty_and_can_be_repeated(
    kind: str, tmp_path: Path, etcd: EtcdCluster
) -> None:
    address = EtcdAddress(endpoints=tuple(etcd.endpoints), prefix=f"/{secrets.token_hex(4)}/")

    async def body() -> None:
        text = await copy(await filled())
        for wrong in (text[:-40], text[: len(text) // 2], text.replace(b"t1400", b"t1x00")):
            target = EmptyFile(tmp_path / "store.db") if kind == "sqlite" else await empty_etcd(address)
            with pytest.raises(Invalid):
                await restore(lambda bad=wrong: lines(bad), target)  # type: ignore[misc]
            assert not any(path.name.startswith("store") for path in tmp_path.glob("*"))  # noqa: ASYNC240
        target = EmptyFile(tmp_path / "store.db") if kind == "sqlite" else await empty_etcd(address)
        assert (await restore(lambda: lines(text), target)).records == len(content())

    asyncio.run(body())


def test_a_restore_into_etcd_that_died_is_no_store_and_is_begun_anew(etcd: EtcdCluster) -> None:
    address = EtcdAddress(endpoints=tuple(etcd.endpoints), prefix=f"/{secrets.token_hex(4)}/")

    async def body() -> None:
        running = await open_etcd(address)
        watch = asyncio.ensure_future(anext(running.watch("", (await running.scan())[0])))
        dead = await empty_etcd(address)
        await dead.add([("tenant/half", b"{}")])
        with pytest.raises(Exception, match="restored"):
            await asyncio.wait_for(watch, 5)
        with pytest.raises(Unavailable, match="restore into this store has not ended"):
            await running.commit(Transaction(puts={"tenant/x": b"{}"}))
        with pytest.raises(Unavailable, match="restore into this store has not ended"):
            await running.get("tenant/half")
        with pytest.raises(Unavailable, match="restore into this store has not ended"):
            await open_etcd(address)
        await running.close()
        text = await copy(await filled())
        await restore(lambda: lines(text), await empty_etcd(address))
        with pytest.raises(Unavailable, match="another restore"):
            await dead.add([("tenant/more", b"{}")])
        await dead.abandon()
        store = await open_etcd(address)
        assert set(await records(store)) == {*content(), "unsettled/h1", "unsettled/h3", "held/fixed"}
        await store.close()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("planet/mars", b"{}", "does not know"),
        ("tenant/a", b'{"schema": 99, "value": {"name": "a"}}', "schema 99"),
        ("tenant/a", b"[]", "cannot be read"),
    ],
)
def test_a_backup_with_records_of_a_newer_program_is_refused(key: str, value: bytes, sentence: str) -> None:
    writer = BackupWriter()
    text = [writer.header(incarnation="1a", revision=7, made_by="romana 9"), writer.record(key, value), writer.end()]
    with pytest.raises(Invalid, match=sentence):
        check_backup(line + b"\n" for line in text)
