"""Changing a plan while endpoints live: what would be orphaned, said before anything is done.

Owns the comparison of a new plan with what is in use. Refuses to change anything. Invariant: after a change without
faults every span lies in its host's leaf group, or in another group by somebody's word, and outside static ranges,
every reservation in a static range, and none of what is in use in a network that its tenant may no longer use, or in a
CIDR that is reserved only now.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from romana.core.topology.settle import Leaves, move_words, settle_hosts
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Fault
from romana.model.ipam import SERVER, Blackout, Block, Reservation, Retired, Span
from romana.model.topology import AddressPlan, Host, Network

MOST_EXAMPLES = 5


class InUse(msgspec.Struct, frozen=True, kw_only=True):
    """What lives under a plan: hosts, reservations by name, all else by CIDR.

    `endpoints_in` answers the endpoints that have an address of a block.
    """

    hosts: Mapping[str, Host]
    spans: Mapping[Prefix, Span]
    blocks: Mapping[Prefix, Block]
    endpoints_in: Callable[[Prefix], Iterable[Endpoint]]
    retired: Mapping[Prefix, Retired] = {}
    reservations: Mapping[str, Reservation] = {}
    blackouts: Mapping[Prefix, Blackout] = {}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts with their places in the new plan, and everything in use that it has no place for."""

    hosts: dict[str, Host]
    faults: tuple[Fault, ...] = ()


def check_change(old: AddressPlan, new: AddressPlan, in_use: InUse, moving: Collection[str] = ()) -> Verdict:
    """Whether the new plan may be put in force as a whole: yes when there are no faults.

    Hosts that are `moving` go to their group in it with the spans that they have; these, and those that were away from
    their host's group before, stay where they are in the network.
    """
    before = Leaves(old)
    away = {cidr for cidr, span in in_use.spans.items() if span.host in moving or _is_away(before, in_use, span)}
    follows = [span for cidr, span in in_use.spans.items() if cidr not in away]
    settled, faults = settle_hosts(new, in_use.hosts, follows, in_use.blackouts, moving)
    faults += [Fault("moving", f"no host {name!r}") for name in sorted(set(moving) - in_use.hosts.keys())]
    check = _Check(old, new, in_use, away)
    faults += check.networks()
    faults += check.spans(settled)
    faults += check.reserved()
    faults += check.static()
    faults += check.tenants()
    faults += check.blackouts()
    return Verdict(hosts=settled, faults=tuple(faults))


class _Check:
    """The comparisons, each as a generator of faults."""

    def __init__(self, old: AddressPlan, new: AddressPlan, in_use: InUse, away: Collection[Prefix] = ()) -> None:
        self.before = {network.name: network for network in old.networks}
        self.after = {network.name: network for network in new.networks}
        self.new = new
        self.in_use = in_use
        self.away = away

    def networks(self) -> Iterator[Fault]:
        """Networks that go away or are divided in another way, while spans of them are claimed or just given back."""
        held: dict[str, list[Prefix]] = {}
        for span in self.in_use.spans.values():
            if span.host != SERVER:
                held.setdefault(span.network, []).append(span.cidr)
        for gone in self.in_use.retired.values():
            held.setdefault(gone.network, []).append(gone.cidr)
        for block in self.reserved_blocks():
            held.setdefault(block.network, []).append(block.span)
        for name, cidrs in sorted(held.items()):
            place = f"networks.{name}"
            was, now = self.before.get(name), self.after.get(name)
            if was is None:
                continue
            if now is None:
                yield Fault(place, f"is not in the new plan, but {self.weight(cidrs)} of it are in use")
            elif _shape(was) != _shape(now):
                yield Fault(
                    place,
                    f"has {self.weight(cidrs)} in use, {_shape_words(was)}; "
                    f"they cannot become {_shape_words(now)}; add another network instead",
                )

    def reserved_blocks(self) -> Iterator[Block]:
        """The control plane's own blocks that have an address of a reservation."""
        named = {one.block for reservation in self.in_use.reservations.values() for one in reservation.allocations}
        return (self.in_use.blocks[cidr] for cidr in named if cidr in self.in_use.blocks)

    def weight(self, cidrs: Iterable[Prefix]) -> str:
        """CIDRs of spans with what is in them."""
        found = set(cidrs)
        blocks = [block for cidr in found for block in self.blocks_by_span.get(cidr, ())]
        endpoints = sum(1 for block in blocks for _ in self.in_use.endpoints_in(block))
        return f"{_listed(found)} ({len(blocks)} block(s), {endpoints} endpoint(s))"

    @functools.cached_property
    def blocks_by_span(self) -> dict[Prefix, list[Prefix]]:
        """Span -> the blocks in it."""
        found: dict[Prefix, list[Prefix]] = {}
        for cidr, block in self.in_use.blocks.items():
            found.setdefault(block.span, []).append(cidr)
        return found

    def spans(self, hosts: Mapping[str, Host]) -> Iterator[Fault]:
        leaves = Leaves(self.new)
        lost: dict[tuple[str, str], list[Prefix]] = {}
        for span in self.in_use.spans.values():
            if span.host == SERVER or span.network not in self.after:
                continue
            leaf = leaves.of(hosts[span.host], span.network) if span.host in hosts else None
            if leaf is not None and leaf.cidrs[span.network].contains(span.cidr):
                continue
            if leaf is not None and span.cidr in self.away:
                yield from self.unreachable(leaves, span)
            else:
                lost.setdefault((span.host, span.network), []).append(span.cidr)
        for (host, network), cidrs in sorted(lost.items()):
            own = leaves.of(hosts[host], network) if host in hosts else None
            given = f"{own.cidrs[network]}, group {own.path}" if own else "none"
            yield Fault(
                f"hosts.{host}",
                f"holds {self.weight(cidrs)} of network {network}, outside the group the new plan gives it ({given}); "
                f"{leaves.words(network, cidrs[0])}; keep its group's CIDR, {move_words(host)}, or empty it first",
            )

    def unreachable(self, leaves: Leaves, span: Span) -> Iterator[Fault]:
        """Why a span that is away from its host's group cannot have a route of its own."""
        place, what = f"hosts.{span.host}", f"{self.weight([span.cidr])} of network {span.network}"
        roots = (one.root for one in self.new.topologies if span.network in one.networks)
        over = leaves.over(span.network, span.cidr)
        if not any(root.cidrs[span.network].contains(span.cidr) for root in roots if span.network in root.cidrs):
            sentence = f"{what} would be in no group, where nothing leads to it"
            yield Fault(place, f"{sentence}; keep the network's groups around it")
        elif over is not None and (over.sole_host or over.cidrs[span.network] == span.cidr):
            whose = f"in the part of host {over.sole_host} alone" if over.sole_host else f"all of group {over.path}"
            yield Fault(place, f"{what} would be {whose}, so it cannot be away from it; empty the host first")

    def reserved(self) -> Iterator[Fault]:
        """Addresses in use that the new plan reserves and the old one did not."""
        fresh = {
            name: [cidr for cidr in network.reserved if not self.was_reserved(name, cidr)]
            for name, network in self.after.items()
        }
        if not any(fresh.values()):
            return
        caught: dict[tuple[str, Prefix], list[str]] = {}
        for block in self.in_use.blocks.values():
            over = [cidr for cidr in fresh.get(block.network, ()) if cidr.overlaps(block.cidr)]
            for endpoint in self.in_use.endpoints_in(block.cidr) if over else ():
                for cidr in over:
                    addresses = [one for one in endpoint.addresses if cidr.contains(one)]
                    caught.setdefault((block.network, cidr), []).extend(
                        f"{one} of {endpoint.name}" for one in addresses
                    )
        for name, one in self.in_use.reservations.items():
            for allocation in one.allocations:
                for network, cidrs in fresh.items():
                    for cidr in cidrs:
                        if cidr.contains(allocation.address):
                            words = f"{allocation.address} of reservation {name}"
                            caught.setdefault((network, cidr), []).append(words)
        for (network, cidr), held in sorted(caught.items()):
            if held:
                yield Fault(f"networks.{network}.reserved", f"{cidr} holds addresses in use: {_listed(set(held))}")

    def was_reserved(self, network: str, cidr: Prefix) -> bool:
        was = self.before.get(network)
        return was is not None and any(old.contains(cidr) for old in was.reserved)

    def static(self) -> Iterator[Fault]:
        """Static ranges over what hosts hold, and reservations that lie in none any more."""
        delegated = [(cidr, one) for cidr, one in self.in_use.spans.items() if one.host != SERVER]
        for network in self.new.networks:
            for static in network.static:
                spans = [cidr for cidr, one in delegated if one.network == network.name and static.overlaps(cidr)]
                if spans:
                    sentence = f"{static} covers {self.weight(spans)} that hosts hold; choose a free range"
                    yield Fault(f"networks.{network.name}.static", sentence)
        dropped: dict[tuple[str, Prefix], list[str]] = {}
        for name, reservation in sorted(self.in_use.reservations.items()):
            for allocation in reservation.allocations:
                found = self.range_of(self.before, allocation.address)
                if found is not None and not self.is_static(found[0], allocation.address):
                    dropped.setdefault(found, []).append(f"{name} ({allocation.address})")
        for (network_name, static), names in sorted(dropped.items()):
            sentence = f"{static} is no longer static, but has the addresses of reservation(s) {_listed(names)}"
            yield Fault(f"networks.{network_name}.static", f"{sentence}; keep the range, or remove these first")

    def range_of(self, networks: Mapping[str, Network], address: Prefix) -> tuple[str, Prefix] | None:
        for network in networks.values():
            for static in network.static:
                if static.contains(address):
                    return network.name, static
        return None

    def is_static(self, network: str, address: Prefix) -> bool:
        now = self.after.get(network)
        return now is not None and any(static.contains(address) for static in now.static)

    def tenants(self) -> Iterator[Fault]:
        """Blocks, endpoints and reservations of tenants that a network does not list."""
        closed = {name: set(network.tenants) for name, network in self.after.items() if network.tenants}
        if not closed:
            return
        shut: dict[tuple[str, str], list[Prefix]] = {}
        for block in self.in_use.blocks.values():
            allowed = closed.get(block.network)
            if allowed is None:
                continue
            if block.owner is not None and block.owner.tenant not in allowed:
                shut.setdefault((block.network, block.owner.tenant), []).append(block.cidr)
            for endpoint in self.in_use.endpoints_in(block.cidr) if block.mixed else ():
                tenant = endpoint.identity.owner.tenant
                if tenant not in allowed:
                    inside = [one for one in endpoint.addresses if block.cidr.contains(one)]
                    shut.setdefault((block.network, tenant), []).extend(inside)
        for reservation in self.in_use.reservations.values():
            tenant = reservation.identity.owner.tenant
            for allocation in reservation.allocations:
                for name, allowed in closed.items():
                    if tenant not in allowed and self.after[name].cidr.contains(allocation.address):
                        shut.setdefault((name, tenant), []).append(allocation.address)
        for (name, tenant), held in sorted(shut.items()):
            yield Fault(f"networks.{name}.tenants", f"tenant {tenant} is not listed, but owns {_listed(set(held))}")

    def blackouts(self) -> Iterator[Fault]:
        """Blackouts stay over changes of the plan, so each needs its network around it."""
        for cidr, blackout in sorted(self.in_use.blackouts.items()):
            now = self.after.get(blackout.network)
            place = f"blackouts.{cidr}"
            if now is None:
                sentence = f"is in network {blackout.network}, which is not in the new plan; remove the blackout first"
                yield Fault(place, sentence)
            elif not now.cidr.contains(cidr) or now.cidr == cidr:
                sentence = f"is to be a part of network {blackout.network}, which becomes {now.cidr}"
                yield Fault(place, f"{sentence}; remove the blackout first")


def _is_away(leaves: Leaves, in_use: InUse, span: Span) -> bool:
    """Whether a span is in another group than its host."""
    host = in_use.hosts.get(span.host)
    leaf = None if host is None else leaves.of(host, span.network)
    return leaf is not None and not leaf.cidrs[span.network].contains(span.cidr)


def _shape(network: Network) -> tuple[object, ...]:
    """What must stay as long as spans live: lengths, and with bits placement what numbers them."""
    bits = (network.bits, network.cidr) if network.bits is not None else None
    return network.block_length, network.span_length, bits


def _shape_words(network: Network) -> str:
    words = f"spans of /{network.span_length} with blocks of /{network.block_length}"
    if network.bits is None:
        return words
    bits = network.bits
    widths = f"{bits.host}+{bits.tenant}+{bits.segment}+{bits.endpoint}+{bits.space} bits"
    return f"{words} by ids in {network.cidr} ({widths})"


def _listed(held: Iterable[object]) -> str:
    words = [str(one) for one in sorted(held, key=_order)]
    rest = f" and {len(words) - MOST_EXAMPLES} more" if len(words) > MOST_EXAMPLES else ""
    return ", ".join(words[:MOST_EXAMPLES]) + rest


def _order(one: object) -> tuple[bool, Any]:
    return isinstance(one, str), one
