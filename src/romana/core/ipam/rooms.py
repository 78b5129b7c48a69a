"""The bookkeeping behind an address book: what is left in one block, and where one identity may look.

Owns two small structures whose parts are all worked on in constant time. Refuses to choose: `addresses` does.
Invariant: a pool has an entry for every resting address of its blocks, oldest first; it may also have entries that are
no longer true.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from romana.model.address import Address, Prefix
from romana.model.ipam import Block


class Room:
    """One block: the offset that everything before was used or is skipped, and what rests in it since when."""

    __slots__ = ("block", "cursor", "not_before", "resting")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.cursor = 0
        self.not_before = 0
        self.resting: dict[Address, int] = {}


class Pool:
    """Where one identity looks for an address in one network.

    `blocks` serve it, `fresh` are those of them that may have an address that was never used, `resting` has (since,
    block, address).
    """

    __slots__ = ("_size_after_keep", "blocks", "fresh", "resting")

    def __init__(self) -> None:
        self.blocks: dict[Prefix, None] = {}
        # a dict would look at all keys that were taken from its front before it finds the first one
        self.fresh: OrderedDict[Prefix, None] = OrderedDict()
        self.resting: deque[tuple[int, Prefix, Address]] = deque()
        self._size_after_keep = 0

    @property
    def is_bloated(self) -> bool:
        """Whether so much was appended since the last `keep` that looking through all of it costs little each."""
        return len(self.resting) > 64 + 2 * self._size_after_keep

    def keep(self, entries: Iterable[tuple[int, Prefix, Address]]) -> None:
        """Only these entries stay."""
        self.resting = deque(entries)
        self._size_after_keep = len(self.resting)

    def add(self, room: Room) -> None:
        """A block begins to serve the identity."""
        cidr = room.block.cidr
        self.blocks[cidr] = None
        self.fresh[cidr] = None
        if room.resting:
            merged = [*self.resting, *((since, cidr, address) for address, since in room.resting.items())]
            self.resting = deque(sorted(merged, key=lambda entry: entry[0]))

    def forget(self, cidr: Prefix) -> None:
        """A block no longer serves the identity; its entries in `resting` are dropped when they come up."""
        self.blocks.pop(cidr, None)
        self.fresh.pop(cidr, None)
