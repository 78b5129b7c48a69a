"""Two plans beside each other: what changes, and what each holds.

Owns the counts before and after. Refuses to judge whether the change may be made: that is in the `PlanChange`.
"""

from __future__ import annotations

import msgspec

from romana.core.planner.capacity import Capacities, Capacity
from romana.core.planner.usage import open_leaves
from romana.core.topology import PlanChange
from romana.model.topology import AddressPlan


class Holds(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan holds of one network: groups that hosts may join, and the capacity of all of them."""

    groups: int
    capacity: Capacity


class NetworkHolds(msgspec.Struct, frozen=True, kw_only=True):
    """One network in both plans; None where it is not there, or in no topology."""

    network: str
    before: Holds | None
    after: Holds | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a new plan changes, and what each network holds before and after."""

    change: PlanChange
    networks: tuple[NetworkHolds, ...]


def compare(old: AddressPlan, new: AddressPlan, change: PlanChange) -> Comparison:
    """The comparison of two plans, of which `change` says the rest."""
    before, after = _holds(old), _holds(new)
    names = dict.fromkeys((*before, *after))
    return Comparison(
        change=change,
        networks=tuple(NetworkHolds(network=name, before=before.get(name), after=after.get(name)) for name in names),
    )


def _holds(plan: AddressPlan) -> dict[str, Holds]:
    networks = {network.name: network for network in plan.networks}
    found = {}
    for topology in plan.topologies:
        leaves = open_leaves(topology)
        for name in topology.networks:
            if name in topology.root.cidrs:
                found[name] = Holds(
                    groups=sum(name in leaf.cidrs for leaf in leaves),
                    capacity=Capacities(networks[name]).of(topology.root),
                )
    return found
