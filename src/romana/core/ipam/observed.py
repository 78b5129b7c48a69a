"""Where the records and what an agent observed differ.

Owns these rules. Refuses to judge how often something must be seen. Invariant: what is merely under way is no finding.
That rests on the order in which an observation is made (`Observation`): what the agent published before is in the
records, what it did since is named in it, and a block whose record is younger than the agent's view is left alone.
A fixed address says nothing about an agent until an endpoint with it is published: whoever uses it may have none.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from romana.core.ipam.findings import (
    Records,
    Wider,
    block_words,
    cidr_of,
    leak,
    listed,
    place_words,
    use_finding,
    uses_of,
)
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.report import BlockState, Finding, FindingKind, Observation


class Comparison:
    """The rules over one set of records, for any number of observations."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._retired = Wider(records.retired)

    def findings(self, observed: Observation) -> Iterator[Finding]:
        """Every difference, none of them `actionable` on its own."""
        for rule in (self._endpoints, self._routes, self._blocks):
            for found in rule(observed):
                yield msgspec.structs.replace(found, observed=True)

    def _endpoints(self, observed: Observation) -> Iterator[Finding]:
        published = self._records.uses_on(observed.host)
        for name in sorted((published.keys() | observed.endpoints.keys()).difference(observed.pending_endpoints)):
            held = observed.endpoints.get(name)
            if (held or {}) == published.get(name, {}):
                continue
            endpoint = self._records.endpoints.get(name)
            if endpoint is None or endpoint.host != observed.host:
                for address, sequence in sorted((held or {}).items()):
                    yield self._unknown(observed, name, address, sequence)
            elif held is None:
                yield self._missing(observed, endpoint)
            else:
                yield use_finding(
                    FindingKind.DISAGREEMENT,
                    endpoint,
                    endpoint.addresses[0],
                    f"endpoint {name} has {listed(uses_of(endpoint.allocations))} in the records and {listed(held)} at "
                    f"the agent of {observed.host}; end its workload",
                )

    def _missing(self, observed: Observation, endpoint: Endpoint) -> Finding:
        """An endpoint that the agent does not have. One that the kernel still has is not given to others."""
        if observed.strays.keys().isdisjoint(endpoint.addresses):
            return leak(endpoint, f"the agent of {observed.host} does not have it")
        return use_finding(
            FindingKind.DISAGREEMENT,
            endpoint,
            endpoint.addresses[0],
            f"endpoint {endpoint.id} is published and the kernel of {observed.host} has it, but its agent does not "
            "remember it; end its workload",
        )

    def _unknown(self, observed: Observation, name: str, address: Address, sequence: int) -> Finding:
        """An endpoint that the agent believes to be published."""
        holder = self._records.holder(address)
        known = self._records.endpoints.get(name)
        kind, why = FindingKind.DISAGREEMENT, "the records do not have it"
        if holder not in (None, name):
            kind, why = FindingKind.DOUBLY_OWNED, f"the address belongs to {holder}"
        elif known is not None:
            why = f"the records have it on host {known.host}"
        return Finding(
            kind=kind,
            cidr=cidr_of(address),
            host=observed.host,
            endpoint=name,
            sequence=sequence,
            sentence=f"host {observed.host} has endpoint {name} with {address}, but {why}; end its workload",
        )

    def _routes(self, observed: Observation) -> Iterator[Finding]:
        for address, link in sorted(observed.strays.items()):
            holder = self._records.endpoints.get(self._records.holder(address) or "")
            if holder is None or holder.host != observed.host:
                yield Finding(
                    kind=FindingKind.UNALLOCATED,
                    cidr=cidr_of(address),
                    host=observed.host,
                    link=link,
                    sentence=f"host {observed.host} routes {address} to link {link}, and nobody allocated it; while it "
                    "is there the agent gives it to nobody. End that workload, or have a repair cut it off with --cut",
                )

    def _blocks(self, observed: Observation) -> Iterator[Finding]:
        host, pending = observed.host, frozenset(observed.pending_blocks)
        own = {cidr: one for cidr, one in self._records.blocks_on(host).items() if one.allocator == host}
        for cidr, block in sorted(own.items()):
            seen = observed.blocks.get(cidr)
            if cidr in pending or self._records.written(cidr) > observed.revision:
                continue
            if seen is None or (seen.owner, seen.mixed, seen.sequence) != (block.owner, block.mixed, block.sequence):
                has = "does not have it" if seen is None else f"has it {block_words(seen)}"
                yield Finding(
                    kind=FindingKind.DISAGREEMENT,
                    cidr=cidr,
                    host=host,
                    sequence=block.sequence,
                    sentence=f"block {cidr} is {block_words(block)} in the records, and the agent of {host} {has}; "
                    "restart that agent, and drain the host when that does not help",
                )
        for cidr in sorted(observed.blocks.keys() - own.keys() - pending):
            if self._retired.of(cidr) is None:
                yield self._foreign(host, cidr, observed.blocks[cidr])

    def _foreign(self, host: str, cidr: Prefix, seen: BlockState) -> Finding:
        """A block that the agent hands out and that is not its own."""
        other = self._records.blocks.get(cidr)
        where = "nowhere" if other is None else f"at {place_words(other.allocator)}"
        return Finding(
            kind=FindingKind.DISAGREEMENT if other is None else FindingKind.DOUBLY_OWNED,
            cidr=cidr,
            host=host,
            sequence=seen.sequence,
            sentence=f"the agent of {host} hands out block {cidr}, {block_words(seen)}; the records have it {where}; "
            "restart that agent, and end its workloads in that block when that does not help",
        )
