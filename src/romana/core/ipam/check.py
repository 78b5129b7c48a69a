"""What can be wrong with spans, blocks, endpoints and reservations, by the records alone.

Owns the rules. Refuses to know what is done about a finding. Invariant: a rule looks at one thing and its surroundings,
so that its findings can be made again from the present records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from romana.core.ipam.findings import Records, Wider, cidr_of, finding, leak, leaked_use, place_words, use_finding
from romana.core.ipam.union import Union
from romana.core.topology.place import group_cidrs
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import SERVER, Block, Reservation, Span
from romana.model.report import Finding, FindingKind
from romana.model.topology import Network


class Checker:
    """The rules over one set of records. To make it costs a look at every span, block, blackout and retired CIDR."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._networks: dict[str, Network] = {network.name: network for network in records.plan.networks}
        self._groups: dict[str, Mapping[str, Prefix]] = {}
        self._spans = Wider(records.spans)
        self._blocks = Wider(records.blocks)
        self._retired = Wider(records.retired)
        self._dark = Wider(records.blackouts)
        reserved = [one for network in records.plan.networks for one in network.reserved]
        self._withheld = {
            family: Union(one for one in (*records.blackouts, *reserved) if one.family is family) for family in Family
        }
        self._reserved_for: dict[Address, Reservation] = {
            allocation.address: one for one in records.reservations.values() for allocation in one.allocations
        }

    def span(self, cidr: Prefix) -> Iterator[Finding]:
        """What is wrong with a span; nothing for one that is gone."""
        span = self._records.spans.get(cidr)
        if span is None:
            return
        whose = f"span {cidr} of {place_words(span.host)}"
        misplaced = self._outside_network(cidr, span.network) or self._outside_group(span)
        if misplaced:
            yield finding(FindingKind.OUT_OF_PLAN, cidr, span.host, f"{whose} {misplaced}")
        if self._is_gone(span.host):
            yield finding(
                FindingKind.ORPHAN_SPAN,
                cidr,
                span.host,
                f"span {cidr} belongs to host {span.host}, which is gone; a repair retires it once its blocks are",
                actionable=True,
            )
        yield from self._twice(whose, cidr, span.host, self._spans)

    def block(self, cidr: Prefix) -> Iterator[Finding]:
        """What is wrong with a block; nothing for one that is gone."""
        block = self._records.blocks.get(cidr)
        if block is None:
            return
        span = self._records.spans.get(block.span)
        whose = f"block {cidr} of {place_words(block.host)}"
        misplaced = self._outside_network(cidr, block.network) or self._in_static(block)
        if not misplaced and not block.span.contains(cidr):
            misplaced = f"lies outside its span {block.span}; let its host drain, so that it is given back"
        if misplaced:
            yield finding(FindingKind.OUT_OF_PLAN, cidr, block.host, f"{whose} {misplaced}")
        if self._is_gone(block.host) or span is None:
            why = f"is of host {block.host}, which is gone" if span is not None else f"has lost its span {block.span}"
            yield finding(
                FindingKind.ORPHAN_BLOCK,
                cidr,
                block.host,
                f"block {cidr} {why}; a repair retires it once no endpoint has an address of it",
                actionable=True,
            )
        elif span.host != block.host:
            yield finding(
                FindingKind.DOUBLY_OWNED,
                cidr,
                block.host,
                f"{whose} lies in span {span.cidr} of {place_words(span.host)}, which its routes lead to; let "
                f"{place_words(block.host)} drain, so that it is given back",
            )
        yield from self._twice(whose, cidr, block.host, self._blocks)

    def endpoint(self, name: str) -> Iterator[Finding]:
        """What is wrong with a published endpoint; nothing for one that is gone."""
        endpoint = self._records.endpoints.get(name)
        if endpoint is not None:
            yield from self._endpoint(endpoint)

    def endpoints_in(self, cidr: Prefix) -> Iterator[Finding]:
        """What is wrong with the endpoints in a block; some of it may be told for another block as well.

        Where only endpoints of the block's own host are in it, and nothing of it is withheld, none is looked at: one
        with an address outside its block, or one that another endpoint has too, is to be asked for by its name.
        """
        block = self._records.blocks.get(cidr)
        plain = block is not None and not self._is_gone(block.host) and not self._withheld[cidr.family].within(cidr)
        if block is None or not plain or not self._records.hosts_in(cidr) <= {block.host}:
            for endpoint in self._records.endpoints_in(cidr):
                yield from self._endpoint(endpoint)

    def reservation(self, name: str) -> Iterator[Finding]:
        """What is wrong with addresses that the control plane itself gave to a name."""
        reservation = self._records.reservations.get(name)
        if reservation is None:
            return
        if reservation.host and self._is_gone(reservation.host):
            yield leaked_use(reservation, f"host {reservation.host} is gone", actionable=True)
        for allocation in reservation.allocations:
            holder = self._records.holder(allocation.address)
            other = self._reserved_for.get(allocation.address)
            taken_by = f"endpoint {holder}" if holder not in (None, reservation.endpoint, name) else ""
            if other is not None and other.name != name:
                taken_by = f"reservation {other.name}"
            if taken_by:
                yield Finding(
                    kind=FindingKind.DOUBLY_OWNED,
                    cidr=cidr_of(allocation.address),
                    host=reservation.host,
                    endpoint=reservation.endpoint,
                    sequence=allocation.sequence,
                    sentence=f"{allocation.address} is reserved for {name} and belongs to {taken_by}; end one of the "
                    "two workloads",
                )

    def _endpoint(self, endpoint: Endpoint) -> Iterator[Finding]:
        name = endpoint.id
        if endpoint.allocations and self._is_gone(endpoint.host):
            yield leak(endpoint, f"host {endpoint.host} is gone", actionable=True)
        for allocation in endpoint.allocations:
            address, holder = allocation.address, self._records.holder(allocation.address)
            wrong = self._misplaced(endpoint, address, allocation.block)
            if wrong:
                yield use_finding(FindingKind.OUT_OF_PLAN, endpoint, address, f"{address} of endpoint {name} {wrong}")
            if holder not in (None, name):
                other = self._records.endpoints.get(holder or "")
                yield use_finding(
                    FindingKind.DOUBLY_OWNED,
                    endpoint,
                    address,
                    f"{address} belongs to endpoint {name} on host {endpoint.host} and to {holder} on host "
                    f"{other.host if other else 'unknown'}; a repair keeps the one that its agent confirms when the "
                    "other one is leaked, else end one of the two workloads",
                    actionable=True,
                )

    def _twice(self, whose: str, cidr: Prefix, host: str, among: Wider) -> Iterator[Finding]:
        """Overlaps are told at the smaller one of the two."""
        wider = among.wider(cidr)
        if wider is not None:
            yield finding(
                FindingKind.DOUBLY_OWNED,
                cidr,
                host,
                f"{whose} lies inside {wider}, which is claimed as well; let one of the two hosts drain, so that it is "
                "given back",
            )
        retired = self._retired.of(cidr)
        if retired is not None:
            yield finding(
                FindingKind.DOUBLY_OWNED,
                cidr,
                host,
                f"{whose} was handed out while {retired} is retired and not yet forgotten by every host; let it drain",
            )

    def _misplaced(self, endpoint: Endpoint, address: Address, cidr: Prefix) -> str:
        block = self._records.blocks.get(cidr)
        if block is None:
            return f"is said to be of block {cidr}, which is not there; end its workload"
        if not cidr.contains(address):
            return f"lies outside its block {cidr}; end its workload"
        if block.host not in (endpoint.host, SERVER):
            return f"lies in block {cidr} of host {block.host}, not of {endpoint.host}; end its workload"
        network = self._networks.get(block.network)
        reserved = next((one for one in network.reserved if one.contains(address)), None) if network else None
        dark = self._dark.of(address)
        if reserved is not None:
            return f"is in use although {reserved} is reserved; end its workload, it gets another one"
        return f"is in use although {dark} is blacked out; end its workload, it gets another one" if dark else ""

    def _outside_network(self, cidr: Prefix, name: str) -> str:
        network = self._networks.get(name)
        if network is None:
            return f"is of network {name}, which the plan does not have; load a plan that has it, or let its host drain"
        if not network.cidr.contains(cidr):
            return f"lies outside network {name} ({network.cidr}); let its host drain, so that it is given back"
        return ""

    def _outside_group(self, span: Span) -> str:
        host = self._records.hosts.get(span.host)
        if host is None:  # the control plane's, or an orphan
            return ""
        if span.host not in self._groups:
            self._groups[span.host] = group_cidrs(self._records.plan, host)
        group = self._groups[span.host].get(span.network)
        if group is None:
            return f"is of network {span.network}, in which the host has no group; let the host drain"
        if group.contains(span.cidr):
            return ""
        return f"lies outside the host's group {group}, so that it takes routes of its own; let the host drain"

    def _in_static(self, block: Block) -> str:
        network = self._networks.get(block.network)
        if network is None or block.allocator == SERVER:
            return ""
        static = next((one for one in network.static if one.overlaps(block.cidr)), None)
        return f"is delegated, although {static} is for fixed addresses; let its host drain" if static else ""

    def _is_gone(self, host: str) -> bool:
        return host != SERVER and host not in self._records.hosts
