"""A host's own blocks: whom each serves, what is in use and rests in it, which are stock, which are being given back.

Owns the pools in which an identity looks for an address. Refuses to choose one, and to know endpoints. Invariants: a
pool has every block that serves its identity, and none that is closed; an address is known in the block that it lies
in, or as a stray; one that was used, in a block that several classes may live in, is only for an identity of the class
that had it last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from romana.core.ipam.bits import offsets
from romana.core.ipam.rooms import UNKNOWN, Pool, Rest, Room, in_order, rest_in
from romana.model.address import Address, Family, Prefix
from romana.model.ipam import Allocation, Block
from romana.model.topology import Network
from romana.model.view import BlockTaken

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
        self._strays: dict[Address, Allocation | Rest] = {}  # what is known of addresses in no block (yet)
        self._unreported: deque[Rest] = deque()  # what `rested` has to look at, about oldest first

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
                self._put(block)
        if changed or (before != self._classes and any(room.is_shared for room in self.rooms.values())):
            self._rebuild()

    def take(self, taken: BlockTaken) -> None:
        """An ownerless block has an owner now, whatever views say until they know of it."""
        self.taken[taken.cidr] = taken
        room = self.rooms.get(taken.cidr)
        if room is not None:
            block = self._as_taken(room.block)
            if block != room.block:
                self._put(block)

    def close(self, cidr: Prefix, sequence: int) -> None:
        """Offer a block to nobody any more, unless it comes with a later sequence."""
        self.closed[cidr] = sequence
        room = self.rooms.get(cidr)
        if room is not None:
            room.is_open = False
            self._leave(room)

    def home(self, address: Address) -> Room | None:
        """The block that an address lies in."""
        lengths = (length for family, length in sorted(self._lengths) if family is address.family)
        found = (self.rooms.get(address.supernet(length)) for length in lengths)
        return next((room for room in found if room is not None), None)

    def holder(self, address: Address) -> Allocation | None:
        """The allocation that has an address."""
        room = self.home(address)
        known = self._strays.get(address) if room is None else room.known.get(room.offset(address))
        return known if isinstance(known, Allocation) else None

    def hold(self, allocation: Allocation) -> None:
        """An address begins to be used."""
        address = allocation.address
        room = self._room_of(allocation)
        if room is not None:
            self.stock.get(room.block.network, {}).pop(room.cidr, None)  # whoever lives there, it is not empty
            self.hold_in(room, room.offset(address), allocation)
            return
        before, self._strays[address] = self._strays.get(address), allocation
        if isinstance(before, Rest):
            before.is_true = False

    def hold_in(self, room: Room, offset: int, allocation: Allocation) -> None:
        """The same where it is known in which block, and where there, it lies."""
        before, room.known[offset] = room.known.get(offset), allocation
        room.held += 1
        room.uses += 1
        if isinstance(before, Rest):
            before.is_true = False

    def end(self, allocation: Allocation, since: int, identity: str) -> None:
        """An address is used no longer, and an identity (its id) had it."""
        room = self._room_of(allocation)
        if room is not None:
            room.held -= 1
        self._begin(rest_in(room, allocation.address, since, identity))

    def rest(self, address: Address, since: int, identity: str) -> None:
        """The same for an address that was in use when nothing of this was in memory."""
        self._begin(rest_in(self.home(address), address, since, identity))

    def rest_everything(self, now: int, until: int) -> None:
        """All that is not in use rests from `now` on, and what was never used until `until`."""
        known = [one for one in self._strays.values() if isinstance(one, Rest)]
        for room in self.rooms.values():
            room.not_before = until
            known += room.rests()
        for rest in in_order(known):
            self._begin(rest_in(rest.room, rest.address, now, rest.last))

    def rested(self, now: int, rest: int) -> dict[Address, int]:
        """Addresses whose rest is over since the last call and whose past need not be remembered any longer, with since
        when they rested.
        """
        forgotten = {}
        while self._unreported and self._unreported[0].since + rest <= now:
            one = self._unreported.popleft()
            if not one.is_true or (one.room is not None and one.room.is_shared):
                continue
            if one.room is None:
                if self._may_come_again(one.address):
                    continue
                del self._strays[one.address]
            forgotten[one.address] = one.since
        return forgotten

    def count_resting(self, now: int, rest: int, rooms: Iterable[Room] | None = None) -> int:
        """How many addresses rest, of some blocks or of all there are and were."""
        known = [one for room in (self.rooms.values() if rooms is None else rooms) for one in room.rests()]
        if rooms is None:
            known += [one for one in self._strays.values() if isinstance(one, Rest)]
        return sum(one.since + rest > now for one in known)

    def serving(self, identity: str, network: str) -> list[Prefix]:
        """All blocks that serve an identity in a network, in order."""
        pools = (self.own.get((identity, network)), self.mixed.get((identity, network)))
        return sorted(cidr for pool in pools if pool is not None for cidr in pool.blocks)

    def may_have(self, rest: Rest, identity: str) -> bool:
        """Whether an identity may have an address that was used: it, or one that is in its class, had it before."""
        room = rest.room
        if room is None or self._kept_out(room.block, rest.address) is not None:
            return False
        if rest.last == identity:
            return True
        if rest.last == UNKNOWN:
            return room.one_class and not room.block.mixed
        own_class = self._classes.get(identity)
        return own_class is not None and own_class == self._classes.get(rest.last)

    def untouched(self, room: Room) -> Address | None:
        """The first address of a block from its cursor on that was never used, as far as we know."""
        cidr = room.cidr
        while room.is_fresh_usable and room.cursor < cidr.size:
            if room.cursor in room.known:
                room.cursor += room.step
                continue
            address = cidr.address(room.cursor)
            kept = self._kept_out(room.block, address)
            if kept is None:
                return address
            room.skip_to(min(kept.last, cidr.last) - cidr.value + 1)
        return None

    def _room_of(self, allocation: Allocation) -> Room | None:
        return self.rooms.get(allocation.block) or self.home(allocation.address)

    def _begin(self, rest: Rest) -> None:
        """An address begins to rest: it is known where it lies, and offered to whom may have it then."""
        self._know(rest)
        room = rest.room
        for name, pool in self._pools_of(room) if room is not None else ():
            if self.may_have(rest, name):
                pool.resting.append(rest)
                if pool.is_bloated:
                    pool.keep(one for one in pool.resting if one.is_offered)

    def _know(self, rest: Rest) -> None:
        """A rest in place of what was known of its address."""
        room = rest.room
        if room is None:
            before, self._strays[rest.address] = self._strays.get(rest.address), rest
        else:
            before, room.known[rest.offset] = room.known.get(rest.offset), rest
            room.freed = max(room.freed, rest.since)
        if isinstance(before, Rest):
            before.is_true = False  # no pool offers it any more
        self._unreported.append(rest)

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

    def _put(self, block: Block) -> None:
        """A block as it now is: new, or with another owner or other identities."""
        room = self.rooms.get(block.cidr)
        if room is None:
            room = self._new_room(block)
        else:
            self._leave(room)
            room.block = block
            for rest in list(room.rests()):  # who may have it is decided anew
                self._know(rest.moved(room))
        self._enter(room)

    def _new_room(self, block: Block) -> Room:
        network = self.networks.get(block.network)
        room = self.rooms[block.cidr] = Room(block)
        room.is_open = block.cidr not in self.closed
        if network is not None and network.bits is not None:
            room.first, room.step = offsets(network)
            room.cursor, room.is_computed = room.first, True
        self._lengths.add((block.cidr.family, block.cidr.length))
        for address in [address for address in self._strays if block.cidr.contains(address)]:
            known = self._strays.pop(address)
            if isinstance(known, Rest):
                self._know(known.moved(room))
            else:
                room.known[room.offset(address)] = known
                room.held += 1
        return room

    def _pools_of(self, room: Room) -> Iterator[tuple[str, Pool]]:
        """The pools of a block's identities, none of a closed one's."""
        if room.is_open:
            pools = self.mixed if room.block.mixed else self.own
            for name in room.block.identities:
                yield name, pools.setdefault((name, room.block.network), Pool())

    def _offers(self, room: Room, identity: str) -> Iterator[Rest]:
        return (rest for rest in room.rests() if self.may_have(rest, identity))

    def _enter(self, room: Room) -> None:
        """Offer a block to its identities, or as stock."""
        self._class_up(room)
        if room.is_open and room.block.is_stock and not room.held:
            self.stock.setdefault(room.block.network, {})[room.cidr] = None
        for name, pool in self._pools_of(room):
            pool.add(room, self._offers(room, name))

    def _leave(self, room: Room) -> None:
        """Offer a block to nobody, nor as stock."""
        network = room.block.network
        self.stock.get(network, {}).pop(room.cidr, None)
        pools = self.mixed if room.block.mixed else self.own
        for name in room.block.identities:
            pool = pools.get((name, network))
            if pool is not None:
                pool.forget(room.cidr)
                if not pool.blocks:
                    del pools[name, network]

    def _drop(self, cidr: Prefix) -> None:
        if cidr in self.closed:
            self.reopened[cidr] = self.closed.pop(cidr)
        if cidr in self.taken:
            self.confirmed[cidr] = self.taken.pop(cidr).sequence
        room = self.rooms.pop(cidr, None)
        if room is None:
            return
        room.is_open = False
        self._leave(room)
        for offset, known in room.known.items():
            if isinstance(known, Rest):
                self._know(known.moved(None))
            else:
                self._strays[cidr.address(offset)] = known
        room.known = {}  # rests are not the garbage collector's, and know their room

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
                pool.blocks[room.cidr] = pool.fresh[room.cidr] = room
                pool.resting.extend(self._offers(room, name))
        for pool in (*self.own.values(), *self.mixed.values()):
            pool.keep(in_order(pool.resting))
