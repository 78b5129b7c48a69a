"""The error tree: a class exists only where some caller treats it differently.

Every error carries a sentence for a person and a reason word; logs, API answers and metrics use the same word.
Only Conflict and Unavailable are worth a retry.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with an input: where (a path such as `networks[0].cidr`), and what to do about it."""

    path: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


MOST_FAULTS = 100
"""Faults that are told of one document; nobody reads more."""


def first_faults(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """The faults to tell, and how many more there are."""
    rest = len(faults) - MOST_FAULTS
    return tuple(faults) if rest <= 0 else (*faults[:MOST_FAULTS], Fault("", f"and {rest} more faults"))


class RomanaError(Exception):
    """The root of all errors that romana raises on purpose."""

    reason = "error"
    retryable = False


class NotFound(RomanaError):  # noqa: N818 - the field's name for it
    """What was named does not exist."""

    reason = "not-found"


class AlreadyExists(RomanaError):  # noqa: N818
    """What was to be made exists and differs."""

    reason = "already-exists"


class Conflict(RomanaError):  # noqa: N818
    """Somebody else changed what was read; read again and retry."""

    reason = "conflict"
    retryable = True


class Invalid(RomanaError):  # noqa: N818
    """The input is wrong; carries every fault at once."""

    reason = "invalid"

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults


class Exhausted(RomanaError):  # noqa: N818
    """No address, block or span is left; the sentence carries the numbers."""

    reason = "exhausted"


class Unavailable(RomanaError):  # noqa: N818
    """Something we need is away or not ready; the same request may succeed later."""

    reason = "unavailable"
    retryable = True
