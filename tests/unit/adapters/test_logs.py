"""Logs: where they go, what a line has, what a level leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from romana.adapters.logs import LEVELS, set_up_logs
from romana.model.errors import Invalid


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("level", LEVELS)
def test_lines_of_a_level_and_above_are_json_on_stderr(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(level, "auto")
    log = structlog.get_logger()
    for each in LEVELS:
        getattr(log, each)("said", host="h11")
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in err.splitlines()]
    assert out == ""
    assert [line["level"] for line in lines] == list(LEVELS)[list(LEVELS).index(level) :]
    assert {(line["event"], line["host"], line["timestamp"][-1]) for line in lines} == {("said", "h11", "Z")}


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        structlog.get_logger().exception("broke")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["exception"]


def test_text_has_no_colour_outside_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "text")
    structlog.get_logger().warning("said", host="h11")
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "warning" in err
    assert "host=h11" in err


@pytest.mark.parametrize(("level", "form", "place"), [("loud", "json", "log.level"), ("info", "xml", "log.format")])
def test_unknown_words_are_refused_with_the_known_ones(level: str, form: str, place: str) -> None:
    with pytest.raises(Invalid, match="not one of") as caught:
        set_up_logs(level, form)
    assert [fault.path for fault in caught.value.faults] == [place]
