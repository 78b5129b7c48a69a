"""The leases that programs hold through romanad, and what the one that writes VPC route tables gets and says."""

from __future__ import annotations

import msgspec
import pytest

from romana.codec.text import parse_prefix
from romana.model.errors import Conflict, Invalid
from romana.model.vpc import VPC_LEASE, OwnedRoutes, VpcHost, VpcPlan
from romana.services.control.program_leases import LeaseRequest, ProgramLeases
from romana.services.control.vpc import VpcVerbs
from tests.unit.services.cluster import Cluster, Replica, run

POD = parse_prefix("10.1.0.0/20")


def verbs(replica: Replica) -> tuple[ProgramLeases, VpcVerbs]:
    leases = ProgramLeases(replica.core, replica.clock)
    return leases, VpcVerbs(replica.core, replica.liveness, leases)


def wants(holder: str, seconds: int = 30) -> LeaseRequest:
    return LeaseRequest(holder=holder, seconds=seconds)


def only(plan: VpcPlan) -> VpcHost:
    (host,) = plan.hosts
    return host


def test_one_program_has_a_lease_until_it_lets_go_or_is_silent_for_its_time() -> None:
    async def test(cluster: Cluster) -> None:
        leases, _ = verbs(await cluster.replica())
        await leases.hold("aws", wants("a"))
        with pytest.raises(Conflict, match="a has the lease aws"):
            await leases.hold("aws", wants("b"))
        await leases.let_go("aws", "b")
        cluster.clock.now += 29
        await leases.hold("aws", wants("a"))
        cluster.clock.now += 29
        await leases.sweep()
        assert [(one.name, one.holder, one.seconds) for one in leases.all()] == [("aws", "a", 1)]
        cluster.clock.now += 1
        await leases.hold("aws", wants("b"))
        await leases.let_go("aws", "b")
        assert leases.all() == []
        await leases.hold("aws", wants("a"))

    run(test)


def test_several_replicas_give_a_lease_once_and_a_silent_holder_loses_it_everywhere() -> None:
    async def test(cluster: Cluster) -> None:
        (one, _), (other, _) = verbs(await cluster.replica("one")), verbs(await cluster.replica("other"))
        await one.hold("aws", wants("a"))
        with pytest.raises(Conflict):
            await other.hold("aws", wants("b"))
        cluster.clock.now += 31
        await one.sweep()
        await other.hold("aws", wants("b"))
        with pytest.raises(Conflict):
            await one.hold("aws", wants("a"))

    run(test)


@pytest.mark.parametrize("request_", [wants("a", 4), wants("a", 301), wants(""), wants("a b")])
def test_what_is_no_request_is_refused(request_: LeaseRequest) -> None:
    async def test(cluster: Cluster) -> None:
        leases, _ = verbs(await cluster.replica())
        with pytest.raises(Invalid):
            await leases.hold("aws", request_)
        assert leases.all() == []

    run(test)


def test_only_who_has_the_lease_says_what_is_ours_in_a_table() -> None:
    async def test(cluster: Cluster) -> None:
        replica = await cluster.replica()
        leases, vpc = verbs(replica)
        with pytest.raises(Conflict, match="does not have the lease"):
            await vpc.own("rtb-1", OwnedRoutes(holder="a", routes=(POD,)))
        await leases.hold(VPC_LEASE, wants("a"))
        await vpc.own("rtb-1", OwnedRoutes(holder="a", routes=(POD,)))
        assert vpc.plan().owned == {"rtb-1": (POD,)}
        before = replica.core.state.revision
        await vpc.own("rtb-1", OwnedRoutes(holder="a", routes=(POD,)))
        assert replica.core.state.revision == before
        with pytest.raises(Invalid, match="id of a route table"):
            await vpc.own("rtb-1/../x", OwnedRoutes(holder="a", routes=()))
        cluster.clock.now += 31
        await leases.hold(VPC_LEASE, wants("b"))
        with pytest.raises(Conflict):
            await vpc.own("rtb-1", OwnedRoutes(holder="a", routes=()))
        await vpc.own("rtb-1", OwnedRoutes(holder="b", routes=()))
        assert vpc.plan().owned == {}

    run(test)


def test_what_is_ours_survives_a_restart_of_the_control_plane() -> None:
    async def test(cluster: Cluster) -> None:
        leases, vpc = verbs(await cluster.replica("one"))
        await leases.hold(VPC_LEASE, wants("a"))
        await vpc.own("rtb-1", OwnedRoutes(holder="a", routes=(POD,)))
        _, again = verbs(await cluster.replica("two"))
        assert again.plan().owned == {"rtb-1": (POD,)}

    run(test)


def test_the_plan_has_groups_with_hosts_and_how_the_hosts_are() -> None:
    async def test(cluster: Cluster) -> None:
        replica = await cluster.replica()
        _, vpc = verbs(replica)
        assert vpc.plan().routes == ()
        await replica.hosts.set_host("h1", {"addresses": ["192.0.2.1"], "labels": {"x": "y"}})
        assert [(one.prefix, one.hosts) for one in vpc.plan().routes] == [(POD, ("h1",))]
        assert not only(vpc.plan()).joined
        await replica.hello("h1")
        await replica.start("h1", "pod")
        host = only(vpc.plan())
        assert host.joined
        assert host.labels == {"x": "y"}
        assert host.announced == tuple(replica.core.state.spans)
        assert host.silent is None  # nobody knows yet
        await replica.beat("h1")
        cluster.clock.now += 17
        assert only(vpc.plan()).silent == 17
        await replica.hosts.drain("h1")
        assert only(vpc.plan()).draining

    run(test)


def test_a_host_that_was_not_heard_since_the_start_is_silent_after_a_while() -> None:
    async def test(cluster: Cluster) -> None:
        replica = await cluster.replica()
        _, vpc = verbs(replica)
        await replica.hello("h1")
        cluster.clock.now += 60
        assert only(vpc.plan()).silent is None
        cluster.clock.now += 1
        assert only(vpc.plan()).silent == 61

    run(test)


def test_a_replica_believes_another_one_that_hears_from_a_host() -> None:
    async def test(cluster: Cluster) -> None:
        one, other = await cluster.replica("one"), await cluster.replica("other")
        await one.hello("h1")
        await one.beat("h1")
        await one.liveness.round()
        await cluster.settle()
        cluster.clock.now += 20
        plans = [verbs(replica)[1].plan() for replica in (one, other)]
        assert [only(plan).silent for plan in plans] == [20, 0]
        assert msgspec.structs.replace(only(plans[0]), silent=0) == only(plans[1])

    run(test)
