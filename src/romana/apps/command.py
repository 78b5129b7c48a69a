"""`romana`: the command line and the lab as one program."""

from __future__ import annotations

import importlib.util
import sys

import typer

from romana.apps.cli.failure import ExitStatus, report
from romana.apps.cli.main import command_line
from romana.model.errors import RomanaError


def program() -> typer.Typer:
    """All of `romana`."""
    app = command_line()
    if importlib.util.find_spec("romana.apps.lab.commands") is not None:
        app.add_typer(importlib.import_module("romana.apps.lab.commands").app, name="lab")
    return app


def main() -> None:
    """Run the command line; exits with a status of `ExitStatus`."""
    try:
        program()(standalone_mode=True)
    except RomanaError as error:
        sys.exit(report(error))
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
