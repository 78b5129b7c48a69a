"""Command lines whose sentences are ours alone: no words of the library that reads the options.

Owns the group that every program with choices is made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

_LIBRARY = "Value error, "


class PlainGroup(TyperGroup):
    """A group of commands that tells wrong options without the library's words."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As typer does."""
        with _plainly():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """As typer does; a group reads its commands' options here."""
        with _plainly():
            return super().invoke(ctx)


@contextmanager
def _plainly() -> Iterator[None]:
    try:
        yield
    except typer.BadParameter as error:
        error.message = error.message.removeprefix(_LIBRARY)
        raise
