"""Programs are killed and machines are cut off while containers come and go on every host."""

from __future__ import annotations

import asyncio

from tests.faults.actions import cut_off, killed_agent, killed_plane, together
from tests.faults.history import Outcome, Verb
from tests.faults.site import Site
from tests.faults.storm import Run


def test_killed_agents_and_romanads_break_no_promise(site: Site, seed: str) -> None:
    three = together(killed_agent("h1"), killed_agent("h2"), killed_plane())
    asyncio.run(Run(site, seed).play(killed_agent(), killed_plane(), three))


def test_hosts_that_are_cut_off_break_no_promise(site: Site, seed: str) -> None:
    asyncio.run(Run(site, seed).play(cut_off(), together(cut_off("h3", "h4"), killed_agent("h3")), cut_off("p1")))


def test_containers_start_while_romanad_is_away(site: Site, seed: str) -> None:
    """Hosts use what is delegated to them, an agent restarts from its own memory, and romanad hears of all of it."""

    async def run() -> None:
        one = Run(site, seed)
        site.clean = False
        for host in site.hosts:
            await one.clients.add(host)
        site.planes["p1"].end()
        await asyncio.gather(*(one.clients.add(host) for host in site.hosts))
        assert [told.outcome for told in one.clients.operations] == [Outcome.DONE] * 2 * len(site.hosts)
        before = len(one.clients.operations)
        one.clients.start()
        await killed_agent()(one)
        await one.clients.stop()
        assert any(told.verb is Verb.ADD and told.outcome is Outcome.DONE for told in one.clients.operations[before:])
        await one.start_plane("p1")
        await one.end()

    asyncio.run(run())
