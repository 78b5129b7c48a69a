from __future__ import annotations

import re
from pathlib import Path

import pytest

from romana.apps.cli.failure import STATUS, ExitStatus, report
from romana.model import errors
from romana.model.errors import Conflict, Fault, Invalid, NotFound, RomanaError

ROOT = Path(__file__).parents[4]


def test_every_error_class_has_a_status_of_its_own_kind() -> None:
    raised = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RomanaError)}
    assert set(STATUS) == raised - {RomanaError}
    assert not {ExitStatus.DONE, ExitStatus.FAILED, ExitStatus.USAGE} & set(STATUS.values())


def test_the_documented_table_has_every_status_and_reason_word() -> None:
    table = (ROOT / "docs" / "operations.md").read_text().partition("## Exit statuses")[2].partition("\n## ")[0]
    rows = {int(found[1]): found[2] for found in re.finditer(r"^\| (\d+) \| ([^|]*) \|", table, re.MULTILINE)}
    assert set(rows) == {int(status) for status in ExitStatus}
    for kind, status in STATUS.items():
        assert f"`{kind.reason}`" in rows[status]


@pytest.mark.parametrize(
    ("error", "status", "lines"),
    [
        (NotFound("no host 'x'"), 3, ["romana: not-found: no host 'x'"]),
        (Conflict("in use"), 4, ["romana: conflict: in use"]),
        (RomanaError("broken"), 1, ["romana: error: broken"]),
        (Invalid(Fault("a.b", "is wrong")), 5, ["romana: invalid: a.b: is wrong"]),
        (
            Invalid(Fault("a", "is wrong"), Fault("b", "is missing")),
            5,
            ["romana: invalid: 2 faults, nothing was changed", "  a: is wrong", "  b: is missing"],
        ),
    ],
    ids=["not-found", "conflict", "no class of its own", "one fault", "two faults"],
)
def test_a_failure_is_told_on_stderr(
    error: RomanaError, status: int, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == lines
