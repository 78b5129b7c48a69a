"""What hosts and romanad have at the end of a run, against what clients were told, and against one another.

Pure. Everything is quiet by then, so all of them have to agree.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from tests.faults.history import Fate, Final, Fixed, Held, History, Seen, ServerSeen, State

Place = tuple[str, str]
"""A host and a container on it."""


class Fault(msgspec.Struct, frozen=True, order=True):
    """A promise that was broken: `twice`, `lost` or `leaked`, and what was seen."""

    promise: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.sentence}"


def at_the_end(history: History, fates: Mapping[Place, Fate]) -> Iterator[Fault]:
    """Everything that is not as the story of each endpoint says."""
    yield from _two_holders(history.final)
    for place, fate in fates.items():
        yield from _ending(history, place, fate)
    yield from _strangers(history.final, fates)
    yield from _rooms(history.final)
    yield from _homeless(history.final.server)
    yield from _names(history, fates)


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
    names = [(address, one.name) for one in final.server.fixed for address in one.addresses]
    for held in (agents, kernels, server, names):
        holders: dict[str, list[str]] = defaultdict(list)
        for address, holder in held:
            holders[address].append(holder)
        for address, found in holders.items():
            if len(found) > 1:
                yield Fault("twice", f"{address} is at {listed(sorted(found))}")


def _ending(history: History, place: Place, fate: Fate) -> Iterator[Fault]:
    """What one endpoint's story and the end do not agree about."""
    final, (host, container) = history.final, place
    seen = final.hosts[host]
    there = {
        "the agent": seen.endpoints.get(container),
        "the kernel": _in_kernel(seen, final.link_of.get(container, container)),
        "romanad": final.server.endpoints.get(host, {}).get(container),
    }
    name = f"{container} on {host}"
    if fate.state is State.PRESENT:
        forgotten = _is_forgotten(history, host, fate)
        for where, addresses in there.items():
            if forgotten and where != "the kernel" and addresses is None:
                continue  # the stand-in for its link has no name until somebody deletes it
            if addresses is None or set(addresses) != set(fate.addresses):
                yield Fault("lost", f"{name} was answered {listed(fate.addresses)}, {where} has {listed(addresses)}")
        return
    if fate.state is State.ABSENT:
        for where, addresses in there.items():
            if addresses is not None and fate.gone:
                yield Fault("lost", f"{name} is gone: {fate.gone}, {where} has it with {listed(addresses)}")
            elif addresses is not None:
                yield Fault("leaked", f"no ADD of {name} worked, {where} has it with {listed(addresses)}")
        return
    if len({None if addresses is None else frozenset(addresses) for addresses in there.values()}) > 1:
        words = ", ".join(f"{where} has {listed(addresses)}" for where, addresses in there.items())
        yield Fault("leaked", f"{name}: {words}")


def _is_forgotten(history: History, host: str, fate: Fate) -> bool:
    """Whether only the kernel may know of an endpoint that was added then."""
    return any(one.host == host and one.since <= fate.since <= one.until for one in history.forgot)


def _in_kernel(seen: Seen, link: str) -> tuple[str, ...] | None:
    routed = tuple(sorted(address for address, through in seen.routed.items() if through == link))
    return routed if link in seen.links or routed else None


def _strangers(final: Final, fates: Mapping[Place, Fate]) -> Iterator[Fault]:
    """What is held by something that no client ever asked for."""
    for host, seen in final.hosts.items():
        asked = {container for place, container in fates if place == host}
        links = {final.link_of.get(container, container) for container in asked}
        for where, names in (("agent", seen.endpoints.keys()), ("copy at romanad", _at_server(final, host))):
            for container in names - asked:
                yield Fault("leaked", f"{host}'s {where} has {container}, for which nobody asked there")
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
    """Spans and blocks: each of one host that knows it, or romanad's own, which no host knows."""
    server = final.server
    yield from overlapping(server.spans, "is a span of", same_host=True)
    yield from overlapping(server.blocks, "is a block of", same_host=True)
    spans = {span.cidr: span.host for span in server.spans}
    for kind, held in (("span", server.spans), ("block", server.blocks)):
        for one in held:
            if one.host and one.host not in server.hosts:
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
    """Endpoints outside of their host's blocks, but for the fixed addresses that they use."""
    blocks = {host: [_range(one.cidr) for one in held] for host, held in _by_host(server.blocks).items()}
    fixed = {(one.host, one.container): one.addresses for one in server.fixed}
    for host, endpoints in server.endpoints.items():
        for container, addresses in endpoints.items():
            for address in addresses:
                owner = "" if address in fixed.get((host, container), ()) else host
                family, value, _ = _range(address)
                if not any(family == kind and first <= value <= last for kind, first, last in blocks.get(owner, ())):
                    whose = owner or "romanad's own"
                    yield Fault("leaked", f"{address} of {container} lies in no block of {whose}")


def _by_host(held: Iterable[Held]) -> dict[str, list[Held]]:
    found: dict[str, list[Held]] = defaultdict(list)
    for one in held:
        found[one.host].append(one)
    return found


def _names(history: History, fates: Mapping[Place, Fate]) -> Iterator[Fault]:
    """Sticky names keep their addresses; who uses one is who was told so, and nobody else."""
    server = history.final.server
    found = {one.name: one for one in server.fixed}
    for name, addresses in history.names.items():
        has = found[name].addresses if name in found else None
        if has is None or set(has) != set(addresses):
            yield Fault("lost", f"{name} was given {listed(addresses)}, and has {listed(has)}")
    users = {
        fate.fixed: place
        for place, fate in fates.items()
        if fate.state is State.PRESENT and fate.fixed and not _is_forgotten(history, place[0], fate)
    }
    for name, (host, container) in users.items():
        if name in found and (found[name].host, found[name].container) != (host, container):
            yield Fault("lost", f"{container} on {host} was answered {name}, which {_user(found[name])} at romanad")
    for one in server.fixed:
        if one.host and (one.host, one.container) not in fates:
            yield Fault("leaked", f"{one.name} {_user(one)}, for which nobody asked there")
        there = server.endpoints.get(one.host, {}).get(one.container)
        fate = fates.get((one.host, one.container), Fate())
        forgotten = fate.state is State.PRESENT and there is None and _is_forgotten(history, one.host, fate)
        if one.host and not forgotten and set(there or ()) != set(one.addresses):
            yield Fault("leaked", f"{one.name} {_user(one)}, which has {listed(there)}")
        if not one.host and one.name not in history.names:
            yield Fault("leaked", f"{one.name} is used by nobody, and was not to stay")


def _user(one: Fixed) -> str:
    return f"is used by {one.container} on {one.host}" if one.host else "is used by nobody"


def overlapping(held: Iterable[Held], words: str, *, same_host: bool = False) -> Iterator[Fault]:
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


def listed(addresses: Iterable[str] | None) -> str:
    """Addresses, or who has them, in words."""
    return "nothing" if addresses is None else ", ".join(addresses) or "no address"
