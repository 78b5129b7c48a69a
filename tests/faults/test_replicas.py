"""Two romanads on three members of etcd, all of which may fail, some of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.machines import SUBNET
from tests.faults.site import Site
from tests.faults.storm import Action, Run, cut_off, killed_agent, killed_plane, together
from tests.probes.etcd import EtcdCluster

MEMBERS = (5, 6, 7)
"""The last numbers of their addresses."""


class Replicated:
    """A site and the cluster that its romanads share."""

    def __init__(self, site: Site, cluster: EtcdCluster) -> None:
        self.site = site
        self.cluster = cluster

    def killed_member(self) -> Action:
        """A member is killed, and started again a little later."""

        async def act(run: Run) -> None:
            member = run.choice.randrange(len(MEMBERS))
            self.cluster.kill(member)
            await run.pause(0.3, 1)
            self.cluster.start(member)

        return act

    def plane_without_store(self) -> Action:
        """A romanad loses every packet to and from etcd for a while."""

        async def act(run: Run) -> None:
            machine = run.site.planes[run.choice.choice(("p1", "p2"))].machine
            machine.drop(*(f"{SUBNET}.{number}" for number in MEMBERS))
            await run.pause(0.5, 1.5)
            machine.undrop()

        return act


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    directory = tmp_path_factory.mktemp("replicas")
    site = Site(directory, "r")
    cluster = None
    try:
        machines = [site.underlay.machine(f"e{number}", number) for number in MEMBERS]
        cluster = EtcdCluster(
            directory / "etcd",
            len(MEMBERS),
            addresses=[machine.address for machine in machines],
            spaces=[machine.netns for machine in machines],
        )
        cluster.start()
        listed = ", ".join(f'"{endpoint}"' for endpoint in cluster.endpoints)
        site.open(f'[store]\nkind = "etcd"\n[etcd]\nendpoints = [{listed}]\n', planes=("p1", "p2"))
        yield Replicated(site, cluster)
    finally:
        if cluster is not None:
            cluster.close()
        site.close()


def test_members_and_romanads_that_fail_break_no_promise(replicated: Replicated, seed: str) -> None:
    site = replicated.site
    asyncio.run(
        Run(site, seed).play(
            replicated.killed_member(),
            replicated.plane_without_store(),
            together(replicated.killed_member(), killed_plane("p1"), killed_agent()),
            cut_off("e5"),
            together(killed_plane("p1"), killed_plane("p2")),
        )
    )
