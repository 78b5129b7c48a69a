"""Waiting for a condition, with an end, and with words for what is missing then.

Invariant: a wait either sees nothing missing, or raises Unavailable that names everything that still is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from romana.model.errors import Unavailable

PAUSE = 0.1


def wait(what: str, missing: Callable[[], Sequence[str]], *, seconds: float) -> None:
    """Ask `missing` until it answers nothing; Unavailable after `seconds`."""
    deadline = time.monotonic() + seconds
    while still := missing():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: after {seconds:g} s still missing: {'; '.join(still)}")
        time.sleep(PAUSE)
