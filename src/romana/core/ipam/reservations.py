"""Fixed addresses: which address of the control plane's own blocks is given next.

Owns the choice: within the blocks that serve an identity one never used before a used one, and of those the longest
rested first. Refuses to know stores and clocks: it is told which blocks there are and who has which address, and what
time it is (seconds of a clock that does not jump; a new clock begins all rests again). Invariants: an address is chosen
only when nobody has it, it does not rest and is not reserved, and not again until it is said what became of it; a
choice costs the same however many blocks and addresses there are.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Mapping

from romana.core.ipam.occupied import Occupied
from romana.model.address import Address, Prefix
from romana.model.ipam import Block
from romana.model.tenancy import Owner
from romana.model.topology import Network

REST = 180
"""Seconds that a freed address is not used again: longer than a peer's SYN_SENT."""


def next_block(network: Network, occupied: Occupied) -> Prefix | None:
    """The first block of a network's static ranges that is neither occupied nor wholly reserved; None when none is."""
    reserved = Occupied()
    for cidr in network.reserved:
        reserved.add(cidr)
    shift = network.cidr.family.bits - network.block_length
    for static in network.static:
        index, count = 0, 1 << max(0, network.block_length - static.length)
        while index < count:
            candidate = static.subnet(network.block_length, index)
            over = reserved.over(candidate) or occupied.touching(candidate)
            if over is None:
                return candidate
            index = max(index, (min(over.last, static.last) - static.value) >> shift) + 1
    return None


def static_range(network: Network, cidr: Prefix) -> Prefix | None:
    """The static range that something lies in."""
    return next((static for static in network.static if static.contains(cidr)), None)


class _Shelf:
    """One block: what is held, what was used and is free since when and as of which revision, and before which offset
    nothing is untouched.
    """

    __slots__ = ("block", "cursor", "freed", "held", "resting")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.cursor = 0
        self.held: dict[Address, str] = {}
        self.resting: dict[Address, float] = {}
        self.freed: dict[Address, int] = {}


class _Pool:
    """Where an identity gets addresses in a network. `back` were chosen in vain. Entries may be no longer true."""

    __slots__ = ("back", "fresh", "resting")

    def __init__(self) -> None:
        self.fresh: OrderedDict[Prefix, None] = OrderedDict()
        self.back: deque[Address] = deque()
        self.resting: deque[tuple[float, Address]] = deque()


class FixedAddresses:
    """What is free in the control plane's own blocks."""

    def __init__(self, rest: float = REST) -> None:
        self.rest = rest
        self._networks: Mapping[str, Network] = {}
        self._shelves: dict[Prefix, _Shelf] = {}
        self._lengths: dict[int, int] = {}  # block length -> number of blocks
        self._pools: dict[tuple[str, str], _Pool] = {}  # (network, identity id)
        self._chosen: dict[Address, float | None] = {}  # since when it rested then
        self._own: set[Prefix] = set()
        self._of: dict[tuple[str, Owner | None], dict[Prefix, None]] = {}  # (network, owner) -> blocks

    def plan(self, networks: Mapping[str, Network]) -> None:
        """The networks as they are now, by name: what is reserved may have changed."""
        if networks is not self._networks:
            self._networks = networks
            for shelf in self._shelves.values():
                shelf.cursor = 0
                self._offer(shelf, shelf.block.identities)

    def prefer(self, cidr: Prefix) -> None:
        """A block that is about to be made here: its addresses come first, so that two who choose seldom meet."""
        self._own.add(cidr)

    def put_block(self, cidr: Prefix, block: Block | None) -> None:
        """One of the control plane's blocks as it is now; None when it is gone."""
        shelf = self._shelves.get(cidr)
        if block is None:
            self._own.discard(cidr)
            if shelf is not None:
                del self._shelves[cidr]
                del self._of[shelf.block.network, shelf.block.owner][cidr]
                self._count_length(cidr.length, -1)
            return
        if shelf is None:
            shelf = self._shelves[cidr] = _Shelf(block)
            self._count_length(cidr.length, 1)
            self._of.setdefault((block.network, block.owner), {})[cidr] = None
            new = block.identities
        else:
            new = tuple(one for one in block.identities if one not in shelf.block.identities)
            shelf.block = block
        self._offer(shelf, new)

    def put_address(self, address: Address, holder: str | None, now: float, revision: int = 0) -> None:
        """Who has an address: a reservation, nobody since it was used ("", its rest begins now), or nobody ever (None).

        `revision` says when that was written: one that is newer than it was at the beginning of a rest tells of a use
        that nobody saw here, so the rest begins again. Its block must be known, else nothing happens.
        """
        shelf = self._shelf(address)
        if shelf is None:
            return
        shelf.held.pop(address, None)
        if holder:
            shelf.held[address] = holder
            shelf.resting.pop(address, None)
        elif holder is None:
            shelf.resting.pop(address, None)
        elif address not in shelf.resting or shelf.freed[address] != revision:
            shelf.resting[address] = now
            shelf.freed[address] = revision
            for identity in shelf.block.identities:
                self._pool(shelf.block.network, identity).resting.append((now, address))

    def choose(self, network: str, identity: str, now: float) -> Address | None:
        """The next address for an identity; None when a further block is needed. Say afterwards what became of it."""
        pool = self._pools.get((network, identity))
        found = None if pool is None else self._next(pool, identity, now)
        if found is not None:
            self._choose(found)
        return found

    def choose_this(self, address: Address, now: float) -> str:
        """Choose a certain address; why not, or nothing when it is chosen. Its block may be one that is yet to be."""
        shelf = self._shelf(address)
        if address in self._chosen:
            return "is being given to somebody else just now"
        if shelf is not None and address in shelf.held:
            return f"belongs to {shelf.held[address]}"
        left = shelf.resting[address] + self.rest - now if shelf is not None and address in shelf.resting else 0
        if left > 0:
            return f"was freed a moment ago and rests for {left:.0f} s more"
        self._choose(address)
        return ""

    def settle(self, address: Address) -> None:
        """It is known by now what became of a chosen address: it has a holder, or can be chosen again."""
        before = self._chosen.pop(address, None)
        shelf = self._shelf(address)
        if shelf is None or address in shelf.held:
            return
        for identity in shelf.block.identities:
            pool = self._pool(shelf.block.network, identity)
            if address not in shelf.resting:
                pool.back.append(address)
            elif shelf.resting[address] == before:  # else its rest began meanwhile, and is noted behind the others
                pool.resting.appendleft((before, address))

    def blocks_of(self, network: str, owner: Owner) -> Collection[Prefix]:
        """An owner's blocks in a network, oldest first."""
        return self._of.get((network, owner), {}).keys()

    def serves(self, network: str, identity: str) -> bool:
        """Whether some block serves an identity, or did."""
        return (network, identity) in self._pools

    def is_full(self, cidr: Prefix, now: float) -> bool:
        """Whether no address of a block can be chosen."""
        shelf = self._shelves[cidr]
        return not any(
            address not in shelf.held
            and address not in self._chosen
            and shelf.resting.get(address, now - self.rest) + self.rest <= now
            and self._reserved(shelf.block, address) is None
            for address in map(cidr.address, range(cidr.size))
        )

    def is_choosing(self, network: str) -> bool:
        """Whether it is open what becomes of some address of a network."""
        shelves = map(self._shelf, self._chosen)
        return any(shelf is not None and shelf.block.network == network for shelf in shelves)

    def counts(self, network: str, now: float) -> dict[str, int]:
        """Numbers for people: blocks, in-use, resting."""
        mine = [shelf for shelf in self._shelves.values() if shelf.block.network == network]
        return {
            "blocks": len(mine),
            "in-use": sum(len(shelf.held) for shelf in mine),
            "resting": sum(since + self.rest > now for shelf in mine for since in shelf.resting.values()),
        }

    def idle(self, now: float) -> list[Prefix]:
        """Blocks in which nobody has an address, none is being given, and none rests."""
        return [
            cidr
            for cidr, shelf in sorted(self._shelves.items())
            if not shelf.held
            and all(since + self.rest <= now for since in shelf.resting.values())
            and not any(cidr.contains(address) for address in self._chosen)
        ]

    def _choose(self, address: Address) -> None:
        shelf = self._shelf(address)
        self._chosen[address] = None if shelf is None else shelf.resting.get(address)

    def _next(self, pool: _Pool, identity: str, now: float) -> Address | None:
        while pool.back:
            address = pool.back.popleft()
            shelf = self._shelf(address)
            if shelf is not None and self._is_open(shelf, address, identity) and address not in shelf.resting:
                return address
        while pool.fresh:
            cidr = next(iter(pool.fresh))
            shelf = self._shelves.get(cidr)
            untouched = None if shelf is None else self._untouched(shelf, identity)
            if untouched is not None:
                return untouched
            del pool.fresh[cidr]
        while pool.resting:
            since, address = pool.resting[0]
            shelf = self._shelf(address)
            true = shelf is not None and shelf.resting.get(address) == since
            if true and since + self.rest > now:
                return None
            pool.resting.popleft()
            if true and shelf is not None and self._is_open(shelf, address, identity):
                return address
        return None

    def _untouched(self, shelf: _Shelf, identity: str) -> Address | None:
        cidr = shelf.block.cidr
        while shelf.cursor < cidr.size and identity in shelf.block.identities:
            address = cidr.address(shelf.cursor)
            reserved = self._reserved(shelf.block, address)
            if reserved is not None:
                shelf.cursor = min(reserved.last, cidr.last) - cidr.value + 1
                continue
            shelf.cursor += 1
            if self._is_open(shelf, address, identity) and address not in shelf.resting:
                return address
        return None

    def _is_open(self, shelf: _Shelf, address: Address, identity: str) -> bool:
        return (
            address not in shelf.held
            and address not in self._chosen
            and identity in shelf.block.identities
            and self._reserved(shelf.block, address) is None
        )

    def _reserved(self, block: Block, address: Address) -> Prefix | None:
        network = self._networks.get(block.network)
        return next((one for one in network.reserved if one.contains(address)), None) if network else None

    def _offer(self, shelf: _Shelf, identities: tuple[str, ...]) -> None:
        """A block serves identities, perhaps more than before."""
        cidr = shelf.block.cidr
        for identity in identities:
            pool = self._pool(shelf.block.network, identity)
            pool.fresh[cidr] = None
            if cidr in self._own:
                pool.fresh.move_to_end(cidr, last=False)
            if shelf.resting:
                merged = [*pool.resting, *((since, address) for address, since in shelf.resting.items())]
                pool.resting = deque(sorted(set(merged)))

    def _pool(self, network: str, identity: str) -> _Pool:
        return self._pools.setdefault((network, identity), _Pool())

    def _shelf(self, address: Address) -> _Shelf | None:
        for length in self._lengths:
            shelf = self._shelves.get(address.supernet(length)) if length <= address.length else None
            if shelf is not None:
                return shelf
        return None

    def _count_length(self, length: int, by: int) -> None:
        self._lengths[length] = self._lengths.get(length, 0) + by
        if not self._lengths[length]:
            del self._lengths[length]
