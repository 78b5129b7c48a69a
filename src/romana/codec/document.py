"""Checking documents that people write against the types they should have: every fault at once, each with its place.

Owns the comparison of loaded JSON or YAML with a msgspec type, and the sentences about it. Knows no particular
document. Invariant: `convert` gives a value or raises Invalid, and nothing else; a value without faults converts.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import functools
import math
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from romana.codec import markup
from romana.codec.json import from_text
from romana.model.errors import MOST_FAULTS, Fault, Invalid

T = TypeVar("T")

load = markup.load
load_all = markup.load_all
_KEY_END = re.compile(rb'"\s*:')


UNKNOWN = "unknown field"
"""How the sentence about a key that nobody knows begins."""


def convert(value: object, kind: type[T]) -> T:
    """The loaded document as a value of `kind`; Invalid with every fault."""
    found = faults(value, kind)
    if found:
        raise Invalid(*found)
    converted: T = _converted(value, kind)
    return converted


def read(text: bytes, kind: type[T]) -> T:
    """One document as a value of `kind`: what `convert` makes of what `load` reads, sooner where JSON is faultless."""
    strict: Any = kind
    if not _knows_its_keys(strict):
        return convert(load(text), kind)
    with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
        value: T = msgspec.json.decode(text, type=kind, dec_hook=from_text)
        # A key that is there twice is a fault. Without escapes, a quote before a colon is the end of a key.
        if b"\\" not in text and len(_KEY_END.findall(text)) == _keys(msgspec.json.decode(text)):
            return value
    return convert(load(text), kind)


@functools.lru_cache(maxsize=256)
def _knows_its_keys(kind: Any) -> bool:
    """Whether msgspec refuses an unknown key wherever a value of this kind may have one."""
    return _all_strict(type_info(kind), set())


def _all_strict(info: object, met: set[type]) -> bool:
    if isinstance(info, inspect.StructType):
        if info.cls in met:
            return True
        met.add(info.cls)
        return info.forbid_unknown_fields and all(_all_strict(field.type, met) for field in info.fields)
    if not isinstance(info, inspect.Type):
        return True
    parts = (
        part for value in msgspec.structs.astuple(info) for part in (value if isinstance(value, tuple) else [value])
    )
    return all(_all_strict(part, met) for part in parts)


def _keys(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    return sum(map(_keys, value)) if isinstance(value, list) else 0


def faults(value: object, kind: Any) -> list[Fault]:
    """Everything about a loaded document that is not as `kind` (a type that msgspec knows) says, in its order."""
    checker = _Checker()
    try:
        checker.check(value, type_info(kind), "")
    except RecursionError:
        return [Fault("", "is nested too deeply")]
    except _EnoughError:
        return [*checker.found, Fault("", "and perhaps more faults: only the first ones are told")]
    return checker.found


def field_path(path: str, key: object) -> str:
    """The path of a mapping's value: `a.b`, or `a["b/c"]` where the key is no plain word."""
    text = str(key)
    if not re.fullmatch(r"[\w-]+", text):
        return f'{path}["{text}"]'
    return f"{path}.{text}" if path else text


def suggestion(word: str, known: Iterable[str]) -> str:
    """What follows `unknown ...`: the nearest known word, else all of them."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known here: {', '.join(words)}" if words else "nothing is known here"


@functools.lru_cache(maxsize=256)
def type_info(kind: Any) -> inspect.Type:
    """What msgspec knows of a type."""
    return inspect.type_info(kind)


def fits(value: object, kind: inspect.Type) -> bool:
    """Whether a value has no fault as one of that type."""
    return not _Checker().rejects(value, kind)


class _EnoughError(Exception):
    """There are as many faults as are told."""


class _Checker:
    """Walks a value and its type together, collecting faults."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def fault(self, path: str, sentence: str) -> None:
        self.found.append(Fault(path, sentence))
        if len(self.found) >= MOST_FAULTS:
            raise _EnoughError

    def check(self, value: object, kind: inspect.Type, path: str) -> None:
        rule = _RULES.get(type(kind), _Checker.other)
        rule(self, value, kind, path)

    def any(self, value: object, kind: Any, path: str) -> None:
        """Everything goes."""

    def scalar(self, value: object, kind: Any, path: str) -> None:
        if not _is_of(value, kind):
            self.fault(path, f"expected {_words(kind)}, got {_shown(value)}")
            return
        if isinstance(kind, inspect.IntType | inspect.FloatType):
            self.bounds(value, kind, path)
        elif isinstance(kind, inspect.StrType):
            text = str(value)
            self.size(len(text), kind, path, "character")
            if kind.pattern is not None and not re.search(kind.pattern, text):
                self.fault(path, f"{text!r} does not match {kind.pattern}")

    def bounds(self, value: Any, kind: inspect.IntType | inspect.FloatType, path: str) -> None:
        for limit, words, holds in (
            (kind.ge, "at least", operator.ge),
            (kind.gt, "more than", operator.gt),
            (kind.le, "at most", operator.le),
            (kind.lt, "less than", operator.lt),
        ):
            if limit is not None and not holds(value, limit):
                self.fault(path, f"must be {words} {limit}, got {value}")

    def size(self, size: int, kind: Any, path: str, unit: str) -> None:
        if kind.min_length is not None and size < kind.min_length:
            self.fault(path, f"needs at least {kind.min_length} {unit}(s), has {size}")
        if kind.max_length is not None and size > kind.max_length:
            self.fault(path, f"may have at most {kind.max_length} {unit}(s), has {size}")

    def choice(self, value: object, kind: Any, path: str) -> None:
        allowed = _choices(kind)
        # True == 1 in Python, so the type is compared as well
        if not any(type(value) is type(one) and value == one for one in allowed):
            self.fault(path, f"expected one of {', '.join(map(str, allowed))}, got {_shown(value)}")

    def custom(self, value: object, kind: inspect.CustomType, path: str) -> None:
        try:
            from_text(kind.cls, value)
        except ValueError as error:
            self.fault(path, str(error))

    def sequence(self, value: object, kind: Any, path: str) -> None:
        if not isinstance(value, list | tuple):
            self.fault(path, f"expected a list, got {_shown(value)}")
            return
        self.size(len(value), kind, path, "element")
        for index, element in enumerate(value):
            self.check(element, kind.item_type, f"{path}[{index}]")

    def fixed(self, value: object, kind: inspect.TupleType, path: str) -> None:
        size = len(kind.item_types)
        if not isinstance(value, list | tuple) or len(value) != size:
            self.fault(path, f"expected a list of {size} elements, got {_shown(value)}")
            return
        for index, (element, item) in enumerate(zip(value, kind.item_types, strict=True)):
            self.check(element, item, f"{path}[{index}]")

    def mapping(self, value: object, kind: inspect.DictType, path: str) -> None:
        if not isinstance(value, dict):
            self.fault(path, f"expected a mapping, got {_shown(value)}")
            return
        self.size(len(value), kind, path, "entry")
        for key, element in value.items():
            place = field_path(path, key)
            if isinstance(key, str):
                self.check(int(key) if _is_int_key(key, kind.key_type) else key, kind.key_type, place)
            else:
                self.fault(place, f"keys are text; write {str(key)!r} in quotes")
            self.check(element, kind.value_type, place)

    def fields(self, value: object, kind: Any, path: str) -> None:
        if getattr(kind, "array_like", False):
            self.other(value, kind, path)
            return
        if not isinstance(value, dict):
            self.fault(path, f"expected a mapping with {_field_words(kind)}, got {_shown(value)}")
            return
        before = len(self.found)
        known = {field.encode_name: field for field in kind.fields}
        tag = getattr(kind, "tag_field", None)
        for key in value:
            if key not in known and key != tag:
                self.fault(field_path(path, key), f"{UNKNOWN}; {suggestion(str(key), known)}")
        if tag is not None and value.get(tag, kind.tag) != kind.tag:
            self.fault(field_path(path, tag), f"expected {kind.tag}, got {_shown(value[tag])}")
        for name, field in known.items():
            if name in value:
                self.check(value[name], field.type, field_path(path, name))
            elif field.required:
                self.fault(field_path(path, name), f"is missing; expected {_words(field.type)}")
        if len(self.found) == before and hasattr(kind.cls, "__post_init__"):
            self.other(value, kind, path)

    def union(self, value: object, kind: inspect.UnionType, path: str) -> None:
        members = [member for member in kind.types if _may_be(value, member)]
        structs = [member for member in members if isinstance(member, inspect.StructType)]
        if len(structs) > 1:
            self.tagged(value, structs, path)
        elif len(members) == 1:
            self.check(value, members[0], path)
        elif not members:
            self.fault(path, f"expected {_words(kind)}, got {_shown(value)}")
        elif all(self.rejects(value, member) for member in members):
            self.check(value, members[0], path)

    def tagged(self, value: Any, structs: list[inspect.StructType], path: str) -> None:
        field = structs[0].tag_field or "type"
        tags = {str(struct.tag): struct for struct in structs}
        chosen = tags.get(str(value[field])) if field in value else None
        if chosen is not None:
            self.check(value, chosen, path)
        elif field in value:
            self.fault(field_path(path, field), f"expected one of {', '.join(tags)}, got {_shown(value[field])}")
        else:
            self.fault(field_path(path, field), f"is missing; expected one of {', '.join(tags)}")

    def rejects(self, value: object, kind: inspect.Type) -> bool:
        trial = _Checker()
        with contextlib.suppress(_EnoughError):
            trial.check(value, kind, "")
        return bool(trial.found)

    def other(self, value: object, kind: Any, path: str) -> None:
        """Types without a rule of their own, and those that check themselves: msgspec's own sentence."""
        try:
            _converted(value, getattr(kind, "cls", None) or _PLAIN[type(kind)])
        except Invalid as error:
            inner = error.faults[0]
            joint = "" if not path or not inner.path or inner.path.startswith("[") else "."
            self.fault(f"{path}{joint}{inner.path}", inner.sentence)


def _converted(value: object, kind: Any) -> Any:
    """By way of JSON, because msgspec.convert leaves keys of mappings as text."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=kind, dec_hook=from_text)
    except msgspec.ValidationError as error:
        raise Invalid(_fault_of(error)) from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(Fault("", f"holds what JSON cannot: {error}")) from error


def _fault_of(error: msgspec.ValidationError) -> Fault:
    sentence, _, place = str(error).partition(" - at `$")
    return Fault(place.rstrip("`").removeprefix("."), sentence)


def _is_of(value: object, kind: Any) -> bool:
    """Whether a value has the type of a scalar. True is no number, and a number with a point is not a whole one."""
    if isinstance(kind, inspect.NoneType):
        return value is None
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(kind, inspect.FloatType):
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return isinstance(value, str)


def _may_be(value: object, kind: inspect.Type) -> bool:
    """Whether the value's outer form fits, so that a fault inside it is worth naming."""
    if isinstance(kind, _MAPPINGS):
        return isinstance(value, dict)
    if isinstance(kind, _SEQUENCES):
        return isinstance(value, list | tuple)
    if isinstance(kind, inspect.CustomType):
        return isinstance(value, str)
    if isinstance(kind, inspect.EnumType | inspect.LiteralType):
        return any(type(value) is type(one) for one in _choices(kind))
    return _is_of(value, kind) if isinstance(kind, _SCALARS) else value is not None


def _choices(kind: Any) -> list[Any]:
    return [member.value for member in kind.cls] if isinstance(kind, inspect.EnumType) else list(kind.values)


def _is_int_key(key: str, kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.IntType) and re.fullmatch(r"-?\d{1,18}", key, re.ASCII) is not None


def _shown(value: object) -> str:
    """A value in a sentence: its kind for the large ones, itself for the small."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = f"the text {value!r}" if isinstance(value, str) else f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _field_words(kind: Any) -> str:
    required = [field.encode_name for field in kind.fields if field.required]
    return ", ".join(required or [field.encode_name for field in kind.fields]) or "no fields"


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        return " or ".join(dict.fromkeys(_words(member) for member in kind.types))
    if isinstance(kind, inspect.EnumType | inspect.LiteralType):
        return f"one of {', '.join(map(str, _choices(kind)))}"
    if isinstance(kind, inspect.CustomType):
        return {"Prefix": "a CIDR", "Address": "an IP address"}.get(kind.cls.__name__, kind.cls.__name__)
    if isinstance(kind, _MAPPINGS):
        return "a mapping"
    if isinstance(kind, _SEQUENCES):
        return "a list"
    return _WORDS.get(type(kind), type(kind).__name__.removesuffix("Type").lower())


_SCALARS = (inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType)
_MAPPINGS = (inspect.StructType, inspect.TypedDictType, inspect.DataclassType, inspect.DictType)
_SEQUENCES = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType, inspect.TupleType)

_WORDS: dict[type, str] = {
    inspect.AnyType: "anything",
    inspect.NoneType: "nothing (null)",
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.StrType: "text",
}

_PLAIN: dict[type, Any] = {
    inspect.BytesType: bytes,
    inspect.DateTimeType: dt.datetime,
    inspect.DateType: dt.date,
    inspect.RawType: msgspec.Raw,
}

_RULES: dict[type[Any], Callable[[_Checker, object, Any, str], None]] = {
    inspect.AnyType: _Checker.any,
    **dict.fromkeys(_SCALARS, _Checker.scalar),
    **dict.fromkeys((inspect.EnumType, inspect.LiteralType), _Checker.choice),
    inspect.CustomType: _Checker.custom,
    **dict.fromkeys(
        (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType), _Checker.sequence
    ),
    inspect.TupleType: _Checker.fixed,
    inspect.DictType: _Checker.mapping,
    **dict.fromkeys((inspect.StructType, inspect.TypedDictType, inspect.DataclassType), _Checker.fields),
    inspect.UnionType: _Checker.union,
}
