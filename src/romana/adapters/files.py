"""Whole files, replaced at once: a reader sees the old content or the new one, never a part.

Owns the temporary file beside the target. Refuses to know what is in it. Invariant: after a crash there is the old file
or the new one, and nothing that looks like either.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o644, group: int = -1) -> None:
    """Write a file so that it is complete and durable under its name when this returns; OSError when it cannot be.

    Its directory is made when it is missing. `group` is the number of its group, -1 for the program's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
