"""One host with the real rules, for small loads: `core.ipam` decides, and this does what an agent does around it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from romana.codec.text import parse_prefix
from romana.core.ipam import AddressBook, claim
from romana.core.ipam.claims import ClaimChanges, ClaimState, fill_stock
from romana.core.ipam.occupied import Occupied
from romana.core.planner.load import Course, Event
from romana.core.planner.placement import HostNeeds, Rules
from romana.model.address import Prefix
from romana.model.errors import Exhausted
from romana.model.ipam import Block, Retired, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network
from romana.model.view import Claim

HOST = "h"
GROUP = parse_prefix("10.0.0.0/12")


class RealHost:
    """Its spans and blocks, and its address book."""

    def __init__(self, rules: Rules, course: Course) -> None:
        self.rules = rules
        self.course = course
        block = 32 - (rules.block - 1).bit_length()
        network = Network(
            name="n",
            cidr=GROUP,
            block_length=block,
            span_length=block - (rules.span - 1).bit_length(),
            mixed=rules.mixed,
            stock=rules.stock,
        )
        self.networks = {"n": network}
        self.spans: dict[Prefix, Span] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.taken = Occupied()
        self.used: Counter[Prefix] = Counter()
        self.present: Counter[Owner] = Counter()
        self.empty_since: dict[Prefix, int] = {}
        self.classes = {self.identity(n).id: str(owner) for n, owner in enumerate(course.owner_of)}
        self.book = AddressBook(HOST, boot_id="b", rest=rules.rest)
        self.starts = self.claims = 0
        self.retired: dict[Prefix, Retired] = {}
        self.take_in(fill_stock(self.state(), HOST))

    def run(self, events: list[Event]) -> HostNeeds:
        until = round(self.course.load.hours * 3600)
        for event in events:
            if event.at < until:
                self.give_back(event.at)
                (self.start if event.starts else self.end)(event)
        self.give_back(until)
        return self.needs()

    def needs(self) -> HostNeeds:
        owned = [block for block in self.blocks.values() if block.owner is not None]
        mixed = [block for block in self.blocks.values() if block.mixed]
        held = {block.span for block in self.blocks.values()}
        return HostNeeds(
            endpoints=sum(self.used.values()),
            resting=0,
            owned=len(owned),
            mixed=len(mixed),
            stock=len(self.blocks) - len(owned) - len(mixed),
            spans=max(1, len(held)),
            in_mixed=sum(self.used[block.cidr] for block in mixed),
            most_blocks=0,
            starts=self.starts,
            claims=self.claims,
            messages=0,
        )

    def state(self) -> ClaimState:
        return ClaimState(
            networks=self.networks,
            group_cidrs={"n": GROUP},
            spans=self.spans,
            blocks=self.blocks,
            class_of=self.classes,
            used=self.used,
            taken=self.taken,
            retired=self.retired,
        )

    def identity(self, workload: int) -> Identity:
        owner = Owner(f"t{self.course.owner_of[workload]}", "default")
        return Identity(owner=owner, labels={"app": str(workload)})

    def take_in(self, changes: ClaimChanges) -> None:
        for span in changes.spans:
            self.spans[span.cidr] = span
            self.taken.add(span.cidr)
        self.blocks |= {block.cidr: block for block in changes.blocks}
        self.tell()

    def tell(self) -> None:
        """The host's view: its blocks, and the classes of the identities in them."""
        known = {name for block in self.blocks.values() for name in block.identities}
        self.book.update(self.networks, self.blocks, {name: self.classes[name] for name in known})

    def start(self, event: Event) -> None:
        identity = self.identity(event.workload)
        known = any(identity.id in block.identities for block in self.blocks.values())
        self.starts += event.at > 0
        try:
            if not known:
                raise Exhausted
            self.allocate(event, identity)
        except Exhausted:
            self.claim_and_allocate(event, identity)
        else:
            left = self.book.left(identity, ["n"], event.at, enough=self.rules.low)
            if self.book.serves(identity.id, "n") and sum(left.values()) < self.rules.low:
                serving = [cidr for cidr, block in self.blocks.items() if identity.id in block.identities]
                self.ask(identity, tuple(serving))

    def claim_and_allocate(self, event: Event, identity: Identity) -> None:
        """A block that is joined may have nothing but resting addresses: then the next claim says that it is full."""
        for _ in range(len(self.blocks) + 2):
            self.claims += event.at > 0
            self.ask(identity, self.book.full(identity.id, ["n"], event.at))
            with suppress(Exhausted):
                self.allocate(event, identity)
                return
        raise AssertionError("no claim gave room")

    def ask(self, identity: Identity, full: tuple[Prefix, ...]) -> None:
        self.take_in(
            claim(
                self.state(),
                Claim(host=HOST, epoch=1, identity=identity, full=full, present=self.present[identity.owner]),
            )
        )

    def allocate(self, event: Event, identity: Identity) -> None:
        (allocation,) = self.book.allocate(str(event.pod), identity, ["n"], event.at)
        self.used[allocation.block] += 1
        self.present[identity.owner] += 1

    def end(self, event: Event) -> None:
        self.present[self.identity(event.workload).owner] -= 1
        for allocation in self.book.release(str(event.pod), event.at):
            self.used[allocation.block] -= 1
            if not self.used[allocation.block]:
                self.empty_since[allocation.block] = event.at

    def give_back(self, now: int) -> None:
        """The place of what is given back is not used again here: nobody waits until every host has forgotten it."""
        wait = max(self.rules.idle, self.rules.rest)
        for cidr, since in list(self.empty_since.items()):
            if self.used[cidr]:
                del self.empty_since[cidr]
            elif since + wait <= now:
                del self.empty_since[cidr], self.blocks[cidr]
                self.retired[cidr] = Retired(cidr=cidr, network="n", host=HOST)
                self.book.close(cidr)
                self.tell()
