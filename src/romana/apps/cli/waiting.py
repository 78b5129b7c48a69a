"""Says on a terminal what a command is busy with, as long as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy(words: str) -> Iterator[None]:
    """A line on stderr that goes when the work is done; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - costs time that short commands do not have

    with Console(stderr=True).status(words):
        yield
