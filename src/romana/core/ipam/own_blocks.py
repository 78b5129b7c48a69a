"""A host's own blocks: whom each serves, what is in use and rests in it, which are stock, which are being given back.

Owns the pools in which an identity looks for an address. Refuses to choose one, and to know endpoints. Invariants: a
pool has every block that serves its identity, and none that is closed; an address is known in the block that it lies
in, or as a stray; one with a past in a block that several classes may live in is only for an identity of the class that
had it last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from romana.core.ipam.bits import offsets
from romana.core.ipam.rooms import UNKNOWN, Entry, Past, Pool, Room, in_order
from romana.model.address import Address, Family, Prefix
from romana.model.ipam import Allocation, Block
from romana.model.topology import Network
from romana.model.view import BlockTaken

_NOWHERE = Prefix(Family.V4, 0, 0)
Pools = dict[tuple[str, str], Pool]
"""(identity id, network name) -> where it may get an address."""


class OwnBlocks:
    """The blocks that one host allocates from."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.networks: Mapping[str, Network] = {}
        self.rooms: dict[Prefix, Room] = {}
        self.own: Pools = {}
        """Over blocks of an identity's owner."""
        self.mixed: Pools = {}
        """Over mixed blocks."""
        self.stock: dict[str, dict[Prefix, None]] = {}  # network name -> ownerless blocks
        self.closed: dict[Prefix, int] = {}  # -> its sequence when it was closed
        self.taken: dict[Prefix, BlockTaken] = {}
        """Stock that was given to owners, which no view has said yet."""
        self.reopened: dict[Prefix, int] = {}
        """What was closed and is so no longer, with the same sequence."""
        self.confirmed: dict[Prefix, int] = {}
        """What was taken, as a view has said since, with the sequence of that."""
        self._classes: Mapping[str, str] = {}
        self._lengths: set[tuple[Family, int]] = set()  # of all blocks there ever were
        self._strays = Room(Block(cidr=_NOWHERE, span=_NOWHERE, network="", host="", allocator=""))
        """What is in use or has a past, in no block we know of (yet)."""
        self._unreported: deque[tuple[int, Address]] = deque()  # pasts that `rested` has to look at, about oldest first

    def update(
        self, networks: Mapping[str, Network], blocks: Mapping[Prefix, Block], classes: Mapping[str, str]
    ) -> None:
        """Networks, blocks and classes by identity id as the host's view has them (see AddressBook.update)."""
        changed = any(
            (network.reserved, network.static) != (self.networks[name].reserved, self.networks[name].static)
            for name, network in networks.items()
            if name in self.networks
        )
        self.networks = dict(networks)
        before, self._classes = self._classes, dict(classes)
        own = {cidr: block for cidr, block in blocks.items() if block.allocator == block.host == self.host}
        for cidr in self.rooms.keys() - own.keys():
            self._drop(cidr)
        for cidr, shown in own.items():
            if self.closed.get(cidr, shown.sequence) < shown.sequence:  # it was given back, and is ours again
                self._drop(cidr)
            block = self._as_taken(shown)
            room = self.rooms.get(cidr)
            if room is None or (room.block != block and room.block.sequence <= block.sequence):
                self.put(block)
        if changed or (before != self._classes and any(room.is_shared for room in self.rooms.values())):
            self._rebuild()

    def take(self, taken: BlockTaken) -> None:
        """An ownerless block has an owner now, whatever views say until they know of it."""
        room = self.rooms.get(taken.cidr)
        self.taken[taken.cidr] = taken
        if room is not None:
            block = self._as_taken(room.block)
            if block != room.block:
                self.put(block)

    def put(self, block: Block) -> None:
        """A block as it now is: new, or with another owner or other identities."""
        room = self.rooms.get(block.cidr)
        if room is None:
            self._enter(self._new_room(block))
            return
        gone = [name for name in room.block.identities if name not in block.identities]
        self._leave(room, gone if room.block.mixed == block.mixed else room.block.identities)
        room.block = block
        self._enter(room)

    def close(self, cidr: Prefix, sequence: int) -> None:
        """Offer a block to nobody any more, unless it comes with a later sequence."""
        self.closed[cidr] = sequence
        room = self.rooms.get(cidr)
        if room is not None:
            room.is_open = False
            self._leave(room, room.block.identities)

    def home(self, address: Address) -> Room | None:
        """The block that an address lies in."""
        lengths = (length for family, length in sorted(self._lengths) if family is address.family)
        found = (self.rooms.get(address.supernet(length)) for length in lengths)
        return next((room for room in found if room is not None), None)

    def holder(self, address: Address) -> Allocation | None:
        """The allocation that has an address."""
        return (self.home(address) or self._strays).held.get(address)

    def hold(self, allocation: Allocation, room: Room | None = None) -> None:
        """An address begins to be used; `room` is where it lies, when that is known."""
        address = allocation.address
        if room is None:
            room = self.rooms.get(allocation.block) or self.home(address) or self._strays
        room.past.pop(address, None)
        room.held[address] = allocation
        room.uses += 1

    def end(self, allocation: Allocation, since: int, identity: str) -> None:
        """An address is used no longer, and an identity (its id) had it."""
        room = self.rooms.get(allocation.block) or self.home(allocation.address) or self._strays
        del room.held[allocation.address]
        self._begin_rest(allocation.address, room, since, identity)

    def rest(self, address: Address, since: int, identity: str) -> None:
        """The same for an address that was in use when nothing of this was in memory."""
        self._begin_rest(address, self.home(address) or self._strays, since, identity)

    def rest_everything(self, now: int, until: int) -> None:
        """All that is not in use rests from `now` on, and what has no past until `until`."""
        for room in (*self.rooms.values(), self._strays):
            room.not_before = until
            for address, (_, identity) in sorted(room.past.items()):
                self._begin_rest(address, room, now, identity)

    def rested(self, now: int, rest: int) -> list[Address]:
        """Addresses whose rest is over since the last call and whose past need not be remembered any longer."""
        forgotten = []
        while self._unreported and self._unreported[0][0] + rest <= now:
            since, address = self._unreported.popleft()
            room = self.home(address) or self._strays
            if room.past.get(address, (None,))[0] != since:
                continue
            if room is self._strays and not self._may_come_again(address):
                del room.past[address]
                forgotten.append(address)
            elif room is not self._strays and not room.is_shared:
                forgotten.append(address)
        return forgotten

    def count_resting(self, now: int, rest: int) -> int:
        """How many addresses rest."""
        return sum(room.count_resting(now, rest) for room in (*self.rooms.values(), self._strays))

    def serving(self, identity: str, network: str) -> list[Prefix]:
        """All blocks that serve an identity in a network, in order."""
        pools = (self.own.get((identity, network)), self.mixed.get((identity, network)))
        return sorted(cidr for pool in pools if pool is not None for cidr in pool.blocks)

    def is_current(self, entry: Entry, identity: str) -> bool:
        """Whether an entry of a pool still says the truth; entries are left behind and dropped when they come up."""
        since, address, room = entry
        past = room.past.get(address)
        return (
            past is not None
            and past[0] == since
            and room.is_open
            and identity in room.block.identities
            and self.may_have(room, address, identity)
        )

    def may_have(self, room: Room, address: Address, identity: str) -> bool:
        """Whether an identity may have an address with a past: it, or one that is in its class, had it before."""
        if self._kept_out(room.block, address) is not None:
            return False
        if not room.is_shared:
            return True
        last = room.past[address][1]
        if last == identity:
            return True
        if last == UNKNOWN:
            return room.one_class and not room.block.mixed
        own_class = self._classes.get(identity)
        return own_class is not None and own_class == self._classes.get(last)

    def untouched(self, room: Room) -> Address | None:
        """The first address of a block from its cursor on that was never used, as far as we know."""
        cidr = room.block.cidr
        while room.is_fresh_usable and room.cursor < cidr.size:
            address = cidr.address(room.cursor)
            kept = self._kept_out(room.block, address)
            if kept is not None:
                room.skip_to(min(kept.last, cidr.last) - cidr.value + 1)
            elif address in room.held or address in room.past:
                room.cursor += room.step
            else:
                return address
        return None

    def _begin_rest(self, address: Address, room: Room, since: int, identity: str) -> None:
        room.past.pop(address, None)
        room.past[address] = (since, identity)
        self._unreported.append((since, address))
        for name, pool in self._pools_of(room):
            if self.may_have(room, address, name):
                pool.resting.append((since, address, room))
                if pool.is_bloated:
                    pool.keep(entry for entry in pool.resting if self.is_current(entry, name))

    def _as_taken(self, block: Block) -> Block:
        taken = self.taken.get(block.cidr)
        if taken is None:
            return block
        if taken.sequence <= block.sequence:
            del self.taken[block.cidr]
            self.confirmed[block.cidr] = taken.sequence
            return block
        return msgspec.structs.replace(block, owner=taken.owner, identities=(taken.identity,), sequence=taken.sequence)

    def _kept_out(self, block: Block, address: Address) -> Prefix | None:
        """The reserved or static range that an address is in."""
        network = self.networks.get(block.network)
        if network is None or not (network.reserved or network.static):
            return None
        return next((one for one in (*network.reserved, *network.static) if one.contains(address)), None)

    def _may_come_again(self, address: Address) -> bool:
        """Whether its block may come back to the same owner at once, as one with bits placement does."""
        return any(one.bits is not None and one.cidr.contains(address) for one in self.networks.values())

    def _new_room(self, block: Block) -> Room:
        network = self.networks.get(block.network)
        room = self.rooms[block.cidr] = Room(block)
        room.is_open = block.cidr not in self.closed
        if network is not None and network.bits is not None:
            room.first, room.step = offsets(network)
            room.cursor, room.is_computed = room.first, True
        self._lengths.add((block.cidr.family, block.cidr.length))
        strays = self._strays
        for address in [address for address in strays.held if block.cidr.contains(address)]:
            room.held[address] = strays.held.pop(address)
        homes = [address for address in strays.past if block.cidr.contains(address)]
        pasts: list[tuple[Past, Address]] = sorted((strays.past.pop(address), address) for address in homes)
        room.past = {address: past for past, address in pasts}
        return room

    def _pools_of(self, room: Room) -> Iterator[tuple[str, Pool]]:
        """The pools of a block's identities, none of a closed one's."""
        if room.is_open:
            pools = self.mixed if room.block.mixed else self.own
            for name in room.block.identities:
                yield name, pools.setdefault((name, room.block.network), Pool())

    def _entries(self, room: Room, identity: str) -> Iterator[Entry]:
        for address, (since, _) in room.past.items():
            if self.may_have(room, address, identity):
                yield since, address, room

    def _enter(self, room: Room) -> None:
        """Offer a block to the identities it is not offered to yet, or as stock."""
        cidr = room.block.cidr
        self._class_up(room)
        if room.is_open and room.block.is_stock:
            self.stock.setdefault(room.block.network, {})[cidr] = None
        for name, pool in self._pools_of(room):
            if cidr not in pool.blocks:
                pool.add(room, self._entries(room, name))

    def _leave(self, room: Room, identities: Iterable[str]) -> None:
        """Offer a block to these identities no longer, nor as stock."""
        cidr, network = room.block.cidr, room.block.network
        self.stock.get(network, {}).pop(cidr, None)
        pools = self.mixed if room.block.mixed else self.own
        for name in identities:
            if (name, network) in pools:
                pools[name, network].forget(cidr)

    def _drop(self, cidr: Prefix) -> None:
        if cidr in self.closed:
            self.reopened[cidr] = self.closed.pop(cidr)
        if cidr in self.taken:
            self.confirmed[cidr] = self.taken.pop(cidr).sequence
        room = self.rooms.pop(cidr, None)
        if room is not None:
            room.is_open = False
            self._leave(room, room.block.identities)
            self._strays.held |= room.held
            self._strays.past |= room.past
            self._unreported.extend((since, address) for address, (since, _) in room.past.items())

    def _class_up(self, room: Room) -> None:
        classes = {self._classes.get(name) for name in room.block.identities}
        room.one_class = len(room.block.identities) < 2 or (len(classes) == 1 and None not in classes)

    def _rebuild(self) -> None:
        """All pools anew, after something that touches many addresses at once."""
        self.own.clear()
        self.mixed.clear()
        for room in self.rooms.values():
            room.cursor = room.first
            self._class_up(room)
            for name, pool in self._pools_of(room):
                pool.blocks[room.block.cidr] = pool.fresh[room.block.cidr] = room
                pool.resting.extend(self._entries(room, name))
        for pool in (*self.own.values(), *self.mixed.values()):
            pool.keep(in_order(pool.resting))
