"""A site with two romanads on three members of etcd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.actions import MEMBERS
from tests.faults.site import Site
from tests.probes.etcd import EtcdCluster


@contextmanager
def replicated(directory: Path, tag: str) -> Iterator[tuple[Site, EtcdCluster]]:
    """The site, opened, and the cluster that its romanads p1 and p2 share."""
    site = Site(directory, tag)
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
        site.open(
            f'[store]\nkind = "etcd"\n[etcd]\nendpoints = [{listed}]\ntimeout_seconds = 1.0\n',
            planes=("p1", "p2"),
            small=("h1", "h2"),
        )
        yield site, cluster
    finally:
        if cluster is not None:
            cluster.close()
        site.close()
