"""The control plane's verbs over the store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import msgspec
import pytest

from romana.adapters.store.memory import MemoryStore
from romana.codec.records import RESERVATION, SPAN
from romana.codec.text import parse_address
from romana.core.topology import PlanChange
from romana.core.view import apply_change
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Exhausted, Invalid, NotFound
from romana.model.ipam import Allocation, Reservation
from romana.model.policy import Failsafe
from romana.model.tenancy import Identity, Owner
from romana.model.view import BlockTaken, Claim, Hello, Publication, Released, View
from romana.services.control.agents import AgentVerbs
from romana.services.control.core import Core
from romana.services.control.hosts import HostVerbs
from romana.services.control.liveness import HostSettings, Liveness
from romana.services.control.plan import PlanVerbs
from romana.services.control.rooms import RoomVerbs
from romana.services.control.tenancy import TenancyVerbs
from romana.services.control.views import ViewVerbs
from tests.fakes.kernel import FakeClock

PLAN = {
    "version": 1,
    "networks": [{"name": "pods", "cidr": "10.112.0.0/16", "mixed": 0}, {"name": "pods6", "cidr": "fd00:10:112::/48"}],
    "topologies": [
        {
            "name": "site",
            "networks": ["pods", "pods6"],
            "groups": [
                {"name": "rack1", "assignment": {"rack": "1"}, "hosts": []},
                {"name": "rack2", "assignment": {"rack": "2"}, "hosts": []},
            ],
        }
    ],
}
WEB = Identity(owner=Owner("a", "web"))
DB = Identity(owner=Owner("a", "db"))


class Site:
    """A control plane with the plan, a tenant with two segments and two hosts."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.plan = PlanVerbs(core)
        self.tenancy = TenancyVerbs(core)
        self.rooms = RoomVerbs(core)
        self.views = ViewVerbs(core)
        self.agents = AgentVerbs(core, self.views, Liveness(core, FakeClock(), HostSettings()))
        self.hosts = HostVerbs(core, self.agents.is_connected)

    async def make(self) -> None:
        await self.plan.set_topology(PLAN)
        await self.tenancy.set_tenant("a", {})
        await self.tenancy.set_segment("a", "web")
        await self.tenancy.set_segment("a", "db")
        for number in (1, 2):
            await self.hello(f"h{number}", rack=str(number))

    async def hello(self, host: str, *, rack: str = "1", instance: str = "", logged: int | None = None) -> int:
        address = (parse_address(f"192.0.2.{host[1:]}"),)
        labels = {"rack": rack}
        hello = Hello(host=host, instance=instance or f"i-{host}", addresses=address, labels=labels, logged=logged)
        return (await self.agents.hello(hello)).epoch

    async def view(self, host: str) -> View:
        stream = self.views.view(host)
        change = await anext(stream)
        await stream.aclose()
        return change.put

    async def start(self, host: str, identity: Identity, name: str, number: int) -> Endpoint:
        answer = await self.rooms.claim(Claim(host=host, epoch=1, identity=identity))
        allocations = tuple(
            Allocation(address=block.address(number), block=block, endpoint=name, sequence=number)
            for block in answer.blocks
        )
        endpoint = Endpoint(id=name, name=name, host=host, identity=identity, allocations=allocations, link="rom0")
        await self.rooms.publish(Publication(host=host, epoch=1, number=number, started=(endpoint,)))
        return endpoint


def run(test: Callable[[Site], Awaitable[None]]) -> None:
    async def body() -> None:
        core = Core(MemoryStore())
        await core.load()
        following = asyncio.create_task(core.run())
        try:
            site = Site(core)
            await site.make()
            await asyncio.wait_for(test(site), 20)
        finally:
            following.cancel()

    asyncio.run(body())


def test_a_host_joins_the_group_of_its_labels_and_gets_stock() -> None:
    async def test(site: Site) -> None:
        hosts = site.core.state.hosts
        assert [hosts[name].groups["site"].rsplit("/", 1)[-1] for name in ("h1", "h2")] == ["rack1", "rack2"]
        view = await site.view("h1")
        assert {span.network for span in view.spans.values()} == {"pods", "pods6"}
        assert {block.owner for block in view.blocks.values()} == {None}
        assert all(block.host == "h1" for block in view.blocks.values())

    run(test)


def test_what_no_policy_can_close_on_a_host_is_what_its_agent_said_last() -> None:
    async def test(site: Site) -> None:
        ssh, dns = Failsafe(ingress=((6, 22),)), Failsafe(egress=((17, 53),))
        for said, known in ((None, None), (ssh, ssh), (None, ssh), (dns, dns)):
            addresses = (parse_address("192.0.2.1"),)
            hello = Hello(host="h1", instance="i-h1", addresses=addresses, labels={"rack": "1"}, failsafe=said)
            epoch = (await site.agents.hello(hello)).epoch
            host = site.core.state.hosts["h1"]
            assert (host.failsafe, host.epoch) == (known, epoch)

    run(test)


def test_a_host_that_no_group_takes_is_refused_and_changes_nothing() -> None:
    async def test(site: Site) -> None:
        before = site.core.state.revision
        with pytest.raises(Invalid, match="h9"):
            await site.hello("h9", rack="9")
        assert site.core.state.revision == before
        assert "h9" not in site.core.state.hosts

    run(test)


def test_a_claim_gives_a_block_of_each_family_with_its_rows_in_the_view() -> None:
    async def test(site: Site) -> None:
        answer = await site.rooms.claim(Claim(host="h1", epoch=1, identity=WEB))
        again = await site.rooms.claim(Claim(host="h1", epoch=1, identity=WEB))
        assert answer == again
        assert [block.family for block in answer.blocks] == [4, 6]
        view = await site.view("h1")
        assert view.revision >= answer.revision
        rows = view.identities[WEB.id]
        assert rows.ingress in view.rows
        assert rows.egress in view.rows
        assert all(profile in view.profiles for row in view.entries.values() for profile in row.values())
        assert WEB.id not in (await site.view("h2")).identities

    run(test)


@pytest.mark.parametrize(
    ("owner", "sentence"),
    [(Owner("nobody", "web"), "unknown tenant 'nobody'"), (Owner("a", "cache"), "no segment 'cache'")],
    ids=["tenant", "segment"],
)
def test_a_claim_for_what_is_not_there_is_refused(owner: Owner, sentence: str) -> None:
    async def test(site: Site) -> None:
        before = site.core.state.revision
        with pytest.raises(NotFound, match=sentence):
            await site.rooms.claim(Claim(host="h1", epoch=1, identity=Identity(owner=owner)))
        assert site.core.state.revision == before

    run(test)


def test_claims_of_many_at_once_never_give_a_block_twice() -> None:
    async def test(site: Site) -> None:
        for number in range(3, 9):
            await site.hello(f"h{number}", rack=str(number % 2 + 1))
        hosts = [f"h{number}" for number in range(1, 9)]
        asked = [Claim(host=host, epoch=1, identity=identity) for host in hosts for identity in (WEB, DB)]
        answers = await asyncio.gather(*(site.rooms.claim(one) for one in asked))
        given = [block for answer in answers for block in answer.blocks]
        assert len(given) == len(set(given)) == 32
        spans = sorted(site.core.state.spans)
        assert not any(one.overlaps(other) for one, other in pairwise(spans))

    run(test)


def test_a_used_up_network_says_so_with_numbers() -> None:
    async def test(site: Site) -> None:
        small = {
            "version": 1,
            "networks": [{"name": "pods", "cidr": "10.112.0.0/27", "block_length": 29, "span_length": 28, "mixed": 0}],
            "topologies": [{"name": "site", "networks": ["pods"], "groups": [{"name": "rack1", "hosts": []}]}],
        }
        core = Core(MemoryStore())
        await core.load()
        following = asyncio.create_task(core.run())
        tiny = Site(core)
        await tiny.plan.set_topology(small)
        await tiny.tenancy.set_tenant("a", {})
        for segment in "abcdefgh":
            await tiny.tenancy.set_segment("a", segment)
        await tiny.hello("h1")

        async def claim_all() -> None:
            for segment in "abcdefgh":
                identity = Identity(owner=Owner("a", segment))
                await tiny.rooms.claim(Claim(host="h1", epoch=1, identity=identity))

        with pytest.raises(Exhausted, match="pods"):
            await claim_all()
        following.cancel()

    run(test)


def test_publications_are_taken_over_once() -> None:
    async def test(site: Site) -> None:
        endpoint = await site.start("h1", WEB, "c1/eth0", 1)
        assert site.core.state.endpoints == {"c1/eth0": endpoint}
        revision = site.core.state.revision
        await site.rooms.publish(Publication(host="h1", epoch=1, number=1, started=(endpoint,)))
        assert site.core.state.revision == revision
        stale = Released(endpoint="c1/eth0", sequences=dict.fromkeys(endpoint.addresses, 99))
        await site.rooms.publish(Publication(host="h1", epoch=1, number=2, released=(stale,)))
        assert "c1/eth0" in site.core.state.endpoints
        real = Released(endpoint="c1/eth0", sequences=dict.fromkeys(endpoint.addresses, 1))
        await site.rooms.publish(Publication(host="h1", epoch=1, number=3, released=(real,)))
        assert not site.core.state.endpoints
        assert not site.core.state.holders

    run(test)


def test_a_block_taken_from_the_stock_is_replaced_in_the_stock() -> None:
    async def test(site: Site) -> None:
        await site.rooms.claim(Claim(host="h1", epoch=1, identity=WEB))
        stock = [
            b for b in site.core.state.blocks.values() if b.host == "h1" and b.owner is None and b.network == "pods"
        ]
        sequence = stock[0].sequence + 1
        taken = BlockTaken(cidr=stock[0].cidr, owner=WEB.owner, identity=WEB.id, sequence=sequence)
        await site.rooms.publish(Publication(host="h1", epoch=1, number=1, taken=(taken,)))
        assert site.core.state.blocks[stock[0].cidr].owner == WEB.owner
        left = [
            b for b in site.core.state.blocks.values() if b.host == "h1" and b.owner is None and b.network == "pods"
        ]
        assert len(left) == len(stock)

    run(test)


def test_a_second_agent_of_a_connected_host_is_refused_and_one_after_it_is_a_new_epoch() -> None:
    async def test(site: Site) -> None:
        stream = site.views.view("h1")
        await anext(stream)
        with pytest.raises(Conflict, match="another agent"):
            await site.hello("h1", instance="other")
        assert await site.hello("h1") == 1
        await stream.aclose()
        assert await site.hello("h1", instance="other") == 2
        with pytest.raises(Conflict, match="epoch"):
            await site.rooms.claim(Claim(host="h1", epoch=1, identity=WEB))

    run(test)


def test_a_memory_that_is_older_than_what_it_published_is_a_new_epoch() -> None:
    async def test(site: Site) -> None:
        assert await site.hello("h1", logged=0) == 1
        endpoint = await site.start("h1", WEB, "c1/eth0", 7)
        assert await site.hello("h1") == 1, "an agent that does not say"
        assert await site.hello("h1", logged=7) == 1
        assert await site.hello("h1", logged=9) == 1
        stream = site.views.view("h1")
        await anext(stream)
        with pytest.raises(Conflict, match="another agent"):
            await site.hello("h1", logged=6)
        await stream.aclose()
        assert await site.hello("h1", logged=6) == 2
        assert await site.hello("h1", logged=6) == 2, "nothing was published in this epoch yet"
        with pytest.raises(Conflict, match="epoch"):
            await site.rooms.publish(Publication(host="h1", epoch=1, number=8, started=(endpoint,)))

    run(test)


def test_a_view_stream_says_only_what_concerns_its_host() -> None:
    async def test(site: Site) -> None:
        await site.start("h1", WEB, "c1/eth0", 1)
        stream = site.views.view("h1")
        view = (await anext(stream)).put
        silent = asyncio.ensure_future(anext(stream))
        await site.tenancy.set_tenant("other", {})
        await site.start("h1", WEB, "c2/eth0", 2)
        await asyncio.sleep(0.01)
        assert not silent.done()
        answer = await site.rooms.claim(Claim(host="h2", epoch=1, identity=WEB))
        view = apply_change(view, await silent)
        row = view.entries[view.identities[WEB.id].ingress]
        assert all(row[block] == "accept" for block in answer.blocks)
        assert view == (await site.view("h1"))
        await stream.aclose()

    run(test)


def test_a_policy_about_others_makes_nobody_look() -> None:
    """Each host's view is made from its own records and rows: what touches neither costs the host nothing."""

    async def test(site: Site) -> None:
        await site.tenancy.set_tenant("b", {})
        await site.tenancy.set_segment("b", "web")
        theirs = Identity(owner=Owner("b", "web"))
        await site.start("h1", WEB, "c1/eth0", 1)
        await site.start("h2", theirs, "c2/eth0", 1)
        made: list[str] = []
        make = site.views._view

        def noted(host: str) -> View:
            made.append(host)
            return make(host)

        site.views._view = noted  # type: ignore[method-assign]
        streams = {host: site.views.view(host) for host in ("h1", "h2")}
        views = {host: (await anext(stream)).put for host, stream in streams.items()}
        waiting = {host: asyncio.ensure_future(anext(stream)) for host, stream in streams.items()}
        await site.tenancy.set_tenant("c", {})  # whatever was compiled before is news once
        await asyncio.sleep(0.01)
        made.clear()
        closed = {"version": 1, "kind": "policy", "id": "p", "applies_to": [{"tenant": "b"}], "ingress": []}
        await site.tenancy.apply_policies(closed)
        changed = apply_change(views["h2"], await asyncio.wait_for(waiting["h2"], 1))
        assert set(changed.entries[changed.identities[theirs.id].ingress].values()) == {"drop"}
        assert made == ["h2"]
        assert not waiting["h1"].done()
        waiting["h1"].cancel()
        await asyncio.gather(waiting["h1"], return_exceptions=True)
        for stream in streams.values():
            await stream.aclose()

    run(test)


def test_a_policy_about_the_endpoints_of_each_host_follows_where_they_live() -> None:
    """A span or a fixed address that a host gets is news to that host's row alone."""
    local = {
        "id": "from-its-own",
        "direction": "ingress",
        "applied_to": [{"dest": "host"}],
        "ingress": [{"peers": [{"peer": "local"}], "rules": [{"protocol": "tcp", "ports": [22]}]}],
    }
    fixed = parse_address("10.0.255.9")
    held = (Allocation(address=fixed, block=fixed.supernet(29), endpoint="vm/eth0", sequence=1),)
    bound = Reservation(name="vm", identity=WEB, allocations=held, host="h1", endpoint="vm/eth0", sticky=True)
    free = msgspec.structs.replace(bound, host="", endpoint="")

    def homes(view: View) -> set[Prefix]:
        row = view.entries[view.host_rows.ingress]
        return {prefix for prefix, found in row.items() if found != "drop"}

    async def homes_with(site: Site, reservation: Reservation) -> set[Prefix]:
        await site.core.commit(lambda _, draft: draft.put(RESERVATION, RESERVATION.key("vm"), reservation))
        return homes(await site.view("h1"))

    async def test(site: Site) -> None:
        await site.tenancy.apply_policies(local)
        views = {host: await site.view(host) for host in ("h1", "h2")}
        for view in views.values():
            assert homes(view) == set(view.spans)
        assert views["h1"].host_rows != views["h2"].host_rows
        assert await homes_with(site, bound) == set(views["h1"].spans) | {fixed.supernet(fixed.length)}
        assert await homes_with(site, free) == set(views["h1"].spans)
        assert (await site.view("h2")).entries == views["h2"].entries
        span = next(iter(views["h1"].spans))
        await site.core.commit(lambda _, draft: draft.delete(SPAN.key(span)))
        assert homes(await site.view("h1")) == set(views["h1"].spans) - {span}

    run(test)


def test_a_plan_that_would_orphan_something_is_refused_whole() -> None:
    async def test(site: Site) -> None:
        await site.start("h1", WEB, "c1/eth0", 1)
        before = site.core.state.revision
        other = {**PLAN, "networks": [{"name": "pods", "cidr": "10.200.0.0/16"}, PLAN["networks"][1]]}  # type: ignore[index]
        with pytest.raises(Invalid, match="pods"):
            await site.plan.set_topology(other)
        assert "pods" in str(site.plan.preview(other)[1].refusals[0])
        assert site.plan.preview(PLAN)[1] == PlanChange()
        assert site.core.state.revision == before

    run(test)


def test_what_is_in_use_is_not_removed() -> None:
    async def test(site: Site) -> None:
        await site.start("h1", WEB, "c1/eth0", 1)
        with pytest.raises(Conflict, match="endpoints"):
            await site.tenancy.remove_tenant("a")
        with pytest.raises(Conflict, match="endpoints"):
            await site.tenancy.remove_segment("a", "web")
        with pytest.raises(Conflict, match="holds"):
            await site.hosts.remove_host("h1")
        for number in range(2, 7):
            await site.start("h1", WEB, f"c{number}/eth0", number)
        with pytest.raises(Conflict, match=r"holds (\S+, ){4}\S+ and \d+ more; drain it first"):
            await site.hosts.remove_host("h1")
        await site.tenancy.remove_segment("a", "db")
        assert ("a", "db") not in site.core.state.segments

    run(test)


def test_a_policy_changes_the_rows_of_those_it_selects() -> None:
    async def test(site: Site) -> None:
        await site.start("h1", WEB, "c1/eth0", 1)
        await site.start("h2", DB, "c2/eth0", 1)
        document = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "closed", "namespace": "a"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        }
        (policy,) = await site.tenancy.apply_policies(document)
        view = await site.view("h1")
        assert set(view.entries[view.identities[WEB.id].ingress].values()) == {"drop"}
        await site.tenancy.remove_policy(policy.id)
        view = await site.view("h1")
        assert "accept" in view.entries[view.identities[WEB.id].ingress].values()
        with pytest.raises(NotFound):
            await site.tenancy.remove_policy(policy.id)

    run(test)


def test_a_new_start_has_the_same_state() -> None:
    async def test(site: Site) -> None:
        await site.start("h1", WEB, "c1/eth0", 1)
        again = Core(site.core.store)
        await again.load()
        for field in ("plan", "hosts", "tenants", "segments", "identities", "spans", "blocks", "endpoints", "used"):
            assert getattr(again.state, field) == getattr(site.core.state, field)
        assert again.program == site.core.program

    run(test)


def test_a_host_whose_agent_names_no_address_has_those_that_the_plan_lists() -> None:
    async def test(site: Site) -> None:
        listed = {"name": "h3", "addresses": ["2001:db8::3", "192.0.2.3"]}
        groups = [{"name": "rack1", "hosts": ["h1", listed]}, {"name": "rack2", "hosts": ["h2"]}]
        topology = {"name": "site", "networks": ["pods", "pods6"], "groups": groups}
        await site.plan.set_topology({**PLAN, "topologies": [topology]})
        await site.agents.hello(Hello(host="h3", instance="i-h3"))
        assert [str(one) for one in site.core.state.hosts["h3"].addresses] == ["192.0.2.3", "2001:db8::3"]
        own = parse_address("192.0.2.3")
        await site.agents.hello(Hello(host="h3", instance="i-h3", addresses=(own,)))
        assert site.core.state.hosts["h3"].addresses == (own,)

    run(test)
