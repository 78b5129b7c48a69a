"""The judge finds what somebody did behind the programs' backs, in an agent's memory and in the store."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.actions import declare_lost, has_agent, takes
from tests.faults.ends import Fault
from tests.faults.history import Lost, Verb
from tests.faults.judge import judge
from tests.faults.machines import copy_tree
from tests.faults.site import LONE, Site
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
        plants = (
            (lend, "lost"),
            (bring_back, "lost"),
            (unpublish, "lost"),
            (share_a_span, "twice"),
            (forget, "lost"),
            (keep_what_is_lost, "lost"),
        )
        for plant, promise in plants:
            await plant(one)
            seen |= await found_soon(one, seen, promise, plant.__name__)

    asyncio.run(run())


async def found_soon(run: Run, seen: set[Fault], promise: str, plant: str) -> set[Fault]:
    """What the judge finds once it finds such a broken promise that it did not find before."""
    for _ in range(50):
        found = set(judge(await run.history()))
        if promise in {fault.promise for fault in found - seen}:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(f"{plant}: {sorted(found - seen)}")
    return found


async def lend(run: Run) -> None:
    """The store says that somebody else uses a name."""
    await takes("h1", LONE)(run)
    await run.judge()
    run.site.planes["p1"].end()
    with closing(sqlite3.connect(run.site.state("p1") / "romanad.db")) as store:
        key = f"reservation/{LONE}"
        ((value,),) = store.execute("SELECT value FROM records WHERE key = ?", (key,)).fetchall()
        lent = bytes(value).replace(f'"h1-{LONE}/eth0"'.encode(), b'"h1-c1/eth0"')
        assert lent != bytes(value)
        store.execute("UPDATE records SET value = ? WHERE key = ?", (lent, key))
        store.commit()
    await run.start_plane("p1")


async def bring_back(run: Run) -> None:
    """An agent's memory is set back, and neither its mark nor the length of its log shows that."""
    agent, state, copy = run.site.agents["h1"], run.site.state("h1"), run.site.directory / "copy"
    await run.clients.act("h1", Verb.ADD, "back")
    agent.end()
    copy_tree(state, copy)
    await run.start_agent("h1")
    await run.clients.act("h1", Verb.DEL, "back")
    agent.end()
    shutil.rmtree(state)
    copy.rename(state)
    run.site.mark("h1").unlink()
    with closing(sqlite3.connect(state / "agent.db")) as memory:
        memory.execute("UPDATE sqlite_sequence SET seq = seq + 1000 WHERE name = 'pending'")
        memory.commit()
    await run.start_agent("h1")


async def keep_what_is_lost(run: Run) -> None:
    """An agent believes that it and romanad agree, though its host was declared lost."""
    agent = run.site.agents["h1"]
    agent.end()
    said = await declare_lost(run, "h1")
    listed = await asyncio.to_thread(run.site.listed, "/v1/hosts")
    (host,) = (one for one in listed if one["name"] == "h1")
    with closing(sqlite3.connect(run.site.state("h1") / "agent.db")) as memory:
        memory.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (host["epoch"] + 1,))
        memory.commit()
    agent.start()
    await run.until(lambda: has_agent(run, "h1"), "h1 reported in again")
    run.lost.append(Lost(host="h1", said=said, back=time.monotonic()))


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
