"""One run of a site: load, faults at random moments, quiet, judgement.

Owns the order, and what a seed decides. A run that finds something leaves its history beside the site's logs and says
how to repeat it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from romana.adapters.romanad import RomanadClient
from romana.codec.json import encode
from romana.model.errors import Conflict, RomanaError
from tests.faults.ends import Fault
from tests.faults.history import Forgot, History, Lost
from tests.faults.judge import judge
from tests.faults.load import Clients
from tests.faults.site import NAMES, Site, wait

LONGEST = 90.0
"""Seconds after which romanad has to take what people say; a machine whose cable was pulled is missed after 30."""
QUIET = 30.0
"""Seconds in which everything has to be as it should, once nothing goes wrong any more."""
Action = Callable[["Run"], Awaitable[None]]


class Run:
    """A site with its clients and the chance of one seed. Make it inside an event loop."""

    def __init__(self, site: Site, seed: str) -> None:
        self.site = site
        self.seed = seed
        self.choice = random.Random(seed)
        self.clients = Clients(site.sockets, seed, NAMES)
        self.forgot: list[Forgot] = []
        self.lost: list[Lost] = []
        self._began = time.monotonic()

    def note(self, words: str) -> None:
        """Say what happens, for whoever reads a failure."""
        print(f"{time.monotonic() - self._began:6.2f} s, {len(self.clients.operations)} answers: {words}")

    async def pause(self, least: float = 0.05, most: float = 0.6) -> None:
        """Let the load go on for a while."""
        await asyncio.sleep(self.choice.uniform(least, most))

    def a_host(self) -> str:
        """Any host."""
        return self.choice.choice(self.site.hosts)

    async def start_agent(self, host: str) -> None:
        """Start an agent; the clients go on meanwhile."""
        self.site.agents[host].start()
        await asyncio.to_thread(self.site.wait_agent, host)
        self.note(f"the agent of {host} is ready")

    async def say(self, call: Callable[[RomanadClient], Awaitable[Any]], words: str) -> float:
        """Tell any romanad something, as a person does, until it is done; the first moment at which it may have been.

        A refusal is none: what it is about may still change.
        """
        first, until = 0.0, time.monotonic() + LONGEST
        while True:
            before = time.monotonic()
            name = self.choice.choice([name for name, program in self.site.planes.items() if program.running] or ["p1"])
            try:
                await self.site.asked(name, call)
            except Conflict as error:
                first, why = 0.0, str(error)
            except RomanaError as error:
                first, why = first or before, str(error)
            else:
                self.note(words)
                return first or before
            assert time.monotonic() < until, f"{words}: {why}"
            await asyncio.sleep(0.2)

    async def until(self, condition: Callable[[], bool], words: str) -> None:
        """Wait until it holds; the clients go on meanwhile."""
        await asyncio.to_thread(wait, condition, lambda: words)
        self.note(words)

    async def start_plane(self, name: str) -> None:
        """Start a romanad; the clients go on meanwhile."""
        self.site.planes[name].start()
        await asyncio.to_thread(self.site.wait_plane, name)
        self.note(f"{name} is ready")

    async def play(self, *actions: Action, at_once: int = 8, pause: float = 1.5) -> None:
        """Everything that goes wrong, one after the other, under load; then quiet. Nothing may be broken then."""
        self.site.clean = False
        self.clients.start(at_once, pause)
        try:
            await self.pause(0.3, 0.6)
            for action in actions:
                await action(self)
            await self.pause()
        finally:
            await self.clients.stop()
            self.note("the clients stopped")
        await self.end()

    async def end(self) -> None:
        """Quiet: with what is there, and again when everything is deleted."""
        await self.judge()
        await self.clients.drain()
        await self.judge()
        self.site.clean = True

    async def judge(self) -> History:
        """Wait for quiet and judge; AssertionError with everything that is broken."""
        await self.clients.resolve()
        until = time.monotonic() + QUIET
        while True:
            history = await self.history()
            found = judge(history)
            if not found:
                self.note("all promises are kept")
                return history
            if time.monotonic() > until:
                raise AssertionError(self.report(history, found))
            await asyncio.sleep(0.2)

    async def history(self) -> History:
        """What happened and what is there, now."""
        final = await self.site.look(self.clients.containers)
        operations = tuple(self.clients.operations)
        return History(
            operations=operations,
            final=final,
            rest=self.site.rest,
            names=self.site.names,
            forgot=tuple(self.forgot),
            lost=tuple(self.lost),
        )

    def report(self, history: History, found: list[Fault]) -> str:
        """What to read when something is broken."""
        place = self.site.directory / f"history-{self.seed.replace('/', '-')}.json"
        place.write_bytes(encode(history))
        shown = "\n".join(map(str, found[:20]))
        logs = "\n".join(
            f"--- {program.log_path.name}\n{program.log()[-1500:]}"
            for program in (*self.site.planes.values(), *self.site.agents.values())
        )
        return f"seed {self.seed}: {len(found)} broken promises\n{shown}\nhistory: {place}\n{logs}"
