"""How the agent's services wait: for a worker thread, and between attempts.

An app decides which threads there are; tests work in the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class Worker(Protocol):
    """Runs a function that may block, elsewhere, and answers what it answers."""

    async def __call__(self, function: Callable[..., T], *arguments: object) -> T:
        """The function's answer, or its error."""


class Workers:
    """The two workers of an agent: `kernel` does one thing at a time, in order; `slow` several, in none."""

    def __init__(self, kernel: Worker, slow: Worker) -> None:
        self.kernel = kernel
        self.slow = slow


class Backoff:
    """Growing pauses between attempts, in seconds: doubled from `first` to `most`, and begun again by `reset`."""

    def __init__(
        self,
        first: float = 0.1,
        most: float = 15.0,
        *,
        sleep: Sleep = asyncio.sleep,
        spread: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Each pause is multiplied by a `spread` (0 to 1), so that many who failed together do not come back so."""
        self._first = first
        self._most = most
        self._next = first
        self._sleep = sleep
        self._spread = spread

    def reset(self) -> None:
        """The last attempt worked."""
        self._next = self._first

    async def pause(self) -> None:
        """Wait after a failed attempt."""
        pause, self._next = self._next, min(self._most, self._next * 2)
        await self._sleep(pause * self._spread())


class Bell:
    """Something to do: rung often, answered once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """There is something to do."""
        self._event.set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Until it was rung since the last answer (True), or the time in seconds is over (False)."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
