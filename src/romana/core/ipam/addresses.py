"""The addresses of one host's own blocks: who has them, which of them rest, which is next.

Owns the choice of an address: one never used before a used one, and of those the longest rested first. Refuses to know
the kernel, the disk and the clock: the caller writes down what it is answered before it acts on it, and says what time
it is (CLOCK_BOOTTIME, seconds). Invariants: an address has at most one endpoint; it is allocated only from a block that
this host allocates and that serves the identity; it is not allocated while it rests or is reserved; the sequence of an
allocation is larger than that of every earlier one. An allocation and a release cost the same however many endpoints
and blocks there are.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from romana.core.ipam.rooms import Pool, Room
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Exhausted
from romana.model.ipam import Allocation, Block
from romana.model.report import BlockState
from romana.model.tenancy import Identity
from romana.model.topology import Network
from romana.model.view import BlockTaken

REST = 180
"""Seconds that a freed address is not used again: longer than a peer's SYN_SENT."""


class AddressBook:
    """The addresses of a host's own blocks."""

    def __init__(self, host: str, *, boot_id: str, rest: int = REST, sequence: int = 0) -> None:
        """`boot_id` names this boot, `rest` is in seconds, `sequence` at least the largest one ever given."""
        self.host = host
        self.rest = rest
        self._boot_id = boot_id
        self._sequence = sequence
        self._networks: Mapping[str, Network] = {}
        self._rooms: dict[Prefix, Room] = {}
        self._pools: dict[tuple[str, str], Pool] = {}  # (identity id, network name) -> where it may get an address
        self._stock: dict[str, dict[Prefix, None]] = {}  # network name -> ownerless blocks
        self._lengths: set[tuple[Family, int]] = set()  # of all blocks there ever were
        self._held: dict[Address, Allocation] = {}
        self._held_in: Counter[Prefix] = Counter()  # block -> addresses in use
        self._endpoints: dict[str, tuple[Allocation, ...]] = {}
        self._resting: dict[Address, int] = {}  # -> since when; kept after the rest, until the address is used again
        # the part of it that `rested` has not answered yet, oldest first
        self._unreported: OrderedDict[Address, int] = OrderedDict()
        self._homeless: dict[Address, int] = {}  # the part of it that lies in no block we know of (yet)

    def restore(
        self,
        endpoints: Iterable[Endpoint],
        resting: Mapping[Address, tuple[int, str]],
        *,
        taken: Iterable[BlockTaken] = (),
        now: int,
    ) -> None:
        """Take in what was remembered, once the blocks are there. A rest of another boot begins again now.

        `taken` are the blocks of the stock that were given to owners and are not published yet. Conflict when an
        address is remembered for two endpoints.
        """
        for one in taken:
            room = self._rooms.get(one.cidr)
            if room is not None and room.block.sequence < one.sequence:
                members = (one.identity,)
                self._put(
                    msgspec.structs.replace(room.block, owner=one.owner, identities=members, sequence=one.sequence)
                )
        for endpoint in endpoints:
            for other in filter(None, map(self._held.get, endpoint.addresses)):
                raise Conflict(f"{other.address} is remembered for {other.endpoint} and for {endpoint.id}")
            self._hold(endpoint.id, endpoint.allocations)
        since = {
            address: released_at if boot_id == self._boot_id else now
            for address, (released_at, boot_id) in resting.items()
            if address not in self._held
        }
        for address in sorted(since, key=lambda address: (since[address], address)):
            self._rest(address, self._home(address), since[address])

    def update(self, networks: Mapping[str, Network], blocks: Mapping[Prefix, Block]) -> None:
        """The host's networks and blocks as its view now has them.

        A block that was taken from the stock stays taken until the view knows of it. What lies in a block that is gone
        stays with its endpoint, and nothing more is allocated there.
        """
        reserved_changed = any(
            network.reserved != self._networks[name].reserved
            for name, network in networks.items()
            if name in self._networks
        )
        self._networks = dict(networks)
        own = {cidr: block for cidr, block in blocks.items() if block.allocator == block.host == self.host}
        for cidr in self._rooms.keys() - own.keys():
            self._drop(cidr)
        for cidr, block in own.items():
            room = self._rooms.get(cidr)
            if room is None or (room.block != block and room.block.sequence <= block.sequence):
                self._put(block)
        if reserved_changed:
            self._rebuild()

    def allocate(self, endpoint: str, identity: str, networks: Sequence[str], now: int) -> tuple[Allocation, ...]:
        """One address in each family that `networks` (names, best first) have, or none at all.

        A repeated request gets the same answer. Exhausted, with the numbers, when a family has none left; then
        nothing has changed, and `full` names the blocks that have no room.
        """
        known = self._endpoints.get(endpoint)
        if known is not None:
            return known
        chosen: list[tuple[Room, Address]] = []
        for family, names in self._by_family(networks).items():
            found = next((pick for pick in (self._pick(identity, name, now) for name in names) if pick), None)
            if found is None:
                raise Exhausted(self._numbers(identity, family, names, now))
            chosen.append(found)
        if not chosen:
            raise Exhausted(f"host {self.host} draws from none of the networks {', '.join(networks) or '(none)'}")
        allocations = []
        for room, address in chosen:
            self._sequence += 1
            allocations.append(
                Allocation(address=address, block=room.block.cidr, endpoint=endpoint, sequence=self._sequence)
            )
        self._hold(endpoint, tuple(allocations))
        return tuple(allocations)

    def release(self, endpoint: str, now: int) -> tuple[Allocation, ...]:
        """End an endpoint's use of its addresses, which rest from now on; what it had, nothing when it had none."""
        allocations = self._endpoints.pop(endpoint, ())
        for allocation in allocations:
            del self._held[allocation.address]
            self._held_in[allocation.block] -= 1
            self._rest(allocation.address, self._rooms.get(allocation.block), now)
        return allocations

    def full(self, identity: str, networks: Sequence[str], now: int) -> tuple[Prefix, ...]:
        """The blocks that serve the identity in these networks and have no address for it now."""
        return tuple(
            cidr
            for name in networks
            for cidr in sorted(self._pool(identity, name).blocks)
            if self._pick_in(self._rooms[cidr], now) is None
        )

    def left(self, identity: str, networks: Sequence[str], now: int, *, enough: int) -> dict[Family, int]:
        """About how many addresses an identity could get now, by family, counted up to `enough`.

        It may be too many (addresses that are reserved, or were used again), never too few.
        """
        found = {}
        for family, names in self._by_family(networks).items():
            pools = [pool for pool in (self._pools.get((identity, name)) for name in names) if pool is not None]
            count = 0
            for pool in pools:
                for cidr in pool.fresh:
                    room = self._rooms[cidr]
                    if now >= room.not_before and self._untouched(room) is not None:
                        count += room.block.cidr.size - room.cursor
                    if count >= enough:
                        break
                for since, _, _ in pool.resting:
                    if count >= enough or since + self.rest > now:
                        break
                    count += 1
            found[family] = min(count, enough)
        return found

    def take(self, identity: Identity, network: str) -> BlockTaken:
        """Give an ownerless block of the stock to an owner; Exhausted when there is none in this network.

        The caller writes the answer down before it allocates from the block.
        """
        cidr = next(iter(self._stock.get(network, ())), None)
        if cidr is None:
            raise Exhausted(f"host {self.host} has no ownerless block left in network {network} for {identity.owner}")
        block = self._rooms[cidr].block
        taken = BlockTaken(cidr=cidr, owner=identity.owner, identity=identity.id, sequence=block.sequence + 1)
        self._put(
            msgspec.structs.replace(block, owner=identity.owner, identities=(identity.id,), sequence=taken.sequence)
        )
        return taken

    def serves(self, identity: str, network: str) -> bool:
        """Whether some block, full or not, serves the identity in this network."""
        pool = self._pools.get((identity, network))
        return pool is not None and bool(pool.blocks)

    def stock(self, network: str) -> tuple[Prefix, ...]:
        """The ownerless blocks in a network."""
        return tuple(self._stock.get(network, ()))

    def holder(self, address: Address) -> Allocation | None:
        """The allocation that has an address."""
        return self._held.get(address)

    def rested(self, now: int) -> list[Address]:
        """Addresses whose rest is over since the last call, so that they need not be remembered any longer."""
        over = []
        for address, since in self._unreported.items():
            if since + self.rest > now:
                break
            over.append(address)
        for address in over:
            del self._unreported[address]
        return over

    def rest_everything(self, now: int) -> None:
        """Rest every address of the present blocks that nobody has: for an agent that lost its memory."""
        for room in self._rooms.values():
            room.not_before = now + self.rest
        for address in sorted(self._resting):
            self._rest(address, self._home(address), now)

    def counts(self, now: int) -> dict[str, int]:
        """Numbers for people and metrics: blocks, stock, in-use, resting."""
        return {
            "blocks": len(self._rooms),
            "stock": sum(map(len, self._stock.values())),
            "in-use": len(self._held),
            "resting": sum(since + self.rest > now for since in self._resting.values()),
        }

    def blocks(self, now: int) -> dict[Prefix, BlockState]:
        """The blocks as this book has them, with how many of their addresses are in use and at rest."""
        return {
            cidr: BlockState(
                sequence=room.block.sequence,
                owner=room.block.owner,
                mixed=room.block.mixed,
                used=self._held_in[cidr],
                resting=sum(since + self.rest > now for since in room.resting.values()),
            )
            for cidr, room in self._rooms.items()
        }

    def _by_family(self, networks: Sequence[str]) -> dict[Family, list[str]]:
        names: dict[Family, list[str]] = {}
        for name in networks:
            if name in self._networks:
                names.setdefault(self._networks[name].cidr.family, []).append(name)
        return dict(sorted(names.items()))

    def _pool(self, identity: str, network: str) -> Pool:
        return self._pools.setdefault((identity, network), Pool())

    def _pick(self, identity: str, network: str, now: int) -> tuple[Room, Address] | None:
        """The next address for an identity, nothing of it taken yet."""
        pool = self._pools.get((identity, network))
        if pool is None:
            return None
        used_up = []
        found: tuple[Room, Address] | None = None
        for cidr in pool.fresh:
            room = self._rooms[cidr]
            if now < room.not_before:
                continue
            untouched = self._untouched(room)
            if untouched is not None:
                found = (room, untouched)
                break
            used_up.append(cidr)
        for cidr in used_up:
            del pool.fresh[cidr]
        return found or self._pick_rested(identity, pool, now)

    def _pick_rested(self, identity: str, pool: Pool, now: int) -> tuple[Room, Address] | None:
        while pool.resting:
            since, cidr, address = pool.resting[0]
            if not self._is_current(since, cidr, address, identity):
                pool.resting.popleft()
                continue
            return (self._rooms[cidr], address) if since + self.rest <= now else None
        return None

    def _pick_in(self, room: Room, now: int) -> Address | None:
        """Some address of one block that could be allocated now."""
        if now >= room.not_before:
            address = self._untouched(room)
            if address is not None:
                return address
        return next(
            (
                address
                for address, since in room.resting.items()
                if since + self.rest <= now and self._reserved(room.block, address) is None
            ),
            None,
        )

    def _is_current(self, since: int, cidr: Prefix, address: Address, identity: str) -> bool:
        """Whether an entry of a pool still says the truth; entries are left behind and dropped when they come up."""
        room = self._rooms.get(cidr)
        return (
            room is not None
            and room.resting.get(address) == since
            and identity in room.block.identities
            and self._reserved(room.block, address) is None
        )

    def _untouched(self, room: Room) -> Address | None:
        """The first address of a block from its cursor on that was never used, as far as we know."""
        cidr = room.block.cidr
        while room.cursor < cidr.size:
            address = cidr.address(room.cursor)
            reserved = self._reserved(room.block, address)
            if reserved is not None:
                room.cursor = min(reserved.last, cidr.last) - cidr.value + 1
            elif address in self._held or address in self._resting:
                room.cursor += 1
            else:
                return address
        return None

    def _reserved(self, block: Block, address: Address) -> Prefix | None:
        network = self._networks.get(block.network)
        return next((one for one in network.reserved if one.contains(address)), None) if network else None

    def _hold(self, endpoint: str, allocations: tuple[Allocation, ...]) -> None:
        self._endpoints[endpoint] = allocations
        for allocation in allocations:
            address = allocation.address
            self._held[address] = allocation
            self._sequence = max(self._sequence, allocation.sequence)
            self._resting.pop(address, None)
            self._unreported.pop(address, None)
            self._homeless.pop(address, None)
            self._held_in[allocation.block] += 1
            room = self._rooms.get(allocation.block)
            if room is not None:
                room.resting.pop(address, None)

    def _rest(self, address: Address, room: Room | None, since: int) -> None:
        self._resting[address] = since
        self._unreported.pop(address, None)
        self._unreported[address] = since
        if room is None:
            self._homeless[address] = since
            return
        room.resting.pop(address, None)
        room.resting[address] = since
        for identity in room.block.identities:
            pool = self._pool(identity, room.block.network)
            pool.resting.append((since, room.block.cidr, address))
            if pool.is_bloated:
                self._prune(identity, pool)

    def _prune(self, identity: str, pool: Pool) -> None:
        pool.keep(entry for entry in pool.resting if self._is_current(*entry, identity))

    def _put(self, block: Block) -> None:
        """A block as it now is: new, or with another owner or other identities."""
        room = self._rooms.get(block.cidr)
        before: frozenset[str] = frozenset()
        if room is None:
            room = self._rooms[block.cidr] = Room(block)
            self._lengths.add((block.cidr.family, block.cidr.length))
            for address in [address for address in self._homeless if block.cidr.contains(address)]:
                room.resting[address] = self._homeless.pop(address)
        else:
            before = frozenset(room.block.identities)
            self._stock.get(room.block.network, {}).pop(block.cidr, None)
            room.block = block
        for identity in before.difference(block.identities):
            self._pool(identity, block.network).forget(block.cidr)
        for identity in block.identities:
            if identity not in before:
                self._pool(identity, block.network).add(room)
        if block.owner is None:
            self._stock.setdefault(block.network, {})[block.cidr] = None

    def _drop(self, cidr: Prefix) -> None:
        room = self._rooms.pop(cidr)
        self._homeless |= room.resting
        self._stock.get(room.block.network, {}).pop(cidr, None)
        for identity in room.block.identities:
            self._pool(identity, room.block.network).forget(cidr)

    def _rebuild(self) -> None:
        """All pools anew, after something that touches many addresses at once."""
        self._pools.clear()
        for room in self._rooms.values():
            room.cursor = 0
            for identity in room.block.identities:
                self._pool(identity, room.block.network).add(room)

    def _home(self, address: Address) -> Room | None:
        lengths = (length for family, length in sorted(self._lengths) if family is address.family)
        found = (self._rooms.get(address.supernet(length)) for length in lengths)
        return next((room for room in found if room is not None), None)

    def _numbers(self, identity: str, family: Family, networks: Sequence[str], now: int) -> str:
        words = []
        for name in networks:
            rooms = [self._rooms[cidr] for cidr in self._pool(identity, name).blocks]
            size = sum(room.block.cidr.size for room in rooms)
            held = sum(self._held_in[room.block.cidr] for room in rooms)
            resting = sum(since + self.rest > now for room in rooms for since in room.resting.values())
            words.append(
                f"network {name}: {len(rooms)} block(s) serve it with {size} address(es), {held} in use, "
                f"{resting} resting, {size - held - resting} reserved or waiting; "
                f"{len(self._stock.get(name, ()))} ownerless block(s) in stock"
            )
        return f"no IPv{int(family)} address is left for identity {identity} on host {self.host}: " + "; ".join(words)
