"""The bookkeeping behind an address book: what is in one block, and where one identity may look.

Owns small structures whose parts are all worked on in constant time, and that are few and near each other in memory.
Refuses to choose: `addresses` does. Invariants: an address of a block is in use, or had a use that ended, or neither; a
pool has every address of its blocks whose use ended and that its identity may have, oldest first; it may also have some
that are no longer true.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator

import msgspec

from romana.model.address import Address, Prefix
from romana.model.ipam import Allocation, Block

UNKNOWN = ""
"""In place of an identity: somebody had the address, and nobody knows who."""


class Rest(msgspec.Struct, gc=False, eq=False):
    """The time after a use of an address, until the next one: since when, and the id of the identity that had it.

    `room` is the block that it lies in, at an `offset`; None for a stray. It `is_true` until the address is used again,
    or rests anew.
    """

    address: Address
    since: int
    last: str
    room: Room | None = None
    offset: int = 0
    is_true: bool = True

    @property
    def is_offered(self) -> bool:
        """Whether it may be chosen from a pool that has it: pools are told of what was there before, not of its end."""
        return self.is_true and self.room is not None and self.room.is_open

    def moved(self, room: Room | None) -> Rest:
        """The same in another place, or to be offered anew; this one is true no longer."""
        self.is_true = False
        return rest_in(room, self.address, self.since, self.last)


def rest_in(room: Room | None, address: Address, since: int, last: str) -> Rest:
    """A rest of an address in its block; None for a stray."""
    return Rest(address, since, last, room, 0 if room is None else room.offset(address))


class Room:
    """One block: what is known of its addresses by offset, and the offset before which all were used or are skipped.

    `first` and `step` say which offsets may be used. `one_class` is whether all its identities are in one class,
    `is_computed` whether ids put it where it is, `is_open` whether anything may be allocated from it. `held` counts the
    addresses in use, `uses` how often one began to be used, `freed` is when the last one ended.
    """

    __slots__ = (
        "block",
        "cidr",
        "cursor",
        "first",
        "freed",
        "held",
        "is_computed",
        "is_open",
        "known",
        "not_before",
        "one_class",
        "start",
        "step",
        "uses",
    )

    def __init__(self, block: Block) -> None:
        self.block = block
        self.cidr = block.cidr
        self.start = block.cidr.value
        self.first = self.cursor = 0
        self.step = 1
        self.not_before = self.freed = 0
        self.one_class = self.is_open = True
        self.is_computed = False
        self.held = self.uses = 0
        self.known: dict[int, Allocation | Rest] = {}

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
        return max(0, (self.cidr.size - self.cursor + self.step - 1) // self.step)

    def offset(self, address: Address) -> int:
        """The place of an address in the block."""
        return address.value - self.start

    def skip_to(self, offset: int) -> None:
        """Move the cursor to the first usable offset that is not before this one."""
        steps = max(0, (offset - self.first + self.step - 1) // self.step)
        self.cursor = self.first + steps * self.step

    def rests(self) -> Iterator[Rest]:
        """Its addresses whose last use ended."""
        return (one for one in self.known.values() if isinstance(one, Rest))

    def is_idle(self, now: int, rest: int) -> bool:
        """Whether no address of it is in use or rests."""
        used = self.freed + rest > now and any(one.since + rest > now for one in self.rests())
        return not self.held and not used and now >= self.not_before


class Pool:
    """Where one identity looks for an address in one network.

    `blocks` serve it, `fresh` are those of them that may have an address that was never used, `resting` has those that
    were.
    """

    __slots__ = ("_size_after_keep", "blocks", "fresh", "resting")

    def __init__(self) -> None:
        self.blocks: dict[Prefix, Room] = {}
        # a dict would look at all keys that were taken from its front before it finds the first one
        self.fresh: OrderedDict[Prefix, Room] = OrderedDict()
        self.resting: deque[Rest] = deque()
        self._size_after_keep = 0

    @property
    def is_bloated(self) -> bool:
        """Whether so much was appended since the last `keep` that looking through all of it costs little each."""
        return len(self.resting) > 64 + 2 * self._size_after_keep

    def keep(self, rests: Iterable[Rest]) -> None:
        """Only these stay."""
        self.resting = deque(rests)
        self._size_after_keep = len(self.resting)

    def add(self, room: Room, rests: Iterable[Rest]) -> None:
        """A block begins to serve the identity, or does so again, with what rests in it for the identity."""
        self.blocks[room.cidr] = self.fresh[room.cidr] = room
        new = list(rests)
        if new:
            self.resting = deque(in_order({*self.resting, *new}))

    def forget(self, cidr: Prefix) -> None:
        """A block no longer serves the identity; what rests in it is dropped when it comes up."""
        self.blocks.pop(cidr, None)
        self.fresh.pop(cidr, None)


def in_order(rests: Iterable[Rest]) -> list[Rest]:
    """Oldest first."""
    return sorted(rests, key=lambda rest: (rest.since, rest.address))
