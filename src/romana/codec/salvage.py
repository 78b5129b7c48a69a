"""What can be used of a document with faults of form, so that these hide no fault of meaning.

Owns leaving out what has no form, and which faults of the rest may come from that alone. Knows no particular document.
Invariants: what is answered is of its type; places are those of the whole document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from romana.codec.document import UNKNOWN, convert, faults, field_path, fits, type_info
from romana.model.errors import Fault, Invalid

T = TypeVar("T")
_NOTHING = object()
_STEP = re.compile(r'\["[^"]*"\]|\[\d+\]|[^.\[]+')
_LISTS = (inspect.ListType, inspect.VarTupleType)


class Salvaged(msgspec.Struct, Generic[T]):
    """A document as far as it is understood; None when nothing is.

    `found` are its faults of form, and `indices` where the remaining elements of a list were, by the list's place.
    """

    value: T | None
    found: list[Fault]
    indices: dict[str, list[int]] = {}

    def told(self, meant: Iterable[Fault], depends: Sequence[tuple[str, str]] = ()) -> list[Fault]:
        """Every fault of form, and what was `meant` about the rest, unless something without form may be the reason: it
        is at the same place, around it, or a field of it.

        `depends` are more of such reasons: patterns of a fault (`PATH: SENTENCE`), and of the places that it hangs on.
        """
        broken = [fault.path for fault in self.found if not fault.sentence.startswith(UNKNOWN)]
        steps = [_STEP.findall(path) for path in broken]
        reasons = [told for told, on in depends if any(re.fullmatch(on, path) for path in broken)]
        placed = [Fault(self.place(fault.path), fault.sentence) for fault in meant]
        return self.found + [
            fault
            for fault in placed
            if not any(_hangs_on(_STEP.findall(fault.path), other) for other in steps)
            and not any(re.fullmatch(one, str(fault), re.DOTALL) for one in reasons)
        ]

    def place(self, path: str) -> str:
        """Where something that is in the rest is in the whole document."""
        if not self.indices:
            return path
        whole = ""
        for step in _STEP.findall(path):
            if step[0] != "[":
                whole += f".{step}" if whole else step
            elif whole in self.indices:
                whole += f"[{self.indices[whole][int(step[1:-1])]}]"
            else:
                whole += step
        return whole


def salvage(document: object, kind: type[T]) -> Salvaged[T]:
    """A loaded document without the fields and elements that have no form.

    Fields with a default have it then; a text that is needed is made up, a list that is needed is empty.
    """
    strict: Any = kind
    found = faults(document, kind)
    if not found:
        return Salvaged(convert(document, kind), found)
    keeper = _Keeper()
    try:
        rest = keeper.kept(document, type_info(strict), "")
        return Salvaged(convert(rest, kind), found, keeper.indices)
    except (Invalid, RecursionError):
        return Salvaged(None, found)


def _hangs_on(path: list[str], broken: list[str]) -> bool:
    shared = min(len(path), len(broken))
    return path[:shared] == broken[:shared] and sum(step[0] != "[" for step in broken[shared:]) <= 1


class _Keeper:
    """Walks a value and its type together, leaving out what does not fit."""

    def __init__(self) -> None:
        self.indices: dict[str, list[int]] = {}
        self._made_up = 0

    def kept(self, value: Any, kind: inspect.Type, path: str) -> Any:
        """The value as far as it fits; _NOTHING when it does not."""
        members = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
        for one in members:
            if isinstance(one, inspect.StructType) and isinstance(value, dict):
                return self._fields(value, one, path)
            if isinstance(one, inspect.DictType) and isinstance(value, dict):
                return self._entries(value, one, path)
            if isinstance(one, _LISTS) and isinstance(value, list | tuple):
                return self._elements(value, one, path)
        return value if fits(value, kind) else _NOTHING

    def _fields(self, value: dict[Any, Any], kind: inspect.StructType, path: str) -> Any:
        rest = {}
        for field in kind.fields:
            name, one = field.encode_name, _NOTHING
            if name in value:
                one = self.kept(value[name], field.type, field_path(path, name))
            if one is _NOTHING and field.required:
                one = self._stand_in(value.get(name), field.type)
                if one is _NOTHING:
                    return _NOTHING
            if one is not _NOTHING:
                rest[name] = one
        return rest

    def _entries(self, value: dict[Any, Any], kind: inspect.DictType, path: str) -> dict[str, Any]:
        rest = {
            key: self.kept(one, kind.value_type, field_path(path, key))
            for key, one in value.items()
            if fits(key, kind.key_type)
        }
        return {key: one for key, one in rest.items() if one is not _NOTHING}

    def _elements(self, value: Sequence[Any], kind: Any, path: str) -> list[Any]:
        rest = [self.kept(one, kind.item_type, f"{path}[{index}]") for index, one in enumerate(value)]
        self.indices[path] = [index for index, one in enumerate(rest) if one is not _NOTHING]
        return [rest[index] for index in self.indices[path]]

    def _stand_in(self, value: object, kind: inspect.Type) -> Any:
        """Something for a field that has to be there."""
        if isinstance(kind, inspect.StrType):
            self._made_up += 1
            return str(value) if isinstance(value, int | float) else f"unnamed-{self._made_up}"
        if isinstance(kind, inspect.LiteralType):
            return kind.values[0]
        return [] if isinstance(kind, _LISTS) else _NOTHING
