"""The keys of a big table in their order, made once for a listing that takes many pages.

Owns the order and how long it is remembered. Refuses to know values. Invariant: a listing has every key that was there
from its first page to its last; no step of it takes so long that other requests wait.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any, Generic, TypeVar

K = TypeVar("K")
RUN = 10_000
"""Keys that are sorted in one step."""
FORGET = 60.0
"""Seconds after its last page for which the order is kept."""


class Roll(Generic[K]):
    """One table's keys. `order` is what they are sorted by; `revision` is the same as long as nothing changes."""

    def __init__(
        self, keys: Callable[[], Collection[K]], order: Callable[[K], Any], revision: Callable[[], int]
    ) -> None:
        self._keys = keys
        self._order = order
        self._revision = revision
        self._runs: list[list[K]] | None = None
        self._made_at = -1
        self._forgetting: asyncio.TimerHandle | None = None
        self._making = asyncio.Lock()

    async def after(self, last: Any, count: int) -> list[K]:
        """The next keys after a place in the order, None for the first ones; a listing's first page is up to date."""
        async with self._making:
            if self._runs is None or (last is None and self._made_at != self._revision()):
                self._made_at = self._revision()
                self._runs = await self._sorted()
            runs = self._runs
        self._keep()
        rest = (self._from(run, last) for run in runs)
        return list(islice(heapq.merge(*rest, key=self._order), count))

    def _from(self, run: list[K], last: Any) -> Any:
        return islice(run, 0 if last is None else bisect_right(run, last, key=self._order), None)

    async def _sorted(self) -> list[list[K]]:
        keys = list(self._keys())
        runs = []
        for start in range(0, len(keys), RUN):
            runs.append(sorted(keys[start : start + RUN], key=self._order))
            await asyncio.sleep(0)
        return runs

    def _keep(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(FORGET, self._forget)

    def _forget(self) -> None:
        self._runs = None
