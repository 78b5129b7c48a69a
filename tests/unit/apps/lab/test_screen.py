from __future__ import annotations

import io

import pytest
from rich.console import Console

from romana.apps.lab.screen import Screen, Unexpected


def test_what_holds_is_counted_and_said_without_colour_in_a_file() -> None:
    output = io.StringIO()
    screen = Screen(Console(file=output, width=80))
    screen.step(1, "One", "words [with] brackets")
    screen.expect(True, "it holds")
    assert screen.held == 1
    assert "words [with] brackets" in output.getvalue()
    assert "ok  it holds" in output.getvalue()
    assert "\x1b" not in output.getvalue()


def test_the_first_that_does_not_hold_ends_it_with_what_was_seen() -> None:
    output = io.StringIO()
    screen = Screen(Console(file=output, width=80))
    with pytest.raises(Unexpected, match=r"expected: no difference; d0; d1; d2 \(and 2 more\)"):
        screen.expect(False, "no difference", *(f"d{number}" for number in range(12)))
    assert screen.held == 0
    assert "NOT no difference" in output.getvalue()
    assert "d9" in output.getvalue()
    assert "d10" not in output.getvalue()
