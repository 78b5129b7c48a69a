"""Which fixed address is next, against a plain model of who has what since when."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from romana.core.ipam.occupied import Occupied
from romana.core.ipam.reservations import FixedAddresses, next_block, static_range
from romana.model.address import Address, Family, Prefix
from romana.model.ipam import SERVER, Block
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network

CIDR = Prefix(Family.V4, 0x0A000000, 24)
STATIC = (CIDR.subnet(29, 1), CIDR.subnet(27, 2))
RESERVED = (CIDR.subnet(31, 32), Prefix(Family.V4, CIDR.value + 75, 32))
NETWORK = Network(name="n", cidr=CIDR, block_length=30, span_length=24, static=STATIC, reserved=RESERVED)
WEB, DB = Identity(owner=Owner("a", "web")), Identity(owner=Owner("a", "db"))
REST = 10


class Books(RuleBasedStateMachine):
    """A book, and plain facts: blocks, holders, when each address was freed, what is being given."""

    @initialize()
    def begin(self) -> None:
        self.book = FixedAddresses(REST)
        self.networks = {"n": NETWORK}
        self.book.plan(self.networks)
        self.now = 0.0
        self.blocks: dict[Prefix, Block] = {}
        self.held: dict[Address, str] = {}
        self.freed: dict[Address, float] = {}
        self.open: set[Address] = set()

    @precondition(lambda self: len(self.blocks) < 2)
    @rule(identity=st.sampled_from([WEB, WEB, DB]))
    def grow(self, identity: Identity) -> None:
        occupied = Occupied()
        for taken in self.blocks:
            occupied.add(taken)
        cidr = next_block(NETWORK, occupied)
        candidates = [
            part
            for static in STATIC
            for part in static.subnets(30)
            if part not in self.blocks and not any(one.contains(part) for one in RESERVED)
        ]
        assert cidr == (candidates[0] if candidates else None)
        if cidr is None:
            return
        assert static_range(NETWORK, cidr) is not None
        self.blocks[cidr] = Block(
            cidr=cidr,
            span=cidr,
            network="n",
            host=SERVER,
            allocator=SERVER,
            owner=identity.owner,
            identities=(identity.id,),
        )
        self.book.put_block(cidr, self.blocks[cidr])

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        idle = self.book.idle(self.now)
        assert idle == [
            cidr
            for cidr in sorted(self.blocks)
            if not any(
                address in self.held or address in self.open or self._rests(address)
                for address in map(cidr.address, range(cidr.size))
            )
        ]
        if idle:
            cidr = data.draw(st.sampled_from(idle))
            del self.blocks[cidr]
            self.book.put_block(cidr, None)
            self.freed = {address: since for address, since in self.freed.items() if not cidr.contains(address)}

    def _rests(self, address: Address) -> bool:
        return address in self.freed and self.freed[address] + REST > self.now

    def _free(self, identity: Identity) -> set[Address]:
        return {
            address
            for cidr, block in self.blocks.items()
            if identity.id in block.identities
            for address in map(cidr.address, range(cidr.size))
            if address not in self.held
            and address not in self.open
            and not self._rests(address)
            and not any(one.contains(address) for one in RESERVED)
        }

    @rule(identity=st.sampled_from([WEB, WEB, DB]), count=st.integers(1, 6))
    def choose(self, identity: Identity, count: int) -> None:
        for _ in range(count):
            self._choose(identity)

    def _choose(self, identity: Identity) -> None:
        free = self._free(identity)
        found = self.book.choose("n", identity.id, self.now)
        assert (found is None) == (not free)
        if found is not None:
            assert found in free
            untouched = free - self.freed.keys()
            if untouched:
                assert found in untouched
            else:
                assert self.freed[found] == min(self.freed[address] for address in free)
            self.open.add(found)

    @rule(offset=st.sampled_from([8, 9, 10, 64, 66, 75, 200]))
    def choose_this(self, offset: int) -> None:
        address = CIDR.address(offset)
        refused = bool(self.book.choose_this(address, self.now))
        assert refused == (address in self.held or address in self.open or self._rests(address))
        if not refused:
            self.open.add(address)

    @rule(kept=st.lists(st.sampled_from([True, True, False]), min_size=1, max_size=6))
    def settle(self, kept: list[bool]) -> None:
        for address, keep in zip(sorted(self.open), kept, strict=False):
            if keep and any(cidr.contains(address) for cidr in self.blocks):
                self.held[address] = "somebody"
                self.freed.pop(address, None)
                self.book.put_address(address, "somebody", self.now)
            self.open.discard(address)
            self.book.settle(address)

    @rule(which=st.lists(st.integers(0, 12), max_size=4, unique=True))
    def free(self, which: list[int]) -> None:
        held = sorted(self.held)
        for address in [held[place] for place in which if place < len(held)]:
            del self.held[address]
            self.freed[address] = self.now
            self.book.put_address(address, "", self.now)
            self.book.put_address(address, "", self.now + 1)  # said again, it changes nothing

    @rule(seconds=st.sampled_from([4, REST, REST]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        if self.blocks:
            cidr = data.draw(st.sampled_from(sorted(self.blocks)))
            block = self.blocks[cidr]
            other = DB if WEB.id in block.identities else WEB
            members = tuple(sorted({*block.identities, other.id}))
            self.blocks[cidr] = Block(
                cidr=cidr,
                span=cidr,
                network="n",
                host=SERVER,
                allocator=SERVER,
                owner=block.owner,
                identities=members,
            )
            self.book.put_block(cidr, self.blocks[cidr])

    @rule()
    def plan_again(self) -> None:
        self.networks = dict(self.networks)
        self.book.plan(self.networks)

    @invariant()
    def counts(self) -> None:
        counts = self.book.counts("n", self.now)
        inside = [address for address in self.held if any(cidr.contains(address) for cidr in self.blocks)]
        assert counts["blocks"] == len(self.blocks)
        assert counts["in-use"] == len(inside)
        assert counts["resting"] == sum(self._rests(address) for address in self.freed)


Books.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase


def _full_block(book: FixedAddresses, *members: Identity) -> list[Address]:
    """A block all of whose four addresses are held."""
    cidr = STATIC[0].subnet(30, 0)
    names = tuple(sorted(one.id for one in members))
    block = Block(
        cidr=cidr, span=cidr, network="n", host=SERVER, allocator=SERVER, owner=WEB.owner, identities=names, sequence=1
    )
    book.plan({"n": NETWORK})
    book.put_block(cidr, block)
    addresses = [cidr.address(offset) for offset in range(4)]
    for address in addresses:
        book.put_address(address, "somebody", 0)
    assert book.choose("n", WEB.id, 0) is None
    return addresses


def test_an_address_rests_after_each_of_its_uses() -> None:
    book = FixedAddresses(REST)
    first = _full_block(book, WEB)[0]
    for began in (0, 100, 200):
        book.put_address(first, "", began)
        assert book.choose("n", WEB.id, began + REST - 1) is None
        assert book.choose("n", WEB.id, began + REST) == first
        book.put_address(first, "somebody", began + REST)
        book.settle(first)


def test_what_was_chosen_in_vain_comes_in_its_old_turn() -> None:
    book = FixedAddresses(REST)
    first, second = _full_block(book, WEB)[:2]
    book.put_address(second, "", 0)
    book.put_address(first, "", 1)
    assert book.choose("n", WEB.id, 50) == second
    book.settle(second)
    assert book.choose("n", WEB.id, 50) == second
    assert book.choose("n", WEB.id, 50) == first


def test_a_rest_begins_again_after_a_use_that_nobody_saw() -> None:
    book = FixedAddresses(REST)
    first = _full_block(book, WEB)[0]
    book.put_address(first, "", 0, 7)
    book.put_address(first, "", 50, 7)
    assert book.choose("n", WEB.id, REST) == first
    book.settle(first)
    book.put_address(first, "", 100, 9)
    assert book.choose("n", WEB.id, 100 + REST - 1) is None
    assert book.choose("n", WEB.id, 100 + REST) == first


def test_what_was_chosen_in_vain_and_rests_again_keeps_nobody_waiting() -> None:
    book = FixedAddresses(REST)
    first, second = _full_block(book, WEB)[:2]
    book.put_address(first, "", 0, 7)
    book.put_address(second, "", 1, 8)
    assert book.choose("n", WEB.id, 50) == first
    book.put_address(first, "", 50, 9)
    book.settle(first)
    assert book.choose("n", WEB.id, 50) == second
    assert book.choose("n", WEB.id, 50) is None
    assert book.choose("n", WEB.id, 50 + REST) == first


def test_an_identity_that_joins_a_block_gets_what_rests_in_it() -> None:
    book = FixedAddresses(REST)
    first = _full_block(book, WEB)[0]
    book.put_address(first, "", 0)
    cidr = STATIC[0].subnet(30, 0)
    both = tuple(sorted((WEB.id, DB.id)))
    book.put_block(
        cidr,
        Block(cidr=cidr, span=cidr, network="n", host=SERVER, allocator=SERVER, owner=WEB.owner, identities=both),
    )
    assert book.choose("n", DB.id, REST - 1) is None
    assert book.choose("n", DB.id, REST) == first
