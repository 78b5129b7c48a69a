"""Checking addresses: what agents observe, what is found, and what is done about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.model.address import Address, Prefix
from romana.model.route import ObservedRoutes, RouteDifference
from romana.model.tenancy import Owner


class BlockState(msgspec.Struct, frozen=True, kw_only=True):
    """A block as its allocator's book has it; `used` and `resting` are numbers of addresses."""

    sequence: int
    owner: Owner | None = None
    mixed: bool = False
    used: int = 0
    resting: int = 0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent has, asked for by the audit `number`.

    It is sent between two publications: what the agent published before is known to the control plane (at the revision
    `published`), and what it did since is in `pending_endpoints` (ids) and `pending_blocks`. `revision` is that of the
    view which the book was made from. `endpoints` are those of the agent's durable memory, with the sequence of each of
    their addresses; `strays` are addresses that the kernel routes to links of ours and that none of these has. `routes`
    are the other routes, and what the routing daemon was told.
    """

    host: str
    epoch: int
    number: int
    incarnation: str
    revision: int
    published: int = 0
    endpoints: dict[str, dict[Address, int]] = {}
    blocks: dict[Prefix, BlockState] = {}
    strays: dict[Address, str] = {}
    pending_endpoints: tuple[str, ...] = ()
    pending_blocks: tuple[Prefix, ...] = ()
    routes: ObservedRoutes | None = None


class FindingKind(StrEnum):
    """What can be wrong with an address, a block or a span, in the order in which a repair goes about it."""

    LEAKED = "leaked"
    DOUBLY_OWNED = "doubly-owned"
    UNALLOCATED = "unallocated-in-use"
    DISAGREEMENT = "disagreement"
    OUT_OF_PLAN = "out-of-plan"
    ORPHAN_BLOCK = "orphan-block"
    ORPHAN_SPAN = "orphan-span"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be; the `sentence` says what, and what to do.

    `cidr` is the address (in full length), block or span; `endpoint`, `sequence` and `link` are set where they are part
    of it. `observed` tells what an agent's observation showed from what follows from the records alone. `seconds` is
    the time between the first and the last observation that showed it, as far as this romanad knows, and `actionable`
    whether `romana ipam repair` can do something about it.
    """

    kind: FindingKind
    cidr: Prefix
    sentence: str
    host: str = ""
    endpoint: str = ""
    sequence: int = 0
    link: str = ""
    observed: bool = False
    seconds: int = 0
    actionable: bool = False

    @property
    def key(self) -> tuple[FindingKind, Prefix, str, str, int, str]:
        """What makes two findings the same one, whenever they were made."""
        return self.kind, self.cidr, self.host, self.endpoint, self.sequence, self.link


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found, sorted. Nothing is concluded about `unreachable` hosts, which did not answer.

    It holds for one store `incarnation`, at a `revision`. `patience` is how many seconds two observations must lie
    apart before what they show is acted on.
    """

    incarnation: str
    revision: int
    audit: int
    patience: int
    findings: tuple[Finding, ...] = ()
    observed: int = 0
    unreachable: tuple[str, ...] = ()


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The number of the last audit that was asked for; it only grows."""

    number: int


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """What the last observation of a host showed, judged by the romanad that it came to.

    `resting` has addresses at rest by network; `cut` are links that a person had condemned: the host's agent cuts them
    off as long as nobody allocated what they use. `routes` is how the host differs from the route plan.
    """

    number: int
    epoch: int
    findings: tuple[Finding, ...] = ()
    resting: dict[str, int] = {}
    cut: tuple[str, ...] = ()
    routes: tuple[RouteDifference, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did about a finding (`done`), or why it did nothing."""

    finding: Finding
    done: bool
    sentence: str


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did, finding by finding; with `dry_run` what it would have done."""

    dry_run: bool
    outcomes: tuple[Outcome, ...] = ()
