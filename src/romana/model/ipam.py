"""Spans, blocks and allocations: who holds which addresses."""

from __future__ import annotations

import msgspec

from romana.model.address import Address, Prefix
from romana.model.tenancy import Identity, Owner

SERVER = ""
"""The allocator name of the control plane itself; a host's agent allocates under its host name."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """An aligned run of blocks claimed by one host: the unit of routing and of the blackhole."""

    cidr: Prefix
    network: str
    host: str


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A small CIDR inside a span: the unit of ownership and of policy.

    `owner` None is ownerless stock, which everyone denies. `allocator` names who alone hands out its addresses.
    `identities` are the ids of the identities that may live in it: a block means one class to other hosts only while
    all
    of them are in that class. `sequence` grows with every change of owner. A `mixed` block has no owner either, but is
    in use, by identities of several owners: it means nothing as a whole, its addresses are exact entries.
    """

    cidr: Prefix
    span: Prefix
    network: str
    host: str
    allocator: str
    owner: Owner | None = None
    identities: tuple[str, ...] = ()
    sequence: int = 0
    mixed: bool = False

    @property
    def is_stock(self) -> bool:
        """Whether nobody owns or uses it yet."""
        return self.owner is None and not self.mixed


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """A span or block that its host gave back, or lost. Nobody gets its addresses until every host has acknowledged a
    view that says so: a cut-off host would let the new owner pass as the old one. `revision` is that of its record in
    the store, known once it is read from there.
    """

    cidr: Prefix
    network: str
    host: str
    revision: int = 0


class Blackout(msgspec.Struct, frozen=True, kw_only=True):
    """A CIDR that is not to be used, whatever the plan says; it stays over changes of the plan."""

    cidr: Prefix
    network: str
    reason: str = ""


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of tenants (by name) and segments (by `tenant/segment`) in a network with bits placement, from 0."""

    tenants: dict[str, int] = {}
    segments: dict[str, int] = {}


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses that the control plane itself gave to a name, one a family, from blocks that it allocates.

    `host` and `endpoint` say who uses them now, empty for nobody, and `epoch` under which epoch its agent asked for
    that, 0 for a person's word. A `sticky` one stays when its use ends.
    """

    name: str
    identity: Identity
    allocations: tuple[Allocation, ...]
    host: str = ""
    endpoint: str = ""
    sticky: bool = False
    epoch: int = 0


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """One address in use, by the endpoint that has it. `sequence` tells it from earlier uses of the same address."""

    address: Address
    block: Prefix
    endpoint: str
    sequence: int
