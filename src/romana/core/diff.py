"""The one difference between what should be and what is, over plain mappings; used for everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K")
V = TypeVar("V")


class Changes(msgspec.Struct, Generic[K, V], frozen=True):
    """What to do to make `actual` equal `desired`: new keys, keys whose value differs (new values), keys to take
    away.
    """

    add: dict[K, V]
    replace: dict[K, V]
    remove: dict[K, V]

    def __bool__(self) -> bool:
        return bool(self.add or self.replace or self.remove)

    def __len__(self) -> int:
        return len(self.add) + len(self.replace) + len(self.remove)


def diff(desired: Mapping[K, V], actual: Mapping[K, V]) -> Changes[K, V]:
    """Compare two mappings; `remove` carries the actual values, the others the desired ones. Order is the input's."""
    return Changes(
        add={key: value for key, value in desired.items() if key not in actual},
        replace={key: value for key, value in desired.items() if key in actual and actual[key] != value},
        remove={key: value for key, value in actual.items() if key not in desired},
    )
