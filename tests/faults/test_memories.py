"""Agents whose memory is lost, copied, or another host's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from romana.codec.text import parse_address, parse_prefix
from tests.faults.actions import declare_lost, restored_backup, set_back_disk, together, wiped_agent
from tests.faults.history import Outcome
from tests.faults.machines import copy_tree
from tests.faults.site import Site
from tests.faults.storm import Action, Run


def test_an_agent_that_lost_its_memory_breaks_no_promise(site: Site, seed: str) -> None:
    """Its endpoints keep their addresses, and what it may have given out rests before it is used again."""
    asyncio.run(Run(site, seed).play(wiped_agent()))


@pytest.mark.parametrize("away", ["", "p1"])
def test_a_disk_that_is_set_back_under_a_running_kernel_breaks_no_promise(site: Site, seed: str, away: str) -> None:
    """The kernel knows better, also while romanad hears of nothing between the copy and its return."""
    asyncio.run(Run(site, seed).play(set_back_disk(away=away)))


def test_clones_of_an_agent_give_nothing_of_the_original(site: Site, seed: str) -> None:
    """Copies of h5's memory are started on other machines, while h5 goes on: under its name, and under another."""

    def cloned(name: str, machine: str) -> Action:
        async def act(run: Run) -> None:
            copy, path = site.directory / f"clone-{name}", site.directory / f"clone-{name}.sock"
            copy_tree(site.state("h5"), copy)
            clone = site.agent(site.underlay.machines[machine], name, copy, path, "p1")
            clone.start()
            try:
                await run.until(path.exists, f"the clone under {name} runs")
                for _ in range(6):
                    await _probe(run, name, path)
                    await asyncio.sleep(0.2)
                if name != "h5":
                    await _forgotten(run, name)
            finally:
                clone.end()
            if name != "h5":
                await declare_lost(run, name)
                await site.asked("p1", lambda client: client.delete(f"/v1/hosts/{name}"))

        return act

    asyncio.run(Run(site, seed).play(together(cloned("h5", "spare"), cloned("h9", "other"))))


async def _forgotten(run: Run, name: str) -> None:
    """romanad has heard that nothing runs on the clone any more."""
    async with asyncio.timeout(20):
        while await run.site.asked("p1", lambda client: client.items(f"/v1/endpoints?host={name}")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _probe(run: Run, name: str, path: Path) -> None:
    """An ADD at a clone is refused, or has nothing of h5's."""
    told = await run.clients.probe(path, "clone")
    if told.outcome is Outcome.DONE:
        assert name != "h5", f"the clone gave {told.addresses}"
        blocks = (await run.site.look({})).hosts["h5"].blocks
        theirs = [one for one in told.addresses if any(_holds(block, one) for block in blocks)]
        assert not theirs, f"the clone gave {theirs}, which are h5's"


def _holds(block: str, address: str) -> bool:
    return parse_prefix(block).contains(parse_address(address))


def test_an_old_backup_breaks_no_promise(site: Site, seed: str) -> None:
    """What runs goes on, though the store has never heard of it."""
    asyncio.run(Run(site, seed).play(restored_backup("p1")))
