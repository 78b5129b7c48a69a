"""Which addresses rest since when, and which identity had them last.

Owns the memory of past uses. Refuses to know blocks. Invariant: an address is in use or has a past here, never both.
"""

from __future__ import annotations

from collections import OrderedDict

from romana.model.address import Address

UNKNOWN = ""
"""In place of an identity: somebody had the address, and nobody knows who."""


class Rests:
    """The past of addresses, until they are used again or forgotten."""

    def __init__(self) -> None:
        self._since: dict[Address, int] = {}
        self._last: dict[Address, str] = {}
        self._unreported: OrderedDict[Address, int] = OrderedDict()  # not answered by `over` yet, oldest first

    def begin(self, address: Address, since: int, identity: str) -> None:
        """An identity (its id, or UNKNOWN) had it until then."""
        self._since[address] = since
        self._last[address] = identity
        self._unreported.pop(address, None)
        self._unreported[address] = since

    def end(self, address: Address) -> None:
        """It is in use again, or nobody needs to know any more."""
        if self._since.pop(address, None) is not None:
            del self._last[address]
            self._unreported.pop(address, None)

    def again(self, address: Address) -> None:
        """`over` is to answer it once more."""
        self._unreported.setdefault(address, self._since[address])

    def since(self, address: Address) -> int | None:
        """When its last use ended; None when it was never used, as far as is known."""
        return self._since.get(address)

    def last(self, address: Address) -> str | None:
        """Who had it last: an identity's id, UNKNOWN, or None when it was never used, as far as is known."""
        return self._last.get(address)

    def addresses(self) -> list[Address]:
        """All that have a past, in order."""
        return sorted(self._since)

    def over(self, now: int, rest: int) -> list[Address]:
        """Those whose rest is over, each answered once."""
        found = []
        for address, since in self._unreported.items():
            if since + rest > now:
                break
            found.append(address)
        for address in found:
            del self._unreported[address]
        return found

    def count(self, now: int, rest: int) -> int:
        """How many rest now."""
        return sum(since + rest > now for since in self._since.values())
