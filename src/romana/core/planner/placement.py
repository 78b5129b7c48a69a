"""The placement model: how many blocks, spans and addresses a host needs for its part of a load.

Owns a fast restatement of the rules of claims, address books and returns, in numbers instead of addresses. Refuses to
know networks and hosts' names. Invariant: on the same events it has as many blocks, spans and stock as the real ones
have (a test compares them).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

import msgspec

from romana.core.ipam.addresses import REST
from romana.core.ipam.claims import MIXED_IDENTITIES
from romana.core.planner.load import Course, Event

LOOK_AHEAD = 4
"""With fewer addresses left, an agent claims an identity's next block before it is needed."""
IDLE = 600
"""Seconds after which a block without endpoints goes back."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What a network says about blocks: addresses in one, blocks in a span, and the numbers of `Network`."""

    block: int
    span: int
    mixed: int
    stock: int
    low: int = LOOK_AHEAD
    rest: int = REST
    idle: int = IDLE


class HostNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What one host has at the end of a load, and what happened on the way.

    `owned`, `mixed` and `stock` count blocks, `in_mixed` endpoints in mixed blocks. `starts` are those after the
    beginning, `claims` those of them that waited for the control plane, `messages` the changes of the entries of all
    other hosts. `away_starts` were tried while the control plane was away; of these failed `away_unknown` since the
    host did not know the identity, and `away_full` for want of a block. `most_blocks` is the largest number at a time.
    """

    endpoints: int
    resting: int
    owned: int
    mixed: int
    stock: int
    spans: int
    in_mixed: int
    most_blocks: int
    starts: int
    claims: int
    messages: int
    away_starts: int = 0
    away_unknown: int = 0
    away_full: int = 0

    @property
    def blocks(self) -> int:
        """All blocks of the host."""
        return self.owned + self.mixed + self.stock

    @property
    def entries(self) -> int:
        """What other hosts' rows may have of this host: its owned blocks, and single addresses in mixed ones."""
        return self.owned + self.in_mixed


def needs(course: Course, rules: Rules, *, host: int, only: frozenset[int] | None = None) -> HostNeeds:
    """What a host needs in one network; `only` are the tenants that draw from it, None for all."""
    events = course.events[host]
    if only is not None:
        events = [event for event in events if course.tenant_of[event.workload] in only]
    return _Host(rules, course.owner_of).run(events, round(course.load.hours * 3600))


class _Block:
    """A block with an owner, or mixed (None).

    `fresh` addresses were never used, `used` are in use, `resting` has since when each of the others is free, and who
    had it: nobody else gets it in a mixed block. `declared` are the workloads that may live in it.
    """

    __slots__ = ("declared", "empty_since", "fresh", "gone", "owner", "resting", "span", "used")

    def __init__(self, span: int, size: int, owner: int | None) -> None:
        self.span = span
        self.fresh = size
        self.used = 0
        self.owner = owner
        self.resting: list[tuple[int, int]] = []
        self.declared: set[int] = set()
        self.empty_since = 0
        self.gone = False


class _Host:
    """One host's blocks over time. The mixed blocks are those of the owner None."""

    def __init__(self, rules: Rules, owner_of: Sequence[int]) -> None:
        self.rules = rules
        self.owner_of = owner_of
        self.blocks: dict[int | None, list[_Block]] = {None: []}
        self.present: Counter[int] = Counter()
        self.known: Counter[int] = Counter()  # workload -> blocks that declare it
        self.block_of: dict[int, _Block] = {}
        self.room_in: list[int] = []  # free blocks of each span
        self.stock: list[int] = []  # the span of each
        self.empty: deque[tuple[int, _Block]] = deque()  # since when; most are in use again when their time comes
        self.owned = self.most = self.starts = self.claims = self.messages = 0
        self.fill_stock()

    def run(self, events: Sequence[Event], until: int) -> HostNeeds:
        later = 0
        for event in events:
            if event.at >= until:
                break
            later += 1
            self.give_back(event.at)
            if event.starts:
                self.start(event)
            else:
                self.end(event)
        self.give_back(until)
        return self.away(events[later:], self.result(until))

    def result(self, now: int) -> HostNeeds:
        everything = [block for blocks in self.blocks.values() for block in blocks]
        begun = now - self.rules.rest
        return HostNeeds(
            endpoints=len(self.block_of),
            resting=sum(since > begun for block in everything for since, _ in block.resting),
            owned=self.owned,
            mixed=len(self.blocks[None]),
            stock=len(self.stock),
            spans=max(1, sum(room < self.rules.span for room in self.room_in)),
            in_mixed=sum(block.used for block in self.blocks[None]),
            most_blocks=self.most,
            starts=self.starts,
            claims=self.claims,
            messages=self.messages,
        )

    def start(self, event: Event) -> None:
        """As an agent: from what serves the identity, else after a claim; ahead of need it claims in the background."""
        owner = self.owner_of[event.workload]
        block = self.serving(owner, event.workload, event.at)
        if block is not None:
            self.use(block, event)
            self.look_ahead(owner, event)
        else:
            self.use(self.claimed(owner, event), event)
        self.starts += event.at > 0

    def serving(self, owner: int, workload: int, now: int) -> _Block | None:
        """A block with an address that needs no claim: one of the owner's, else, for its first endpoints, a mixed one
        that declares the workload.
        """
        if not self.known[workload]:
            return None
        block = self.with_room(self.blocks.get(owner, ()), owner, now)
        if block is None and self.present[owner] < self.rules.mixed:
            block = self.with_room((one for one in self.blocks[None] if workload in one.declared), owner, now)
        return block

    def with_room(self, blocks: Iterable[_Block], owner: int, now: int) -> _Block | None:
        """The first block with an address that was never used, else the one with the longest rested."""
        rested: _Block | None = None
        oldest = now - self.rules.rest
        for block in blocks:
            if block.fresh:
                return block
            since = next((since for since, last in block.resting if block.owner is not None or last == owner), now)
            if since < oldest or (rested is None and since == oldest):
                rested, oldest = block, since
        return rested

    def claimed(self, owner: int, event: Event) -> _Block:
        """The block that claims answer, with the stock filled up.

        One of the owner's that is joined may have nothing but addresses that rest: then the next claim says that it is
        full.
        """
        mixed = self.present[owner] < self.rules.mixed and owner not in self.blocks
        for block in self.blocks[None] if mixed else self.blocks.get(owner, []):
            if self.is_full(block, owner, event) or (mixed and len(block.declared) >= MIXED_IDENTITIES):
                continue
            self.claims += event.at > 0
            self.declare(block, event.workload)
            self.fill_stock()
            if self.with_room([block], owner, event.at) is not None:
                return block
        self.claims += event.at > 0
        block = self.add(None if mixed else owner, self.free_span(), event.at)
        self.fill_stock()
        return block

    def is_full(self, block: _Block, owner: int, event: Event) -> bool:
        """Whether a claim passes over a block: no address is free, or the agent says so, who knows what rests in the
        blocks of an identity and in mixed ones; of an identity that is new to it it knows no class.
        """
        if block.used == self.rules.block or event.workload in block.declared:
            return True
        if block.owner is not None or block.fresh:
            return False
        return not self.known[event.workload] or self.with_room([block], owner, event.at) is None

    def add(self, owner: int | None, span: int, now: int) -> _Block:
        block = _Block(span, self.rules.block, owner)
        self.blocks.setdefault(owner, []).append(block)
        self.owned += owner is not None
        self.messages += owner is not None and now > 0
        self.note_most()
        return block

    def free_span(self, *, may_grow: bool = True) -> int:
        """The first span with a free block, which is taken; a new one when there is none, -1 when that may not be."""
        for span, room in enumerate(self.room_in):
            if room:
                self.room_in[span] -= 1
                return span
        if not may_grow:
            return -1
        self.room_in.append(self.rules.span - 1)
        return len(self.room_in) - 1

    def fill_stock(self) -> None:
        while len(self.stock) < self.rules.stock:
            span = self.free_span(may_grow=not self.room_in)
            if span < 0:
                break
            self.stock.append(span)
        self.note_most()

    def note_most(self) -> None:
        self.most = max(self.most, self.owned + len(self.blocks[None]) + len(self.stock))

    def use(self, block: _Block, event: Event) -> None:
        if block.fresh:
            block.fresh -= 1
        else:
            owner = self.owner_of[event.workload]
            index = next(i for i, (_, last) in enumerate(block.resting) if block.owner is not None or last == owner)
            del block.resting[index]
        block.used += 1
        self.block_of[event.pod] = block
        self.present[self.owner_of[event.workload]] += 1
        self.messages += block.owner is None and event.at > 0
        self.declare(block, event.workload)

    def declare(self, block: _Block, workload: int) -> None:
        if workload not in block.declared:
            block.declared.add(workload)
            self.known[workload] += 1

    def look_ahead(self, owner: int, event: Event) -> None:
        """The owner's next block, when few addresses are left in those it has."""
        own = self.blocks.get(owner)
        if own is None:
            return
        ripe = event.at - self.rules.rest
        left = 0
        for block in own:
            left += block.fresh + sum(since <= ripe for since, _ in block.resting)
            if left >= self.rules.low:
                return
        self.declare(self.add(owner, self.free_span(), event.at), event.workload)
        self.fill_stock()

    def end(self, event: Event) -> None:
        block = self.block_of.pop(event.pod, None)
        if block is None:  # it could not start
            return
        owner = self.owner_of[event.workload]
        self.present[owner] -= 1
        self.messages += block.owner is None
        block.used -= 1
        block.resting.append((event.at, owner))
        if not block.used:
            block.empty_since = event.at
            self.empty.append((event.at, block))

    def give_back(self, now: int) -> None:
        """Blocks that nobody used for long enough, and in which nothing rests."""
        wait = max(self.rules.idle, self.rules.rest)
        while self.empty and self.empty[0][0] + wait <= now:
            since, block = self.empty.popleft()
            if not block.gone and not block.used and block.empty_since == since:
                self.remove(block)

    def remove(self, block: _Block) -> None:
        block.gone = True
        self.blocks[block.owner].remove(block)
        if block.owner is not None:
            self.owned -= 1
            self.messages += 1
            if not self.blocks[block.owner]:
                del self.blocks[block.owner]
        self.room_in[block.span] += 1
        self.known.subtract(block.declared)

    def away(self, events: Sequence[Event], before: HostNeeds) -> HostNeeds:
        """The rest of the events, while the control plane is away: nothing is claimed and nothing goes back."""
        starts = unknown = full = 0
        for event in events:
            if not event.starts:
                self.end(event)
                continue
            starts += 1
            owner, known = self.owner_of[event.workload], self.known[event.workload]
            block = self.serving(owner, event.workload, event.at)
            if block is None and known:  # sharing comes before the stock
                shared = (one for one in self.blocks[None] if event.workload in one.declared)
                block = self.with_room(shared, owner, event.at)
            if block is None and known and self.stock:
                block = self.add(owner, self.stock.pop(), event.at)
            if block is not None:
                self.use(block, event)
            elif known:
                full += 1
            else:
                unknown += 1
        return msgspec.structs.replace(before, away_starts=starts, away_unknown=unknown, away_full=full)
