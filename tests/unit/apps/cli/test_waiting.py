"""What a command says while it is busy."""

from __future__ import annotations

import os
import pty
import sys
from contextlib import suppress

import pytest

from romana.apps.cli.waiting import busy


def test_a_terminal_is_told_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with busy("counting"):
            pass
    said = b""
    with suppress(OSError):  # what was written comes first, then an error, as nobody has the other end
        while part := os.read(ours, 4096):
            said += part
    os.close(ours)
    assert b"counting" in said


def test_nothing_is_said_where_nobody_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    with busy("counting"):
        pass
    assert capsys.readouterr() == ("", "")
