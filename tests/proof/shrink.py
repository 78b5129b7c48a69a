"""The smallest documents that still show something: parts are left out for as long as it stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Shows = Callable[[Any], bool]


def shrunk(value: Any, shows: Shows) -> Any:
    """The value with every element of lists and every entry of mappings left out that `shows` does not need.

    `shows` holds for the value that is given and for the one that comes back.
    """
    smaller = True
    while smaller:
        smaller = False
        for path in _places(value):
            without = _without(value, path)
            if without is not None and shows(without):
                value, smaller = without, True
                break
    return value


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all parts, the outer ones first."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    found = [(*path, key) for key in keys]
    return found + [inner for key in keys for inner in _places(value[key], (*path, key))]


def _without(value: Any, path: tuple[Any, ...]) -> Any:
    made = copy.deepcopy(value)
    place = made
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return made
