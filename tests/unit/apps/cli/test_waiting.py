"""What a command says while it is busy."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from romana.apps.cli.waiting import busy


def test_a_terminal_is_told_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with busy("counting"):
            pass
        terminal.flush()
        assert b"counting" in os.read(ours, 4096)
    os.close(ours)


def test_nothing_is_said_where_nobody_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    with busy("counting"):
        pass
    assert capsys.readouterr() == ("", "")
