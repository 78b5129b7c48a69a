"""What findings are made of: the records that are checked, look-ups in them, and the words of a finding.

Owns no rule. Invariant: everything a rule needs is looked up in a time that does not grow with the number of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set

import msgspec

from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Blackout, Block, Reservation, Retired, Span
from romana.model.report import BlockState, Finding, FindingKind
from romana.model.topology import AddressPlan, Host

CONTROL_PLANE = "the control plane"


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked. `holder` answers who has an address as far as is known, `written` at which revision a block's
    record was written. The others answer which endpoints are in a block, and on which hosts these are; a host's
    endpoints by id, with the sequence of each address; and a host's blocks.
    """

    plan: AddressPlan
    hosts: Mapping[str, Host]
    spans: Mapping[Prefix, Span]
    blocks: Mapping[Prefix, Block]
    endpoints: Mapping[str, Endpoint]
    holder: Callable[[Address], str | None]
    written: Callable[[Prefix], int]
    endpoints_in: Callable[[Prefix], Iterable[Endpoint]]
    hosts_in: Callable[[Prefix], Set[str]]
    uses_on: Callable[[str], Mapping[str, Mapping[Address, int]]]
    blocks_on: Callable[[str], Mapping[Prefix, Block]]
    reservations: Mapping[str, Reservation] = {}
    blackouts: Mapping[Prefix, Blackout] = {}
    retired: Mapping[Prefix, Retired] = {}


class Wider:
    """Which of some CIDRs contains another one: a look-up for each length there is."""

    def __init__(self, cidrs: Mapping[Prefix, object]) -> None:
        self._cidrs = cidrs
        self._lengths = sorted({(cidr.family, cidr.length) for cidr in cidrs})

    def of(self, cidr: Prefix) -> Prefix | None:
        """The longest one that contains it, or is it."""
        return cidr if cidr in self._cidrs else self.wider(cidr)

    def wider(self, cidr: Prefix) -> Prefix | None:
        """The longest one that contains it and more."""
        for family, length in reversed(self._lengths):
            if family is cidr.family and length < cidr.length and cidr.supernet(length) in self._cidrs:
                return cidr.supernet(length)
        return None


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """In the order of a report: by kind, then by address."""
    kinds = list(FindingKind)
    return tuple(
        sorted(
            findings, key=lambda one: (kinds.index(one.kind), one.cidr, one.host, one.endpoint, one.sequence, one.link)
        )
    )


def finding(kind: FindingKind, cidr: Prefix, host: str, sentence: str, *, actionable: bool = False) -> Finding:
    """One about a span or a block."""
    return Finding(kind=kind, cidr=cidr, host=host, sentence=sentence, actionable=actionable)


def use_finding(
    kind: FindingKind, endpoint: Endpoint, address: Address, sentence: str, *, actionable: bool = False
) -> Finding:
    """One about an endpoint's use of an address."""
    sequence = next((one.sequence for one in endpoint.allocations if one.address == address), 0)
    return Finding(
        kind=kind,
        cidr=cidr_of(address),
        host=endpoint.host,
        endpoint=endpoint.id,
        sequence=sequence,
        sentence=sentence,
        actionable=actionable,
    )


def leak(endpoint: Endpoint, why: str, *, actionable: bool = False) -> Finding:
    """One for an endpoint, told at its first address."""
    return use_finding(
        FindingKind.LEAKED,
        endpoint,
        endpoint.addresses[0],
        f"endpoint {endpoint.id} ({listed(uses_of(endpoint.allocations))}) is published, but {why}; a repair removes "
        "it",
        actionable=actionable,
    )


def leaked_use(reservation: Reservation, why: str, *, actionable: bool = False) -> Finding:
    """A reservation in use by nobody."""
    first = min(reservation.allocations, key=lambda one: one.address)
    return Finding(
        kind=FindingKind.LEAKED,
        cidr=cidr_of(first.address),
        host=reservation.host,
        endpoint=reservation.endpoint,
        sequence=first.sequence,
        sentence=f"reservation {reservation.name} ({listed(uses_of(reservation.allocations))}) is in use by "
        f"{reservation.endpoint}, but {why}; a repair ends that use",
        actionable=actionable,
    )


def cidr_of(address: Address) -> Prefix:
    """An address as a CIDR of full length."""
    return Prefix(address.family, address.value, address.length)


def place_words(host: str) -> str:
    """Whose a span or block is."""
    return f"host {host}" if host else CONTROL_PLANE


def uses_of(allocations: Iterable[Allocation]) -> dict[Address, int]:
    """Which use of which address: what makes allocations the same."""
    return {one.address: one.sequence for one in allocations}


def listed(uses: Mapping[Address, int]) -> str:
    """Addresses and their uses in words."""
    return ", ".join(f"{address} (use {sequence})" for address, sequence in sorted(uses.items())) or "no address"


def block_words(block: Block | BlockState) -> str:
    """Owner and use of a block in words."""
    who = "mixed" if block.mixed else f"owned by {block.owner}" if block.owner else "without an owner"
    return f"{who} (use {block.sequence})"
