"""Where a packet would go round: which interfaces of a router it must not come in by and leave by again.

Owns who is where around a router, and which interfaces that makes. Refuses to know how the kernel is told. Invariant:
an interface that leads to more than one neighbour, or may, is not among them: there a packet turns for good reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from romana.core.routing.neighbors import Neighborhood
from romana.core.routing.plan import RoutePlan
from romana.model.address import Address, Prefix
from romana.model.route import Around, Turns

Networks = Mapping[Prefix, Collection[str]]
"""The networks of a device, each with its interfaces."""
FEW = 2
"""Bits of a host's part of the network of a link between two: a /30 or /31, a /126 or /127."""


def around(routes: RoutePlan, router: str) -> tuple[Around, ...]:
    """The neighbours of a named router, and where each is."""
    return tuple(
        Around(
            neighbor=one.name,
            interface=one.interface,
            addresses=(*(theirs for _, theirs in one.pairs), *one.remotes),
            network=one.listen,
        )
        for one in Neighborhood(routes).of(router)
    )


def turns(
    neighbors: Iterable[Around], others: Iterable[Address], networks: Networks, inside: Sequence[Prefix]
) -> Turns:
    """The turns of a router whose own `networks` are on these interfaces.

    `others` are next hops beside its neighbours, and `inside` are the CIDRs that this is about.
    """
    linked: dict[str, set[str]] = {}
    reached: dict[str, set[str]] = {}  # by whatever way
    for one in neighbors:
        near = {network for network in networks if _has(network, one)}
        links = {network for network in near if network.family.bits - network.length <= FEW}
        own = {one.interface} if one.interface else _interfaces(links, networks)
        for name in own:
            linked.setdefault(name, set()).add(one.neighbor)
        for name in own | _interfaces(near, networks):
            reached.setdefault(name, set()).add(one.neighbor)
    for address in others:
        for name in _interfaces((one for one in networks if one.contains(address)), networks):
            reached.setdefault(name, set()).add("")
    back: dict[str, list[str]] = {}
    for name, ends in sorted(linked.items()):
        if len(reached[name]) == 1:
            back.setdefault(next(iter(ends)), []).append(name)
    return Turns(back=tuple(sorted(map(tuple, back.values()))), inside=tuple(inside))


def _has(network: Prefix, one: Around) -> bool:
    within = one.network is not None and network.overlaps(one.network)
    return within or any(network.contains(address) for address in one.addresses)


def _interfaces(of: Iterable[Prefix], networks: Networks) -> set[str]:
    return {name for network in of for name in networks[network]}
