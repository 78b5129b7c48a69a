"""Two romanads on three members of etcd, all of which may fail, some of them at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.faults.actions import cut_off, killed_agent, killed_member, killed_plane, plane_without_store, together
from tests.faults.replicas import replicated
from tests.faults.storm import Run


def test_members_and_romanads_that_fail_break_no_promise(tmp_path: Path, seed: str) -> None:
    with replicated(tmp_path, "r") as (site, cluster):
        asyncio.run(
            Run(site, seed).play(
                killed_member(cluster),
                plane_without_store("p1", "p2"),
                together(killed_member(cluster), killed_plane("p1"), killed_agent()),
                cut_off("e5"),
                together(killed_plane("p1"), killed_plane("p2")),
            )
        )
