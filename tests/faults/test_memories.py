"""Agents whose memory is lost, copied, or another host's."""

from __future__ import annotations

import asyncio
import shutil
import time

from tests.faults.site import Site
from tests.faults.storm import Run


def test_an_agent_that_lost_its_memory_breaks_no_promise(site: Site, seed: str) -> None:
    """Its endpoints keep their addresses, and what it may have given out rests before it is used again."""

    async def wiped(run: Run) -> None:
        host = run.choice.choice(site.hosts[2:])
        site.agents[host].end()
        run.wiped[host] = time.monotonic()
        shutil.rmtree(site.state(host))
        await run.start_agent(host)

    asyncio.run(Run(site, seed).play(wiped))
