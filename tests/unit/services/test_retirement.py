"""What was given back or lost: when others may have it, with hosts that are late, silent, restarted, lost or back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from romana.adapters.store.memory import MemoryStore
from romana.codec.text import parse_prefix
from romana.model.errors import Conflict, Unavailable
from romana.model.view import Claim, Heartbeat
from romana.ports import Transaction
from romana.services.control.liveness import TOUCH, HostSettings
from romana.services.control.retirement import MARGIN, PERSIST
from tests.unit.services.cluster import SETTINGS, WEB, Cluster, Replica, run

GONE = "10.1.15.0/29"
ENOUGH = SETTINGS.lease + SETTINGS.rest + MARGIN + 2 * PERSIST


def test_a_retired_block_waits_for_every_host_that_reported_in() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        for host in ("h1", "h2"):
            await one.hello(host)
            await one.beat(host)
        await one.hosts.set_host("h3", {})  # nobody ever reported in for it
        before = one.core.state.revision
        retired = await one.retire(GONE, "h1")
        assert retired > before
        assert await one.is_retired(GONE)
        await one.beat("h1", retired)
        assert await one.is_retired(GONE)
        await one.beat("h2", before)  # an older view: it may still pass the old owner
        assert await one.is_retired(GONE)
        await one.beat("h2", retired, incarnation="")
        assert not await one.is_retired(GONE)

    run(test)


def test_an_acknowledgement_of_another_store_counts_for_nothing() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        retired = await one.retire(GONE, "h1")
        with pytest.raises(Conflict, match="follows store other"):
            await one.beat("h1", retired + 1000, incarnation="other")
        assert await one.is_retired(GONE)

    run(test)


def test_a_new_agent_of_a_host_acknowledges_again() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        retired = await one.retire(GONE, "h1")
        await one.beat("h1", retired)
        await one.liveness.round()
        assert one.core.state.seen["h1"].applied == retired
        await one.hello("h1", instance="wiped")
        assert await one.is_retired(GONE)
        await one.beat("h1", retired)
        assert not await one.is_retired(GONE)

    run(test)


def test_a_host_that_joins_between_has_a_view_without_it_and_acknowledges_that() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        retired = await one.retire(GONE, "h1")
        await one.beat("h1", retired)
        await one.hello("h2")
        view = await one.view("h2")
        assert view.retired[parse_prefix(GONE)].revision == retired
        await one.beat("h2", view.revision)
        assert not await one.is_retired(GONE)
        assert not (await one.view("h2")).retired

    run(test)


def test_the_same_cidr_retired_again_is_news_to_everybody() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        await one.beat("h1", await one.retire(GONE, "h1"))
        before = await one.view("h1")
        assert not await one.is_retired(GONE)
        again = await one.retire(GONE, "h1")
        after = await one.view("h1")
        assert after.retired != before.retired
        assert await one.is_retired(GONE)
        await one.beat("h1", again)
        assert not await one.is_retired(GONE)

    run(test)


def test_two_replicas_share_acknowledgements_and_nothing_else() -> None:
    async def test(cluster: Cluster) -> None:
        one, other = await cluster.replica("A"), await cluster.replica("B")
        await one.hello("h1")
        await cluster.settle()
        await other.hello("h2")
        await cluster.settle()
        await one.beat("h1")
        await other.beat("h2")
        for replica in (one, other, one):
            await replica.liveness.round()
            await cluster.settle()
        quiet = one.core.state.revision
        for replica, host in ((one, "h1"), (other, "h2")) * 3:
            await replica.beat(host, quiet)
            await replica.liveness.round()
        await cluster.settle()
        assert one.core.state.revision == quiet
        retired = await one.retire(GONE, "h1")
        await cluster.settle()
        await one.beat("h1", retired)
        await other.beat("h2", retired)
        assert await one.is_retired(GONE)  # only the other replica knows what h2 said
        await other.liveness.round()
        await cluster.settle()
        assert not await one.is_retired(GONE)

    run(test)


def test_nothing_is_freed_under_a_lease_that_was_lost() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        await one.beat("h1", await one.retire(GONE, "h1"))
        await one.liveness.round()
        lease = await cluster.store.lease("retirement", 30)
        await lease.release()
        with pytest.raises(Conflict):
            await one.retirement.retire(lease)
        assert parse_prefix(GONE) in one.core.state.retired

    run(test)


def test_an_empty_span_goes_back_after_two_looks_but_not_a_hosts_last_one() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        epoch = (await one.hello("h1")).epoch
        state = one.core.state
        for _ in range(9):
            full = tuple(cidr for cidr, block in state.blocks_on("h1").items() if not block.is_stock)
            await one.rooms.claim(Claim(host="h1", epoch=epoch, identity=WEB, full=full))
        first, second = sorted(state.spans_on("h1"))
        await one.give_back(*(cidr for cidr, block in state.blocks_on("h1").items() if block.span == second))
        lease = await cluster.store.lease("retirement", 30)
        await one.retirement.retire(lease)
        cluster.clock.now += SETTINGS.empty - 1
        await one.retirement.retire(lease)
        assert second in state.spans_on("h1")
        cluster.clock.now += 61
        await one.retirement.retire(lease)
        assert list(state.spans_on("h1")) == [first]
        assert second in state.retired
        await one.give_back(*state.blocks_on("h1"))
        for _ in range(3):
            cluster.clock.now += SETTINGS.empty
            await one.retirement.retire(lease)
        assert list(state.spans_on("h1")) == [first]
        await one.hosts.drain("h1")
        for _ in range(2):
            cluster.clock.now += 61
            await one.retirement.retire(lease)
        assert not state.spans_on("h1")
        await one.hosts.remove_host("h1")

    run(test)


def test_silence_is_counted_only_while_it_is_watched() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        await one.beat("h1")
        await one.watch(PERSIST)
        assert one.silent("h1") == 0  # not long enough to be written
        await one.watch(2 * PERSIST)
        counted = one.silent("h1")
        assert PERSIST <= counted <= 2 * PERSIST
        cluster.clock.now += 10 * ENOUGH  # the process stood still, or nobody had the lease
        await one.watch(2 * PERSIST)
        assert counted < one.silent("h1") <= counted + 2 * PERSIST + 2 * 15 + 1
        assert one.core.state.spans_on("h1")
        cluster.replicas.remove(one)
        one.following.cancel()
        counted = one.silent("h1")
        again = await cluster.replica()  # a restart forgets what it did not write, and so waits longer
        await again.watch(PERSIST // 2)
        assert again.silent("h1") == counted

    run(test)


def test_a_host_silent_for_longer_than_lease_rest_and_margin_loses_everything_and_comes_back_as_a_new_one() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        await one.beat("h1")
        await one.hello("h2")
        await one.start("h1", "c1")
        state, held = one.core.state, set(one.core.state.spans_on("h1"))
        while one.silent("h1") <= SETTINGS.lease + SETTINGS.rest + MARGIN - PERSIST:
            await one.watch(PERSIST)
            assert state.spans_on("h1")
        await one.watch(3 * PERSIST)
        assert not state.spans_on("h1")
        assert not state.endpoints_on("h1")
        assert held <= state.retired.keys()
        with pytest.raises(Conflict, match="epoch"):
            await one.agents.heartbeat(Heartbeat(host="h1", epoch=1, incarnation=one.core.incarnation, applied=0))
        with pytest.raises(Conflict, match="epoch"):
            await one.rooms.claim(Claim(host="h1", epoch=1, identity=WEB))
        assert (await one.hello("h1")).epoch == 3
        assert not held & one.core.state.spans_on("h1").keys()

    run(test)


def test_one_heartbeat_ends_the_silence_before_it_is_answered() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        await one.beat("h1")
        await one.watch(ENOUGH - 3 * PERSIST)
        assert one.silent("h1") > SETTINGS.lease
        await one.beat("h1")
        assert one.silent("h1") == 0
        await one.watch(ENOUGH - 3 * PERSIST)
        assert one.core.state.spans_on("h1")

    run(test)


async def fence(cluster: Cluster, one: Replica, host: str, applied: int) -> None:
    """The host is silent until its lease must be over; what it has is not taken yet. The other one goes on."""
    lease = await cluster.store.lease("hosts", 30)
    await one.core.reached(lease.revision)
    while one.silent(host) <= SETTINGS.lease + SETTINGS.rest + MARGIN:
        cluster.clock.now += 15
        await one.beat("h1", applied)
        await one.retirement.count(lease)
    await lease.release()


def test_a_fenced_host_is_waited_for_no_longer_until_it_reports_in() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        for host in ("h1", "h2"):
            await one.hello(host)
            await one.beat(host)
        retired = await one.retire(GONE, "h1")
        await one.beat("h1", retired)
        assert await one.is_retired(GONE)
        await fence(cluster, one, "h2", retired)
        assert not await one.is_retired(GONE)
        welcome = await one.hello("h2")  # back, in the last moment
        assert not (await one.view("h2")).retired
        again = await one.retire(GONE, "h1")
        assert again > welcome.revision
        await one.beat("h1", again)
        assert await one.is_retired(GONE)

    run(test)


class Interrupted(MemoryStore):
    """Something happens just before something retired is made free."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], Awaitable[object]] | None = None

    async def commit(self, transaction: Transaction) -> int:
        before = self.before
        if before is not None and any(key.startswith("retired/") for key in transaction.deletes):
            self.before = None
            await before()
        return await super().commit(transaction)


def test_a_fenced_host_that_reports_in_meanwhile_is_waited_for() -> None:
    store = Interrupted()

    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        for host in ("h1", "h2"):
            await one.hello(host)
            await one.beat(host)
        retired = await one.retire(GONE, "h1")
        await fence(cluster, one, "h2", retired)
        store.before = lambda: one.hello("h2")
        assert await one.is_retired(GONE)
        assert store.before is None

    run(test, store)


def test_a_host_at_another_replica_is_not_silent_until_that_replica_is_gone() -> None:
    async def test(cluster: Cluster) -> None:
        one, other = await cluster.replica("A"), await cluster.replica("B")
        await other.hello("h1")
        await other.beat("h1")
        await cluster.settle()
        for _ in range(20):
            await one.watch(PERSIST)
            await other.touch()
            await other.beat("h1")
            await other.liveness.round()
            await cluster.settle()
        assert one.silent("h1") == 0
        assert one.core.state.seen["h1"].by == "B"
        with pytest.raises(Conflict, match="connected"):
            await one.hosts.lost("h1")
        await other.die()
        await one.watch(3 * PERSIST)
        assert one.silent("h1") >= PERSIST

    run(test)


def test_a_replica_that_lost_touch_with_its_store_renews_nothing() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica("A")
        await one.hello("h1")
        await one.beat("h1")
        cluster.clock.now += TOUCH + 1
        with pytest.raises(Unavailable, match="renews no leases"):
            await one.beat("h1")
        await one.touch()
        await one.beat("h1")

    run(test)


def test_a_shorter_lease_counts_only_when_the_agent_has_it() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        await one.beat("h1")
        other = await cluster.replica(settings=HostSettings(lease=10, rest=100))
        assert (await other.beat("h1", lease=1000)).lease == 10  # the answer may be lost
        assert other.core.state.seen["h1"].lease == 1000
        await other.beat("h1", lease=10)
        assert other.core.state.seen["h1"].lease == 10
        await cluster.settle()
        await one.beat("h1", lease=10)
        assert one.core.state.seen["h1"].lease == 1000  # before the answer says so

    run(test)


def test_a_lost_host_frees_its_addresses_at_once_but_not_from_readers() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        for host in ("h1", "h2"):
            await one.hello(host)
            await one.beat(host)
        await one.start("h1", "c1")
        (span,) = one.core.state.spans_on("h1")
        with pytest.raises(Conflict, match="connected"):
            await one.hosts.lost("h1")
        cluster.clock.now += 61
        taken = await one.hosts.lost("h1")
        assert (taken.spans, taken.endpoints) == ((span,), 1)
        assert not one.core.state.endpoints
        assert await one.is_retired(str(span))
        await one.beat("h2", one.core.state.revision)
        assert not await one.is_retired(str(span))

    run(test)


def test_a_host_that_never_had_an_agent_has_nothing_to_lose() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        before = await one.hosts.set_host("h3", {"addresses": ["192.0.2.3"]})
        taken = await one.hosts.lost("h3")
        assert (taken.spans, taken.endpoints, taken.held) == ((), 0, False)
        assert one.core.state.hosts["h3"] == before

    run(test)


def test_another_machine_gets_the_name_only_when_the_first_one_is_declared_off() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1", machine="first")
        assert (await one.hello("h1", machine="first")).epoch == 1
        assert (await one.hello("h1", machine="first", instance="wiped")).epoch == 2
        for instance in ("wiped", "new"):  # a copy of the disk, or a new machine of that name
            with pytest.raises(Conflict, match="another machine"):
                await one.hello("h1", machine="second", instance=instance)
        await one.hosts.lost("h1")
        assert (await one.hello("h1", machine="second", instance="new")).epoch == 4

    run(test)


def test_a_second_instance_is_refused_also_at_another_replica() -> None:
    async def test(cluster: Cluster) -> None:
        one, other = await cluster.replica("A"), await cluster.replica("B")
        await one.hello("h1")
        await one.beat("h1")
        await one.liveness.round()
        await cluster.settle()
        with pytest.raises(Conflict, match="another agent"):
            await other.hello("h1", instance="second")
        await one.die()
        await cluster.settle()
        assert (await other.hello("h1", instance="second")).epoch == 2

    run(test)


def test_a_view_stream_ends_when_its_agent_is_not_the_hosts_any_more() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        stream = one.views.view("h1")
        await anext(stream)
        one.views.live.clear()
        await one.hosts.lost("h1")
        with pytest.raises(Conflict, match="report in again"):
            await anext(stream)

    run(test)


def test_a_draining_host_gets_no_more_room_until_that_is_undone() -> None:
    async def test(cluster: Cluster) -> None:
        one = await cluster.replica()
        await one.hello("h1")
        await one.hosts.drain("h1")
        assert (await one.view("h1")).draining
        with pytest.raises(Conflict, match="draining"):
            await one.rooms.claim(Claim(host="h1", epoch=1, identity=WEB))
        await one.hosts.drain("h1", undo=True)
        await one.rooms.claim(Claim(host="h1", epoch=1, identity=WEB))
        with pytest.raises(Conflict, match="drain it first"):
            await one.hosts.remove_host("h1")

    run(test)
