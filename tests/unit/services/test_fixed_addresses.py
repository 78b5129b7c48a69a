"""Addresses that the control plane itself gives, over the store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from romana.adapters.store.memory import MemoryStore
from romana.codec.text import parse_prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import AlreadyExists, Conflict, Exhausted, Invalid, NotFound, RomanaError
from romana.model.ipam import Reservation
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Publication, Released
from romana.ports import Store, StoreEvent, Transaction
from romana.services.control.addresses import IDLE, AddressVerbs
from romana.services.control.blackouts import BlackoutVerbs
from romana.services.control.core import Core
from romana.services.control.hosts import HostVerbs
from romana.services.control.plan import PlanVerbs
from romana.services.control.rooms import RoomVerbs
from romana.services.control.tenancy import TenancyVerbs
from romana.services.control.views import ViewVerbs

PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [
        {"name": "pods", "cidr": "10.0.0.0/16", "static": ["10.0.255.0/27", "10.0.254.8/29"]},
        {"name": "pods6", "cidr": "fd00::/48", "static": ["fd00:0:0:ffff::/120"]},
        {"name": "bare", "cidr": "10.9.0.0/16", "tenants": ["a"]},
    ],
    "topologies": [{"name": "site", "networks": ["pods", "pods6", "bare"], "groups": [{"name": "all", "hosts": []}]}],
}
REQUEST = {"name": "vm1", "tenant": "a", "segment": "web"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """One replica of a control plane, and others on the same store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.core = Core(store)
        self.addresses = AddressVerbs(self.core, self.clock)
        self.hosts = HostVerbs(self.core, lambda _host: False)
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.core.load()
        self._following = asyncio.create_task(self.core.run())

    async def make(self) -> None:
        await PlanVerbs(self.core).set_topology(PLAN)
        await BlackoutVerbs(self.core).add({"cidr": "10.0.255.0/31"})
        tenancy = TenancyVerbs(self.core)
        for tenant in ("a", "b"):
            await tenancy.set_tenant(tenant, {})
            for segment in ("web", "db"):
                await tenancy.set_segment(tenant, segment)
        for host in ("h1", "h2"):
            await self.hosts.set_host(host, {"addresses": [f"192.0.2.{host[1]}"]})

    async def replica(self) -> Site:
        other = Site(self.store)
        await other.open()
        return other

    async def give(self, name: str, **more: Any) -> Reservation:
        return await self.addresses.give({**REQUEST, "name": name, **more})

    def close(self) -> None:
        if self._following is not None:
            self._following.cancel()


def run(test: Callable[[Site], Awaitable[None]]) -> None:
    async def body() -> None:
        site = Site(MemoryStore())
        await site.open()
        try:
            await site.make()
            await asyncio.wait_for(test(site), 20)
        finally:
            site.close()

    asyncio.run(body())


def texts(reservation: Reservation) -> list[str]:
    return [str(one.address) for one in reservation.allocations]


def test_an_address_of_each_family_comes_from_the_static_ranges_but_not_from_what_is_reserved() -> None:
    async def test(site: Site) -> None:
        first, second = await site.give("vm1"), await site.give("vm2")
        assert texts(first) == ["10.0.254.8", "fd00:0:0:ffff::"]
        assert texts(second) == ["10.0.254.9", "fd00:0:0:ffff::1"]
        assert await site.give("vm1") == first
        named = await site.give("vm3", networks=["pods"])
        assert texts(named) == ["10.0.254.10"]
        block = site.core.state.blocks[first.allocations[0].block]
        assert (block.host, block.allocator, str(block.owner)) == ("", "", "a/web")
        assert not site.core.state.blocks_on("h1").keys() & {block.cidr}

    run(test)


def test_blocks_have_one_owner_and_reserved_addresses_are_skipped() -> None:
    async def test(site: Site) -> None:
        given = [await site.give(f"vm{number}", networks=["pods"]) for number in range(16)]
        assert len({one.allocations[0].address for one in given}) == 16
        assert {text for one in given for text in texts(one)}.isdisjoint({"10.0.255.0", "10.0.255.1"})
        other = await site.give("db", segment="db", networks=["pods"])
        assert site.core.state.blocks[other.allocations[0].block].identities == (other.identity.id,)
        assert not other.allocations[0].block.overlaps(given[0].allocations[0].block)

    run(test)


@pytest.mark.parametrize(
    ("more", "error", "sentence"),
    [
        ({"addresses": ["10.0.1.1"]}, Invalid, "10.0.1.1 is outside every static range.*10.0.255.0/27"),
        ({"addresses": ["192.0.2.9"]}, Invalid, "outside every static range"),
        ({"addresses": ["10.0.255.1"]}, Invalid, "10.0.255.0/31, which is reserved"),
        ({"addresses": ["10.0.255.9", "10.0.255.10"]}, Invalid, "one address of each family"),
        ({"networks": ["bare"]}, Invalid, "network bare has no static range"),
        ({"networks": ["nosuch"]}, NotFound, "nosuch"),
        ({"tenant": "nobody"}, NotFound, "unknown tenant"),
        ({"segment": "cache"}, NotFound, "no segment 'cache'"),
        ({"host": "h1"}, Invalid, "both a host and an endpoint"),
        ({"host": "h9", "endpoint": "x"}, NotFound, "no host 'h9'"),
        ({"name": "no spaces"}, Invalid, "letters, digits"),
        ({"colour": "red"}, Invalid, "colour"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_given_is_refused_with_a_reason(
    more: dict[str, Any], error: type[RomanaError], sentence: str
) -> None:
    async def test(site: Site) -> None:
        with pytest.raises(error, match=sentence):
            await site.addresses.give({**REQUEST, **more})
        assert not site.core.state.reservations

    run(test)


def test_an_address_in_a_delegated_block_is_refused_naming_block_and_host() -> None:
    async def test(site: Site) -> None:

        blocks = (
            await RoomVerbs(site.core).claim(Claim(host="h1", epoch=0, identity=Identity(owner=Owner("a", "web"))))
        ).blocks
        inside = blocks[0].address(3)
        with pytest.raises(Invalid, match=f"{inside} is in block {blocks[0]}, which is delegated to host h1"):
            await site.give("vm1", addresses=[str(inside)])

    run(test)


def test_the_same_name_with_another_request_is_refused() -> None:
    async def test(site: Site) -> None:
        await site.give("vm1", networks=["pods"])
        others: list[tuple[str, dict[str, Any]]] = [
            ("owner or labels", {"segment": "db"}),
            ("owner or labels", {"labels": {"a": "b"}}),
            ("sticky or not", {"sticky": True}),
            ("networks", {"networks": ["pods6"]}),
            ("sticky or not, addresses", {"sticky": True, "addresses": ["10.0.254.9"], "networks": []}),
        ]
        for what, other in others:
            with pytest.raises(AlreadyExists, match=rf"vm1 exists, 10\.0\.254\.8 .* differs: {what}; choose"):
                await site.give("vm1", **{"networks": ["pods"], **other})


def test_a_network_that_cannot_serve_a_name_is_said_with_those_that_can() -> None:
    async def test(site: Site) -> None:
        for network, error, words in (
            ("nope", NotFound, "no network 'nope'; networks with static ranges: pods, pods6"),
            ("bare", Invalid, "network bare has no static range, so no fixed addresses; networks with"),
        ):
            with pytest.raises(error, match=words):
                await site.give("vm1", networks=[network])

    run(test)


def test_a_certain_address_can_be_asked_for_once() -> None:
    async def test(site: Site) -> None:
        given = await site.give("vm1", addresses=["10.0.255.20", "fd00:0:0:ffff::7"])
        assert texts(given) == ["10.0.255.20", "fd00:0:0:ffff::7"]
        with pytest.raises(Conflict, match=r"10\.0\.255\.20 belongs to vm1"):
            await site.give("vm2", addresses=["10.0.255.20"])
        with pytest.raises(Conflict, match=r"in block 10\.0\.255\.16/29 of a/web, so b/web cannot"):
            await site.give("vm2", tenant="b", addresses=["10.0.255.21"])
        rest = [await site.give(f"more{number}", networks=["pods"]) for number in range(7)]
        assert "10.0.255.20" not in {text for one in rest for text in texts(one)}

    run(test)


def test_a_freed_address_rests_and_the_longest_rested_comes_first() -> None:
    async def test(site: Site) -> None:
        names = [
            f"vm{number}" for number in range(37)
        ]  # 32 + 8 addresses without the 2 that are reserved, and one free
        given = {name: texts(await site.give(name, networks=["pods"]))[0] for name in names}
        for name in ("vm5", "vm3"):
            await site.addresses.release(name)
            await site.give("sync" + name, networks=["pods6"])
            site.clock.now += 10
        last = await site.give("last", networks=["pods"])
        assert texts(last)[0] not in given.values()
        with pytest.raises(Exhausted, match=r"a/web: network pods: .*38 address\(es\) in use|in use, 2 resting"):
            await site.give("none", networks=["pods"])
        with pytest.raises(Conflict, match="rests for"):
            await site.give("none", addresses=[given["vm3"]])
        site.clock.now += 165
        assert texts(await site.give("again", networks=["pods"])) == [given["vm5"]]
        with pytest.raises(Exhausted):
            await site.give("none", networks=["pods"])
        site.clock.now += 10
        assert texts(await site.give("and", networks=["pods"])) == [given["vm3"]]

    run(test)


def test_a_restart_begins_rests_again_and_knows_what_was_never_used() -> None:
    async def test(site: Site) -> None:
        freed = texts(await site.give("vm1", networks=["pods"]))[0]
        await site.addresses.release("vm1")
        again = await site.replica()
        again.clock.now += 179
        assert texts(await again.give("vm2", networks=["pods"]))[0] != freed
        with pytest.raises(Conflict, match="rests for 1"):
            await again.give("vm3", addresses=[freed])
        again.close()

    run(test)


def test_dual_stack_is_both_or_nothing() -> None:
    async def test(site: Site) -> None:
        for number in range(38):
            await site.give(f"vm{number}", networks=["pods"])
        before = site.core.state.revision
        with pytest.raises(Exhausted, match="network pods"):
            await site.give("both")
        assert not [fixed for address, fixed in site.core.state.fixed.items() if address.family == 6]
        assert all(event.key.partition("/")[0] in ("block", "span", "identity") for event in await _since(site, before))
        only = await site.give("six", networks=["pods6"])
        assert texts(only) == ["fd00:0:0:ffff::"]

    run(test)


async def _since(site: Site, revision: int) -> list[StoreEvent]:
    found: list[StoreEvent] = []
    watch = site.store.watch("", revision)
    while site.core.state.revision > (found[-1].revision if found else revision):
        found += await anext(watch)
    return found


def test_a_use_binds_and_ends_and_only_a_sticky_address_outlives_it() -> None:
    async def test(site: Site) -> None:
        use = {"host": "h1", "endpoint": "c1/eth0"}
        plain, sticky = await site.give("plain", networks=["pods"]), await site.give("kept", sticky=True)
        for name in ("plain", "kept"):
            used = await site.addresses.use(name, {**use, "endpoint": f"{name}/eth0"})
            assert used == await site.addresses.use(name, {**use, "endpoint": f"{name}/eth0"})
            assert {one.endpoint for one in used.allocations} == {f"{name}/eth0"}
            assert min(one.sequence for one in used.allocations) > max(one.sequence for one in plain.allocations)
            with pytest.raises(Conflict, match=f"in use by {name}/eth0 on host h1"):
                await site.addresses.use(name, {"host": "h2", "endpoint": "other/eth0"})
            with pytest.raises(Conflict, match="end that use first"):
                await site.addresses.release(name)
        with pytest.raises(Conflict, match="uses the addresses of plain already"):
            await site.give("third", host="h2", endpoint="plain/eth0")
        assert set(site.core.state.reservations_on("h1")) == {"plain", "kept"}
        assert site.core.state.reservation_of("kept/eth0") == site.core.state.reservations["kept"]
        with pytest.raises(Conflict, match="not by other"):
            await site.addresses.end_use("plain", "other")
        for _ in range(2):
            await site.addresses.end_use("kept", "kept/eth0")
        await site.addresses.end_use("plain")
        assert set(site.core.state.reservations) == {"kept"}
        kept = site.core.state.reservations["kept"]
        assert (kept.host, kept.endpoint, texts(kept)) == ("", "", texts(sticky))
        await site.addresses.release("kept")
        with pytest.raises(NotFound, match="no address 'kept'"):
            await site.addresses.release("kept")

    run(test)


def test_eight_at_once_do_not_meet() -> None:
    async def test(site: Site) -> None:
        before = site.core.state.revision
        await asyncio.gather(*(site.give(f"vm{number}", networks=["pods6"]) for number in range(120)))
        addresses = [address for one in site.core.state.reservations.values() for address in texts(one)]
        assert len(addresses) == len(set(addresses)) == 120
        refused = [one for one in site.store.refused if one > before]  # type: ignore[attr-defined]
        assert not refused

    class Counting(MemoryStore):
        """Counts transactions that somebody else was quicker than."""

        def __init__(self) -> None:
            super().__init__()
            self.refused: list[int] = []

        async def commit(self, transaction: Transaction) -> int:
            await asyncio.sleep(0)
            try:
                return await super().commit(transaction)
            except Conflict:
                self.refused.append(self._feed.head)
                raise

    async def body() -> None:
        site = Site(Counting())
        await site.open()
        await site.make()
        await asyncio.wait_for(test(site), 20)
        site.close()

    asyncio.run(body())


def test_replicas_never_give_one_address_twice() -> None:
    async def test(site: Site) -> None:
        sites = [site, await site.replica(), await site.replica()]
        jobs = [one.give(f"vm{number}-{place}") for number in range(12) for place, one in enumerate(sites)]
        given = await asyncio.gather(*jobs)
        addresses = [text for one in given for text in texts(one)]
        assert len(addresses) == len(set(addresses)) == 72
        for other in sites[1:]:
            other.close()

    run(test)


def test_two_requests_under_one_name_have_one_answer() -> None:
    async def test(site: Site) -> None:
        other = await site.replica()
        given = await asyncio.gather(*(one.give("vm1") for one in (site, other) for _ in range(4)))
        assert len({tuple(texts(one)) for one in given}) == 1
        assert len(site.core.state.fixed) == 2
        other.close()

    run(test)


def test_an_idle_block_is_retired_after_being_seen_idle_for_a_while_and_not_used_before_it_is_forgotten() -> None:
    async def test(site: Site) -> None:
        given = await site.give("vm1", networks=["pods"])
        await site.addresses.release("vm1")
        cidr = given.allocations[0].block
        for _ in range(3):
            assert await site.addresses.give_back_idle() == 0
            site.clock.now += IDLE / 2 - 1
        site.clock.now += IDLE
        assert await site.addresses.give_back_idle() == 1
        assert cidr in site.core.state.retired
        assert cidr not in site.core.state.blocks
        assert not site.core.state.fixed
        other = await site.give("vm2", tenant="b", networks=["pods"])
        assert not other.allocations[0].block.overlaps(cidr)
        with pytest.raises(Conflict, match="not every host has forgotten"):
            await site.give("vm3", tenant="b", addresses=[str(cidr.address(3))])
        await site.core.reached(await site.store.commit(Transaction(deletes=(f"retired/{cidr}",))))
        await site.give("vm3", tenant="b", addresses=[str(cidr.address(3))])

    run(test)


def test_policy_knows_who_has_a_fixed_address_and_no_view_changes_with_the_next_one() -> None:
    async def test(site: Site) -> None:
        web = await site.give("web", networks=["pods"])
        db = await site.give("db", tenant="b", networks=["pods"])
        program = site.core.program
        class_id = program.classes[web.identity.id]
        row = program.rows[program.row_ids[class_id].ingress]
        found = {
            text: row.entries.get(parse_prefix(text)) for text in (str(one.allocations[0].block) for one in (web, db))
        }
        assert found[str(web.allocations[0].block)] != found[str(db.allocations[0].block)]
        await site.give("web2", networks=["pods"])
        assert site.core.program is program

    run(test)


def test_a_host_knows_the_rows_of_who_visits_it() -> None:
    async def test(site: Site) -> None:

        given = await site.give("vm1", host="h1", endpoint="c1/eth0")
        views = ViewVerbs(site.core)
        for host, there in (("h1", True), ("h2", False)):
            stream = views.view(host)
            view = (await anext(stream)).put
            await stream.aclose()
            assert (given.identity.id in view.identities) is there
            assert not view.blocks.keys() & {one.block for one in given.allocations}

    run(test)


def test_an_endpoint_is_published_with_the_fixed_addresses_it_uses_and_with_no_others() -> None:
    async def test(site: Site) -> None:
        rooms = RoomVerbs(site.core)
        given = await site.give("vm1", host="h1", endpoint="c1/eth0", sticky=True)
        endpoint = Endpoint(
            id="c1/eth0", name="vm", host="h1", identity=given.identity, allocations=given.allocations, link="rom0"
        )

        async def publish(number: int, host: str = "h1", **more: Any) -> None:
            started = msgspec.structs.replace(endpoint, host=host, **more)
            await rooms.publish(Publication(host=host, epoch=0, number=number, started=(started,)))

        old = tuple(msgspec.structs.replace(one, sequence=one.sequence - 1) for one in given.allocations)
        for wrong in (
            {"host": "h2"},
            {"id": "c2/eth0"},
            {"identity": Identity(owner=Owner("b", "web"))},
            {"allocations": old},
        ):
            with pytest.raises(Invalid, match="is no block that host"):
                await publish(1, **wrong)
        await publish(1)
        assert site.core.state.endpoints_on("h1") == [endpoint]
        assert site.core.state.holder(given.allocations[0].address) == "c1/eth0"
        with pytest.raises(Conflict, match="still has"):
            await site.addresses.end_use("vm1")
        gone = Released(endpoint="c1/eth0", sequences={one.address: one.sequence for one in given.allocations})
        await rooms.publish(Publication(host="h1", epoch=0, number=2, released=(gone,)))
        kept = site.core.state.reservations["vm1"]
        assert (kept.host, kept.endpoint) == ("", "")
        with pytest.raises(Invalid, match="is no block that host"):
            await publish(3)

    run(test)
