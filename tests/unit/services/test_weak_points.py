"""Weak points of the original's control plane, tried here; `docs/design/weak-points.md` has the table."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest

from romana.codec.traffic import parse_traffic
from romana.core.ipam.check import Checker
from romana.core.policy.trace import trace
from romana.model.errors import Invalid, Unavailable
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim
from romana.ports import Transaction
from romana.services.control.audit import records_of
from romana.services.control.core import Core
from romana.services.control.rooms import RoomVerbs
from tests.unit.services.machines import Machines, with_machines

PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [{"name": "pods", "cidr": "10.1.0.0/16", "block_length": 29, "span_length": 26, "mixed": 0}],
    "topologies": [{"name": "t", "networks": ["pods"], "groups": [{"name": "rack", "hosts": []}]}],
}
DENY_ALL = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "blue"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


def native(name: str, port: str, *, segment: str = "db") -> dict[str, Any]:
    return {
        "version": 1,
        "kind": "policy",
        "id": name,
        "applies_to": [{"tenant": "blue", "segment": segment}],
        "ingress": [{"from": [{"tenant": "blue", "segment": "web"}], "ports": [port]}],
    }


def run(test: Callable[[Machines], Awaitable[None]]) -> None:
    with_machines(PLAN, test)


def accepted(site: Machines, source: str, destination: str, traffic: str) -> bool:
    core = site.core
    ends = [core.state.endpoints[name] for name in (source, destination)]
    world = core.state.world({one.id: one for one in ends})
    return trace(world, core.program, ends[0], ends[1], parse_traffic(traffic)).verdict


def findings(core: Core) -> list[str]:
    """What the records show."""
    checker = Checker(records_of(core.state))
    checks = [
        *(checker.span(cidr) for cidr in core.state.spans),
        *(checker.block(cidr) for cidr in core.state.blocks),
        *(checker.endpoint(name) for name in core.state.endpoints),
    ]
    return [one.sentence for found in checks for one in found]


def test_weak_point_8_replicas_that_claim_at_once_never_give_the_same_thing_twice() -> None:
    async def test(site: Machines) -> None:
        hosts = [f"h{number}" for number in range(8)]
        await site.join(*hosts)
        owners = [await site.own(f"t{number}:s") for number in range(6)]
        second = Core(site.core.store)
        await second.load()
        following = asyncio.create_task(second.run())
        rooms = [RoomVerbs(site.core), RoomVerbs(second)]
        claims = [
            rooms[number % 2].claim(Claim(host=host, epoch=1, identity=identity))
            for number, (host, identity) in enumerate(product(hosts, owners))
        ]
        await asyncio.gather(*claims)
        await second.reached(site.core.state.revision)
        assert findings(site.core) == findings(second) == []
        held = Counter((block.host, block.owner) for block in site.core.state.blocks.values() if block.owner)
        assert len(held) == len(claims)
        following.cancel()

    run(test)


def test_weak_point_9_what_was_not_stored_is_not_answered_and_changes_nothing() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1")
        await site.allocate("x", "h1", "blue:web")
        before = await site.contents()
        revision = site.core.state.revision
        store: Any = site.core.store

        async def lost(_transaction: Transaction) -> int:
            raise Unavailable("the lock is lost")

        store.commit = lost
        for name in ("y", "z"):
            with pytest.raises(Unavailable):
                await site.allocate(name, "h1", "blue:db")
        del store.commit
        assert await site.contents() == before
        assert site.core.state.revision == revision
        assert sorted(site.core.state.endpoints) == ["x"]

    run(test)


def test_weak_point_14_a_policy_with_nothing_in_it_stops_no_other_policy() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", "h2")
        for name, host, owner in (
            ("web", "h1", "blue:web"),
            ("db", "h2", "blue:db"),
            ("one", "h1", "green:app"),
            ("two", "h2", "green:app"),
        ):
            await site.allocate(name, host, owner)
        assert accepted(site, "web", "db", "tcp/80")
        await site.tenancy.apply_policies(DENY_ALL)
        assert not accepted(site, "web", "db", "tcp/80")
        assert accepted(site, "one", "two", "tcp/80")
        await site.tenancy.apply_policies(native("db", "tcp/5432"))
        assert accepted(site, "web", "db", "tcp/5432")
        assert not accepted(site, "web", "db", "tcp/80")
        await site.tenancy.apply_policies({**native("none", "tcp/1", segment="cache"), "ingress": []})
        with pytest.raises(Invalid, match="applies_to"):
            await site.tenancy.apply_policies({**native("nobody", "tcp/1"), "applies_to": []})
        assert accepted(site, "web", "db", "tcp/5432")
        assert accepted(site, "one", "two", "tcp/80")

    run(test)


def test_weak_point_14_a_refused_policy_leaves_those_in_force() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1")
        await site.allocate("web", "h1", "blue:web")
        await site.allocate("db", "h1", "blue:db")
        await site.tenancy.apply_policies(native("db", "tcp/5432"))
        with pytest.raises(Invalid, match="tcp/99999"):
            await site.tenancy.apply_policies([native("more", "tcp/80"), native("worse", "tcp/99999")])
        assert sorted(site.core.state.policies) == ["db"]
        assert accepted(site, "web", "db", "tcp/5432")

    run(test)


def test_weak_point_15_an_edited_policy_is_in_force_as_edited() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1")
        await site.allocate("web", "h1", "blue:web")
        await site.allocate("db", "h1", "blue:db")
        for port, other in (("tcp/5432", "tcp/80"), ("tcp/80", "tcp/5432"), ("udp/53", "tcp/80")):
            await site.tenancy.apply_policies(native("db", port))
            assert accepted(site, "web", "db", port)
            assert not accepted(site, "web", "db", other)
        edited = {**DENY_ALL, "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}
        await site.tenancy.apply_policies(DENY_ALL)
        assert not accepted(site, "db", "web", "tcp/80")
        await site.tenancy.apply_policies(edited)
        assert accepted(site, "db", "web", "tcp/80")

    run(test)


def test_weak_point_17_no_two_owners_are_one_whatever_their_names_are() -> None:
    words = ["a", "b", "a-b", "a_b", "a.b", "ab", "a-b-c"]
    owners = [Owner(tenant, segment) for tenant in words for segment in words]
    labels: list[dict[str, str]] = [{}, {"a": "b"}, {"a": ""}, {"a=b": "c"}, {"a": "b=c"}, {"a": "b", "c": "d"}]
    found = {Identity(owner=owner, labels=each).id for owner in owners for each in labels}
    # `a=b` with value `c` and `a` with value `b=c` would be one, so the first is no label's name
    assert len(found) >= len(owners) * (len(labels) - 1)

    async def test(site: Machines) -> None:
        await site.tenancy.set_tenant("blue", {})
        for name in ("", "a/b", "a b", "x" * 64):
            with pytest.raises(Invalid):
                await site.tenancy.set_segment("blue", name)
            with pytest.raises(Invalid):
                await site.tenancy.set_tenant(name, {})
        assert list(site.core.state.tenants) == ["blue"]

    run(test)
