"""Tables of the demo: the carved plan, and what the network holds.

Owns the looks alone. Invariant: every group and every device is one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from romana.apps.lab.observe import RouteCounts, RulesetSize
from romana.model.topology import AddressPlan, Group


def plan_table(name: str, plan: AddressPlan) -> Table:
    """The groups of a carved plan with their CIDR in each network."""
    drawn = Table(box=None, pad_edge=False, title=name, title_justify="left", title_style="italic")
    drawn.add_column("group", no_wrap=True)
    for network in plan.networks:
        drawn.add_column(f"{network.name} (blocks /{network.block_length}, spans /{network.span_length})")
    for topology in plan.topologies:
        pending: list[Group] = [topology.root]
        while pending:
            group = pending.pop(0)
            cells = [str(group.cidrs.get(network.name, "")) for network in plan.networks]
            drawn.add_row(
                f"{'  ' * (len(group.path.strip('/').split('/')) if group.path != '/' else 0)}{group.path}", *cells
            )
            pending = list(group.groups) + pending
    return drawn


def costs_table(
    before: Mapping[str, RouteCounts],
    after: Mapping[str, RouteCounts],
    sizes: Mapping[str, RulesetSize],
    larger: Mapping[str, RulesetSize],
) -> Table:
    """Routes, rules and elements by device, before and after."""
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("before -> after", no_wrap=True)
    for head in ("learned routes", "discards", "own endpoints", "rules", "set elements"):
        drawn.add_column(head, justify="right")
    for name in before:
        one, other = before[name], after[name]
        cells: list[Sequence[int]] = [
            (len(one.learned), len(other.learned)),
            (len(one.discards), len(other.discards)),
            (len(one.endpoints), len(other.endpoints)),
        ]
        if name in sizes:
            cells += [
                (sizes[name].rules, larger[name].rules),
                (sizes[name].elements, larger[name].elements),
            ]
        drawn.add_row(name, *(f"{a} -> {b}" for a, b in cells))
    return drawn
