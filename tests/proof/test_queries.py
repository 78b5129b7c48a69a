"""2,000 questions and more about random worlds: the compiled program answers what the documents mean."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.proof import facts, naive, readings
from tests.proof.queries import Comparison, Verdicts, difference
from tests.proof.random_worlds import random_world

WORLDS = 100
EACH = 40


@pytest.mark.parametrize("seed", range(WORLDS))
def test_the_program_decides_as_the_documents(seed: int) -> None:
    made = random_world(seed, odd=True)
    comparison = Comparison(made.world, made.documents)
    questions = list(comparison.questions(Random(seed), made.addresses, EACH))
    assert len(questions) == EACH
    for question, said in zip(questions, comparison.verdicts(questions), strict=True):
        assert said.agree, difference(made, question)


def test_there_are_answers_of_every_sort() -> None:
    answers: Counter[Verdicts] = Counter()
    for seed in range(WORLDS):
        made = random_world(seed)
        comparison = Comparison(made.world, made.documents)
        answers.update(comparison.verdicts(list(comparison.questions(Random(seed), made.addresses, EACH))))
    least = WORLDS * EACH // 100
    assert answers[Verdicts(True, True, True)] > 10 * least
    assert answers[Verdicts(False, False, False)] > 10 * least
    unknown = sum(count for said, count in answers.items() if said.least != said.most)
    assert unknown > least


@pytest.mark.parametrize("module", [naive, readings, facts], ids=["naive", "readings", "facts"])
def test_the_evaluator_shares_no_code(module: object) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text())  # type: ignore[attr-defined]
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert [one for one in imported if one.startswith(("romana", "msgspec"))] == []
    assert {one for one in imported if one.startswith("tests")} <= {"tests.proof.facts", "tests.proof.readings"}
