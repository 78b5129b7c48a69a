"""Wall clocks that jump by a day, forth and back, on one machine at a time."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

from romana.model.errors import NotFound
from tests.faults.actions import DAY, jumping_clocks, killed_agent, killed_plane
from tests.faults.site import Site
from tests.faults.storm import Run


def test_jumps_of_the_wall_clock_change_nothing(site: Site, seed: str) -> None:
    """An agent and romanad live through both jumps, and the agent through a restart in another day."""

    async def plane(run: Run) -> None:
        site.planes["p1"].more = site.walls["p1"].environment
        await killed_plane("p1")(run)
        site.planes["p1"].more = {}

    async def tomorrow(run: Run) -> None:
        site.walls["h5"].jump(DAY)
        await killed_agent("h5")(run)

    async def jumps(run: Run) -> None:
        asking = asyncio.create_task(_ask(site))
        await jumping_clocks()(run)
        asking.cancel()

    asyncio.run(Run(site, seed).play(plane, jumps, tomorrow))
    assert _days(site.agents["h5"].log_path) > 1, "the jumps did not reach the agent"
    assert _days(site.planes["p1"].log_path) > 1, "the jumps did not reach romanad"


async def _ask(site: Site) -> None:
    """romanad logs what it refuses."""
    while True:
        with contextlib.suppress(NotFound):
            await site.asked("p1", lambda client: client.get("/v1/tenants/nobody"))
        await asyncio.sleep(0.1)


def _days(log: Path) -> int:
    """How many days a log's lines are of."""
    return len(set(re.findall(r"^\d{4}-\d\d-\d\d", log.read_text(), re.MULTILINE)))
