"""A store that an older romanad made, opened by today's: the same answers, and it goes on from there."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.programs.test_romanad import Romanad

FIXTURES = Path(__file__).parent.parent / "fixtures"
VERSIONS = sorted(path.stem for path in FIXTURES.glob("store-*.sql"))


def is_part(old: Any, new: Any) -> bool:
    """Whether everything that was said is said still; objects may have more, and lists another order."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and is_part(old[key], new[key]) for key in old)
    if isinstance(old, list):
        return len(old) == len(new) and all(any(is_part(one, other) for other in new) for one in old)
    return bool(old == new)


def explicit(topology: Any) -> Any:
    """The old document with the lengths that it had by default; the defaults may be others today."""
    document = json.loads(topology["document"])
    for asked, carved in zip(document["networks"], topology["plan"]["networks"], strict=True):
        asked |= {name: carved[name] for name in ("block_length", "span_length")}
    return document


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_an_older_program_opens_and_says_the_same(version: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "romanad.db")) as database:
        database.executescript((FIXTURES / f"{version}.sql").read_text())
    answers = json.loads((FIXTURES / f"{version}.json").read_text())
    romanad = Romanad(tmp_path)
    romanad.start()
    try:
        for asked, answer in answers.items():
            word, _, what = asked.partition(" ")
            if word == "GET":
                assert is_part(answer, romanad.get(what)), what
            elif word == "trace":
                source, destination, traffic = what.split()
                request = {"source": source, "destination": destination, "traffic": traffic}
                assert romanad.get("/v1/trace", "POST", request)["trace"]["verdict"] == answer["verdict"], what
        health = romanad.get("/healthz")
        assert health["incarnation"] == answers["healthz"]["incarnation"]
        assert health["revision"] >= answers["healthz"]["revision"]
        romanad.get("/v1/tenants/new", "PUT", {})
        romanad.get("/v1/topology", "PUT", explicit(answers["GET /v1/topology"]))
        assert is_part(answers["GET /v1/blocks"], romanad.get("/v1/blocks"))
    finally:
        romanad.kill()


def test_there_is_an_older_store() -> None:
    assert VERSIONS
