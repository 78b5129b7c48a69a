"""What the store in etcd promises beyond the common contract: several processes, deaths in the middle, lost members."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from romana.adapters.store.etcd import gate
from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.client import EtcdClient, WrongStore
from romana.adapters.store.etcd.layout import Layout
from romana.adapters.store.etcd.messages import put
from romana.adapters.store.etcd.store import EtcdStore, open_etcd
from romana.model.errors import Conflict, Invalid, Unavailable
from romana.ports import StoreEvent, Transaction
from tests.probes.etcd import EtcdCluster

NAMES = [f"a/{number:03}" for number in range(300)]
LARGE = Transaction(puts=dict.fromkeys(NAMES, b"2"))


def address_of(cluster: EtcdCluster, **more: Any) -> EtcdAddress:
    return EtcdAddress(endpoints=tuple(cluster.endpoints), prefix=f"/{secrets.token_hex(4)}/", **more)


def run(test: Callable[[], Awaitable[None]], seconds: float = 40) -> None:
    async def body() -> None:
        await asyncio.wait_for(test(), seconds)

    asyncio.run(body())


@contextlib.asynccontextmanager
async def opened(address: EtcdAddress) -> AsyncIterator[EtcdStore]:
    store = await open_etcd(address)
    try:
        yield store
    finally:
        await store.close()


async def values(store: EtcdStore, prefix: str = "a/") -> set[bytes]:
    found = (await store.scan(prefix))[1]
    assert len(found) in (0, len(NAMES))
    return {record.value for record in found}


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.02)


def test_processes_on_one_store_see_each_other_at_once(etcd: EtcdCluster) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as first, opened(address) as second:
            assert await first.incarnation() == await second.incarnation()
            head = await first.commit(Transaction(puts={"a": b"1"}))
            record = await second.get("a")
            assert record is not None
            assert record.revision == head
            with pytest.raises(Conflict):
                await second.commit(Transaction(compares={"a": 0}, puts={"a": b"2"}))
            later = await second.commit(Transaction(compares={"a": head}, puts={"a": b"2"}))
            assert await anext(first.watch("", head)) == [StoreEvent("a", b"2", later)]
            assert await anext(second.watch("", head)) == [StoreEvent("a", b"2", later)]
            await first.lease("roster", 5)
            with pytest.raises(Conflict, match="held"):
                await second.lease("roster", 5)
            await first.close()
            await (await second.lease("roster", 5)).release()

    run(test)


def test_what_is_too_large_is_refused_with_the_limit(etcd: EtcdCluster) -> None:
    async def test() -> None:
        async with opened(address_of(etcd)) as store:
            with pytest.raises(Invalid, match=r"plan/x.*takes 1200000 at most"):
                await store.commit(Transaction(puts={"plan/x": secrets.token_bytes(2 << 20)}))
            several = {f"a/{number}": secrets.token_bytes(900_000) for number in range(5)}
            await store.commit(Transaction(puts=several))
            assert {record.key: record.value for record in (await store.scan())[1]} == several

    run(test)


class Killed(Exception):  # noqa: N818 - what it is, not an error
    """The process that owned the client is dead."""


class MortalClient(EtcdClient):
    """A client whose process dies before, or after, its call of a number; it does nothing then, and undoes nothing."""

    def __init__(self, address: EtcdAddress) -> None:
        super().__init__(address)
        self.calls_left = 1 << 30
        self.dies_after = False

    @property
    def is_dead(self) -> bool:
        return self.calls_left < 0

    async def _call(self, method: str, request: Any, answers: Any, *, repeat: bool) -> Any:
        if method.endswith("Range") and request.key.endswith(b"incarnation"):
            return await super()._call(method, request, answers, repeat=repeat)
        self.calls_left -= 1
        if self.is_dead:
            if self.dies_after and self.calls_left == -1:
                await super()._call(method, request, answers, repeat=repeat)
            raise Killed
        return await super()._call(method, request, answers, repeat=repeat)


async def expire_leases(cluster: EtcdCluster) -> None:
    """What time does to a dead process's leases, without waiting for it."""
    found = await asyncio.to_thread(cluster.ask, "/v3/lease/leases", {})
    for lease in found.get("leases", ()):
        await asyncio.to_thread(cluster.ask, "/v3/lease/revoke", {"ID": lease["ID"]})


def test_a_large_change_whose_owner_dies_at_any_step_is_whole_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[set[bytes]] = []

    async def die(cluster: EtcdCluster, step: int, *, after: bool) -> bool:
        """Whether the change ended before the owner could die."""
        address = address_of(cluster)
        async with opened(address) as observer:
            head = await observer.commit(Transaction(puts={"b": b"0"}))
            await observer.commit(Transaction(puts=dict.fromkeys(NAMES, b"1")))
            owner = await open_etcd(address)
            client = owner._client
            assert isinstance(client, MortalClient)
            client.calls_left, client.dies_after = step, after
            compares = {record.key: record.revision for record in (await observer.scan())[1]}
            with contextlib.suppress(Killed):
                await owner.commit(Transaction(compares=compares, puts=LARGE.puts))
            dead = client.is_dead
            client.calls_left = -5
            owner._following.cancel()
            await expire_leases(cluster)
            now = await values(observer)
            outcomes.append(now)
            await observer.commit(Transaction(puts={"b": b"1"}))
            seen: list[list[StoreEvent]] = []
            async for events in observer.watch("", head):
                seen.append(events)
                if events[-1].key == "b":
                    break
            assert [len(events) for events in seen] == ([300, 300, 1] if now == {b"2"} else [300, 1])
            assert now == {events[0].value for events in seen[-2:-1]} == await values(observer)
            with contextlib.suppress(Killed):
                await owner.close()
            return not dead

    async def test() -> None:
        with EtcdCluster(tmp_path) as cluster:
            for after in (False, True):
                step = 0
                while not await die(cluster, step, after=after):
                    step += 1
        assert outcomes[0] == {b"1"}
        assert outcomes[-1] == {b"2"}
        assert all(len(outcome) == 1 for outcome in outcomes)
        assert len(outcomes) > 20

    monkeypatch.setattr("romana.adapters.store.etcd.store.EtcdClient", MortalClient)
    monkeypatch.setattr("romana.adapters.store.etcd.watcher.OVERDUE", 0.05)
    run(test)


def test_the_gate_of_a_dead_owner_opens_by_itself(etcd: EtcdCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as store:
            client = MortalClient(address)
            client.calls_left = 3  # the lease, the gate, a part
            with pytest.raises(Killed):
                await gate.Gatekeeper(client, Layout(address.prefix)).decide(
                    "dead", {}, [(name, b"") for name in NAMES]
                )
            began = time.monotonic()
            await store.commit(Transaction(puts={"b": b"1"}))
            assert time.monotonic() - began > 1
            assert await values(store) == set()
            await store.commit(LARGE)
            assert await values(store) == {b"2"}
            await client.close()

    monkeypatch.setattr(gate, "LEASE", 2)
    run(test)


def test_nobody_ever_sees_half_of_a_large_change(etcd: EtcdCluster) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as first, opened(address) as second, opened(address) as reader:
            head = await first.commit(Transaction(puts=dict.fromkeys(NAMES, b"0")))
            changes = 12
            done = asyncio.Event()

            async def change(store: EtcdStore, name: bytes) -> None:
                for number in range(changes // 2):
                    await store.commit(Transaction(puts=dict.fromkeys(NAMES, name + bytes([number]))))

            async def little(store: EtcdStore) -> int:
                count = 0
                while not done.is_set():
                    await store.commit(Transaction(puts={f"b/{count}": b"x"}))
                    count += 1
                return count

            async def look() -> None:
                while not done.is_set():
                    assert len(await values(reader)) == 1

            looking, writing = asyncio.create_task(look()), asyncio.create_task(little(second))
            await asyncio.gather(change(first, b"x"), change(second, b"y"))
            done.set()
            await looking
            assert await writing > 0
            last = await reader.commit(Transaction(puts={"end": b""}))
            known: dict[str, tuple[bytes | None, int]] = {}
            async for events in reader.watch("", head):
                for event in events:
                    known[event.key] = (event.value, event.revision)
                assert len({known[name][0] for name in NAMES if name in known}) <= 1
                if events[-1].revision == last:
                    break
            assert known == {record.key: (record.value, record.revision) for record in (await reader.scan())[1]}

    run(test)


def test_large_changes_of_several_owners_do_not_lose_each_other(etcd: EtcdCluster) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as first, opened(address) as second:
            await first.commit(Transaction(puts=dict.fromkeys(NAMES, b"0")))

            async def add(store: EtcdStore) -> None:
                while True:
                    found = (await store.scan("a/"))[1]
                    number = str(int(found[0].value) + 1).encode()
                    with contextlib.suppress(Conflict):
                        await store.commit(
                            Transaction(
                                compares={record.key: record.revision for record in found},
                                puts=dict.fromkeys(NAMES, number),
                            )
                        )
                        return

            await asyncio.gather(*(add(store) for store in (first, second) * 3))
            assert await values(first) == {b"6"}

    run(test)


def test_nobody_writes_between_the_comparing_and_the_end_of_a_large_change(
    etcd: EtcdCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as store, opened(address) as other:
            await store.commit(Transaction(puts=dict.fromkeys(NAMES, b"1")))
            found = {record.key: record.revision for record in (await store.scan())[1]}
            small = Transaction(compares={NAMES[0]: found[NAMES[0]]}, puts={NAMES[0]: b"small"})
            waiting: list[asyncio.Task[int]] = []
            go = store._gates._go

            async def meanwhile(*arguments: Any) -> None:
                waiting.append(asyncio.create_task(other.commit(small)))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(waiting[0]), 0.2)
                await go(*arguments)

            monkeypatch.setattr(store._gates, "_go", meanwhile)
            await store.commit(Transaction(compares=found, puts=LARGE.puts))
            with pytest.raises(Conflict):
                await waiting[0]
            assert await values(other) == {b"2"}

    run(test)


def test_who_completes_a_change_too_late_changes_nothing(etcd: EtcdCluster) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as store, opened(address) as slow:
            changes: list[tuple[str, bytes | None]] = [(name, b"2") for name in NAMES]
            await store._gates.decide("mine", {}, changes)
            goes_on, txn = asyncio.Event(), slow._client.txn

            async def wait(*arguments: Any) -> Any:
                await goes_on.wait()
                return await txn(*arguments)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(slow._client, "txn", wait)
                late = asyncio.create_task(slow._gates.complete("mine"))
                await asyncio.sleep(0.1)
                assert await store._gates.complete("mine") is not None
                await store.commit(Transaction(puts={NAMES[0]: b"3"}))
                goes_on.set()
                assert await late is None
            record = await store.get(NAMES[0])
            assert record is not None
            assert record.value == b"3"

    run(test)


def test_a_large_change_is_not_made_after_its_lease_is_lost(etcd: EtcdCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as store:
            lease = await store.lease("roster", 5)
            go = store._gates._go

            async def lose(*arguments: Any) -> None:
                await store._client.revoke(lease._number)
                await go(*arguments)

            monkeypatch.setattr(store._gates, "_go", lose)
            with pytest.raises(Conflict, match="lease"):
                await store.commit(Transaction(compares={lease.key: lease.revision}, puts=LARGE.puts))
            assert await values(store) == set()
            await store.commit(Transaction(puts={"b": b"1"}))

    run(test)


def test_a_lease_that_etcd_ends_is_lost(etcd: EtcdCluster) -> None:
    async def test() -> None:
        async with opened(address_of(etcd)) as store:
            lease = await store.lease("roster", 2)
            await store._client.revoke(lease._number)
            await asyncio.wait_for(lease.lost(), 5)
            with pytest.raises(Conflict):
                await store.commit(Transaction(compares={lease.key: lease.revision}, puts={"a": b"1"}))
            await (await store.lease("roster", 2)).release()

    run(test)


def test_a_lease_lasts_as_long_as_it_is_renewed_and_is_lost_with_etcd(tmp_path: Path) -> None:
    async def test() -> None:
        with EtcdCluster(tmp_path) as cluster:
            async with opened(address_of(cluster, timeout=1.0)) as store:
                lease = await store.lease("roster", 2)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(lease.lost(), 2.7)
                cluster.pause(0)
                began = time.monotonic()
                await asyncio.wait_for(lease.lost(), 5)
                assert time.monotonic() - began <= 2.5
                cluster.resume(0)

    run(test)


class Line:
    """A connection to a member that can be cut."""

    def __init__(self, to: str) -> None:
        self._to = to
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.endpoint = ""

    async def open(self) -> None:
        port = int(self.endpoint.rpartition(":")[2]) if self.endpoint else 0
        self._server = await asyncio.start_server(self._join, "127.0.0.1", port)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._to.rpartition(":")
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        self._writers |= {writer, other_writer}

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))


@pytest.mark.parametrize("compacted", [False, True], ids=["it goes on", "unless that is compacted"])
def test_a_watch_goes_on_where_it_was_cut(etcd: EtcdCluster, *, compacted: bool) -> None:
    async def test() -> None:
        line = Line(etcd.endpoints[0])
        await line.open()
        direct = address_of(etcd)
        cut_off = EtcdAddress(endpoints=(line.endpoint,), prefix=direct.prefix)
        async with opened(direct) as other, opened(cut_off) as store:
            head = await other.commit(Transaction(puts={"a": b"1"}))
            assert (await anext(store.watch("", head - 1)))[0].revision == head
            await line.cut()
            missed = [await other.commit(Transaction(puts={"a": bytes([number])})) for number in range(5)]
            if compacted:
                await asyncio.to_thread(etcd.compact, missed[-1])
            following = asyncio.create_task(_revisions(store, head, 6))
            await line.open()
            if compacted:
                with pytest.raises(Conflict, match="compacted"):
                    await asyncio.wait_for(following, 10)
            else:
                last = await other.commit(Transaction(puts={"b": b"1"}))
                assert await asyncio.wait_for(following, 10) == [*missed, last]
        await line.cut()

    run(test)


async def _revisions(store: EtcdStore, after: int, count: int) -> list[int]:
    found: list[int] = []
    async for events in store.watch("", after):
        found += [event.revision for event in events]
        if len(found) >= count:
            break
    return found


def test_a_lost_answer_leaves_open_whether_it_was_done_and_repeating_is_harmless(etcd: EtcdCluster) -> None:
    async def test() -> None:
        address = address_of(etcd, timeout=2)
        line = Line(etcd.endpoints[0])
        await line.open()
        async with (
            opened(address) as other,
            opened(EtcdAddress(endpoints=(line.endpoint,), prefix=address.prefix, timeout=2)) as store,
        ):
            call = store._client._call

            async def lose(*arguments: Any, **options: Any) -> Any:
                answer = await call(*arguments, **options)
                del answer
                raise Unavailable("etcd did not say whether the change was made")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(store._client, "_call", lose)
                with pytest.raises(Unavailable, match="did not say"):
                    await store.commit(Transaction(compares={"a": 0}, puts={"a": b"1"}))
            assert await other.get("a") is not None
            with pytest.raises(Conflict):
                await store.commit(Transaction(compares={"a": 0}, puts={"a": b"1"}))
            await line.cut()
            with pytest.raises(Unavailable, match=r"no member of etcd answers|did not say"):
                await store.commit(Transaction(puts={"b": b"1"}))
            with pytest.raises(Unavailable):
                await store.check()

    run(test)


def test_a_store_that_was_taken_away_under_a_running_process_ends_it(etcd: EtcdCluster) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as store:
            head = await store.commit(Transaction(puts={"a": b"1"}))
            watch = asyncio.ensure_future(anext(store.watch("b", head)))
            await asyncio.sleep(0.1)
            layout = Layout(address.prefix)
            await store._client.txn([], [put(layout.incarnation, b"another")])
            with pytest.raises(Conflict, match="replaced"):
                await asyncio.wait_for(watch, 5)

    run(test)


def test_a_store_of_a_newer_program_and_unreadable_certificates_are_refused(etcd: EtcdCluster, tmp_path: Path) -> None:
    async def test() -> None:
        address = address_of(etcd)
        async with opened(address) as store:
            await store._client.txn([], [put(Layout(address.prefix).schema, b"9")])
        with pytest.raises(WrongStore, match="schema 9, this program knows 1"):
            await open_etcd(address)
        with pytest.raises(WrongStore, match="nowhere"):
            await open_etcd(address_of(etcd, ca=f"{tmp_path}/nowhere"))

    run(test)


def test_tls_is_used_and_a_stranger_is_not_trusted(tmp_path: Path) -> None:
    async def test() -> None:
        with EtcdCluster(tmp_path / "tls", tls=True) as cluster:
            tls = {"ca": str(cluster.ca), "certificate": str(cluster.certificate), "key": str(cluster.key)}
            async with opened(address_of(cluster, **tls)) as store:
                head = await store.commit(Transaction(puts={"a": b"1"}))
                assert (await anext(store.watch("", head - 1)))[0].value == b"1"
            strange = EtcdCluster(tmp_path / "strange", tls=True)
            with pytest.raises(Unavailable, match=r"(?i)certificate"):
                await open_etcd(address_of(cluster, **{**tls, "ca": str(strange.ca), "timeout": 0.5}))
            with pytest.raises(Unavailable, match="no member of etcd answers"):
                await open_etcd(address_of(cluster, timeout=0.5))

    run(test)


def test_members_that_are_killed_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    async def test() -> None:
        with EtcdCluster(tmp_path, 3) as cluster:
            address = address_of(cluster, timeout=1.0)
            async with opened(address) as first, opened(address) as second:
                answered: dict[str, int] = {}
                head = await first.commit(Transaction(puts={"a": b"0"}))
                ending = asyncio.Event()

                async def write(store: EtcdStore, name: str) -> None:
                    number = 0
                    while not ending.is_set():
                        number += 1
                        key = f"{name}/{number}"
                        with contextlib.suppress(Unavailable):
                            answered[key] = await store.commit(Transaction(compares={key: 0}, puts={key: b"x"}))

                async def more(count: int) -> None:
                    want = len(answered) + count

                    async def enough() -> bool:
                        return len(answered) >= want

                    await until(enough)

                names = [(first, "f"), (second, "s")]
                writers = [asyncio.create_task(write(store, f"{name}{i}")) for store, name in names for i in range(4)]
                await more(200)
                for _ in range(2):
                    leader = cluster.leader()
                    assert leader is not None
                    cluster.kill(leader)
                    await more(200)
                    await asyncio.to_thread(cluster.start, leader)
                    await more(100)
                ending.set()
                await asyncio.gather(*writers)
                last = await first.commit(Transaction(puts={"end": b"1"}))
                for store in (first, second):
                    found = {record.key: record.revision for record in (await store.scan())[1]}
                    assert answered.items() <= found.items()
                    seen: dict[str, int] = {}
                    async for events in store.watch("", head):
                        for event in events:
                            assert event.key not in seen
                            seen[event.key] = event.revision
                        if events[-1].revision == last:
                            break
                    assert seen == {key: revision for key, revision in found.items() if revision > head}

    run(test, 60)
