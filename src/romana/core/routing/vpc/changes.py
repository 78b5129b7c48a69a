"""What to change in one route table, and what to leave alone.

Owns what is ours in a table (the destinations that are written down as such), and the count against its quota. Refuses
to change anything of others. Invariants: a route of ours is removed only when its packets have another way, or nobody
has its addresses; what does not fit is refused as a whole, before anything is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from romana.core.diff import diff
from romana.model.address import Family, Prefix
from romana.model.vpc import RouteTable


class TableChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Destination -> the id of the interface to lead it to; done in the order of the fields.

    `unused` are routes of ours that overlap with no route of the plan, so they may go before there is room for others.
    `owned` is everything that is ours from before the first change until after the last one.
    """

    table: str
    replace: dict[Prefix, str] = {}
    unused: tuple[Prefix, ...] = ()
    add: dict[Prefix, str] = {}
    remove: tuple[Prefix, ...] = ()
    owned: tuple[Prefix, ...] = ()
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.replace) + len(self.unused) + len(self.add) + len(self.remove)


def table_changes(
    table: RouteTable, wanted: Mapping[Prefix, str], owned: Collection[Prefix], quota: int, *, adopt: bool = False
) -> TableChanges:
    """What makes a table as wanted (destination -> interface; an empty one is to stay as it is).

    `owned` are the destinations that are ours, `quota` is how many routes of each family the table may have. With
    `adopt`, what is at a wanted destination is ours from now on.
    """
    problems: list[str] = []
    mine = {prefix for prefix in owned if prefix in table.routes and not table.routes[prefix].local}
    if adopt:
        mine |= {prefix for prefix in wanted if prefix in table.routes and not table.routes[prefix].local}
    if not wanted and mine:
        sentence = f"the plan has no route for it, so the {len(mine)} that it has from us stay"
        problems.append(f"route table {table.id}: {sentence}; `romana-aws remove` takes them out")
        return TableChanges(table=table.id, owned=tuple(sorted(mine)), problems=tuple(problems))
    local = sorted(prefix for prefix, route in table.routes.items() if route.local)
    desired: dict[Prefix, str] = {}
    for prefix, interface in wanted.items():
        fault = _fault(table, prefix, local, mine)
        if fault:
            problems.append(fault)
        if prefix in mine and (fault or not interface):
            desired[prefix] = table.routes[prefix].target
        elif interface and not fault:
            desired[prefix] = interface
    changes = diff(desired, {prefix: table.routes[prefix].target for prefix in sorted(mine)})
    unused = tuple(one for one in changes.remove if not any(one.overlaps(prefix) for prefix in wanted))
    add = changes.add
    for family in Family:
        refusal = _refusal(table, family, mine, unused, add, quota)
        if refusal:
            problems.append(refusal)
            add = {prefix: interface for prefix, interface in add.items() if prefix.family is not family}
    kept = len(add) == len(changes.add)
    remove = tuple(one for one in changes.remove if one not in unused) if kept else ()
    return TableChanges(
        table=table.id,
        replace=changes.replace,
        unused=unused,
        add=add,
        remove=remove,
        owned=tuple(sorted(mine | add.keys())),
        problems=tuple(problems),
    )


def _fault(table: RouteTable, prefix: Prefix, local: Collection[Prefix], mine: Collection[Prefix]) -> str:
    """Why a destination may not be written, or an empty text."""
    for other in local:
        if other.overlaps(prefix):
            return (
                f"route table {table.id}: {prefix} overlaps with {other}, which is the VPC's own; endpoints need "
                "addresses outside the VPC's CIDRs"
            )
    if prefix in table.routes and prefix not in mine:
        target = table.routes[prefix].target
        return (
            f"route table {table.id} has a route to {prefix} that is not ours (to {target}); it stays. Remove it, or "
            "let `romana-aws sync --adopt` take it over"
        )
    return ""


def _refusal(
    table: RouteTable,
    family: Family,
    mine: Collection[Prefix],
    unused: Collection[Prefix],
    add: Mapping[Prefix, str],
    quota: int,
) -> str:
    new = sum(prefix.family is family for prefix in add)
    has = table.counted.get(family, 0)
    room = quota - has + sum(prefix.family is family for prefix in unused)
    if new <= room:
        return ""
    own = sum(prefix.family is family for prefix in mine)
    return (
        f"route table {table.id}: {new} more IPv{int(family)} route{'s' * (new != 1)} would not fit, and none was "
        f"added: it has {has} ({own} of ours, {has - own} of others) of at most {quota}, and {max(room, 0)} can come. "
        "Have the quota raised and set aws.routes_per_table, mark a group further up for VPCs, or remove routes of "
        "others"
    )
