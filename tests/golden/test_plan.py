"""`romana plan` on each example topology, beside what it should print on 80 columns; and the drawing in docs/.

`pytest tests/golden/test_plan.py --rewrite-golden` writes what is printed over the files; read the difference before
committing it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from romana.apps.cli.main import command_line

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples/topologies").iterdir() if path.suffix != ".md")
GOLDEN = Path(__file__).parent / "plan"
DRAWING = ROOT / "docs/plan.svg"
DRAWN = ROOT / "examples/topologies/racks.yaml"


def printed(*arguments: str) -> str:
    ran = CliRunner().invoke(command_line(), ["plan", *arguments], env={"COLUMNS": "80"})
    assert ran.exit_code == 0, ran.output
    return "\n".join(line.rstrip() for line in ran.stdout.splitlines()) + "\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_plan_of_an_example(path: Path, rewrite_golden: bool) -> None:
    text = printed(str(path))
    golden = GOLDEN / f"{path.stem}.txt"
    if rewrite_golden:
        golden.write_text(text)
    assert text == golden.read_text()
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_drawing_in_the_documents_is_what_the_command_draws(tmp_path: Path, rewrite_golden: bool) -> None:
    drawn = tmp_path / "plan.svg"
    printed(str(DRAWN), "--hosts", "600", "--svg", str(drawn))
    if rewrite_golden:
        DRAWING.write_text(drawn.read_text())
    assert drawn.read_text() == DRAWING.read_text()


def test_there_are_no_stray_results() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(path.stem for path in EXAMPLES)
