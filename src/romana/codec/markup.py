"""Reading JSON and YAML text into plain values, the same ones for both.

Owns the dialect: YAML 1.2's plain scalars (`no` is text, `010` is ten, a date is text), no aliases, no duplicate keys,
no tags. Knows nothing of what the document means. Invariant: text gives a value that JSON can write, or Invalid with
the line and column.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError
from yaml.error import MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from romana.model.errors import Fault, Invalid

MOST_BYTES = 16 << 20
"""Longer texts are refused before they are read."""
MOST_YAML = 1 << 20
"""The same for YAML, which takes a hundred times as long to read."""


def load(text: bytes | str) -> object:
    """One document, JSON or YAML by its content; Invalid with line and column when it is neither, or not one."""
    documents = load_all(text)
    if len(documents) != 1:
        raise Invalid(Fault("", f"expected one document, found {len(documents)}"))
    return documents[0]


def load_all(text: bytes | str) -> list[object]:
    """All documents of a YAML stream, without the empty ones; a JSON text is one document."""
    content = _decoded(text)
    documents = _documents(content)
    if "\\" in content:  # only an escape can make half a character
        try:
            json.dumps(documents, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise Invalid(Fault("", f"holds {half}, which is half of a character; write the whole character")) from None
    return documents


def _documents(content: str) -> list[object]:
    if content.lstrip()[:1] in ("{", "["):
        try:
            return [json.loads(content, object_pairs_hook=_object, parse_int=_int, parse_constant=_constant)]
        except json.JSONDecodeError as error:
            fault = Fault(_place(error.lineno, error.colno), f"is not JSON: {error.msg}")
        except RecursionError:
            raise Invalid(Fault("", "is nested too deeply")) from None
        except ValueError as error:
            raise Invalid(Fault("", str(error))) from None
        try:  # YAML's flow style begins with the same characters
            return _yaml(content)
        except Invalid:
            raise Invalid(fault) from None
    return _yaml(content)


def _decoded(text: bytes | str) -> str:
    if len(text) > MOST_BYTES:
        raise Invalid(Fault("", f"is larger than {MOST_BYTES >> 20} MiB"))
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(Fault("", f"is not UTF-8 text: byte {error.start} is {text[error.start]:#04x}")) from None


def _place(line: int, column: int) -> str:
    return f"line {line}, column {column}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return value


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text[:20]}... is too long a number") from None


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _yaml(content: str) -> list[object]:
    if len(content) > MOST_YAML:
        sentence = f"is YAML larger than {MOST_YAML >> 20} MiB; write it as JSON, which may have {MOST_BYTES >> 20}"
        raise Invalid(Fault("", sentence))
    try:
        documents = list(yaml.load_all(content, _Loader))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark.line + 1, mark.column + 1) if mark else ""
        raise Invalid(Fault(place, f"is neither JSON nor YAML: {error.problem or error.context}")) from None
    except (yaml.YAMLError, ValueError) as error:
        raise Invalid(Fault("", f"is neither JSON nor YAML: {str(error).splitlines()[0]}")) from None
    except RecursionError:
        raise Invalid(Fault("", "is nested too deeply")) from None
    return [document for document in documents if document is not None]


class _Loader(yaml.SafeLoader):
    """YAML without aliases, tags and surprises."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConstructorError(None, None, "aliases are not taken; write the value out", mark)
        return super().compose_node(parent, index)

    def plain_mapping(self, node: MappingNode) -> dict[object, object]:
        value: dict[object, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value  # as it was written: JSON, whose keys are text, has no other
            if not isinstance(key_node, ScalarNode) or self.construct_object(key_node) is None:
                raise ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in value:
                raise ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
            value[key] = self.construct_object(value_node, deep=True)
        return value

    def plain_sequence(self, node: SequenceNode) -> list[object]:
        return [self.construct_object(element, deep=True) for element in node.value]

    def plain_int(self, node: ScalarNode) -> int:
        text = str(node.value)
        base = 16 if text.startswith("0x") else 8 if text.startswith("0o") else 10
        try:
            return int(text, base)
        except ValueError:
            raise ConstructorError(None, None, "is too long a number", node.start_mark) from None

    def foreign(self, node: Node) -> None:
        raise ConstructorError(None, None, f"the tag {node.tag!r} is not taken", node.start_mark)


_TAG = "tag:yaml.org,2002:"
# YAML 1.2.2, 10.3.2: the core schema, without .inf and .nan, which JSON cannot write
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)
for _tag, _construct in (
    ("null", lambda _loader, _node: None),
    ("bool", lambda _loader, node: node.value.lower() == "true"),
    ("int", _Loader.plain_int),
    ("float", lambda _loader, node: float(node.value)),
    ("str", lambda _loader, node: node.value),
    ("map", _Loader.plain_mapping),
    ("seq", _Loader.plain_sequence),
):
    _Loader.add_constructor(_TAG + _tag, _construct)
_Loader.add_constructor(None, _Loader.foreign)
