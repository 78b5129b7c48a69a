"""The names of our links (`docs/ownership.md`)."""

from __future__ import annotations

import re

_OURS = re.compile(r"rom[0-9a-f]{12}")


def is_ours(name: str) -> bool:
    """Whether an interface of that name belongs to romana."""
    return _OURS.fullmatch(name) is not None
