"""The heart of the control plane: the state, kept up with the store, and the one loop that commits a decision.

Owns the retry on conflict. A decision is a function of the state that fills a draft; the draft compares every record
that the decision read, so two decisions that touch the same thing never both win.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import structlog

from romana.codec.kind import Kind
from romana.core.policy.compile import HOST
from romana.core.policy.compiler import Compiler
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Unavailable
from romana.model.program import Program
from romana.model.tenancy import Identity
from romana.ports import Store, Transaction
from romana.services.control.state import Changed, State

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
            self.compares[key] = self.state.revisions.of(key)

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


class Follower:
    """Somebody who follows a host's view."""

    def __init__(self, core: Core, host: str) -> None:
        self.host = host
        self.changed = asyncio.Event()
        self.uses: frozenset[str] = frozenset()
        """Rows, classes and identities of the view, by their ids: a program that changes none of them is no news."""
        self._core = core

    async def wait(self) -> None:
        """Return when the view may have changed since the last time; Unavailable when the store has ended."""
        await self.changed.wait()
        self.changed.clear()
        self._core.check_followed()


class Core:
    """State and store together. `run` must be going for anything else to work."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.state = State()
        self.incarnation = ""
        self._compiler = Compiler()
        self._program: tuple[int, Program] | None = None
        self._compiling = False
        self._classes: tuple[int, dict[str, str]] | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap: revision, a number, who waits for it
        self._numbers = itertools.count()
        self._followers: dict[str, set[Follower]] = {}  # by host
        self._failed: Exception | None = None
        self._queue = asyncio.Lock()  # of those who lost a race once

    async def load(self) -> None:
        """Read everything; call once, before `run`."""
        self.incarnation = await self.store.incarnation()
        revision, pages = await self.store.read()
        async for page in pages:
            self.state.load(page)
        self.state.loaded(revision)

    async def run(self) -> None:
        """Follow the store for ever; ends with the error that ended it."""
        try:
            async for events in self.store.watch("", self.state.revision):
                self._tell(self.state.apply(events))
                self._wake()
        except Exception as error:
            self._failed = error
            self._wake()
            self.wake_followers()
            raise

    def _wake(self) -> None:
        """Wake those whose revision is reached; all of them when no more will come."""
        while self._waiting and (self._failed is not None or self._waiting[0][0] <= self.state.revision):
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    def _tell(self, changed: Changed) -> None:
        """Wake the followers whose view may differ now."""
        if not self._followers:
            return
        if self._is_stale and not self._compiling:
            self._compiling = True
            asyncio.get_running_loop().call_soon(self._compile)
        if changed.everybody:
            self.wake_followers()
        for host in changed.hosts:
            for follower in self._followers.get(host, ()):
                follower.changed.set()

    def _compile(self) -> None:
        """Compile for all that happened meanwhile, and wake those whose rows say something else."""
        self._compiling = False
        try:
            self.program  # noqa: B018 - it is compiled by being asked for
        except Exception:
            log.exception("policy could not be compiled")
            self.wake_followers()
            return
        changed = self._compiler.take_changed()
        for follower in self._all_followers():
            if f"{HOST}{follower.host}" in changed or not follower.uses.isdisjoint(changed):
                follower.changed.set()

    def wake_followers(self) -> None:
        """Something that is in views and no record may have changed."""
        for follower in self._all_followers():
            follower.changed.set()

    @property
    def followed_hosts(self) -> frozenset[str]:
        """The hosts whose views are followed here."""
        return frozenset(self._followers)

    def _all_followers(self) -> list[Follower]:
        return [one for followers in self._followers.values() for one in followers]

    @contextlib.contextmanager
    def following(self, host: str) -> Iterator[Follower]:
        """Be told, for the length of the block, when the host's view may have changed."""
        follower = Follower(self, host)
        self._followers.setdefault(host, set()).add(follower)
        try:
            yield follower
        finally:
            self._followers[host].discard(follower)
            if not self._followers[host]:
                del self._followers[host]

    @property
    def _is_stale(self) -> bool:
        """Whether the compiled program may differ from the present state's."""
        return self._program is None or self._program[0] != self.state.policy_generation or self.state.lodgers.stirred()

    @property
    def program(self) -> Program:
        """The compiled program of the present state."""
        if self._program is None or self._is_stale:
            generation = self.state.policy_generation
            endpoints = self.exact_endpoints()
            self._program = (generation, self._compiler.update(self.state.world(endpoints), self.state.take_touched()))
            self.state.lodgers.compiled(self.classes, endpoints)
        return self._program[1]

    def exact_endpoints(self) -> dict[str, Endpoint]:
        """The endpoints that policy has to know one by one."""
        return self.state.lodgers.exact(self.classes)

    @property
    def classes(self) -> dict[str, str]:
        """The class of each identity that has a record, by their ids."""
        if self._classes is None or self._classes[0] != self.state.class_generation:
            self._compiler.classify(self.state.world(), self.state.take_touched())
            self._classes = (self.state.class_generation, self._compiler.classes.of.copy())
        return self._classes[1]

    def class_of(self, identity: Identity) -> str:
        """The class of an identity, also of one that has no record yet."""
        known = self.classes.get(identity.id)
        if known is not None:
            return known
        return self._compiler.class_of(identity, self.state.world().tenant(identity.owner.tenant))

    async def reached(self, revision: int) -> None:
        """Wait until the state has a revision."""
        while self.state.revision < revision:
            self.check_followed()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (revision, next(self._numbers), future))
            await future

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
        await self.reached(revision)
        return revision, answer

    def check_followed(self) -> None:
        """Unavailable when the store's changes are followed no longer."""
        if self._failed is not None:
            raise Unavailable(f"the store is away: {self._failed}")

    async def check_ready(self) -> None:
        """Unavailable while the store takes no changes."""
        self.check_followed()
        await self.store.check()


def problem_words(error: Exception) -> dict[str, Any]:
    """How an error is logged: its reason word and its sentence."""
    return {"reason": getattr(error, "reason", type(error).__name__), "error": str(error)}
