"""CNI ADD and DEL as a runtime runs them, one after the other, against Debian's ptp with host-local."""

from __future__ import annotations

from collections.abc import Sequence

from bench import datacentre, plugins
from bench.report import Report, arguments, quantile, versions
from romana.apps.lab.record import LabRecord

CHUNK = 20
"""Pods of one side before it is the other's turn."""


def main() -> None:
    chosen = arguments(__doc__ or "", pods=200)
    report = Report(benchmark="cni", versions=versions())
    with datacentre.datacentre() as record, plugins.sides() as sides:
        names = [f"pod{number:04}" for number in range(chosen.pods)]
        for side in sides:
            datacentre.namespaces(record, side.node, [*names, "warm"])
            for verb in ("ADD", "DEL"):
                plugins.run(record, side, verb, ["warm"])
            plugins.settle(record, side, 0)
        added = _alternate(record, sides, "ADD", names, report)
        deleted = _alternate(record, sides, "DEL", names, report)
    for verb, taken in (("add", added), ("del", deleted)):
        for part, name in ((0.5, "p50"), (0.99, "p99")):
            ours, base = (quantile([run.ms for run in taken[side.name]], part) for side in sides)
            report.figures |= {f"{verb}_ms_{name}_ours": ours, f"{verb}_ms_{name}_base": base}
            report.ratios[f"{verb}_ms_{name}"] = ours / base
    report.show(chosen.json)


def _alternate(
    record: LabRecord, sides: Sequence[plugins.Side], verb: str, names: Sequence[str], report: Report
) -> dict[str, list[plugins.Run]]:
    """Both sides in turns, each turn in the other order."""
    taken: dict[str, list[plugins.Run]] = {side.name: [] for side in sides}
    after: dict[str, float] = {side.name: 0.0 for side in sides}
    agent = datacentre.agent_cpu_ms(record, datacentre.OURS)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        there = start + len(chunk) if verb == "ADD" else len(names) - start - len(chunk)
        for side in sides if start // CHUNK % 2 else reversed(sides):
            runs = plugins.run(record, side, verb, chunk)
            after[side.name] += plugins.settle(record, side, there)
            taken[side.name] += runs
            report.runs.append(
                {"side": side.name, "verb": verb, "pods": len(chunk), "ms_p50": quantile([run.ms for run in runs], 0.5)}
            )
    agent = datacentre.agent_cpu_ms(record, datacentre.OURS) - agent
    for side in sides:
        used = sum(run.cpu_ms for run in taken[side.name]) + (agent if side.name == "ours" else 0)
        report.figures[f"{verb.lower()}_cpu_ms_per_pod_{side.name}"] = used / len(names)
    report.figures[f"{verb.lower()}_ms_mean_until_the_kernel_is_done_ours"] = (
        sum(run.ms for run in taken["ours"]) + after["ours"]
    ) / len(names)
    return taken


if __name__ == "__main__":
    main()
