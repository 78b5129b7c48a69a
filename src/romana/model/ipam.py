"""Spans, blocks and allocations: who holds which addresses."""

from __future__ import annotations

import msgspec

from romana.model.address import Address, Prefix
from romana.model.tenancy import Owner

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
    of them are in that class. `sequence` grows with every change of owner.
    """

    cidr: Prefix
    span: Prefix
    network: str
    host: str
    allocator: str
    owner: Owner | None = None
    identities: tuple[str, ...] = ()
    sequence: int = 0


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """One address in use, by the endpoint that has it. `sequence` tells it from earlier uses of the same address."""

    address: Address
    block: Prefix
    endpoint: str
    sequence: int
