"""A wrong option is told in our words, by every program that has choices."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from romana.apps.agent.main import app as agent
from romana.apps.command import program


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        pytest.param(program(), ["plan", "-", "--format", "zzz"], id="a-command"),
        pytest.param(program(), ["policy", "list", "--output", "zzz"], id="a-noun"),
        pytest.param(agent, ["status", "--output", "zzz"], id="the-agent"),
    ],
)
def test_a_wrong_choice_is_told_without_the_librarys_words(app: typer.Typer, arguments: list[str]) -> None:
    ran = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert ran.exit_code == 2
    assert "'zzz' is not one of" in ran.output
    assert "Value error" not in ran.output
