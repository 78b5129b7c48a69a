"""The heart of the control plane: the state, kept up with the store, and the one loop that commits a decision.

Owns the retry on conflict. A decision is a function of the state that fills a draft; the draft compares every record
that the decision read, so two decisions that touch the same thing never both win.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from romana.codec.records import Kind
from romana.core.policy.compile import compile_program
from romana.model.errors import Conflict, Unavailable
from romana.model.program import Program
from romana.ports import Store, StoreEvent, Transaction
from romana.services.control.state import State

T = TypeVar("T")
TRIES = 50
"""How often a decision is made again when others change what it read."""

log = structlog.get_logger()


class Draft:
    """What a decision read and wants to write."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.compares: dict[str, int] = {}
        self.puts: dict[str, bytes] = {}
        self.deletes: list[str] = []

    def read(self, *keys: str) -> None:
        """These records, or their absence, are part of the decision."""
        for key in keys:
            self.compares[key] = self.state.revisions.get(key, 0)

    def put(self, kind: Kind[T], key: str, value: T) -> None:
        """Write a record that must still be as the state has it."""
        self.read(key)
        self.puts[key] = kind.encode(value)

    def delete(self, key: str) -> None:
        """Delete a record that must still be as the state has it."""
        self.read(key)
        self.deletes.append(key)

    def transaction(self) -> Transaction:
        """Everything as one transaction."""
        return Transaction(compares=self.compares, puts=self.puts, deletes=tuple(self.deletes))


class Core:
    """State and store together. `run` must be going for anything else to work."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.state = State()
        self.incarnation = ""
        self._program: tuple[int, Program] | None = None
        self._changed = asyncio.Event()
        self._failed: Exception | None = None
        self._queue = asyncio.Lock()  # of those who lost a race once
        self.failure = ""

    async def load(self) -> None:
        """Read everything; call once, before `run`."""
        self.incarnation = await self.store.incarnation()
        revision, found = await self.store.scan()
        for record in sorted(found, key=lambda record: record.revision):
            self.state.apply([StoreEvent(record.key, record.value, record.revision)])
        self.state.revision = revision

    async def run(self) -> None:
        """Follow the store for ever; ends with the error that ended it."""
        try:
            async for events in self.store.watch("", self.state.revision):
                self.state.apply(events)
                self._wake()
        except Exception as error:
            self._failed = error
            self._wake()
            raise

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def program(self) -> Program:
        """The compiled program of the present state."""
        if self._program is None or self._program[0] != self.state.policy_generation:
            self._program = (self.state.policy_generation, compile_program(self.state.world()))
        return self._program[1]

    async def reached(self, revision: int) -> None:
        """Wait until the state has a revision."""
        while self.state.revision < revision:
            if self._failed is not None:
                raise Unavailable(f"the store is away: {self._failed}")
            await self._changed.wait()

    async def newer(self, revision: int, *, at_most: float) -> None:
        """Wait until the state is newer than a revision, at most some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self.reached(revision + 1)

    async def commit(self, decide: Callable[[State, Draft], T]) -> tuple[int, T]:
        """Decide and commit, again when somebody was quicker; answers the durable revision and what `decide` gave.

        The state has that revision when this returns. Errors that `decide` raises pass through, with nothing changed.
        Who loses a race queues with the other losers, so that of many that want the same thing each has its turn.
        """
        done = await self._attempt(decide)
        if done is not None:
            return done
        async with self._queue:
            for _ in range(TRIES):
                done = await self._attempt(decide)
                if done is not None:
                    return done
        raise Conflict(f"others changed the same things {TRIES} times; try again")

    async def _attempt(self, decide: Callable[[State, Draft], T]) -> tuple[int, T] | None:
        """Decide and commit once; None when somebody was quicker."""
        before = self.state.revision
        draft = Draft(self.state)
        answer = decide(self.state, draft)
        if not draft.puts and not draft.deletes:
            return before, answer
        try:
            revision = await self.store.commit(draft.transaction())
        except Conflict:
            if self.state.revision == before:
                await self.newer(before, at_most=1.0)
            return None
        except Unavailable as error:
            self.failure = str(error)
            raise
        self.failure = ""
        await self.reached(revision)
        return revision, answer

    def check_ready(self) -> None:
        """Unavailable while the store takes no changes."""
        if self._failed is not None or self.failure:
            raise Unavailable(self.failure or f"the store is away: {self._failed}")


def problem_words(error: Exception) -> dict[str, Any]:
    """How an error is logged: its reason word and its sentence."""
    return {"reason": getattr(error, "reason", type(error).__name__), "error": str(error)}
