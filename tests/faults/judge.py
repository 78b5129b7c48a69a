"""Whether a recorded run kept the three promises: no address twice, none lost, none leaked.

Pure: it reads a history, and the caller did the looking. Only what is certain counts against anybody.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from tests.faults.history import (
    Fate,
    Final,
    Held,
    History,
    Operation,
    Outcome,
    Seen,
    ServerSeen,
    State,
    Stories,
    Use,
    Verb,
)

GRAIN = 1.0
"""Seconds by which a rest may look shorter: rests are counted in whole seconds."""


class Fault(msgspec.Struct, frozen=True, order=True):
    """A promise that was broken: `twice`, `lost` or `leaked`, and what was seen."""

    promise: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.sentence}"


def judge(history: History) -> list[Fault]:
    """Every promise that this run broke; empty when all were kept."""
    stories = Stories(history.operations)
    found = [Fault("lost", words) for words in stories.contradictions]
    found += _overlaps(stories.uses)
    found += _claimed_twice(history.operations)
    if history.rest:
        found += _rests(stories.uses, history.rest)
    found += _two_holders(history.final)
    for (host, container), fate in stories.fates.items():
        found += _ending(history, host, container, fate)
    found += _strangers(history.final, stories.fates)
    found += _rooms(history.final)
    found += _homeless(history.final.server)
    return sorted(set(found))


def _overlaps(uses: list[Use]) -> Iterator[Fault]:
    for address, having in _by_address(uses).items():
        latest: Use | None = None
        for use in having:
            other = latest is not None and (latest.host, latest.container) != (use.host, use.container)
            if latest is not None and other and use.start < latest.end:
                yield Fault("twice", f"{address} was given to {latest} and to {use}")
            if latest is None or use.end > latest.end:
                latest = use


def _rests(uses: list[Use], rest: float) -> Iterator[Fault]:
    for address, having in _by_address(uses).items():
        for before, after in itertools.pairwise(having):
            same = (before.host, before.container) == (after.host, after.container)
            if (same and not before.sure) or after.start < before.end:
                continue
            rested = after.start - before.end
            if rested < rest - GRAIN:
                yield Fault("twice", f"{address} of {before} was given to {after} after a rest of {rested:.3f} s")


def _by_address(uses: list[Use]) -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = defaultdict(list)
    for use in sorted(uses, key=lambda use: use.start):
        for address in use.addresses:
            found[address].append(use)
    return found


def _claimed_twice(operations: Iterable[Operation]) -> Iterator[Fault]:
    claims = (one for one in operations if one.verb is Verb.CLAIM and one.outcome is Outcome.DONE)
    held = [Held(cidr=cidr, host=one.host) for one in claims for cidr in one.addresses]
    return _overlapping(held, "was answered to")


def _overlapping(held: Iterable[Held], words: str, *, same_host: bool = False) -> Iterator[Fault]:
    """CIDRs of two hosts that have addresses in common; with `same_host` also two of one host."""
    ranges = sorted((_range(one.cidr), one.host, one.cidr) for one in set(held))
    latest: tuple[tuple[int, int, int], str, str] | None = None
    for one in ranges:
        (family, first, last), host, cidr = one
        if latest is not None and latest[0][0] == family and first <= latest[0][2] and (same_host or latest[1] != host):
            yield Fault("twice", f"{cidr} {words} {host} and {latest[2]} {words} {latest[1]}")
        if latest is None or (family, last) > (latest[0][0], latest[0][2]):
            latest = one


def _range(cidr: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(cidr)
    return network.version, int(network.network_address), int(network.broadcast_address)


def _two_holders(final: Final) -> Iterator[Fault]:
    agents = [
        (address, f"{container} of {host}'s agent")
        for host, seen in final.hosts.items()
        for container, addresses in seen.endpoints.items()
        for address in addresses
    ]
    kernels = [(address, f"the kernel of {host}") for host, seen in final.hosts.items() for address in seen.routed]
    server = [
        (address, f"{container} of {host} at romanad")
        for host, endpoints in final.server.endpoints.items()
        for container, addresses in endpoints.items()
        for address in addresses
    ]
    for held in (agents, kernels, server):
        holders: dict[str, list[str]] = defaultdict(list)
        for address, holder in held:
            holders[address].append(holder)
        for address, names in holders.items():
            if len(names) > 1:
                yield Fault("twice", f"{address} is at {_list(sorted(names))}")


def _ending(history: History, host: str, container: str, fate: Fate) -> Iterator[Fault]:
    """What one endpoint's story and the end do not agree about."""
    final = history.final
    seen = final.hosts[host]
    link = final.link_of.get(container, container)
    there = {
        "the agent": seen.endpoints.get(container),
        "the kernel": _in_kernel(seen, link),
        "romanad": final.server.endpoints.get(host, {}).get(container),
    }
    name = f"{container} on {host}"
    if fate.state is State.PRESENT:
        forgotten = history.wiped.get(host, -math.inf) >= fate.since
        for place, addresses in there.items():
            if forgotten and place != "the kernel" and addresses is None:
                continue  # the stand-in for its link has no name until somebody deletes it
            if addresses is None or set(addresses) != set(fate.addresses):
                yield Fault("lost", f"{name} was answered {_list(fate.addresses)}, {place} has {_list(addresses)}")
        return
    if fate.state is State.ABSENT:
        for place, addresses in there.items():
            if addresses is not None and fate.deleted:
                yield Fault("lost", f"the DEL of {name} was answered, {place} has it with {_list(addresses)}")
            elif addresses is not None:
                yield Fault("leaked", f"no ADD of {name} worked, {place} has it with {_list(addresses)}")
        return
    if len({None if addresses is None else frozenset(addresses) for addresses in there.values()}) > 1:
        words = ", ".join(f"{place} has {_list(addresses)}" for place, addresses in there.items())
        yield Fault("leaked", f"{name}: {words}")


def _in_kernel(seen: Seen, link: str) -> tuple[str, ...] | None:
    routed = tuple(sorted(address for address, through in seen.routed.items() if through == link))
    return routed if link in seen.links or routed else None


def _strangers(final: Final, fates: dict[tuple[str, str], Fate]) -> Iterator[Fault]:
    """What is held by something that no client ever asked for."""
    for host, seen in final.hosts.items():
        asked = {container for place, container in fates if place == host}
        links = {final.link_of.get(container, container) for container in asked}
        for place, names in (("agent", seen.endpoints.keys()), ("copy at romanad", _at_server(final, host))):
            for container in names - asked:
                yield Fault("leaked", f"{host}'s {place} has {container}, for which nobody asked there")
        for link in (seen.links | set(seen.routed.values())) - links:
            yield Fault("leaked", f"the kernel of {host} has link {link}, for which nobody asked there")
        if seen.unpublished:
            yield Fault("leaked", f"{host}'s agent has {seen.unpublished} entries that it could not publish")
        told = {address for addresses in seen.endpoints.values() for address in addresses} | seen.routed.keys()
        if seen.in_use is not None and seen.in_use != len(told):
            yield Fault("leaked", f"{host}'s agent has {seen.in_use} addresses in use, its endpoints {len(told)}")
    for host in final.server.endpoints.keys() - final.hosts.keys():
        yield Fault("leaked", f"romanad has endpoints of {host}, which is no host here")


def _at_server(final: Final, host: str) -> set[str]:
    return set(final.server.endpoints.get(host, ()))


def _rooms(final: Final) -> Iterator[Fault]:
    """Spans and blocks: each of one host that knows it, and nothing outside of them."""
    server = final.server
    yield from _overlapping(server.spans, "is a span of", same_host=True)
    yield from _overlapping(server.blocks, "is a block of", same_host=True)
    spans = {span.cidr: span.host for span in server.spans}
    for kind, held in (("span", server.spans), ("block", server.blocks)):
        for one in held:
            if one.host not in server.hosts:
                yield Fault("leaked", f"{kind} {one.cidr} is of {one.host}, which is no host of romanad's")
            seen = final.hosts.get(one.host)
            known = frozenset() if seen is None else seen.spans if kind == "span" else seen.blocks
            if seen is not None and one.cidr not in known and one.cidr not in server.retired:
                yield Fault("leaked", f"{kind} {one.cidr} is of {one.host}, whose agent does not know it")
    for block in server.blocks:
        if spans.get(block.span) != block.host:
            yield Fault("leaked", f"block {block.cidr} of {block.host} lies in no span of {block.host}")
    for host, seen in final.hosts.items():
        theirs = {one.cidr for one in server.blocks if one.host == host}
        for cidr in seen.blocks - theirs:
            yield Fault("twice", f"{host}'s agent believes that block {cidr} is its own, romanad does not")


def _homeless(server: ServerSeen) -> Iterator[Fault]:
    """Endpoints outside of their host's blocks."""
    blocks = {host: [_range(one.cidr) for one in held] for host, held in _by_host(server.blocks).items()}
    for host, endpoints in server.endpoints.items():
        for container, addresses in endpoints.items():
            for address in addresses:
                family, value, _ = _range(address)
                if not any(family == kind and first <= value <= last for kind, first, last in blocks.get(host, ())):
                    yield Fault("leaked", f"{address} of {container} lies in no block of {host}")


def _by_host(held: Iterable[Held]) -> dict[str, list[Held]]:
    found: dict[str, list[Held]] = defaultdict(list)
    for one in held:
        found[one.host].append(one)
    return found


def _list(addresses: Iterable[str] | None) -> str:
    return "nothing" if addresses is None else ", ".join(addresses) or "no address"
