"""The tree of prefix groups: carving it, placing hosts in it, changing it."""

from romana.core.topology.carve import carve
from romana.core.topology.change import InUse, check_change
from romana.core.topology.difference import PlanChange, affected, plan_change
from romana.core.topology.place import (
    find_group,
    group_cidrs,
    leaf_groups,
    leaves,
    listed_addresses,
    listed_hosts,
    misfits,
    place_host,
)

__all__ = [
    "InUse",
    "PlanChange",
    "affected",
    "carve",
    "check_change",
    "find_group",
    "group_cidrs",
    "leaf_groups",
    "leaves",
    "listed_addresses",
    "listed_hosts",
    "misfits",
    "place_host",
    "plan_change",
]
