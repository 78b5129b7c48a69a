"""Packets between two hosts: romana's ruleset with policy, one rule, and a chain for each policy, in turns.

All of them on the same namespaces. The baseline is `ct state established,related accept` alone, on both hosts. 1,000
peers on one host send to an endpoint of the other, whose ruleset knows 10 to 100,000 of them as elements, and has no to
1,000 policies that select it; with 10, 100 and 1,000 policies it is also written as others write it. Every round
measures all of them, every other one in reverse order. A ratio is the median of the rounds' ratios, its spread their
quartiles. A run in which the baseline is slow says nothing about rulesets, and ends with an error.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench import datacentre, packet_chains, packet_world, plugins
from bench.packet_world import PORT, Place
from bench.report import Report, arguments, quantile, versions
from romana.apps.lab.nodes import entering, environment, run
from romana.apps.lab.record import LabRecord
from romana.codec.text import parse_address
from romana.model.endpoint import endpoint_id
from romana.services.agent.attachments import link_name

LAB = datacentre.HERE / "packet.yaml"
BASE, OURS = "base", "ours"
BASELINE = """\
table inet baseline {
    chain forward { type filter hook forward priority filter; ct state established,related accept; }
}
"""
METRICS = {"udp_packets_per_second": 0.85, "tcp_connections_per_second": 0.85, "tcp_rr_latency_us_p50": 1.05}
"""What is measured, and how much of the baseline it is to be."""
LEAST = {"udp_packets_per_second": 100_000, "tcp_connections_per_second": 8_000}
"""What the baseline must reach."""
WORLDS = {
    OURS: (10_000, 10),
    "ours_10_elements": (10, 10),
    "ours_100000_elements": (100_000, 10),
    "ours_0_policies": (10_000, 0),
    "ours_1000_policies": (10_000, 1000),
    "ours_100_policies": (10_000, 100),
}
"""Our rulesets: elements of the target's row, and policies that select the target."""
CHAINS = {10: OURS, 100: "ours_100_policies", 1000: "ours_1000_policies"}
"""Policies for which there is a ruleset with a chain for each: ours of the same world."""
RATIOS = {
    "": (OURS, BASE),
    "_100000_elements_to_10": ("ours_100000_elements", "ours_10_elements"),
    "_1000_policies_to_0": ("ours_1000_policies", "ours_0_policies"),
    **{f"_{count}_policies": (ours, BASE) for count, ours in CHAINS.items() if ours != OURS},
    **{f"_chains_of_{count}_policies": (f"chains_{count}_policies", BASE) for count in CHAINS},
    **{f"_to_chains_of_{count}_policies": (ours, f"chains_{count}_policies") for count, ours in CHAINS.items()},
}
"""What is told: words after the metric's name -> ruleset, and the one that it is compared with."""
FLAT = ("_100000_elements_to_10", "_1000_policies_to_0")
"""Which of these are to be within a tenth of one."""
WIDTH = "64"
SENDER_CPU, TARGET_CPU = "0", "1"  # where the scheduler puts them decides more than any ruleset does
SETTLE = 0.1
"""Seconds for what the kernel still does after a table was replaced."""
SHARE = 0.9
"""How much of the time there is may be used before another round begins that may be the slowest."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A ruleset of both hosts, as nft text by node; and the addresses that send while it is in force."""

    name: str
    texts: Mapping[str, str]
    peers: tuple[str, ...]


def main() -> None:
    chosen = arguments(__doc__ or "", {"rounds": 2, "seconds": 55}, rounds=16, milliseconds=300, seconds=420)
    begun = time.monotonic()
    report = Report(benchmark="packet", versions=versions())
    with datacentre.datacentre(LAB) as record, plugins.sides() as (ours, _), _foremost():
        target, sender = _places(record, ours)
        with datacentre.agents_frozen(record):
            tables = _tables(target, sender)
            _ways(record, target, sender, {peer for table in tables for peer in table.peers})
            with _serving(record, "tcp_load", "serve", str(PORT)):
                slowest = 0.0
                for turn in range(chosen.rounds):
                    start = time.monotonic()
                    if start - begun + slowest > chosen.seconds * SHARE:
                        _say(f"{turn} rounds of {chosen.rounds}: there is no time for more")
                        break
                    _round(record, report, turn, tables, target, chosen.milliseconds / 1000)
                    slowest = max(slowest, time.monotonic() - start)
                    _say(f"round {turn + 1} of {chosen.rounds}, {time.monotonic() - begun:.0f} s: {_last(report)}")
    _summarize(report)
    report.show(chosen.json)


def _say(words: str) -> None:
    sys.stderr.write(f"   {words}\n")


@contextmanager
def _foremost() -> Iterator[None]:
    """Run before everything else: this process, and its session, which has a nice of its own (`autogroup`)."""
    group = Path("/proc/self/autogroup")
    grouped, nice = group.read_text().split()[-1] if group.exists() else "", os.getpriority(os.PRIO_PROCESS, 0)

    def put(value: int, session: str) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, value)
        if grouped:
            group.write_text(session)

    put(-20, "-20")
    try:
        yield
    finally:
        put(nice, grouped)


def _places(record: LabRecord, ours: plugins.Side) -> tuple[Place, Place]:
    """An endpoint on each host, made as a container runtime makes them: the target and that of all peers."""
    found = []
    for node in (datacentre.OTHER, datacentre.OURS):
        datacentre.namespaces(record, node, [node])
        plugins.run(record, msgspec.structs.replace(ours, node=node), "ADD", [node])
        said = datacentre.on(record, node, ["ip", "-netns", node, "-j", "-4", "addr", "show", "eth0"])
        address = parse_address(msgspec.json.decode(said)[0]["addr_info"][0]["local"])
        found.append(Place(node=node, link=link_name(endpoint_id(node, "eth0")), address=address))
    return found[0], found[1]


def _tables(target: Place, sender: Place) -> list[Table]:
    """All rulesets; those whose ratio is told are next to each other."""
    gc.disable()  # it would look through hundreds of thousands of values of which none is garbage
    tables = [Table(name=BASE, texts={target.node: BASELINE, sender.node: BASELINE}, peers=())]
    made = {}
    for name, (elements, policies) in WORLDS.items():
        start = time.monotonic()
        made[name] = world = packet_world.world(elements, policies)
        texts = {
            target.node: packet_world.target_table(world, target),
            sender.node: packet_world.sender_table(world, sender),
        }
        peers = tuple(one.text for one in world.peers)
        tables.append(Table(name=name, texts=texts, peers=peers))
        _say(f"{elements} elements and {policies} policies compiled in {time.monotonic() - start:.1f} s")
    for policies, ours in CHAINS.items():
        texts = {
            target.node: packet_chains.target_table(made[ours], target),
            sender.node: packet_chains.sender_table(sender),
        }
        peers = tuple(one.text for one in made[ours].peers)
        tables.append(Table(name=f"chains_{policies}_policies", texts=texts, peers=peers))
    gc.enable()
    tables[0] = msgspec.structs.replace(tables[0], peers=tables[1].peers)
    return tables


def _ways(record: LabRecord, target: Place, sender: Place, peers: set[str]) -> None:
    """All peers live in the sender's namespace: routes there from the target, and each an address there."""
    spread = str(packet_world.SPREAD)
    said = datacentre.on(record, sender.node, ["ip", "-j", "route", "get", target.address.text])
    here = msgspec.json.decode(said)[0]["prefsrc"]
    datacentre.on(record, target.node, ["ip", "route", "add", spread, "via", here])
    datacentre.on(record, sender.node, ["ip", "route", "add", spread, "via", sender.address.text, "dev", sender.link])
    local = "".join(f"route add local {peer} dev lo\n" for peer in sorted(peers))
    datacentre.on(record, sender.node, ["ip", "-netns", sender.node, "-batch", "-"], local)


def _round(record: LabRecord, report: Report, turn: int, tables: list[Table], target: Place, seconds: float) -> None:
    for table in tables if turn % 2 else reversed(tables):
        for node, text in table.texts.items():
            run(record.process(node), ["nft", "-f", "-"], f"flush ruleset\n{text}")
            run(record.process(node), ["conntrack", "-F"])
        time.sleep(SETTLE)
        report.runs.append({"round": turn, "ruleset": table.name, **_measure(record, target, table, seconds)})


def _measure(record: LabRecord, target: Place, table: Table, seconds: float) -> dict[str, float]:
    to = (target.address.text, str(PORT), str(seconds))
    with _serving(record, "udp_load", "sink", str(PORT)) as sink:
        _load(record, table, "udp_load", "send", *to)
        received = float(sink.communicate()[0])
    return {
        "udp_packets_per_second": received,
        "tcp_connections_per_second": float(_load(record, table, "tcp_load", "connect", *to, WIDTH)),
        "tcp_rr_latency_us_p50": float(_load(record, table, "tcp_load", "rr", *to).split()[0]),
    }


@contextmanager
def _serving(record: LabRecord, program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A program in the target's namespace that listens; it ends by itself, or when the block does."""
    node = datacentre.OTHER
    command = datacentre.in_space(
        node, ["taskset", "--cpu-list", TARGET_CPU, str(datacentre.PROGRAMS / program), *words]
    )
    with subprocess.Popen(
        entering(record.process(node), command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield server


def _load(record: LabRecord, table: Table, program: str, *words: str) -> str:
    """What a program in the sender's namespace says, after it made its load."""
    node = datacentre.OURS
    command = datacentre.in_space(
        node, ["taskset", "--cpu-list", SENDER_CPU, str(datacentre.PROGRAMS / program), *words]
    )
    return datacentre.on(record, node, command, "\n".join(table.peers)).strip()


def _by_metric(report: Report) -> dict[str, dict[str, list[float]]]:
    """Metric -> ruleset -> values in the order of rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in sorted(report.runs, key=lambda one: one["round"]):
        for metric in METRICS:
            found.setdefault(metric, {}).setdefault(str(one["ruleset"]), []).append(float(one[metric]))
    return found


def _last(report: Report) -> str:
    """The last round's figures, ours and the baseline's."""
    return ", ".join(
        f"{metric} {kinds[OURS][-1]:,.6g} of {kinds[BASE][-1]:,.6g}" for metric, kinds in _by_metric(report).items()
    )


def _summarize(report: Report) -> None:
    for metric, kinds in _by_metric(report).items():
        for words, (one, other) in RATIOS.items():
            # Of one round: what else the machine does changes between rounds more than within one.
            values = [a / b for a, b in zip(kinds[one], kinds[other], strict=True)]
            report.ratios[f"{metric}{words}"] = statistics.median(values)
            report.figures[f"{metric}{words}_spread"] = f"{quantile(values, 0.25):.3f} to {quantile(values, 0.75):.3f}"
        report.figures |= {f"{metric}_{kind}": statistics.median(values) for kind, values in kinds.items()}
        report.goals |= {
            metric: METRICS[metric],
            **{f"{metric}{words}": 1.1 if METRICS[metric] > 1 else 0.9 for words in FLAT},
        }
        base = float(report.figures[f"{metric}_{BASE}"])
        if base < LEAST.get(metric, 0):
            report.faults.append(
                f"the baseline has {base:,.0f} {metric}, less than {LEAST[metric]:,}; quieten the machine"
            )
    report.figures["rounds"] = float(len({one["round"] for one in report.runs}))


if __name__ == "__main__":
    main()
