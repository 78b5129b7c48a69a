"""State on a disk that is full, or that may not be written."""

from __future__ import annotations

import asyncio

from tests.faults.actions import full_disk, full_disk_at_start, together, write_protected
from tests.faults.history import Outcome
from tests.faults.site import Site
from tests.faults.storm import Run


def test_an_agents_full_disk_breaks_no_promise(site: Site, seed: str) -> None:
    """Also when another agent is killed on a full disk: it starts again once there is room, and says why not before."""

    async def run() -> None:
        one = Run(site, seed)
        one.clients.doubtful = True
        await one.play(together(full_disk("h1"), full_disk_at_start("h2")))
        refused = {told.words for told in one.clients.operations if told.outcome is Outcome.FAILED}
        assert any("agent state" in words and "full" in words for words in refused), refused

    asyncio.run(run())


def test_romanads_full_disk_breaks_no_promise(site: Site, seed: str) -> None:
    asyncio.run(Run(site, seed).play(full_disk("p1")))


def test_state_on_a_read_only_mount_is_refused_by_name_and_nothing_is_lost(site: Site, seed: str) -> None:
    asyncio.run(Run(site, seed).play(write_protected("h4", "p1")))
