"""The bookkeeping behind an address book: what is in one block, and where one identity may look.

Owns two small structures whose parts are all worked on in constant time. Refuses to choose: `addresses` does.
Invariants: an address of a block is in use, or has a past, or neither; a pool has an entry for every address of its
blocks with a past that its identity may have, oldest first; it may also have entries that are no longer true.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from romana.model.address import Address, Prefix
from romana.model.ipam import Allocation, Block

UNKNOWN = ""
"""In place of an identity: somebody had the address, and nobody knows who."""
Past = tuple[int, str]
"""When the last use of an address ended, and the id of the identity that had it."""


class Room:
    """One block: what is in use in it, what was, and the offset that everything before was used or is skipped.

    `first` and `step` say which offsets may be used. `one_class` is whether all its identities are in one class,
    `is_computed` whether ids put it where it is, `is_open` whether anything may be allocated from it, `uses` how often
    an address of it began to be used. `past` is oldest first.
    """

    __slots__ = (
        "block",
        "cursor",
        "first",
        "held",
        "is_computed",
        "is_open",
        "not_before",
        "one_class",
        "past",
        "step",
        "uses",
    )

    def __init__(self, block: Block) -> None:
        self.block = block
        self.first = 0
        self.step = 1
        self.cursor = 0
        self.not_before = 0
        self.one_class = True
        self.is_computed = False
        self.is_open = True
        self.uses = 0
        self.held: dict[Address, Allocation] = {}
        self.past: dict[Address, Past] = {}

    @property
    def is_shared(self) -> bool:
        """Whether identities of different classes may live in it, now or later."""
        return self.block.mixed or self.is_computed or len(self.block.identities) > 1

    @property
    def is_fresh_usable(self) -> bool:
        """Whether an address that was never used, as far as is known, may be given out: perhaps it was, by an identity
        of the block before it had others.
        """
        return self.one_class or self.block.mixed or self.is_computed

    @property
    def untouched(self) -> int:
        """How many addresses there are from the cursor on."""
        return max(0, (self.block.cidr.size - self.cursor + self.step - 1) // self.step)

    def skip_to(self, offset: int) -> None:
        """Move the cursor to the first usable offset that is not before this one."""
        steps = max(0, (offset - self.first + self.step - 1) // self.step)
        self.cursor = self.first + steps * self.step

    def rests(self, now: int, rest: int) -> bool:
        """Whether some address of it rests."""
        return bool(self.past) and next(reversed(self.past.values()))[0] + rest > now

    def count_resting(self, now: int, rest: int) -> int:
        """How many addresses of it rest."""
        return sum(since + rest > now for since, _ in self.past.values())


Entry = tuple[int, Address, Room]
"""Since when an address rests, the address, and its block."""


class Pool:
    """Where one identity looks for an address in one network.

    `blocks` serve it, `fresh` are those of them that may have an address that was never used, `resting` has the entries
    of those that were.
    """

    __slots__ = ("_size_after_keep", "blocks", "fresh", "resting")

    def __init__(self) -> None:
        self.blocks: dict[Prefix, Room] = {}
        # a dict would look at all keys that were taken from its front before it finds the first one
        self.fresh: OrderedDict[Prefix, Room] = OrderedDict()
        self.resting: deque[Entry] = deque()
        self._size_after_keep = 0

    @property
    def is_bloated(self) -> bool:
        """Whether so much was appended since the last `keep` that looking through all of it costs little each."""
        return len(self.resting) > 64 + 2 * self._size_after_keep

    def keep(self, entries: Iterable[Entry]) -> None:
        """Only these entries stay."""
        self.resting = deque(entries)
        self._size_after_keep = len(self.resting)

    def add(self, room: Room, entries: Iterable[Entry]) -> None:
        """A block begins to serve the identity, or does so again, with what rests in it for the identity."""
        self.blocks[room.block.cidr] = self.fresh[room.block.cidr] = room
        new = list(entries)
        if new:
            self.resting = deque(in_order({*self.resting, *new}))

    def forget(self, cidr: Prefix) -> None:
        """A block no longer serves the identity; its entries in `resting` are dropped when they come up."""
        self.blocks.pop(cidr, None)
        self.fresh.pop(cidr, None)


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Oldest first."""
    return sorted(entries, key=lambda entry: entry[:2])
