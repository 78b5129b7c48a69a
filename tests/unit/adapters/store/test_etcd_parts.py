"""The parts of the etcd store that need no etcd: forms of values, division of large changes, what goes together."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.adapters.store.etcd import messages as m
from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.etcd.layout import (
    COMPRESS_FROM,
    MOST_BYTES,
    MOST_VALUE,
    Layout,
    decode_part,
    encode_part,
    pack,
    parts,
    unpack,
)
from romana.adapters.store.etcd.together import LANES, MOST, Small, Together
from romana.adapters.store.feed import Feed
from romana.model.errors import Conflict, Invalid, Unavailable
from romana.ports import StoreEvent


@given(st.binary() | st.binary(min_size=1).map(lambda value: b"\0" + value) | st.sampled_from([b"\0z", b"\0r", b"\0"]))
def test_every_value_comes_back(value: bytes) -> None:
    assert unpack(pack("a", value)) == value


def test_what_is_large_is_compressed_and_what_stays_too_large_is_refused() -> None:
    text = b'{"name": "rack", "cidr": "10.0.0.0/8"}' * (8 << 10)
    assert len(pack("a", text)) < len(text) / 10
    assert pack("a", text[: COMPRESS_FROM - 1]) == text[: COMPRESS_FROM - 1]
    noise = random.Random(1).randbytes(MOST_VALUE)
    assert unpack(pack("a", noise)) == noise
    with pytest.raises(Invalid, match=str(MOST_VALUE)):
        pack("a", noise + b"1")


@given(st.dictionaries(st.text(max_size=3), st.none() | st.integers(0, MOST_VALUE)), st.integers(1, 5))
def test_parts_have_everything_in_order_and_fit(sizes: dict[str, int | None], operations: int) -> None:
    changes = [(key, None if size is None else bytes(size)) for key, size in sizes.items()]
    divided = parts(changes, operations=operations)
    assert [change for part in divided for change in part] == changes
    for part in divided:
        assert 0 < len(part) <= operations
        assert sum(len(key) + len(value or b"") for key, value in part) <= MOST_BYTES
        assert decode_part(encode_part(part)) == part


def test_all_that_is_watched_is_one_range_without_the_parts() -> None:
    layout = Layout("/x/")
    first, last = layout.watched
    for place in (layout.gate, layout.incarnation, layout.record("a"), layout.record("\U0010ffff")):
        assert first <= place < last
    assert not first <= layout.part(0) < last
    assert layout.key(layout.record("tenant/ä")) == "tenant/ä"
    assert layout.key(layout.gate) is None


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (EtcdAddress(endpoints=()), "endpoints"),
        (EtcdAddress(endpoints=("a:1", "http://a:1")), "endpoints[1]"),
        (EtcdAddress(endpoints=("a",)), "endpoints[0]"),
        (EtcdAddress(endpoints=("a:1",), prefix="x/"), "prefix"),
        (EtcdAddress(endpoints=("a:1",), prefix=""), "prefix"),
        (EtcdAddress(endpoints=("a:1",), ca="c", key="k"), "certificate"),
        (EtcdAddress(endpoints=("a:1",), certificate="c", key="k"), "ca"),
        (EtcdAddress(endpoints=("a:1",), timeout=0), "timeout_seconds"),
    ],
)
def test_an_address_that_makes_no_sense_has_a_fault(address: EtcdAddress, path: str) -> None:
    assert [fault.path for fault in address.faults()] == [path]


def test_an_address_that_makes_sense_has_none() -> None:
    assert EtcdAddress(endpoints=("etcd-1.site:2379", "[2001:db8::1]:2379", "192.0.2.1:2379"), ca="c").faults() == []


class Outer:
    """Takes outer transactions; their inner ones all succeed."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.under_way = 0

    async def send(self, operations: list[Any]) -> Any:
        self.under_way += 1
        assert self.under_way <= LANES
        self.sent.append([one.request_txn.compare[0].key.decode() for one in operations])
        for _ in range(3):
            await asyncio.sleep(0)
        self.under_way -= 1
        answer = m.TxnResponse(succeeded=True)
        for one in operations:
            answer.responses.add().response_txn.succeeded = one.request_txn.compare[0].key != b"bad"
        return answer


def small(name: str, compares: set[str], writes: set[str], size: int = 1) -> Small:
    request = m.TxnRequest(compare=[m.unchanged(name.encode(), 0)])
    return Small(request, frozenset(map(str.encode, compares)), frozenset(map(str.encode, writes)), size)


KEYS = st.sets(st.sampled_from("abcdef"), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(KEYS, KEYS), max_size=90))
def test_only_what_does_not_touch_each_other_goes_together_and_all_of_it_goes(
    wanted: list[tuple[set[str], set[str]]],
) -> None:
    async def body() -> list[list[str]]:
        outer = Outer()
        together = Together(outer.send)
        smalls = [small(str(number), *one) for number, one in enumerate(wanted)]
        answers = await asyncio.gather(*map(together.commit, smalls))
        assert all(answer.succeeded for answer in answers)
        await together.close()
        return outer.sent

    sent = asyncio.run(body())
    assert sorted(int(name) for batch in sent for name in batch) == list(range(len(wanted)))
    for batch in sent:
        assert len(batch) <= MOST
        for name in batch:
            reads, writes = wanted[int(name)]
            for other in batch:
                if other != name:
                    assert wanted[int(other)][1].isdisjoint(reads | writes)


def test_each_gets_its_own_answer_and_many_share_a_call() -> None:
    async def body() -> None:
        outer = Outer()
        together = Together(outer.send)
        names = ["bad", *map(str, range(100))]
        answers = await asyncio.gather(*(together.commit(small(name, set(), {name})) for name in names))
        assert [answer.succeeded for answer in answers] == [False] + [True] * 100
        assert len(outer.sent) <= 4
        await together.close()

    asyncio.run(body())


def test_a_call_that_fails_fails_all_that_shared_it_and_no_other() -> None:
    async def body() -> None:
        outer = Outer()

        async def send(operations: list[Any]) -> Any:
            if any(one.request_txn.compare[0].key == b"bad" for one in operations):
                raise Unavailable("lost")
            return await outer.send(operations)

        together = Together(send)
        shared = [small(name, set(), {name}) for name in ("bad", "a")]
        apart = small("b", {"bad"}, {"b"})
        found = await asyncio.gather(*map(together.commit, [*shared, apart]), return_exceptions=True)
        assert isinstance(found[0], Unavailable)
        assert not isinstance(found[2], Exception)
        await together.close()

    asyncio.run(body())


def test_closing_answers_who_waits() -> None:
    async def body() -> None:
        together = Together(lambda _operations: asyncio.sleep(60))
        waiting = [asyncio.create_task(together.commit(small(str(number), set(), {"a"}))) for number in range(5)]
        await asyncio.sleep(0)
        await together.close()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in found)

    asyncio.run(body())


def test_the_log_of_events_is_bounded_by_their_size() -> None:
    async def body() -> None:
        feed = Feed(head=0, keep=100, most_bytes=1000)
        for revision in range(1, 11):
            feed.add(revision, [StoreEvent("k", bytes(299), revision)])
        with pytest.raises(Conflict, match="compacted"):
            feed.follow("", 6)
        assert [event.revision for event in await anext(feed.follow("", 7))] == [8]
        feed.add(11, [StoreEvent("k", bytes(5000), 11)])
        assert [event.revision for event in await anext(feed.follow("", 10))] == [11]

    asyncio.run(body())
