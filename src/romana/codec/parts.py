"""Reading a document part by part, so that faults of form in one part do not hide faults of meaning in another.

Owns the list of faults while a document is read. Knows no particular document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from romana.codec.document import convert, faults
from romana.model.errors import Fault, Invalid

T = TypeVar("T")
_MOST_SHOWN = 400
"""Characters of a sentence: values are shown in it, and may be of any length."""


class Parts:
    """Collects the faults of all parts; `finish` raises them together."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def read(self, value: object, kind: type[T], path: str) -> T | None:
        """A part as a value of `kind`; None, with its faults noted under `path`, when it is not one."""
        wrong = faults(value, kind)
        if wrong:
            self.found.extend(Fault(joined(path, fault.path), _readable(fault.sentence)) for fault in wrong)
            return None
        return convert(value, kind)

    def fault(self, path: str, sentence: str) -> None:
        """Note one fault."""
        self.found.append(Fault(path, _readable(sentence)))

    def finish(self) -> None:
        """Raise Invalid when any fault was noted."""
        if self.found:
            raise Invalid(*self.found)


def _readable(sentence: str) -> str:
    """Without the middle of one that is too long to read."""
    half = _MOST_SHOWN // 2
    return sentence if len(sentence) <= _MOST_SHOWN else f"{sentence[:half]}...{sentence[-half:]}"


def joined(path: str, inner: str) -> str:
    """A path and a path inside it."""
    if not path or not inner or inner.startswith("["):
        return f"{path}{inner}"
    return f"{path}.{inner}"


def within(path: str, found: Sequence[Fault]) -> tuple[Fault, ...]:
    """The faults of a part, with their paths from the top."""
    return tuple(Fault(joined(path, fault.path), fault.sentence) for fault in found)
