from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "check_docs.py"


@pytest.fixture(scope="module")
def check_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`make demo`, `make bench NAME=cni JSON=out.json`", None),
        ("`make tea`", "make has no target 'tea'"),
        ("`romana host add h1 192.0.2.1 --label rack=one`", None),
        ("`romana host dance`", "there is no `romana host dance`"),
        ("`romana hosts list`", "there is no `romana hosts`"),
        ("`romana policy apply FILE --force`", "`romana policy apply` has no option --force"),
        ("`romana lab exec h11 -- ip -6 route`", None),
        ("```\n$ romana topology look\n```", "there is no `romana topology look`"),
        ("```\n   romana ---- a picture\n```", None),
        ("`docs/architecture.md`, `docs/decisions/NNNN-*.md`, `core/policy/`", None),
        ("`docs/nowhere.md`", "there is no docs/nowhere.md"),
        ("`test_what_is_named_must_exist`, `test_check_docs`", None),
        ("| a | `test_of_a_tale` |", "there is no test test_of_a_tale"),
        ("romana hosts list", None),
        ("`romana-agent --cleanup`, `romana-agent install-cni`, `romanad --config FILE`", None),
        ("`romanad --listen`", "`romanad` has no option --listen"),
    ],
    ids=lambda value: value.replace("\n", " ") if value else "fine",
)
def test_what_is_named_must_exist(check_docs: ModuleType, tmp_path: Path, text: str, fault: str | None) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"\n{text}\n")
    line = 3 if text.startswith("```") else 2
    found = list(check_docs.faults(document, check_docs.programs(), check_docs.make_targets()))
    assert found == ([f"{document}:{line}: {fault}"] if fault else [])
