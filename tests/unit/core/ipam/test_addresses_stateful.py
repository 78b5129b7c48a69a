"""An agent's book and the control plane's claims and publications, driven together through every order of events."""

from __future__ import annotations

import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from romana.codec.text import parse_prefix
from romana.core.ipam import (
    AddressBook,
    ClaimState,
    PublicationState,
    apply_publication,
    candidate_networks,
    claim,
    fill_stock,
)
from romana.core.ipam.occupied import Occupied
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Exhausted
from romana.model.ipam import Block, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network
from romana.model.view import BlockTaken, Claim, Publication, Released

REST = 20
NETWORKS = {
    "n4": Network(
        name="n4",
        cidr=parse_prefix("10.0.0.0/27"),
        block_length=30,
        span_length=28,
        stock=1,
        reserved=(parse_prefix("10.0.0.5/32"), parse_prefix("10.0.0.8/31")),
    ),
    "n6": Network(name="n6", cidr=parse_prefix("fd00::/123"), block_length=126, span_length=124, order=1, stock=1),
}
IDENTITIES = [Identity(owner=Owner("acme", segment), labels={"pod": pod}) for segment in "ab" for pod in "xy"]
CLASSES = {identity.id: identity.owner.segment for identity in IDENTITIES}
names = st.sampled_from("abcdefgh")
who = st.sampled_from(IDENTITIES)


class Host(RuleBasedStateMachine):
    """One host, its durable memory, and the control plane, which is away now and then."""

    @initialize()
    def start(self) -> None:
        self.now = 0
        self.boots = 0
        self.blocks: dict[Prefix, Block] = {}
        self.spans: dict[Prefix, Span] = {}
        self.published: dict[str, Endpoint] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.resting: dict[Address, tuple[int, str, str]] = {}
        self.freed: dict[Address, int] = {}
        self.taken: list[BlockTaken] = []
        self.log_started: list[Endpoint] = []
        self.log_released: list[Released] = []
        self.sequences: dict[Address, int] = {}
        self.claimed(fill_stock(self.state(), "h"))
        self.book = self.fresh_book()

    @property
    def boot_id(self) -> str:
        return f"boot {self.boots}"

    def fresh_book(self) -> AddressBook:
        book = AddressBook("h", boot_id=self.boot_id, rest=REST, sequence=max(self.sequences.values(), default=0))
        book.update(NETWORKS, self.blocks, CLASSES)
        return book

    def state(self) -> ClaimState:
        cidrs = {name: network.cidr for name, network in NETWORKS.items()}
        taken = Occupied()
        for cidr in self.spans:
            taken.add(cidr)
        return ClaimState(
            networks=NETWORKS,
            group_cidrs=cidrs,
            spans=self.spans,
            blocks=self.blocks,
            taken=taken,
            class_of=CLASSES,
        )

    def claimed(self, changes: object) -> None:
        self.spans |= {span.cidr: span for span in changes.spans}  # type: ignore[attr-defined]
        self.blocks |= {block.cidr: block for block in changes.blocks}  # type: ignore[attr-defined]

    @rule(name=names, identity=who)
    def add(self, name: str, identity: Identity) -> None:
        try:
            allocations = self.book.allocate(name, identity, ("n4", "n6"), self.now)
        except Exhausted:
            return
        if name in self.endpoints:
            assert allocations == self.endpoints[name].allocations
            return
        assert [one.address.family for one in allocations] == [4, 6]
        for one in allocations:
            assert self.freed.get(one.address, -REST) + REST <= self.now, "rest"
            assert one.sequence > self.sequences.get(one.address, 0)
            assert not any(cidr.contains(one.address) for cidr in NETWORKS["n4"].reserved)
            assert one.block.contains(one.address)
            self.sequences[one.address] = one.sequence
            self.resting.pop(one.address, None)
        made = Endpoint(id=name, name=name, host="h", identity=identity, allocations=allocations, link="rom")
        self.endpoints[name] = made
        self.log_started.append(made)

    @rule(name=names)
    def delete(self, name: str) -> None:
        released = self.book.release(name, self.now)
        known = self.endpoints.pop(name, None)
        assert released == (known.allocations if known else ())
        for one in released:
            self.freed[one.address] = self.now
            self.resting[one.address] = (self.now, self.boot_id, known.identity.id if known else "")
        if released:
            sequences = {one.address: one.sequence for one in released}
            self.log_released.append(Released(endpoint=name, sequences=sequences))

    @rule(identity=who)
    def take(self, identity: Identity) -> None:
        for network in NETWORKS:
            if not self.book.serves(identity.id, network):
                with contextlib.suppress(Exhausted):
                    self.taken.append(self.book.take(identity, network))

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        for address in self.book.rested(self.now):
            self.resting.pop(address, None)

    @rule(identity=who)
    def claim(self, identity: Identity) -> None:
        candidates = candidate_networks(NETWORKS, identity.owner.tenant)
        wanted = tuple(network.name for networks in candidates.values() for network in networks)
        full = self.book.full(identity.id, wanted, self.now)
        with contextlib.suppress(Exhausted):
            self.claimed(claim(self.state(), Claim(host="h", epoch=1, identity=identity, full=full)))
        self.book.update(NETWORKS, self.blocks, CLASSES)

    @rule()
    def publish(self) -> None:
        publication = Publication(
            host="h",
            epoch=1,
            number=1,
            taken=tuple(self.taken),
            started=tuple(self.log_started),
            released=tuple(self.log_released),
        )
        for _ in range(2):  # a repeated one changes nothing
            holders = {address: one.id for one in self.published.values() for address in one.addresses}
            before = PublicationState(
                blocks=self.blocks, endpoints=self.published, holder=holders.get, used=lambda _: 1
            )
            changes = apply_publication(before, publication)
            self.blocks |= {block.cidr: block for block in changes.blocks}
            for name in changes.released:
                del self.published[name]
            self.published |= {one.id: one for one in changes.started}
            assert self.published == self.endpoints
        self.taken, self.log_started, self.log_released = [], [], []
        self.claimed(fill_stock(self.state(), "h"))
        self.book.update(NETWORKS, self.blocks, CLASSES)

    @rule(reboot=st.booleans())
    def restart(self, reboot: bool) -> None:
        if reboot:
            self.boots += 1
            self.now = 0
            self.freed = dict.fromkeys(self.resting, 0)
        self.book = self.fresh_book()
        self.book.restore(self.endpoints.values(), self.resting, taken=self.taken, now=self.now)

    @invariant()
    def every_address_has_one_endpoint(self) -> None:
        held = [address for one in self.endpoints.values() for address in one.addresses]
        assert len(held) == len(set(held))
        for one in self.endpoints.values():
            for allocation in one.allocations:
                assert self.book.holder(allocation.address) == allocation
        assert self.book.counts(self.now)["in-use"] == len(held)

    def teardown(self) -> None:
        """No address is lost: after a full rest, each identity gets all that its blocks have, but what is reserved."""
        self.now += REST
        for name in list(self.endpoints):
            self.delete(name)
        self.now += REST
        blocks = [room.block for room in self.book._blocks.rooms.values() if room.block.network == "n4"]
        for identity in IDENTITIES:
            serving = [block.cidr for block in blocks if identity.id in block.identities]
            usable = {
                cidr.address(offset)
                for cidr in serving
                for offset in range(cidr.size)
                if not any(reserved.contains(cidr.address(offset)) for reserved in NETWORKS["n4"].reserved)
            }
            given: list[Address] = []
            with contextlib.suppress(Exhausted):
                for number in range(100):
                    allocations = self.book.allocate(f"all {number}", identity, ("n4",), self.now)
                    given.append(allocations[0].address)
            assert len(given) == len(set(given))
            assert set(given) == usable
            for number in range(len(given)):
                self.book.release(f"all {number}", self.now)
            self.now += REST


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
