"""How far an agent's memory had come, written where an older copy of its disk does not bring it back.

Owns one small file on a file system that lives as long as the kernel (/run). It is written in place, so it needs no
more space, and never waits for a disk: it has to outlive a process, not a machine.
"""

from __future__ import annotations

import os
from pathlib import Path

from romana.model.errors import Unavailable

DIGITS = 20


class Mark:
    """The number in the file; 0 where there is none, and more than any number where it cannot be read."""

    def __init__(self, path: Path) -> None:
        """Open or make it; Unavailable when it cannot be."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            text = os.pread(self._file, DIGITS, 0)
            if not text:  # its space is taken now, not when something depends on it
                os.pwrite(self._file, b"0" * DIGITS, 0)
        except OSError as error:
            raise Unavailable(f"agent mark {path}: {error.strerror}") from error
        self.number = 0
        if text:
            self.number = int(text) if len(text) == DIGITS and text.isdigit() else 10**DIGITS

    def put(self, number: int) -> None:
        """Write a number; Unavailable when it cannot be."""
        if number == self.number:
            return
        try:
            os.pwrite(self._file, b"%0*d" % (DIGITS, number), 0)
        except OSError as error:
            raise Unavailable(f"writing agent mark {self.path}: {error.strerror}") from error
        self.number = number

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._file)
