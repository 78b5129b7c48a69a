"""What a person sees of the demo: one screen a step, expectations that hold or do not.

Owns the looks. Invariant: the first expectation that does not hold ends the demo with its sentence.
"""

from __future__ import annotations

import time

from rich.console import Console, RenderableType
from rich.text import Text

from romana.model.errors import RomanaError


class Unexpected(RomanaError):  # noqa: N818 - an expectation that did not hold
    """Something was not as the demo says it is."""

    reason = "unexpected"


class Screen:
    """Prints steps to a console; colour only on a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self.held = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started

    def step(self, number: int, title: str, words: str) -> None:
        """Begin a step with a line and a few words."""
        self.console.print()
        self.console.rule(Text(f" {number}  {title} ", style="bold"), align="left", characters="=")
        self.console.print(words, markup=False, highlight=False)
        self.console.print()

    def show(self, what: RenderableType) -> None:
        """Print something."""
        self.console.print(what, markup=False, highlight=False)

    def report(self, line: str) -> None:
        """A line about what was done, with the time since the beginning."""
        self.console.print(f"  {self.seconds:6.1f} s  {line}", markup=False, highlight=False)

    def expect(self, holds: bool, sentence: str, *otherwise: str) -> None:
        """Say that something holds; Unexpected with what was seen instead when it does not."""
        if holds:
            self.held += 1
            self.console.print(Text.assemble(("  ok  ", "green"), sentence))
            return
        self.console.print(Text.assemble(("  NOT ", "bold red"), sentence))
        for one in otherwise[:10]:
            self.console.print(f"        {one}", markup=False, highlight=False)
        more = f" (and {len(otherwise) - 10} more)" if len(otherwise) > 10 else ""
        raise Unexpected(f"expected: {sentence}; {'; '.join(otherwise[:3]) or 'it is not so'}{more}")
