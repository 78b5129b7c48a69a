"""Which host of a group relays its packets in each table.

Owns the order of preference, which spreads tables and groups over hosts, and the rule when to change: away from a host
that fails as soon as another one is better, back to a preferred one when it is settled. Refuses to change between two
that are equally good. Invariant: while no host is better, whatever the table has stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from romana.core.routing.vpc.health import Level
from romana.model.vpc import VpcRoute


def preference(table: str, route: VpcRoute) -> list[str]:
    """The hosts of a route in the order in which a table prefers them.

    Rendezvous hashing (Thaler and Ravishankar, 1998): one host more or less moves only what it takes or had. Both
    families of a group have the same order.
    """
    subject = route.group or str(route.prefix)

    def weight(host: str) -> bytes:
        return hashlib.sha256(f"{table} {subject} {host}".encode()).digest()

    return sorted(route.hosts, key=weight, reverse=True)


def choose(order: list[str], current: str, levels: Mapping[str, Level], draining: Collection[str] = ()) -> str:
    """The host that is to have a route whose hosts are in that order; empty when nobody can, and nobody has.

    `current` has it now, empty when none of the hosts does. A host that drains is taken when no other is as good.
    """
    ranked = ((levels[host], host not in draining, -place, host) for place, host in enumerate(order))
    level, _, _, chosen = max(ranked, default=(Level.GONE, False, 0, ""))
    if level is Level.GONE:
        return current
    if current not in order or levels[current] < min(level, Level.WELL):
        return chosen
    if level is Level.SETTLED and (levels[current] is Level.SETTLED or current in draining):
        return chosen
    return current
