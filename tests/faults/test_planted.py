"""The judge finds what somebody did behind the programs' backs, in an agent's memory and in the store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.ends import Fault
from tests.faults.judge import judge
from tests.faults.site import Site
from tests.faults.storm import Run


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Site]:
    """Two hosts that nobody else uses: they are not as they were afterwards."""
    one = Site(tmp_path, "b", hosts=2)
    try:
        yield one.open()
    finally:
        one.close()


def test_bugs_planted_in_memories_are_found(pair: Site, seed: str) -> None:
    async def run() -> None:
        one = Run(pair, seed)
        for _ in range(3):
            for host in pair.hosts:
                await one.clients.add(host)
        await one.judge()
        seen: set[Fault] = set()
        for plant, promise in ((unpublish, "lost"), (share_a_span, "twice"), (forget, "lost")):
            await plant(one)
            await asyncio.sleep(0.5)
            found = set(judge(await one.history()))
            assert promise in {fault.promise for fault in found - seen}, f"{plant.__name__}: {sorted(found - seen)}"
            seen |= found

    asyncio.run(run())


async def unpublish(run: Run) -> None:
    """An agent's log loses what romanad, which is away, has not heard of."""
    run.site.planes["p1"].end()
    for _ in range(3):
        await run.clients.add("h1")
    run.site.agents["h1"].end()
    with closing(sqlite3.connect(run.site.state("h1") / "agent.db")) as memory:
        assert memory.execute("DELETE FROM pending").rowcount
        memory.commit()
    await run.start_plane("p1")
    await run.start_agent("h1")


async def share_a_span(run: Run) -> None:
    """The store says that the other host has the spans and blocks of the first one, which it has in use."""
    run.site.planes["p1"].end()
    with closing(sqlite3.connect(run.site.state("p1") / "romanad.db")) as store:
        for key, value in store.execute("SELECT key, value FROM records WHERE key GLOB '[bs][lp]*/*'").fetchall():
            moved = (
                bytes(value).replace(b'"host":"h1"', b'"host":"h2"').replace(b'"allocator":"h1"', b'"allocator":"h2"')
            )
            store.execute("UPDATE records SET value = ? WHERE key = ?", (moved, key))
        store.commit()
    await run.start_plane("p1")
    run.site.agents["h2"].end()
    await run.start_agent("h2")
    await asyncio.sleep(1)
    for _ in range(30):
        await run.clients.add("h2")


async def forget(run: Run) -> None:
    """An agent's memory loses an endpoint, as if it had never been written."""
    name = next(one.container for one in run.clients.operations if one.host == "h2")
    run.site.agents["h2"].end()
    with closing(sqlite3.connect(run.site.state("h2") / "agent.db")) as memory:
        assert memory.execute("DELETE FROM endpoints WHERE id = ?", (f"{name}/eth0",)).rowcount
        memory.commit()
    await run.start_agent("h2")
