"""How a program begins and fails: configuration from file and environment, errors on stderr, the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from romana.codec.config import load, unreadable
from romana.model.errors import Invalid, RomanaError

T = TypeVar("T", bound=msgspec.Struct)


def read_settings(
    kind: type[T],
    path: Path,
    default: Path,
    check: Callable[[T], None],
    depends: Sequence[tuple[str, str]] = (),
) -> T:
    """The configuration in a file; the `default` one need not exist. Invalid, with every fault, also those that `check`
    raises (see `codec.config.load`).
    """
    text = ""
    if path.exists() or path != default:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(unreadable(error)) from error
    return load(kind, text, os.environ, check, depends)


@contextmanager
def told(program: str, path: Path) -> Iterator[None]:
    """End the process for an error of ours or of the system, with its sentences: status 2 when something that a person
    wrote is wrong, else 1.
    """
    try:
        yield
    except Invalid as error:
        for fault in error.faults:
            sys.stderr.write(f"{program}: {path}: {fault}\n")
        sys.exit(2)
    except (RomanaError, OSError) as error:
        sys.stderr.write(f"{program}: {error}\n")
        sys.exit(1)
