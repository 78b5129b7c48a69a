"""`romana`: the command line and the lab as one program."""

from __future__ import annotations

import sys

import typer

from romana.apps.cli.failure import ExitStatus, report
from romana.apps.cli.main import command_line
from romana.apps.lab.commands import app as lab
from romana.model.errors import RomanaError


def program() -> typer.Typer:
    """All of `romana`."""
    app = command_line()
    app.add_typer(lab, name="lab")
    return app


def main() -> None:
    """Run the command line; exits with a status of `ExitStatus`."""
    try:
        program()(standalone_mode=True)
    except RomanaError as error:
        sys.exit(report(error))
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
