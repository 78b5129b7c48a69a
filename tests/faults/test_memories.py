"""Agents whose memory is lost, copied, or another host's."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest

from romana.codec.text import parse_address, parse_prefix
from tests.faults.history import Outcome
from tests.faults.machines import copy_tree
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


@pytest.mark.parametrize("name", ["h5", "h9"], ids=["same host", "another host"])
def test_a_clone_of_an_agent_gives_nothing_of_the_original(site: Site, seed: str, name: str) -> None:
    """A copy of h5's memory is started on another machine, while h5 goes on: under its name, and under another."""

    async def cloned(run: Run) -> None:
        copy, path = site.directory / f"clone-{name}", site.directory / f"clone-{name}.sock"
        copy_tree(site.state("h5"), copy)
        clone = site.agent(site.underlay.machines["spare"], name, copy, path, "p1")
        clone.start()
        try:
            for _ in range(15):
                await asyncio.sleep(0.2)
                if path.exists():
                    told = await run.clients.probe(path, "clone")
                    if told.outcome is Outcome.DONE:
                        blocks = (await site.look({})).hosts["h5"].blocks
                        assert name != "h5", f"the clone gave {told.addresses}"
                        theirs = [one for one in told.addresses if any(_holds(block, one) for block in blocks)]
                        assert not theirs, f"the clone gave {theirs}, which are h5's"
        finally:
            clone.end()

    asyncio.run(Run(site, seed).play(cloned))


def _holds(block: str, address: str) -> bool:
    return parse_prefix(block).contains(parse_address(address))
