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
    neighbors: Collection[Around], others: Iterable[Address], networks: Mapping[Prefix, str], inside: Sequence[Prefix]
) -> Turns:
    """The turns of a router whose own `networks` are on these interfaces.

    `others` are next hops beside its neighbours, and `inside` are the CIDRs that this is about.
    """
    found: dict[str, set[str]] = {}
    for one in neighbors:
        names = {one.interface} if one.interface else {name for hop in one.addresses for name in _link(hop, networks)}
        for name in names:
            found.setdefault(name, set()).add(one.neighbor)
    shared = {name for address in others for network, name in networks.items() if network.contains(address)}
    for one in neighbors:
        if one.network is not None:
            shared |= {name for network, name in networks.items() if network.overlaps(one.network)}
    back = (name for name, ends in found.items() if len(ends) == 1 and name not in shared)
    return Turns(back=tuple(sorted(back)), inside=tuple(inside))


def _link(address: Address, networks: Mapping[Prefix, str]) -> set[str]:
    """The interface of the link between two that an address is on."""
    small = (one for one in networks if one.family.bits - one.length <= FEW and one.contains(address))
    return {networks[one] for one in small if networks[one]}
