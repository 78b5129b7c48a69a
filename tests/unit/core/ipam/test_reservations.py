"""Which fixed address is next, against a plain model of who has what since when."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

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

    chosen = Bundle("chosen")

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

    @rule(identity=st.sampled_from([WEB, DB]))
    def grow(self, identity: Identity) -> None:
        occupied = Occupied()
        for cidr in self.blocks:
            occupied.add(cidr)
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

    @rule(target=chosen, identity=st.sampled_from([WEB, DB]))
    def choose(self, identity: Identity) -> Address | None:
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
        return found

    @rule(target=chosen, offset=st.integers(0, 255))
    def choose_this(self, offset: int) -> Address | None:
        address = CIDR.address(offset)
        refused = bool(self.book.choose_this(address, self.now))
        assert refused == (address in self.held or address in self.open or self._rests(address))
        if refused:
            return None
        self.open.add(address)
        return address

    @rule(address=chosen, kept=st.booleans())
    def settle(self, address: Address | None, kept: bool) -> None:
        if address is None or address not in self.open:
            return
        if kept and any(cidr.contains(address) for cidr in self.blocks):
            self.held[address] = "somebody"
            self.freed.pop(address, None)
            self.book.put_address(address, "somebody", self.now)
        self.open.discard(address)
        self.book.settle(address)

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        if self.held:
            address = data.draw(st.sampled_from(sorted(self.held)))
            del self.held[address]
            self.freed[address] = self.now
            self.book.put_address(address, "", self.now)
            self.book.put_address(address, "", self.now + 1)  # said again, it changes nothing

    @rule(seconds=st.sampled_from([1, 4, REST]))
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


Books.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase
