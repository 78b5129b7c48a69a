"""Values that a great many things have, each kept once and known by a small number.

Owns the numbers. Invariant: a value is kept exactly as long as it was taken more often than given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Shared(Generic[K, T]):
    """Values by number, known by their keys; `read` makes a value of its key."""

    def __init__(self, read: Callable[[K], T]) -> None:
        self._read = read
        self._numbers: dict[K, int] = {}
        self._entries: list[tuple[K, T] | None] = []
        self._counts: list[int] = []
        self._free: list[int] = []

    def take(self, key: K) -> int:
        """The number of a value, once more."""
        number = self._numbers.get(key)
        if number is None:
            number = self._begin(key)
        self._counts[number] += 1
        return number

    def _begin(self, key: K) -> int:
        entry = (key, self._read(key))
        if self._free:
            number = self._free.pop()
            self._entries[number] = entry
        else:
            number = len(self._entries)
            self._entries.append(entry)
            self._counts.append(0)
        self._numbers[key] = number
        return number

    def give_back(self, number: int) -> bool:
        """One that was taken is needed no longer; whether nobody needs it now."""
        self._counts[number] -= 1
        entry = self._entries[number]
        if self._counts[number] or entry is None:
            return False
        del self._numbers[entry[0]]
        self._entries[number] = None
        self._free.append(number)
        return True

    def value(self, number: int) -> T:
        """The value of a number that is taken; KeyError for any other."""
        entry = self._entries[number]
        if entry is None:
            raise KeyError(number)
        return entry[1]

    def number(self, key: K) -> int | None:
        """The number of a value, None when nobody has it."""
        return self._numbers.get(key)

    def items(self) -> Iterator[tuple[int, T]]:
        """All numbers that are taken, with their values."""
        return ((number, entry[1]) for number, entry in enumerate(self._entries) if entry is not None)

    def __len__(self) -> int:
        return len(self._numbers)
