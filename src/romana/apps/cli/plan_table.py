"""The planner's reports as people read them, on 80 columns.

Owns the looks. Knows no rules: every number comes from the report. Colour appears on a terminal only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from romana.codec.plan_words import count_words, percent_words
from romana.core.planner.compare import Comparison, Holds
from romana.core.planner.report import GroupReport, NetworkReport, Part, PlanReport
from romana.core.planner.routes import DeviceCount
from romana.core.topology import PlanChange

NARROW = 80
MANY = 0.8
"""From this share of spans in use on, a group is shown as nearly full."""
MOST_NAMED = 4


def print_report(report: PlanReport, title: str) -> None:
    """The whole report: the load, the networks, the tree, what is spare, the routes."""
    console = _console()
    console.print(Text(title, style="bold"))
    console.print(_load_words(report), highlight=False)
    for network in report.networks:
        console.print()
        _print_network(console, network)
    console.print()
    console.print(_tree(report))
    console.print()
    for line in _spare_words(report):
        console.print(line, highlight=False)
    console.print()
    console.print(_routes(report))
    console.print(_beside_words(report), highlight=False)


def print_comparison(found: Comparison, title: str) -> None:
    """What a new plan changes, and what it holds."""
    console = _console()
    console.print(Text(title, style="bold"))
    console.print()
    lines = list(_change_lines(found.change))
    for mark, words in lines:
        style = {"+": "green", "-": "red", "~": "yellow"}[mark]
        console.print(Text(f"{mark} {words}", style=style), soft_wrap=True)
    if not lines:
        console.print("Nothing would change.")
    console.print()
    table = _table("NETWORK", "", "BEFORE", "AFTER", right=(2, 3))
    for network in found.networks:
        for index, (label, before, after) in enumerate(_holds_rows(network.before, network.after)):
            table.add_row(network.network if not index else "", label, before, after)
    console.print(table)
    if found.change.refusals:
        console.print()
        console.print(Text("It would be refused, because of what is in use:", style="red"))


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)  # `:100:` is a part of an address here
    if not console.is_terminal:
        console.width = max(NARROW, console.width)
    return console


def _table(*titles: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index in right else "left", no_wrap=True)
    return table


def _load_words(report: PlanReport) -> str:
    load = report.load
    if load is None:
        return f"{report.hosts:,} hosts and {report.endpoints:,} endpoints, as they are now."
    placed = "spread over hosts" if load.spread else "on any host"
    words = (
        f"Under a load of {report.hosts:,} hosts and {report.endpoints:,} endpoints of {load.tenants:,} tenants, "
        f"{placed}; each host starts {load.churn:g} an hour (seed {load.seed})."
    )
    if load.apart:
        words += f" The workloads of {percent_words(load.apart)} of the tenants share no blocks."
    if report.homeless:
        words += f" {report.homeless:,} endpoints are of tenants that no network serves on their host."
    return words


def _print_network(console: Console, network: NetworkReport) -> None:
    capacity, use = network.capacity, network.use
    title = Text.assemble((network.name, "bold"), f"  {network.cidr}  ({_rules_words(network)})")
    console.print(title, soft_wrap=True)
    left = [
        f"{count_words(number)} {word}"
        for number, word in (
            (capacity.spare, "spare"),
            (capacity.reserved, "reserved"),
            (capacity.static, "static"),
            (capacity.kept, "that no endpoint may have, " + _why_kept(network)),
        )
        if number
    ]
    spans, blocks, usable = (count_words(number) for number in (capacity.spans, capacity.blocks, capacity.usable))
    kinds = f"{use.owned:,} of one owner, {use.mixed:,} mixed, {use.stock:,} stock"
    claimed = (
        f"{count_words(number)} addresses in {unit}, {percent_words(_share(use.endpoints, number))} used"
        for unit, number in (("blocks", network.claimed_in_blocks), ("spans", network.claimed_in_spans))
    )
    lines = {
        "holds": f"{spans} spans, {blocks} blocks, {usable} addresses for endpoints",
        "beside": ", ".join(left),
        "for": ", ".join(network.tenants) and f"tenants {', '.join(network.tenants)} only",
        "in use": f"{use.spans:,} spans, {use.blocks:,} blocks ({kinds}), {use.endpoints:,} endpoints",
        "claimed": "; ".join(claimed),
        "room for": f"{count_words(network.endpoints_that_fit)} endpoints placed like these",
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for label, words in lines.items():
        if words:
            table.add_row(f"  {label}", words)
    console.print(table)


def _why_kept(network: NetworkReport) -> str:
    if network.placement == "bits":
        return "such as the first three of each block"
    return "beside static ranges, in their spans"


def _rules_words(network: NetworkReport) -> str:
    words = [f"blocks /{network.block_length}", f"spans /{network.span_length}"]
    if network.placement == "bits":
        words.append("computed")
    else:
        words += [f"mixed {network.mixed}", f"stock {network.stock}"]
    return ", ".join(words)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _tree(report: PlanReport) -> Table:
    table = _table("GROUP", "HOSTS", "CIDR", "BY", "SPANS IN USE", "FULL", right=(1, 4, 5))
    groups = list(report.groups)
    topologies = {group.topology for group in groups}
    index = 0
    while index < len(groups):
        group = groups[index]
        run = _spare_run(groups, index)
        name = group.path if group.depth == 0 else group.path.rpartition("/")[2]
        if group.depth == 0 and len(topologies) > 1:
            name = f"{group.topology} {name}"
        label = f"{'  ' * group.depth}{name}" + (f" and {run - 1} more" if run > 1 else "")
        for number, part in enumerate(group.parts or [None]):
            table.add_row(label if not number else "", "" if number else _hosts(group), *_cells(group, part))
        index += run
    return table


def _spare_run(groups: Sequence[GroupReport], index: int) -> int:
    """How many spare groups of one parent follow each other, as one line shows them."""
    first, count = groups[index], 1
    while (
        first.kind == "spare"
        and index + count < len(groups)
        and groups[index + count].kind == "spare"
        and groups[index + count].depth == first.depth
    ):
        count += 1
    return count


def _hosts(group: GroupReport) -> str:
    return "" if group.kind == "spare" else f"{group.hosts:,}"


def _cells(group: GroupReport, part: Part | None) -> tuple[str | Text, ...]:
    if part is None:
        return ("no CIDR", "", "", "")
    if group.kind == "spare":
        return (Text(str(part.cidr), style="dim"), Text("spare", style="dim"), "", "")
    by = {group.path: "router", "": "-"}.get(part.announced_by, part.announced_by)
    style = "red" if part.fill > 1 else "yellow" if part.fill >= MANY else ""
    spans = f"{part.use.spans:,} of {count_words(part.capacity.spans)}"
    return (str(part.cidr), by, spans, Text(percent_words(part.fill), style=style))


def _spare_words(report: PlanReport) -> Iterator[Text]:
    spare = report.spare
    if spare.too_small:
        yield Text(f"Too small for this load: {_named(spare.too_small)}.", style="red")
    elif spare.first_full:
        yield Text(f"First to be full: {_named(spare.first_full)}.")
    parts = f"{spare.spare_parts:,} spare part(s) for further groups" if spare.spare_parts else "no spare part is left"
    yield Text(f"Room for {count_words(spare.room_for)} hosts more like these; {parts}.")


def _named(paths: Sequence[str]) -> str:
    rest = f" and {len(paths) - MOST_NAMED:,} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + rest


def _routes(report: PlanReport) -> Table:
    beside = ("BESIDE",) if any(one.beside for one in report.devices) else ()
    heads = ("ROUTES OF EACH", "DEVICES", "FROM ABOVE", "FROM BELOW", *beside, "DISCARDS", "MOST")
    table = _table(*heads, right=tuple(range(1, len(heads))))
    for one in report.devices:
        numbers = [one.devices, one.above, one.below, *([one.beside] if beside else []), one.discards]
        table.add_row(_device_words(one), *(f"{number:,}" for number in (*numbers, max(one.total, one.most))))
    return table


def _device_words(one: DeviceCount) -> str:
    if one.devices == 1 and one.device.startswith("/"):
        return f"{one.kind} {one.device}"
    return str(one.kind)


def _beside_words(report: PlanReport) -> str:
    beside = report.beside
    return (
        f"Without aggregates every one of them would hold {beside.per_node:,} routes (one a node and family), "
        f"{beside.per_block:,} (one a block) or {beside.per_endpoint:,} (one an address)."
    )


def _change_lines(change: PlanChange) -> Iterator[tuple[str, str]]:
    for one in change.networks:
        words = f"network {one.network}: {one.field} {one.before or 'none'} -> {one.after or 'none'}"
        yield ("+" if not one.before else "-" if not one.after else "~"), words
    for two in change.groups:
        words = f"group {two.group} in {two.network}: {two.before or 'not there'} -> {two.after or 'not there'}"
        yield ("+" if two.before is None else "-" if two.after is None else "~"), words
    for move in change.hosts:
        words = f"host {move.host}: {move.before or 'no group'} -> {move.after or 'no group'}"
        yield ("+" if not move.before else "-" if not move.after else "~"), words
    for three in change.connections:
        whose = " ".join(part for part in (three.what, three.name, three.field) if part)
        words = f"{whose}: {three.before or 'none'} -> {three.after or 'none'}"
        yield ("~" if three.field else "+" if not three.before else "-"), words


def _holds_rows(before: Holds | None, after: Holds | None) -> Iterator[tuple[str, str, str]]:
    def cells(label: str, number: Callable[[Holds], int]) -> tuple[str, str, str]:
        was, now = ("-" if one is None else count_words(number(one)) for one in (before, after))
        return label, was, now

    yield cells("groups", lambda one: one.groups)
    yield cells("spans", lambda one: one.capacity.spans)
    yield cells("blocks", lambda one: one.capacity.blocks)
    yield cells("addresses", lambda one: one.capacity.usable)
    yield cells("spare", lambda one: one.capacity.spare)
