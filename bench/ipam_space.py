"""Space and cost of address plans under the placement model: the defaults, and each of their alternatives, by size.

It runs nothing and measures no time: `core.planner` draws hosts, tenants and endpoints from a seed, and counts what the
rules make of them. The same seed gives the same figures everywhere. Each line of the table is one set of rules at one
number of hosts; docs/decisions/0020-defaults-from-the-placement-model.md says what was chosen from them, and why.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table

from bench.report import Report, arguments, versions
from romana.core.planner.load import PODS_A_HOST, PODS_A_TENANT, Course, Load, draw
from romana.core.planner.placement import Rules, needs

SIZES = (100, 1_000, 5_000)
MIDDLE = 1_000
"""Where other loads are tried as well."""
WATCHED = 200
"""Hosts whose needs are counted, where there are more; the totals are those of all."""
V4 = Rules(block=8, span=32, mixed=2, stock=2)
V6 = Rules(block=64, span=64, mixed=0, stock=2)
PLAIN = Rules(block=8, span=32, mixed=0, stock=0, low=0)

COLUMNS = {
    "endpoints_per_owned_block": "ep/blk",
    "blocks_per_host": "blocks",
    "spans_per_host": "spans",
    "used_percent_of_blocks": "% blocks",
    "used_percent_of_spans": "% spans",
    "entries_per_host": "entries",
    "claims_per_start": "claims",
    "messages_per_start": "messages",
    "away_full_percent": "% full",
    "away_unknown_percent": "% unknown",
}
"""What is counted, and the head of its column."""
CLAIMED = (
    "claimed_addresses_in_blocks",
    "claimed_addresses_in_spans",
    "used_percent_of_blocks",
    "used_percent_of_spans",
)


class Variant(msgspec.Struct, frozen=True):
    """A set of rules with a name, and how the load differs from the usual one: that is tried at one size only."""

    name: str
    rules: Rules
    apart: float = 0.0
    pods_a_host: int = PODS_A_HOST
    spread: bool = False
    churn: float = 10.0

    @property
    def is_usual(self) -> bool:
        """Whether its load is the usual one."""
        return msgspec.structs.replace(self, name="", rules=V4) == Variant("", V4)


def variants() -> Iterator[Variant]:
    """The defaults, then one thing changed at a time."""
    other = msgspec.structs.replace
    yield Variant("default_v4", V4)
    yield Variant("default_v6", V6)
    for length in (27, 28, 30):
        yield Variant(f"v4_block_{length}", other(V4, block=1 << (32 - length)))
    for length in (120, 121, 123):
        yield Variant(f"v6_block_{length}", other(V6, block=1 << (128 - length)))
    for mixed in (0, 1, 3, 4):
        yield Variant(f"v4_mixed_{mixed}", other(V4, mixed=mixed))
    yield Variant("v6_mixed_2", other(V6, mixed=2))
    for stock in (0, 1, 3, 4):
        yield Variant(f"v4_stock_{stock}", other(V4, stock=stock))
    for blocks in (16, 64):
        yield Variant(f"v4_span_{blocks}_blocks", other(V4, span=blocks))
    for blocks in (16, 32):
        yield Variant(f"v6_span_{blocks}_blocks", other(V6, span=blocks))
    for low in (0, 2):
        yield Variant(f"v4_look_ahead_{low}", other(V4, low=low))
    loads = {
        "workloads_apart": Variant("", V4, apart=1.0),
        "third_of_tenants_apart": Variant("", V4, apart=0.33),
        "spread": Variant("", V4, spread=True),
        "110_pods_a_host": Variant("", V4, pods_a_host=110),
        "20_pods_a_host": Variant("", V4, pods_a_host=20),
        "1_start_an_hour": Variant("", V4, churn=1.0),
        "50_starts_an_hour": Variant("", V4, churn=50.0),
    }
    for name, one in loads.items():
        for mixed in (2, 1, 0):
            yield other(one, name=f"v4_{name}_mixed_{mixed}", rules=other(V4, mixed=mixed))
        yield other(one, name=f"v6_{name}", rules=V6)
    yield Variant("plain_tenants", PLAIN, churn=0.0)
    yield Variant("plain_workloads", PLAIN, apart=1.0, churn=0.0)


def figures(course: Course, rules: Rules) -> dict[str, float]:
    """What the rules make of a load, in all."""
    hosts = [needs(course, rules, host=host) for host in range(len(course.events))]
    count = len(hosts)
    all_of_them = course.load.hosts / count
    endpoints = sum(host.endpoints for host in hosts)
    owned = sum(host.owned for host in hosts)
    starts = sum(host.starts for host in hosts) or 1
    away = sum(host.away_starts for host in hosts) or 1
    blocks, spans = sum(host.blocks for host in hosts), sum(host.spans for host in hosts)
    return {
        "endpoints": round(endpoints * all_of_them),
        "claimed_addresses_in_blocks": round(blocks * rules.block * all_of_them),
        "claimed_addresses_in_spans": round(spans * rules.span * rules.block * all_of_them),
        "endpoints_per_owned_block": sum(host.endpoints - host.in_mixed for host in hosts) / (owned or 1),
        "blocks_per_host": blocks / count,
        "most_blocks_of_a_host": max(host.most_blocks for host in hosts),
        "spans_per_host": spans / count,
        "used_percent_of_blocks": 100 * endpoints / (blocks * rules.block or 1),
        "used_percent_of_spans": 100 * endpoints / (spans * rules.span * rules.block),
        "entries_per_host": sum(host.entries for host in hosts) / count,
        "claims_per_start": sum(host.claims for host in hosts) / starts,
        "messages_per_start": sum(host.messages for host in hosts) / starts,
        "away_full_percent": 100 * sum(host.away_full for host in hosts) / away,
        "away_unknown_percent": 100 * sum(host.away_unknown for host in hosts) / away,
    }


def main() -> None:
    chosen = arguments(__doc__ or "", seed=1, hosts=0)
    report = Report(benchmark="ipam_space", versions=versions())
    console = Console(width=max(120, Console().width))
    for hosts in [chosen.hosts] if chosen.hosts else SIZES:
        drawn = Table(box=None, pad_edge=False, title=f"{hosts:,} hosts", title_justify="left")
        drawn.add_column("rules", no_wrap=True)
        for head in COLUMNS.values():
            drawn.add_column(head, justify="right", no_wrap=True)
        courses: dict[Load, Course] = {}
        for one in variants():
            if hosts != MIDDLE and not one.is_usual and not chosen.hosts:
                continue
            load = load_of(one, hosts, chosen.seed)
            if load not in courses:
                courses[load] = draw(load, WATCHED)
            course = courses[load]
            found = figures(course, one.rules)
            report.runs.append({"hosts": hosts, "rules": one.name, **found})
            drawn.add_row(one.name, *(f"{found[key]:.{1 if found[key] >= 10 else 2}f}" for key in COLUMNS))
            if one.name.startswith("default"):
                for key in ("endpoints", *CLAIMED):
                    report.figures[f"{key}_{one.name}_{hosts}_hosts"] = found[key]
        console.print(drawn)
        console.print()
    report.show(chosen.json)


def load_of(variant: Variant, hosts: int, seed: int) -> Load:
    """So many hosts of the variant's load."""
    pods = hosts * variant.pods_a_host
    return Load(
        hosts=hosts,
        pods=pods,
        tenants=max(1, pods // PODS_A_TENANT),
        apart=variant.apart,
        spread=variant.spread,
        churn=variant.churn,
        seed=seed,
    )


if __name__ == "__main__":
    main()
