"""Blackouts: CIDRs that nobody gets an address from, whatever the plan says.

Owns which of them may stand beside one another. Refuses to know what is in use. Invariant: a blackout is a part of one
network, never all of it, and no two overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from romana.model.address import Prefix
from romana.model.errors import Fault, Invalid, NotFound
from romana.model.ipam import Blackout
from romana.model.topology import Network

MOST_BLACKOUTS = 1024
"""Blackouts of one network: each is looked at when a span or block is made."""
MOST_REASON = 200


class BlackoutChange(msgspec.Struct, frozen=True, kw_only=True):
    """The blackout in force after a request, and those that it replaces; `present` says that it was there already."""

    blackout: Blackout
    replaced: tuple[Prefix, ...] = ()
    present: bool = False


def black_out(
    networks: Iterable[Network],
    blackouts: Mapping[Prefix, Blackout],
    cidr: Prefix,
    *,
    network: str = "",
    reason: str = "",
) -> BlackoutChange:
    """What a request for a blackout comes to: one that lies in another is there already, a larger one replaces those
    inside. Invalid when it is no part of a network (of the named one, where there is a name).
    """
    known = list(networks)
    found = next((one for one in known if one.cidr.contains(cidr)), None)
    faults = [] if len(reason) <= MOST_REASON else [Fault("reason", f"has more than {MOST_REASON} characters")]
    if network and network not in (one.name for one in known):
        listed = ", ".join(one.name for one in known) or "none"
        faults.append(Fault("network", f"there is no network {network!r}; the plan has: {listed}"))
    elif found is None or (network and found.name != network):
        where = network or ", ".join(f"{one.name} ({one.cidr})" for one in known) or "none: load an address plan"
        faults.append(Fault("cidr", f"{cidr} is in no network of the plan; look in {where}"))
    elif found.cidr == cidr:
        sentence = f"{cidr} is all of network {found.name}; to close a network, take it out of the plan"
        faults.append(Fault("cidr", sentence))
    if faults or found is None:
        raise Invalid(*faults)
    around = next((one for one in blackouts.values() if one.cidr.contains(cidr)), None)
    if around is not None:
        return BlackoutChange(blackout=around, present=True)
    inside = tuple(sorted(one for one in blackouts if cidr.contains(one)))
    count = sum(one.network == found.name for one in blackouts.values())
    if count - len(inside) >= MOST_BLACKOUTS:
        sentence = f"network {found.name} has {count} blackouts, the most there can be; black out larger CIDRs"
        raise Invalid(Fault("cidr", sentence))
    return BlackoutChange(blackout=Blackout(cidr=cidr, network=found.name, reason=reason), replaced=inside)


def known_blackout(blackouts: Mapping[Prefix, Blackout], cidr: Prefix) -> Blackout:
    """The blackout of exactly that CIDR; NotFound, with the nearest."""
    if cidr in blackouts:
        return blackouts[cidr]
    near = sorted(one for one in blackouts if one.overlaps(cidr))
    if near:
        listed = ", ".join(map(str, near[:5]))
        raise NotFound(f"no blackout {cidr}; it is removed as it was added, and what overlaps it is: {listed}")
    raise NotFound(f"no blackout {cidr}; `romana network blackout list` shows them")
