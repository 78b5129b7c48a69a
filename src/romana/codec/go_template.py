"""Templates in the language of Go's text/template, as far as Romana v2's BIRD templates use it.

Owns the language: fields, variables, `range`, `if`, `with`, `index`, `len`, comparisons, comments, trimming of blanks.
Refuses to know BIRD. Invariant: a text comes out, or Invalid with the line and what is not understood there.

Source: the documentation of Go's package text/template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from romana.model.errors import Fault, Invalid

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|:=|[(),|]|[^\s(),|"`]+)')
_NAME = re.compile(r"\$?[\w]*(?:\.\w+)*|\.(?:\w+(?:\.\w+)*)?")
Scope = dict[str, Any]
Step = Callable[["_Run"], None]


def render(text: str, data: Mapping[str, Any]) -> str:
    """The template's text with this data; Invalid for what is not understood, and for a field that is not there."""
    steps, end = _block(iter(_pieces(text)), ())
    if end is not None:
        raise Invalid(Fault("", f"`{end}` closes nothing"))
    run = _Run(data, {"$": data}, [])
    run.all(steps)
    return "".join(run.out)


class _Run:
    """Data at one place of a template, variables, and what was written so far."""

    def __init__(self, dot: Any, scope: Scope, out: list[str]) -> None:
        self.dot = dot
        self.scope = scope
        self.out = out

    def all(self, steps: Sequence[Step]) -> None:
        for step in steps:
            step(self)

    def inside(self, dot: Any, more: Scope) -> _Run:
        return _Run(dot, {**self.scope, **more}, self.out)


class _Piece:
    """A text, or an action with its line."""

    def __init__(self, words: str, line: int, *, action: bool) -> None:
        self.words = words
        self.line = line
        self.action = action


def _pieces(text: str) -> Iterator[_Piece]:
    at, trim = 0, False
    for found in _ACTION.finditer(text):
        before = text[at : found.start()]
        before = before.lstrip() if trim else before
        yield _Piece(before.rstrip() if found[1] else before, 0, action=False)
        at, trim = found.end(), bool(found[3])
        words = found[2].strip()
        if not words.startswith("/*"):
            yield _Piece(words, text.count("\n", 0, found.start()) + 1, action=True)
    rest = text[at:]
    yield _Piece(rest.lstrip() if trim else rest, 0, action=False)


def _block(pieces: Iterator[_Piece], ends: tuple[str, ...]) -> tuple[list[Step], str | None]:
    """The steps up to an action that ends the block, and that action's words; None at the end of the text."""
    steps: list[Step] = []
    for piece in pieces:
        if not piece.action:
            steps.append(_text(piece.words))
            continue
        first = piece.words.partition(" ")[0]
        if first in ("end", "else"):
            if not ends:
                raise _fault(piece, f"`{piece.words}` closes nothing")
            return steps, piece.words
        if first in ("range", "if", "with"):
            steps.append(_compound(pieces, piece, first, piece.words[len(first) :]))
        else:
            steps.append(_action(piece))
    if ends:
        raise Invalid(Fault("", f"the template ends before `{ends[0]}`"))
    return steps, None


def _compound(pieces: Iterator[_Piece], piece: _Piece, kind: str, words: str) -> Step:
    names, expression = _declared(piece, words)
    value = _pipeline(piece, expression)
    body, end = _block(pieces, ("end",))
    other: list[Step] = []
    if end is not None and end.startswith("else"):
        rest = end[len("else") :].strip()
        if rest:  # else if ...
            inner, _, more = rest.partition(" ")
            other = [_compound(pieces, _Piece(rest, piece.line, action=True), inner, more)]
        else:
            other, _ = _block(pieces, ("end",))

    def choose(run: _Run) -> None:
        found = value(run)
        if not _is_true(found):
            run.all(other)
        elif kind == "range":
            for key, item in _items(piece, found):
                pairs = dict(zip(names, (key, item) if len(names) == 2 else (item,), strict=False))
                run.inside(item, pairs).all(body)
        else:
            run.inside(found if kind == "with" else run.dot, dict.fromkeys(names, found)).all(body)

    return choose


def _action(piece: _Piece) -> Step:
    names, expression = _declared(piece, piece.words)
    value = _pipeline(piece, expression)

    def write(run: _Run) -> None:
        found = value(run)
        if names:
            run.scope[names[0]] = found
        else:
            run.out.append(_shown(found))

    return write


def _declared(piece: _Piece, words: str) -> tuple[list[str], str]:
    """Variables before `:=`, and the expression."""
    before, sign, after = words.partition(":=")
    if not sign:
        return [], words
    names = [name.strip() for name in before.split(",")]
    if not all(re.fullmatch(r"\$\w+", name) for name in names) or len(names) > 2:
        raise _fault(piece, f"`{before.strip()}` is no variable")
    return names, after


def _pipeline(piece: _Piece, words: str) -> Callable[[_Run], Any]:
    tokens = _TOKEN.findall(words.strip())
    if not tokens:
        raise _fault(piece, "an expression is missing")
    value, rest = _command(piece, tokens)
    while rest and rest[0] == "|":
        following, rest = _command(piece, rest[1:], value)
        value = following
    if rest:
        raise _fault(piece, f"`{' '.join(rest)}` is not understood")
    return value


def _command(
    piece: _Piece, tokens: list[str], piped: Callable[[_Run], Any] | None = None
) -> tuple[Callable[[_Run], Any], list[str]]:
    terms: list[Callable[[_Run], Any]] = []
    function = _FUNCTIONS.get(tokens[0]) if tokens else None
    rest = tokens[1:] if function is not None else tokens
    while rest and rest[0] not in ("|", ")"):
        term, rest = _term(piece, rest)
        terms.append(term)
    if piped is not None:
        terms.append(piped)
    if function is not None:
        wanted = function

        def call(run: _Run) -> Any:
            try:
                return wanted(*(term(run) for term in terms))
            except (TypeError, KeyError, IndexError) as error:
                raise _fault(piece, f"`{tokens[0]}` cannot be done: {error}") from error

        return call, rest
    if len(terms) != 1:
        raise _fault(piece, f"`{tokens[0] if tokens else ''}` is no function that is known here")
    return terms[0], rest


def _term(piece: _Piece, tokens: list[str]) -> tuple[Callable[[_Run], Any], list[str]]:
    first, rest = tokens[0], tokens[1:]
    if first == "(":
        value, rest = _command(piece, rest)
        if not rest or rest[0] != ")":
            raise _fault(piece, "a `)` is missing")
        return value, rest[1:]
    if first[0] in '"`':
        text = first[1:-1].replace('\\"', '"').replace("\\\\", "\\") if first[0] == '"' else first[1:-1]
        return lambda _: text, rest
    if re.fullmatch(r"-?\d+", first):
        return lambda _: int(first), rest
    if first in ("true", "false"):
        return lambda _: first == "true", rest
    if not _NAME.fullmatch(first) or first[0] not in "$.":
        raise _fault(piece, f"`{first}` is not understood")
    return lambda run: _look_up(piece, run, first), rest


def _look_up(piece: _Piece, run: _Run, name: str) -> Any:
    start, *fields = name.split(".")
    if start:
        if start not in run.scope:
            raise _fault(piece, f"there is no variable {start}")
        found = run.scope[start]
    else:
        found = run.dot
    for field in filter(None, fields):
        if not isinstance(found, Mapping) or field not in found:
            raise _fault(piece, f"`{name}` has no {field}")
        found = found[field]
    return found


def _items(piece: _Piece, value: Any) -> Iterator[tuple[Any, Any]]:
    """Lists by number, maps by key in order, as Go has it."""
    if isinstance(value, Mapping):
        yield from sorted(value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    else:
        raise _fault(piece, "`range` goes over lists and maps")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value[key]
    return value


def _same(value: Any, *others: Any) -> bool:
    return any(value == other for other in others)


def _either(*values: Any) -> Any:
    return next((value for value in values if _is_true(value)), values[-1])


def _both(*values: Any) -> Any:
    return next((value for value in values if not _is_true(value)), values[-1])


def _is_true(value: Any) -> bool:
    return bool(value)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "index": _index,
    "len": len,
    "eq": _same,
    "ne": lambda one, other: one != other,
    "not": lambda value: not _is_true(value),
    "and": _both,
    "or": _either,
    "print": lambda *values: "".join(map(_shown, values)),
}


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _text(words: str) -> Step:
    return lambda run: run.out.append(words)


def _fault(piece: _Piece, sentence: str) -> Invalid:
    return Invalid(Fault(f"line {piece.line}", sentence))
