"""How a failed command ends: one table from errors to exit statuses, and the sentences on stderr.

Invariant: an error of the error tree prints its reason word, its sentence and every fault, and never a trace.
"""

from __future__ import annotations

from enum import IntEnum

import typer

from romana.model.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    Invalid,
    NotFound,
    RomanaError,
    Unavailable,
)


class ExitStatus(IntEnum):
    """What the commands exit with; `docs/operations.md` explains each to people."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    INVALID = 5
    EXHAUSTED = 6
    UNAVAILABLE = 7
    UNEXPECTED_VERDICT = 8
    INTERRUPTED = 130


STATUS: dict[type[RomanaError], ExitStatus] = {
    NotFound: ExitStatus.NOT_FOUND,
    AlreadyExists: ExitStatus.CONFLICT,
    Conflict: ExitStatus.CONFLICT,
    Invalid: ExitStatus.INVALID,
    Exhausted: ExitStatus.EXHAUSTED,
    Unavailable: ExitStatus.UNAVAILABLE,
}


def report(error: RomanaError) -> ExitStatus:
    """Tell a person what failed, on stderr; answers what to exit with."""
    word = typer.style(error.reason, fg=typer.colors.RED)
    if isinstance(error, Invalid) and len(error.faults) > 1:
        typer.echo(f"romana: {word}: {len(error.faults)} faults, nothing was changed", err=True)
        for fault in error.faults:
            typer.echo(f"  {fault}", err=True)
    else:
        typer.echo(f"romana: {word}: {error}", err=True)
    return STATUS.get(type(error), ExitStatus.FAILED)
