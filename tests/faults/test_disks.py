"""State on a disk that is full, or that may not be written."""

from __future__ import annotations

import asyncio

from tests.faults.history import Outcome
from tests.faults.site import Site
from tests.faults.storm import Action, Run, together


def full(name: str, *meanwhile: Action) -> Action:
    """A program's disk becomes full for a while."""

    async def act(run: Run) -> None:
        machine, state = run.site.underlay.machines[name], run.site.state(name)
        machine.fill(state)
        await run.pause(0.5, 0.8)
        for action in meanwhile:
            await action(run)
        machine.empty(state)

    return act


def test_an_agents_full_disk_breaks_no_promise(site: Site, seed: str) -> None:
    """Also when another agent is killed on a full disk: it starts again once there is room, and says why not before."""

    async def restart(run: Run) -> None:
        agent = run.site.agents["h2"]
        agent.end()
        machine, state = agent.machine, run.site.state("h2")
        machine.fill(state)
        agent.start()
        await run.pause(0.8, 1)
        if agent.running:
            agent.end()
        else:
            assert "full" in agent.log(), agent.log()
        machine.empty(state)
        await run.start_agent("h2")

    async def run() -> None:
        one = Run(site, seed)
        one.clients.doubtful = True
        await one.play(together(full("h1"), restart))
        refused = {told.words for told in one.clients.operations if told.outcome is Outcome.FAILED}
        assert any("agent state" in words and "full" in words for words in refused), refused

    asyncio.run(run())


def test_romanads_full_disk_breaks_no_promise(site: Site, seed: str) -> None:
    """It goes on once there is room again, at the latest after a restart."""

    async def restart(run: Run) -> None:
        if not await asyncio.to_thread(_ready, run.site):
            run.site.planes["p1"].end()
            await run.start_plane("p1")

    asyncio.run(Run(site, seed).play(full("p1"), restart))


def _ready(site: Site) -> bool:
    try:
        site.wait_plane("p1", seconds=2.0)
    except AssertionError:
        return False
    return True


def test_state_on_a_read_only_mount_is_refused_by_name_and_nothing_is_lost(site: Site, seed: str) -> None:
    """Both programs are killed under load, start on a mount that may not be written, and then on one that may."""

    async def protected(run: Run) -> None:
        agent, plane = run.site.agents["h4"], run.site.planes["p1"]
        for program in (agent, plane):
            program.end()
            machine = program.machine
            machine.write_protect(run.site.state(machine.name))
            program.start()
        for program in (agent, plane):
            assert await asyncio.to_thread(program.wait) == 1
        assert str(run.site.state("h4")) in agent.log(), agent.log()
        assert "romanad.db" in plane.log(), plane.log()
        for program in (agent, plane):
            program.machine.write_allow(run.site.state(program.machine.name))
        await run.start_plane("p1")
        await run.start_agent("h4")

    asyncio.run(Run(site, seed).play(protected))
