"""Fails when a document names a command, an option, a path or a test that does not exist.

Looked at: everything in backticks and in fenced blocks. `make X` must be a target; `romana ...`, `romana-agent ...`,
`romana-aws ...` and `romanad ...` must be words and options of that program; a word with a slash whose first part is a
directory of ours must be a path of ours; a word that begins with `test_` must be a test, or a module of tests.
"""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from romana.apps.agent.main import app as agent
from romana.apps.aws.main import app as aws
from romana.apps.command import program
from romana.apps.server.main import app as server

DOCUMENTS = ("*.md", "docs/**/*.md", "examples/**/*.md")
OURS = tuple(sorted(f"{path.name}/" for path in Path().iterdir() if path.is_dir() and not path.name.startswith(".")))
MADE = ("build/",)
"""Directories whose content is made, so a path into them may be absent."""
CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)


def commands(text: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each line of code in a document."""
    for found in CODE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        for offset, code in enumerate((found[1] or found[2]).splitlines()):
            if not code.startswith(" "):  # a picture, or what a command printed
                yield line + offset + (1 if found[1] else 0), re.sub(r"^[$#]\s+", "", code.rstrip())


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", Path("Makefile").read_text(), re.MULTILINE))


def fault_of_make(words: list[str], targets: set[str]) -> str | None:
    for word in words[1:]:
        if re.fullmatch(r"[a-z][a-z-]*", word):
            if word not in targets:
                return f"make has no target {word!r}"
        elif "=" not in word:
            return None
    return None


def programs() -> dict[str, Any]:
    """Our programs by name, as click commands."""
    return {
        "romana": typer.main.get_command(program()),
        "romana-agent": typer.main.get_command(agent),
        "romana-aws": typer.main.get_command(aws),
        "romanad": typer.main.get_command(server),
    }


def fault_of_program(words: list[str], root: Any) -> str | None:
    """Follow nouns and verbs down; then every option must be one of a command on the way."""
    command, rest, path = root, words[1:], [words[0]]
    options = {"--help", "-h", *_options(root)}
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if not re.fullmatch(r"[a-z][a-z-]*", rest[0]):
            return None
        path.append(rest[0])
        if rest[0] not in command.commands:
            return f"there is no `{' '.join(path)}`"
        command, rest = command.commands[rest[0]], rest[1:]
        options |= _options(command)
    for word in rest[: rest.index("--")] if "--" in rest else rest:
        name = word.partition("=")[0]
        if name.startswith("-") and name != "-" and name not in options:
            return f"`{' '.join(path)}` has no option {name}"
    return None


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def fault_of_path(word: str) -> str | None:
    path = word.rstrip(".,;:")
    if not path.startswith(OURS) or path.startswith(MADE) or re.search(r"[*<>{}$]|NAME|NNNN|\.\.\.", path):
        return None
    return None if any(Path(top, path).exists() for top in (".", "src/romana")) else f"there is no {path}"


@functools.cache
def tests() -> frozenset[str]:
    """The names of all tests, and of the modules they are in."""
    modules = sorted(Path("tests").rglob("*.py"))
    names = {name for path in modules for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)}
    return frozenset({*names, *(path.stem for path in modules)})


def fault_of_test(word: str) -> str | None:
    if not re.fullmatch(r"test_\w+", word) or word in tests():
        return None
    return f"there is no test {word}"


def faults(document: Path, ours: dict[str, Any], targets: set[str]) -> Iterator[str]:
    for line, code in commands(document.read_text()):
        try:
            words = shlex.split(code, comments=True)
        except ValueError:
            words = code.split()
        if not words:
            continue
        found = [fault_of_path(word) for word in words if "/" in word]
        found += map(fault_of_test, words)
        if words[0] == "make":
            found.append(fault_of_make(words, targets))
        name = Path(words[0]).name
        if name in ours:
            found.append(fault_of_program([name, *words[1:]], ours[name]))
        yield from (f"{document}:{line}: {fault}" for fault in found if fault)


def main() -> int:
    """Exit status: 0 when everything that is named exists."""
    ours = programs()
    targets = make_targets()
    documents = sorted({path for pattern in DOCUMENTS for path in Path().glob(pattern)})
    found = [fault for document in documents for fault in faults(document, ours, targets)]
    print("\n".join(found) if found else f"{len(documents)} documents: every command, path and test in them exists")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
