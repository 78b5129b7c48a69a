"""Blackouts by their verbs: what they refuse, what they replace, and that nothing of theirs is ever given out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from romana.codec.kind import Kind
from romana.codec.records import RESERVATION
from romana.codec.text import parse_prefix
from romana.model.errors import Conflict, Invalid, NotFound
from romana.model.ipam import Allocation, Reservation
from romana.model.tenancy import Identity, Owner
from romana.ports import Transaction
from tests.unit.services.machines import Machines, with_machines

PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [
        {
            "name": "pods",
            "cidr": "10.0.0.0/24",
            "block_length": 29,
            "stock": 0,
            "mixed": 0,
            "static": ["10.0.0.240/28"],
        },
        {"name": "pods6", "cidr": "fd00::/64", "stock": 0, "mixed": 0},
    ],
    "topologies": [{"name": "t", "networks": ["pods"], "groups": [{"name": "a"}]}],
}


def run(test: Callable[[Machines], Awaitable[None]]) -> None:
    async def body(site: Machines) -> None:
        await site.join("h1")
        await test(site)

    with_machines(PLAN, body)


def listed(site: Machines) -> list[str]:
    return sorted(str(cidr) for cidr in site.core.state.blackouts)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"cidr": "10.1.0.0/30"},
            r"cidr: 10\.1\.0\.0/30 is in no network of the plan; look in pods \(10\.0\.0\.0/24\)",
        ),
        ({"cidr": "10.0.0.0/8"}, "is in no network"),
        ({"cidr": "10.0.0.0/24"}, "is all of network pods; to close a network, take it out of the plan"),
        ({"cidr": "10.0.0.0/30", "network": "pods6"}, "is in no network of the plan; look in pods6"),
        ({"cidr": "10.0.0.0/30", "network": "pod"}, "there is no network 'pod'; the plan has: pods, pods6"),
        ({"cidr": "10.0.0.1/30"}, "did you mean 10.0.0.0/30"),
        ({"cidr": "10.0.0.0/30", "reason": "x" * 201}, "more than 200 characters"),
        ({"cidrs": []}, "unknown field; did you mean `cidr`"),
    ],
    ids=["outside", "larger", "whole", "other-network", "unknown-network", "unaligned", "reason", "key"],
)
def test_what_is_no_part_of_one_network_is_refused(document: dict[str, Any], words: str) -> None:
    async def test(site: Machines) -> None:
        before = await site.contents()
        with pytest.raises(Invalid, match=words):
            await site.blackouts.add(document)
        assert await site.contents() == before

    run(test)


def test_one_inside_another_changes_nothing_and_a_larger_one_replaces_those_inside() -> None:
    async def test(site: Machines) -> None:
        await site.blackouts.add({"cidr": "10.0.0.32/32"})
        await site.blackouts.add({"cidr": "10.0.0.40/30"})
        await site.blackouts.add({"cidr": "10.0.0.64/30", "reason": "printer"})
        wide = await site.blackouts.add({"cidr": "10.0.0.32/28", "network": "pods"})
        assert listed(site) == ["10.0.0.32/28", "10.0.0.64/30"]
        before = await site.contents()
        assert await site.blackouts.add({"cidr": "10.0.0.33/32"}) == wide
        assert await site.blackouts.add({"cidr": "10.0.0.32/28"}) == wide
        assert await site.contents() == before

    run(test)


def test_addresses_in_use_are_named() -> None:
    async def test(site: Machines) -> None:
        taken = [await site.allocate(f"pod-{number}", "h1") for number in range(7)]
        before = await site.contents()
        with pytest.raises(Conflict) as caught:
            await site.blackouts.add({"cidr": "10.0.0.0/28"})
        assert all(f"{address} of pod-{number}" in str(caught.value) for number, address in enumerate(taken[:5]))
        assert "and 2 more" in str(caught.value)
        assert await site.contents() == before
        for number in range(7):
            await site.release(f"pod-{number}")
        await site.blackouts.add({"cidr": "10.0.0.0/28"})
        assert await site.allocate("later", "h1") == "10.0.0.16"

    run(test)


def test_removing_needs_the_exact_cidr_and_tells_the_nearest() -> None:
    async def test(site: Machines) -> None:
        await site.blackouts.add({"cidr": "10.0.0.32/28"})
        with pytest.raises(NotFound, match=r"no blackout 10\.0\.0\.32/29; .* overlaps it is: 10\.0\.0\.32/28"):
            await site.blackouts.remove(parse_prefix("10.0.0.32/29"))
        with pytest.raises(NotFound, match="blackout list"):
            await site.blackouts.remove(parse_prefix("10.9.0.0/29"))
        await site.blackouts.remove(parse_prefix("10.0.0.32/28"))
        assert listed(site) == []

    run(test)


def test_they_stay_over_changes_of_the_plan_and_reach_the_hosts() -> None:
    async def test(site: Machines) -> None:
        await site.blackouts.add({"cidr": "10.0.0.0/28"})
        await site.blackouts.add({"cidr": "10.0.0.16/30"})
        (topology,) = PLAN["topologies"]
        await site.plan.set_topology({**PLAN, "topologies": [{**topology, "groups": [{"name": "b"}]}]})
        assert listed(site) == ["10.0.0.0/28", "10.0.0.16/30"]
        assert [await site.allocate(name, "h1") for name in ("x", "y")] == ["10.0.0.20", "10.0.0.21"]
        stream = site.control.view("h1")
        reserved = (await anext(stream)).put.networks["pods"].reserved
        assert {str(cidr) for cidr in reserved} == {"10.0.0.0/28", "10.0.0.16/30"}
        with pytest.raises(Invalid, match=r"blackouts\.10\.0\.0\.0/28: is in network pods, which is not in the new"):
            await site.plan.set_topology({**PLAN, "networks": PLAN["networks"][1:], "topologies": []})

    run(test)


async def put(site: Machines, kind: Kind[Any], key: str, value: object) -> None:
    await site.core.store.commit(Transaction(puts={key: kind.encode(value)}))


def test_a_reservation_made_while_a_blackout_is_decided_wins() -> None:
    async def test(site: Machines) -> None:
        cidr = parse_prefix("10.0.0.240/29")
        allocation = Allocation(address=cidr.address(1), block=cidr, endpoint="", sequence=1)
        reservation = Reservation(name="vm", identity=Identity(owner=Owner("t", "s")), allocations=(allocation,))
        commit = site.core.store.commit

        async def late(transaction: Transaction) -> int:
            if any(key.startswith("blackout/") for key in transaction.puts):
                await commit(Transaction(puts={RESERVATION.key("vm"): RESERVATION.encode(reservation)}))
            return await commit(transaction)

        site.core.store.commit = late  # type: ignore[method-assign]
        with pytest.raises(Conflict, match=r"10\.0\.0\.241 of reservation vm"):
            await site.blackouts.add({"cidr": str(cidr)})
        assert listed(site) == []

    run(test)


def test_a_blackout_and_a_change_of_plan_at_once_never_both_win_against_each_other() -> None:
    async def test(site: Machines) -> None:
        gone = {**PLAN, "networks": PLAN["networks"][:1]}
        answers = await asyncio.gather(
            site.plan.set_topology(gone), site.blackouts.add({"cidr": "fd00::/96"}), return_exceptions=True
        )
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        assert [type(error) for error in failed] == [Invalid]
        state = site.core.state
        assert ("pods6" in state.networks) == bool(state.blackouts)

    run(test)


def test_a_network_has_a_limit_of_blackouts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(site: Machines) -> None:
        monkeypatch.setattr("romana.core.topology.blackouts.MOST_BLACKOUTS", 2)
        for number in (0, 2):
            await site.blackouts.add({"cidr": f"10.0.0.{number}/32"})
        with pytest.raises(Invalid, match="network pods has 2 blackouts, the most there can be"):
            await site.blackouts.add({"cidr": "10.0.0.4/32"})
        await site.blackouts.add({"cidr": "10.0.0.0/30"})
        assert listed(site) == ["10.0.0.0/30"]

    run(test)


def test_the_plans_own_record_is_as_it_was() -> None:
    async def test(site: Machines) -> None:
        before = site.core.state.plan
        await site.blackouts.add({"cidr": "10.0.0.32/28"})
        assert site.core.state.plan == before
        assert msgspec.json.decode(site.core.state.plan_document) == PLAN

    run(test)
