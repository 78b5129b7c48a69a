"""When a write that was refused is tried again: later each time, and by itself, so that others need not wait for it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

FIRST, MOST = 10, 600
"""Seconds before the second try, and between tries at most."""


class _Refused(msgspec.Struct):
    why: str
    due: int
    pause: int


class Retries:
    """What was refused, by call and arguments. `now` is set by whoever has the clock, in seconds."""

    def __init__(self, spread: Callable[[], float] = lambda: 1.0) -> None:
        """Each pause is multiplied by a `spread` (0 to 1)."""
        self.now = 0
        self._refused: dict[object, _Refused] = {}
        self._spread = spread

    def waits(self, key: object) -> str:
        """Why a call is not tried again yet; empty when it may be made."""
        refused = self._refused.get(key)
        return refused.why if refused is not None and self.now < refused.due else ""

    def failed(self, key: object, why: str) -> None:
        """A call was refused."""
        before = self._refused.get(key)
        pause = FIRST if before is None else min(MOST, 2 * before.pause)
        self._refused[key] = _Refused(why, self.now + max(1, int(pause * self._spread())), pause)

    def worked(self, key: object) -> None:
        """A call was made, so nothing is known against it, nor against others that waited for much longer."""
        self._refused.pop(key, None)
        self._refused = {key: one for key, one in self._refused.items() if self.now < one.due + MOST}
