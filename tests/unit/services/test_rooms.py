"""Claims, returns and ids at the control plane."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from romana.codec.records import RETIRED
from romana.codec.text import parse_prefix
from romana.model.errors import Conflict, Exhausted
from romana.model.tenancy import Identity, Owner
from romana.model.view import BlockReturned, Claim, Publication
from romana.services.control.core import Draft
from romana.services.control.state import State
from tests.unit.services.test_control import PLAN, WEB, Site, run

BITS: dict[str, Any] = {
    "version": 1,
    "networks": [
        {
            "name": "vms",
            "cidr": "10.0.0.0/8",
            "placement": "bits",
            "bits": {"host": 8, "tenant": 1, "segment": 4, "endpoint": 11},
        }
    ],
    "topologies": [{"name": "site", "networks": ["vms"], "groups": PLAN["topologies"][0]["groups"]}],  # type: ignore[index]
}


async def claim(site: Site, tenant: str, segment: str, host: str = "h1") -> str:
    identity = Identity(owner=Owner(tenant, segment))
    answer = await site.rooms.claim(Claim(host=host, epoch=1, identity=identity, present=9))
    return str(answer.blocks[0])


async def give_back(site: Site, number: int, host: str = "h1") -> None:
    """All blocks of a host."""
    returned = tuple(
        BlockReturned(cidr=cidr, sequence=block.sequence)
        for cidr, block in sorted(site.core.state.blocks_on(host).items())
    )
    await site.rooms.publish(Publication(host=host, epoch=1, number=number, returned=returned))


async def free(site: Site) -> None:
    """As if every host had acknowledged."""

    def decide(state: State, draft: Draft) -> None:
        for cidr in state.retired:
            draft.delete(RETIRED.key(cidr))

    await site.core.commit(decide)


def test_what_is_given_back_is_retired_with_its_record_gone() -> None:
    async def test(site: Site) -> None:
        block = parse_prefix(await claim(site, "a", "web"))
        first = min(site.core.state.blocks_on("h1"))
        before = site.core.state.blocks[first]
        await give_back(site, 1)
        state = site.core.state
        assert not state.blocks_on("h1")
        gone = state.retired[block]
        assert (gone.host, gone.network, gone.revision) == ("h1", "pods", state.revision)
        assert all(block.host == "h2" for block in (await site.view("h2")).blocks.values())
        assert block in (await site.view("h2")).retired
        assert await claim(site, "a", "web") not in map(str, state.retired)
        await free(site)
        assert await claim(site, "a", "db") == str(first)
        assert site.core.state.blocks[first].sequence > before.sequence + 1

    run(test)


def test_a_claim_and_a_return_of_its_block_do_not_cross() -> None:
    async def test(site: Site) -> None:
        await claim(site, "a", "web")
        other = Identity(owner=WEB.owner, labels={"pod": "other"})
        answers = await asyncio.gather(
            give_back(site, 1), site.rooms.claim(Claim(host="h1", epoch=1, identity=other)), return_exceptions=True
        )
        state = site.core.state
        served = [block for block in state.blocks_on("h1").values() if other.id in block.identities]
        if not isinstance(answers[1], BaseException):
            assert {block.cidr for block in served}.isdisjoint(state.retired)

    run(test)


def test_a_draining_host_is_refused_and_its_stock_is_not_filled() -> None:
    async def test(site: Site) -> None:
        await site.hosts.drain("h1")
        with pytest.raises(
            Conflict, match="host h1 is draining, so it gets no more room; start the workload elsewhere"
        ):
            await claim(site, "a", "web")
        await give_back(site, 1)
        await site.hello("h1")
        assert not site.core.state.blocks_on("h1")
        await site.hosts.drain("h1", undo=True)
        assert await claim(site, "a", "web")

    run(test)


def test_ids_of_removed_owners_are_freed_with_their_last_block() -> None:
    async def test(site: Site) -> None:
        for host in ("h1", "h2"):
            await give_back(site, 1, host)
        await free(site)
        await site.core.commit(forget_spans)
        await site.plan.set_topology(BITS)
        for tenant in ("b", "c"):
            await site.tenancy.set_tenant(tenant, {})
            await site.tenancy.set_segment(tenant, "s")
        assert [await claim(site, "a", "web"), await claim(site, "b", "s")] == ["10.0.0.0/21", "10.0.128.0/21"]
        with pytest.raises(Exhausted, match=r"no id is left for tenant c in network vms: 1 bit\(s\) number 2 tenants"):
            await claim(site, "c", "s")
        await site.tenancy.remove_tenant("b")
        with pytest.raises(Exhausted):
            await claim(site, "c", "s")
        await give_back(site, 2)
        with pytest.raises(Exhausted):
            await claim(site, "c", "s")
        await free(site)
        assert await claim(site, "c", "s") == "10.0.128.0/21"
        assert site.core.state.numbers["vms"].tenants == {"a": 0, "c": 1}

    def forget_spans(state: State, draft: Draft) -> None:
        for cidr in state.spans:
            draft.delete(f"span/{cidr}")

    run(test)


def test_a_bits_block_that_was_given_back_comes_back_at_once() -> None:
    async def test(site: Site) -> None:
        for host in ("h1", "h2"):
            await give_back(site, 1, host)
        await free(site)
        await site.core.commit(forget_spans)
        await site.plan.set_topology(BITS)
        block = await claim(site, "a", "web")
        await give_back(site, 2)
        assert parse_prefix(block) in site.core.state.retired
        assert await claim(site, "a", "web") == block
        assert not site.core.state.retired

    def forget_spans(state: State, draft: Draft) -> None:
        for cidr in state.spans:
            draft.delete(f"span/{cidr}")

    run(test)
