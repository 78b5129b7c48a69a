"""The addresses of one host's own blocks: who has them, which of them rest, which is next.

Owns the choice of an address: one never used before a used one, and of those the longest rested first; an owner's own
blocks before mixed ones. Refuses to know the kernel, the disk and the clock: the caller writes down what it is answered
before it acts on it, and says what time it is (CLOCK_BOOTTIME, seconds). Invariants: an address has at most one
endpoint; it is allocated only from a block that this host allocates and that serves the identity, and that is not being
given back; it is not allocated while it rests or is reserved, nor to an identity of another class than the one that had
it last, which a cut-off host may still take for it; the sequence of an allocation is larger than that of every earlier
one. An allocation and a release cost the same however many endpoints and blocks there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum

import msgspec

from romana.core.ipam.own_blocks import OwnBlocks
from romana.core.ipam.rooms import UNKNOWN, Pool, Rest, Room
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Exhausted
from romana.model.ipam import Allocation, Block
from romana.model.report import BlockState
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network
from romana.model.view import BlockReturned, BlockTaken

REST = 180
"""Seconds that a freed address is not used again: longer than a peer's SYN_SENT."""
SHORT_REST = 30
"""The same when there is no other address."""


Place = tuple[Room, int, Address]
"""A block, an offset in it, and the address there."""


class Need(IntEnum):
    """What is done for an address: first only what is usual, then sharing a mixed block whatever the owner has already,
    then a shorter rest as well.
    """

    USUAL = 0
    SHARE = 1
    HURRY = 2


class Settled(msgspec.Struct, frozen=True):
    """Blocks that views have caught up with, each with the sequence that it had then: closed ones that are gone or open
    again, and ones that were taken.
    """

    reopened: dict[Prefix, int] = {}
    confirmed: dict[Prefix, int] = {}


class AddressBook:
    """The addresses of a host's own blocks."""

    def __init__(self, host: str, *, boot_id: str, rest: int = REST, sequence: int = 0) -> None:
        """`boot_id` names this boot, `rest` is in seconds, `sequence` at least the largest one ever given."""
        self.host = host
        self.rest = rest
        self.hurried = 0
        """How many addresses were allocated after a shorter rest."""
        self._boot_id = boot_id
        self._sequence = sequence
        self._endpoints: dict[str, tuple[str, Owner, tuple[Allocation, ...]]] = {}  # -> identity's id, owner, its
        self._present: Counter[Owner] = Counter()
        self._blocks = OwnBlocks(host)
        self._families: dict[tuple[str, ...], list[tuple[Family, list[str]]]] = {}

    def restore(
        self,
        endpoints: Iterable[Endpoint],
        resting: Mapping[Address, tuple[int, str, str]],
        *,
        taken: Iterable[BlockTaken] = (),
        closed: Mapping[Prefix, int] | None = None,
        now: int,
    ) -> None:
        """Take in what was remembered, once the blocks are there. A rest of another boot begins again now.

        `resting` has since when, in which boot, and the id of the identity before, `taken` the blocks of the stock that
        were given to owners and that a view did not confirm yet, `closed` the sequences of closed blocks. Conflict when
        an address is remembered for two endpoints.
        """
        blocks = self._blocks
        for one in taken:
            blocks.take(one)
        for cidr, sequence in (closed or {}).items():
            room = blocks.rooms.get(cidr)
            if room is None or room.block.sequence <= sequence:
                blocks.close(cidr, sequence)
            else:
                blocks.reopened[cidr] = sequence
        for endpoint in endpoints:
            for other in filter(None, map(self.holder, endpoint.addresses)):
                raise Conflict(f"{other.address} is remembered for {other.endpoint} and for {endpoint.id}")
            owner = endpoint.identity.owner
            for allocation in endpoint.allocations:
                self._sequence = max(self._sequence, allocation.sequence)
                blocks.hold(allocation)
            name = endpoint.identity.id if owner.tenant else UNKNOWN
            self._remember(endpoint.id, name, owner, endpoint.allocations)
        past = sorted(
            (released_at if boot_id == self._boot_id else now, address, identity)
            for address, (released_at, boot_id, identity) in resting.items()
            if self.holder(address) is None
        )
        for since, address, identity in past:
            blocks.rest(address, since, identity)

    def update(
        self, networks: Mapping[str, Network], blocks: Mapping[Prefix, Block], classes: Mapping[str, str] | None = None
    ) -> None:
        """The host's networks and blocks as its view now has them, and the classes of its identities by id.

        A block that was taken from the stock stays taken until the view knows of it; one that was closed stays closed
        until the view has it no longer, or with a later sequence. What lies in a block that is gone stays with its
        endpoint, and nothing more is allocated there.
        """
        self._blocks.update(networks, blocks, classes or {})
        self._families.clear()

    def allocate(
        self, endpoint: str, identity: Identity, networks: Sequence[str], now: int, need: Need = Need.USUAL
    ) -> tuple[Allocation, ...]:
        """One address in each family that `networks` (names, best first) have, or none at all.

        A repeated request gets the same answer. Exhausted, with the numbers, when a family has none left; then
        nothing has changed, and `full` names the blocks that have no room.
        """
        known = self._endpoints.get(endpoint)
        if known is not None:
            return known[2]
        chosen: list[Place] = []
        name = identity.id
        for family, names in self._by_family(networks):
            found = self._find(self._pools(name, identity.owner, names, need), now, need)
            if found is None:
                raise Exhausted(self._numbers(name, family, names, now))
            chosen.append(found)
        if not chosen:
            raise Exhausted(f"host {self.host} draws from none of the networks {', '.join(networks) or '(none)'}")
        allocations = []
        for room, offset, address in chosen:
            if need is Need.HURRY:
                before = room.known.get(offset)
                self.hurried += isinstance(before, Rest) and before.since + self.rest > now
            self._sequence += 1
            allocation = Allocation(address=address, block=room.cidr, endpoint=endpoint, sequence=self._sequence)
            self._blocks.hold_in(room, offset, allocation)
            allocations.append(allocation)
        return self._remember(endpoint, name, identity.owner, tuple(allocations))

    def release(self, endpoint: str, now: int) -> tuple[Allocation, ...]:
        """End an endpoint's use of its addresses, which rest from now on; what it had, nothing when it had none."""
        known = self._endpoints.pop(endpoint, None)
        if known is None:
            return ()
        identity, owner, allocations = known
        self._present[owner] -= 1
        if not self._present[owner]:
            del self._present[owner]
        for allocation in allocations:
            self._blocks.end(allocation, now, identity)
        return allocations

    def full(self, identity: str, networks: Sequence[str], now: int) -> tuple[Prefix, ...]:
        """The blocks that serve the identity (its id) in these networks, or could, and have no address for it now."""
        found: list[Prefix] = []
        for name in networks:
            # a mixed block that it is not in yet may have only addresses that others had
            mixed = (
                cidr for cidr, room in self._blocks.rooms.items() if room.block.mixed and room.block.network == name
            )
            could = dict.fromkeys((*self._blocks.serving(identity, name), *mixed))
            found += [cidr for cidr in could if self._pick_in(self._blocks.rooms[cidr], identity, now) is None]
        rooms = (self._blocks.rooms.get(cidr) for cidr in self._blocks.closed)
        found += [room.block.cidr for room in rooms if room is not None and room.block.network in networks]
        return tuple(sorted(found))

    def left(
        self, identity: Identity, networks: Sequence[str], now: int, *, enough: int, need: Need = Need.USUAL
    ) -> dict[Family, int]:
        """About how many addresses an identity could get now, by family, counted up to `enough`.

        It may be too many (addresses that are reserved, or were used again), never too few.
        """
        found = {}
        for family, names in self._by_family(networks):
            count = 0
            for pool in self._pools(identity.id, identity.owner, names, need):
                count += self._left_in(pool, now, enough - count)
            found[family] = min(count, enough)
        return found

    def take(self, identity: Identity, network: str) -> BlockTaken:
        """Give an ownerless block of the stock to an owner; Exhausted when there is none in this network.

        The caller writes the answer down before it allocates from the block.
        """
        cidr = next(iter(self._blocks.stock.get(network, ())), None)
        if cidr is None:
            raise Exhausted(f"host {self.host} has no ownerless block left in network {network} for {identity.owner}")
        block = self._blocks.rooms[cidr].block
        taken = BlockTaken(cidr=cidr, owner=identity.owner, identity=identity.id, sequence=block.sequence + 1)
        self._blocks.take(taken)
        return taken

    def idle(self, now: int, *, draining: bool = False) -> dict[Prefix, tuple[int, int]]:
        """The blocks that nobody uses, none of whose addresses rests, and that the host need not keep as stock: with
        two numbers that differ when a block was used in between.

        Blocks that were closed and are still there are among them.
        """
        kept = {
            cidr
            for name, cidrs in self._blocks.stock.items()
            if not draining and name in self._blocks.networks
            for cidr in list(cidrs)[: self._blocks.networks[name].stock]
        }
        return {
            cidr: (room.block.sequence, room.uses)
            for cidr, room in self._blocks.rooms.items()
            if cidr not in kept and room.is_idle(now, self.rest)
        }

    def close(self, cidr: Prefix) -> BlockReturned:
        """Allocate from a block no more, whatever the view says of it, so that it can be given back.

        The caller writes the answer down before it tells anybody. KeyError for a block that is not here.
        """
        sequence = self._blocks.rooms[cidr].block.sequence
        self._blocks.close(cidr, sequence)
        return BlockReturned(cidr=cidr, sequence=sequence)

    def closed(self) -> dict[Prefix, int]:
        """The closed blocks, with the sequences they had."""
        return dict(self._blocks.closed)

    def settled(self) -> Settled:
        """What needs to be remembered of blocks no longer, each answered once, as soon as the present view is kept."""
        blocks = self._blocks
        found = Settled(blocks.reopened, blocks.confirmed)
        blocks.reopened, blocks.confirmed = {}, {}
        return found

    def unsettle(self, settled: Settled) -> None:
        """It could not be forgotten: answer it again."""
        self._blocks.reopened = {**settled.reopened, **self._blocks.reopened}
        self._blocks.confirmed = {**settled.confirmed, **self._blocks.confirmed}

    def present(self, owner: Owner) -> int:
        """How many endpoints of an owner are here."""
        return self._present[owner]

    def serves(self, identity: str, network: str) -> bool:
        """Whether some block of its owner, full or not, serves the identity (its id) in this network."""
        pool = self._blocks.own.get((identity, network))
        return pool is not None and bool(pool.blocks)

    def stock(self, network: str) -> tuple[Prefix, ...]:
        """The ownerless blocks in a network."""
        return tuple(self._blocks.stock.get(network, ()))

    def holder(self, address: Address) -> Allocation | None:
        """The allocation that has an address."""
        return self._blocks.holder(address)

    def rested(self, now: int) -> dict[Address, int]:
        """Addresses whose rest is over since the last call and whose past need not be remembered any longer, with since
        when they rested: that of an address in a block with several identities is. Ask only with a view that is not
        older than all this was.
        """
        return self._blocks.rested(now, self.rest)

    def rest_everything(self, now: int) -> None:
        """Rest every address of the present blocks that nobody has, and close the mixed ones, of whose addresses nobody
        knows who had them last: for an agent that lost its memory.
        """
        self._blocks.rest_everything(now, now + self.rest)
        for cidr, room in self._blocks.rooms.items():
            if room.block.mixed:
                self._blocks.close(cidr, room.block.sequence)

    def counts(self, now: int) -> dict[str, int]:
        """Numbers for people and metrics: blocks, mixed, stock, closed, in-use, resting, hurried (allocations after a
        shorter rest).
        """
        rooms = self._blocks.rooms
        return {
            "blocks": len(rooms),
            "mixed": sum(room.block.mixed for room in rooms.values()),
            "stock": sum(map(len, self._blocks.stock.values())),
            "closed": len(self._blocks.closed.keys() & rooms.keys()),
            "in-use": sum(len(allocations) for _, _, allocations in self._endpoints.values()),
            "resting": self._blocks.count_resting(now, self.rest),
            "hurried": self.hurried,
        }

    def blocks(self, now: int) -> dict[Prefix, BlockState]:
        """The blocks as this book has them, with how many of their addresses are in use and at rest."""
        return {
            cidr: BlockState(
                sequence=room.block.sequence,
                owner=room.block.owner,
                mixed=room.block.mixed,
                used=room.held,
                resting=self._blocks.count_resting(now, self.rest, [room]),
            )
            for cidr, room in self._blocks.rooms.items()
        }

    def _by_family(self, networks: Sequence[str]) -> list[tuple[Family, list[str]]]:
        key = tuple(networks)
        known = self._families.get(key)
        if known is None:
            names: dict[Family, list[str]] = {}
            for name in networks:
                if name in self._blocks.networks:
                    names.setdefault(self._blocks.networks[name].cidr.family, []).append(name)
            known = self._families[key] = sorted(names.items())
        return known

    def _pools(self, identity: str, owner: Owner, networks: Iterable[str], need: Need) -> list[Pool]:
        """Where to look, in order: the owner's blocks, and mixed ones as long as it has few endpoints here or there is
        nothing else.
        """
        found = []
        for network in networks:
            found.append(self._blocks.own.get((identity, network)))
            few = self._blocks.networks[network].mixed
            if few and (need or self._present[owner] < few):
                found.append(self._blocks.mixed.get((identity, network)))
        return [pool for pool in found if pool is not None]

    def _find(self, pools: Sequence[Pool], now: int, need: Need) -> Place | None:
        """The next address for an identity, nothing of it taken yet."""
        for pool in pools:
            found = self._pick_fresh(pool, now) or self._pick_rested(pool, now, self.rest)
            if found is not None:
                return found
        if need is Need.HURRY:
            for pool in pools:
                found = self._pick_rested(pool, now, min(self.rest, SHORT_REST))
                if found is not None and now >= found[0].not_before:
                    return found
        return None

    def _pick_fresh(self, pool: Pool, now: int) -> Place | None:
        if not pool.fresh:
            return None
        used_up = []
        found: Place | None = None
        for cidr, room in pool.fresh.items():
            if now < room.not_before:
                continue
            untouched = self._blocks.untouched(room)
            if untouched is not None:
                found = (room, room.cursor, untouched)
                break
            used_up.append(cidr)
        for cidr in used_up:
            del pool.fresh[cidr]
        return found

    def _pick_rested(self, pool: Pool, now: int, rest: int) -> Place | None:
        while pool.resting:
            found = pool.resting[0]
            room = found.room
            if found.is_true and room is not None and room.is_open:
                return (room, found.offset, found.address) if found.since + rest <= now else None
            pool.resting.popleft()
        return None

    def _pick_in(self, room: Room, identity: str, now: int) -> Address | None:
        """Some address of one block that could be allocated now."""
        if now >= room.not_before:
            address = self._blocks.untouched(room)
            if address is not None:
                return address
        return next(
            (
                one.address
                for one in room.rests()
                if one.since + self.rest <= now and self._blocks.may_have(one, identity)
            ),
            None,
        )

    def _left_in(self, pool: Pool, now: int, enough: int) -> int:
        count = 0
        for room in pool.fresh.values():
            if now >= room.not_before and self._blocks.untouched(room) is not None:
                count += room.untouched
            if count >= enough:
                return count
        for one in pool.resting:
            if count >= enough or one.since + self.rest > now:
                break
            count += 1
        return count

    def _remember(
        self, endpoint: str, identity: str, owner: Owner, allocations: tuple[Allocation, ...]
    ) -> tuple[Allocation, ...]:
        self._endpoints[endpoint] = (identity, owner, allocations)
        self._present[owner] += 1
        return allocations

    def _numbers(self, identity: str, family: Family, networks: Sequence[str], now: int) -> str:
        words = []
        for name in networks:
            rooms = [self._blocks.rooms[cidr] for cidr in self._blocks.serving(identity, name)]
            size = sum(room.block.cidr.size for room in rooms)
            held = sum(room.held for room in rooms)
            resting = self._blocks.count_resting(now, self.rest, rooms)
            words.append(
                f"network {name}: {len(rooms)} block(s) serve it with {size} address(es), {held} in use, "
                f"{resting} resting, {size - held - resting} reserved or waiting; "
                f"{len(self.stock(name))} ownerless block(s) in stock"
            )
        return f"no IPv{int(family)} address is left for identity {identity} on host {self.host}: " + "; ".join(words)
