"""What every store promises, tried on each of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.store import open_etcd
from romana.adapters.store.memory import MemoryStore
from romana.adapters.store.sqlite import BATCH, SqliteStore
from romana.model.errors import Conflict, Invalid, Unavailable
from romana.ports import Record, Store, StoreEvent, Transaction
from tests.probes.etcd import EtcdCluster

Test = Callable[[Store], Awaitable[None]]
Run = Callable[[Test], None]


def address(etcd: EtcdCluster) -> EtcdAddress:
    return EtcdAddress(endpoints=tuple(etcd.endpoints), prefix=f"/{secrets.token_hex(4)}/")


@asynccontextmanager
async def opened(kind: str, path: Path, etcd: EtcdCluster | None) -> AsyncIterator[Store]:
    store: Store
    if etcd is not None:
        store = await open_etcd(address(etcd), keep=5)
    else:
        store = MemoryStore(keep=5) if kind == "memory" else SqliteStore(path, keep=5)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["memory", "sqlite", "etcd"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    etcd = request.getfixturevalue("etcd") if request.param == "etcd" else None

    def runner(test: Test) -> None:
        async def body() -> None:
            async with opened(request.param, tmp_path / "store.db", etcd) as store:
                await asyncio.wait_for(test(store), 20)

        asyncio.run(body())

    return runner


def test_a_commit_is_read_back_with_its_revision(run: Run) -> None:
    async def test(store: Store) -> None:
        revision = await store.commit(Transaction(puts={"a/1": b"x", "a/2": b"y", "b/1": b"z"}))
        record = await store.get("a/1")
        assert record is not None
        assert (record.value, record.revision) == (b"x", revision)
        assert [(r.key, r.value) for r in (await store.scan("a/"))[1]] == [("a/1", b"x"), ("a/2", b"y")]
        assert await store.get("c") is None

    run(test)


def test_a_failed_compare_changes_nothing(run: Run) -> None:
    async def test(store: Store) -> None:
        first = await store.commit(Transaction(compares={"a": 0}, puts={"a": b"1"}))
        with pytest.raises(Conflict):
            await store.commit(Transaction(compares={"a": 0}, puts={"a": b"2", "b": b"2"}))
        with pytest.raises(Conflict):
            await store.commit(Transaction(compares={"a": first + 7}, deletes=("a",)))
        assert (await store.scan())[0] == first
        record = await store.get("a")
        assert record is not None
        assert record.value == b"1"
        assert await store.get("b") is None

    run(test)


def test_only_comparing_answers_the_present_revision(run: Run) -> None:
    async def test(store: Store) -> None:
        revision = await store.commit(Transaction(puts={"a": b"1"}))
        assert await store.commit(Transaction(compares={"a": revision, "b": 0})) == revision
        with pytest.raises(Conflict):
            await store.commit(Transaction(compares={"b": 1}))

    run(test)


def test_of_two_writers_of_one_key_one_wins(run: Run) -> None:
    async def test(store: Store) -> None:
        tries = [store.commit(Transaction(compares={"a": 0}, puts={"a": bytes([i])})) for i in range(20)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(answer, int) for answer in answers) == 1
        assert sum(isinstance(answer, Conflict) for answer in answers) == 19

    run(test)


def test_a_watch_sees_every_change_once_and_in_order(run: Run) -> None:
    async def test(store: Store) -> None:
        start = await store.commit(Transaction(puts={"a/0": b"0"}))
        seen: list[StoreEvent] = []

        async def follow() -> None:
            async for events in store.watch("a/", start):
                seen.extend(events)
                if len(seen) == 4:
                    return

        task = asyncio.create_task(follow())
        await store.commit(Transaction(puts={"a/1": b"1", "b/1": b"not ours"}))
        await store.commit(Transaction(puts={"b/2": b"not ours"}))
        await store.commit(Transaction(deletes=("a/0",), puts={"a/2": b"2"}))
        last = await store.commit(Transaction(puts={"a/1": b"3"}))
        await task
        assert [(e.key, e.value) for e in seen] == [("a/1", b"1"), ("a/0", None), ("a/2", b"2"), ("a/1", b"3")]
        assert seen[-1].revision == last

    run(test)


def test_a_watch_from_too_long_ago_is_told_so(run: Run) -> None:
    async def test(store: Store) -> None:
        start = await store.commit(Transaction(puts={"a": b"0"}))
        for i in range(9):
            await store.commit(Transaction(puts={"a": bytes([i])}))
        with pytest.raises(Conflict, match="compacted"):
            await anext(store.watch("", start))

    run(test)


KEYS = st.sampled_from(["a/1", "a/2", "b"])
STEPS = st.lists(
    st.tuples(st.dictionaries(KEYS, st.binary(max_size=3), max_size=3), st.lists(KEYS, max_size=2, unique=True)),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_sqlite_does_what_memory_does_also_after_opening_again(
    steps: list[tuple[dict[str, bytes], list[str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("same") / "store.db"

    async def body() -> None:
        memory, sqlite = MemoryStore(), SqliteStore(path)
        identity = await sqlite.incarnation()
        for puts, deletes in steps:
            transaction = Transaction(puts=puts, deletes=tuple(key for key in deletes if key not in puts))
            assert await memory.commit(transaction) == await sqlite.commit(transaction)
            assert await memory.scan() == await sqlite.scan()
        await sqlite.close()
        again = SqliteStore(path)
        assert await again.scan() == await memory.scan()
        assert await again.incarnation() == identity
        await again.close()

    asyncio.run(body())


def test_a_second_holder_of_the_file_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        first = SqliteStore(tmp_path / "store.db")
        with pytest.raises(Unavailable, match="another romanad"):
            SqliteStore(tmp_path / "store.db")
        await first.close()
        second = SqliteStore(tmp_path / "store.db")
        await second.close()

    asyncio.run(body())


def test_a_watch_from_a_revision_that_was_never_here_is_told_so(run: Run) -> None:
    async def test(store: Store) -> None:
        head = await store.commit(Transaction(puts={"a": b"0"}))
        with pytest.raises(Conflict, match="not been"):
            await anext(store.watch("", head + 1))

    run(test)


def test_closing_answers_every_commit_that_waits(tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore(tmp_path / "store.db")
        commits = [asyncio.create_task(store.commit(Transaction(puts={str(i): b"x"}))) for i in range(5 * BATCH)]
        await asyncio.sleep(0)
        await store.close()
        assert len({await asyncio.wait_for(commit, 5) for commit in commits}) == 5 * BATCH

    asyncio.run(body())


def test_what_is_not_storable_is_refused_with_every_fault_and_harms_nobody(run: Run) -> None:
    async def test(store: Store) -> None:
        wrong = Transaction(puts={"\ud800": b"half a character", "": b"", "a": b"1"}, deletes=("a", "k" * 2000))
        with pytest.raises(Invalid) as caught:
            await store.commit(wrong)
        assert len(caught.value.faults) == 4
        await store.commit(Transaction(puts={"a": b"1"}))
        assert [record.key for record in (await store.scan())[1]] == ["a"]

    run(test)


def test_pages_are_as_of_one_revision_whatever_is_written_between_them(run: Run) -> None:
    async def test(store: Store) -> None:
        names = [f"a/{number:05}" for number in range(2500)]
        for start in range(0, len(names), 100):
            await store.commit(Transaction(puts=dict.fromkeys(names[start : start + 100], b"old")))
        await store.commit(Transaction(puts={"b": b"not ours"}))
        before, expected = await store.scan("a/")
        revision, pages = await store.read("a/")
        found = await anext(pages)
        await store.commit(Transaction(puts=dict.fromkeys(names[::50], b"new"), deletes=tuple(names[1::50])))
        await store.commit(Transaction(puts={"a/00000x": b"new", "a/02000x": b"new", "a/9": b"new"}))
        await store.commit(Transaction(deletes=tuple(names[2::50]), puts=dict.fromkeys(names[1::50], b"newer")))
        async for page in pages:
            found += page
        assert revision == before
        assert found == expected

    run(test)


def test_of_many_writers_none_overwrites_another(run: Run) -> None:
    async def test(store: Store) -> None:
        await store.commit(Transaction(puts={"sum": b"0"}))

        async def add(times: int) -> None:
            while times:
                record = await store.get("sum")
                assert record is not None
                more = Transaction(compares={"sum": record.revision}, puts={"sum": str(int(record.value) + 1).encode()})
                with contextlib.suppress(Conflict):
                    await store.commit(more)
                    times -= 1

        await asyncio.gather(*(add(5) for _ in range(8)))
        record = await store.get("sum")
        assert record is not None
        assert record.value == b"40"

    run(test)


def test_a_change_of_any_size_counts_whole_or_not_at_all(run: Run) -> None:
    async def test(store: Store) -> None:
        names = [f"a/{number:03}" for number in range(300)]
        first = await store.commit(Transaction(puts=dict.fromkeys(names, b"1")))
        seen = {record.key: record.revision for record in (await store.scan())[1]}
        watch = store.watch("a/", first)
        with pytest.raises(Conflict):
            await store.commit(Transaction(compares={**seen, "b": 7}, puts=dict.fromkeys(names, b"wrong")))
        assert {record.value for record in (await store.scan())[1]} == {b"1"}
        last = await store.commit(
            Transaction(compares=seen, puts=dict.fromkeys(names[:299], b"2"), deletes=(names[299],))
        )
        events = await anext(watch)
        assert {event.key: event.value for event in events} == {**dict.fromkeys(names[:299], b"2"), names[299]: None}
        assert events[-1].revision == last
        with pytest.raises(Conflict):
            await store.commit(Transaction(compares=seen, puts=dict.fromkeys(names, b"3")))
        revision, found = await store.scan()
        assert revision >= last
        assert {(event.key, event.value, event.revision) for event in events if event.value is not None} == {
            (record.key, record.value, record.revision) for record in found
        }
        again = {record.key: record.revision for record in found}
        await store.commit(Transaction(compares=again, deletes=tuple(names[:299])))
        assert (await store.scan())[1] == []

    run(test)


def test_a_value_of_a_mebibyte_is_stored(run: Run) -> None:
    async def test(store: Store) -> None:
        values = {"random": random.Random(1).randbytes(1 << 20), "text": b"romana " * 400_000, "odd": b"\0z"}
        await store.commit(Transaction(puts=values))
        assert {record.key: record.value for record in (await store.scan())[1]} == values

    run(test)


def test_a_lease_has_one_holder_and_guards_transactions(run: Run) -> None:
    async def test(store: Store) -> None:
        lease = await store.lease("roster", 5)
        record = await store.get(lease.key)
        assert record is not None
        assert record.revision == lease.revision
        with pytest.raises(Conflict, match="held"):
            await store.lease("roster", 5)
        other = await store.lease("audit", 5)
        guarded = Transaction(compares={lease.key: lease.revision}, puts={"a": b"1"})
        await store.commit(guarded)
        lost = asyncio.ensure_future(lease.lost())
        await lease.release()
        await asyncio.wait_for(lost, 5)
        await lease.release()
        with pytest.raises(Conflict):
            await store.commit(guarded)
        again = await store.lease("roster", 5)
        assert again.revision > lease.revision
        with pytest.raises(Conflict):
            await store.commit(guarded)
        await again.release()
        await other.release()
        assert (await store.scan("lease/"))[1] == []

    run(test)


def test_a_closed_store_holds_no_lease_and_ends_its_watches(run: Run) -> None:
    async def test(store: Store) -> None:
        lease = await store.lease("roster", 5)
        watch = asyncio.ensure_future(anext(store.watch("a", (await store.scan())[0])))
        await asyncio.sleep(0)
        await store.close()
        await asyncio.wait_for(lease.lost(), 5)
        with pytest.raises(Unavailable, match="closed"):
            await asyncio.wait_for(watch, 5)

    run(test)


def test_a_store_that_works_is_ready(run: Run) -> None:
    async def test(store: Store) -> None:
        await store.check()

    run(test)


class _FailingConnection(sqlite3.Connection):
    """A connection that is told to fail: the error code of the next COMMITs, and how many of them fail."""

    fails_with = 0
    times = 1

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.times and self.fails_with:
            code, self.times = self.fails_with, self.times - 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error
        return super().execute(sql, *arguments)


async def _failing(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SqliteStore, _FailingConnection]:
    real = sqlite3.connect
    made: list[_FailingConnection] = []

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made.append(real(*arguments, **options, factory=_FailingConnection))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", connect)
    return SqliteStore(path), made[0]


def test_a_failed_fsync_ends_the_store_and_everybody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        store, connection = await _failing(tmp_path / "store.db", monkeypatch)
        head = await store.commit(Transaction(puts={"a": b"1"}))
        lease = await store.lease("watch", 5)
        watch = asyncio.ensure_future(anext(store.watch("b", head)))
        connection.fails_with = sqlite3.SQLITE_IOERR_FSYNC
        for _ in range(2):
            with pytest.raises(Unavailable, match="cannot be written any more"):
                await asyncio.wait_for(store.commit(Transaction(puts={"b": b"2"})), 5)
        with pytest.raises(Unavailable, match="cannot be written any more"):
            await asyncio.wait_for(watch, 5)
        with pytest.raises(Unavailable):
            await store.get("a")
        await asyncio.wait_for(lease.lost(), 5)
        await store.close()
        again = SqliteStore(tmp_path / "store.db")
        assert await again.get("a") == Record("a", b"1", head)
        assert await again.get("b") is None
        await again.close()

    asyncio.run(body())


def test_a_full_disk_refuses_changes_and_takes_them_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        store, connection = await _failing(tmp_path / "store.db", monkeypatch)
        head = await store.commit(Transaction(puts={"a": b"1"}))
        connection.fails_with, connection.times = sqlite3.SQLITE_FULL, 4
        with pytest.raises(Unavailable, match="full"):
            await store.commit(Transaction(puts={"a": b"2"}))
        assert await store.get("a") == Record("a", b"1", head)
        with pytest.raises(Unavailable, match="full"):
            await store.check()
        connection.times = 0
        await store.check()
        connection.times = 1  # the second try, with the space of the log, succeeds
        assert await store.commit(Transaction(compares={"a": head}, puts={"a": b"3"})) == head + 1
        assert (await anext(store.watch("", head)))[0].value == b"3"
        await store.close()

    asyncio.run(body())


def test_a_really_full_disk_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore(disk / "store.db")
        kept: dict[str, int] = {}

        async def fill() -> None:
            for number in range(10_000):
                kept[f"k{number}"] = await store.commit(Transaction(puts={f"k{number}": bytes(4000)}))

        with pytest.raises(Unavailable, match="full"):
            await fill()
        assert {record.key: record.revision for record in (await store.scan())[1]} == kept
        (disk / "ballast").unlink()
        kept["more"] = await store.commit(Transaction(puts={"more": b"1"}))
        await store.close()
        again = SqliteStore(disk / "store.db")
        assert {record.key: record.revision for record in (await again.scan())[1]} == kept
        await again.close()

    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "romana-test", str(disk)], check=True)
    try:
        (disk / "ballast").write_bytes(bytes(4 << 20))
        asyncio.run(body())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_log_stays_small_though_the_program_is_killed_again_and_again(tmp_path: Path) -> None:
    async def body() -> None:
        for life in range(3):
            store = SqliteStore(tmp_path / str(life) / "store.db")
            for number in range(240):  # just not enough for a checkpoint of its own
                await store.commit(Transaction(puts={f"k{number % 50}": bytes(700)}))
            left = tmp_path / str(life + 1)
            left.mkdir()
            for name in ("store.db", "store.db-wal"):  # as a kill leaves them
                shutil.copy(tmp_path / str(life) / name, left / name)
            assert (left / "store.db-wal").stat().st_size < 3 << 20
            await store.close()

    (tmp_path / "0").mkdir()
    asyncio.run(body())


def test_a_store_that_cannot_be_opened_says_which_and_why(tmp_path: Path) -> None:
    async def body() -> None:
        (tmp_path / "text").write_text("this is no database, and long enough to look like one" * 30)
        with pytest.raises(Unavailable, match=r"text.*not a database"):
            SqliteStore(tmp_path / "text")
        with pytest.raises(Unavailable, match=r"below\.db: File exists"):
            SqliteStore(tmp_path / "text" / "below.db")

    asyncio.run(body())
