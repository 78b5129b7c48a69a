"""Many pods at once on one host: how many ADDs a second, against Debian's ptp with host-local."""

from __future__ import annotations

from bench import datacentre, plugins
from bench.report import Report, arguments, quantile, versions


def main() -> None:
    chosen = arguments(__doc__ or "", pods=200, at_once=8, rounds=3)
    report = Report(benchmark="burst", versions=versions())
    rates: dict[str, list[float]] = {"ours": [], "base": []}
    cpu: dict[str, list[float]] = {"ours": [], "base": []}
    with datacentre.datacentre() as record, plugins.sides() as sides:
        names = [f"pod{number:04}" for number in range(chosen.pods)]
        for side in sides:
            datacentre.namespaces(record, side.node, [*names, "warm"])
            for verb in ("ADD", "DEL"):
                plugins.run(record, side, verb, ["warm"])
            plugins.settle(record, side, 0)
        for turn in range(chosen.rounds):
            for side in sides if turn % 2 else reversed(sides):
                before = datacentre.agent_cpu_ms(record, side.node) if side.name == "ours" else 0.0
                runs = plugins.run(record, side, "ADD", names, chosen.at_once)
                after = datacentre.agent_cpu_ms(record, side.node) if side.name == "ours" else 0.0
                rate = len(runs) * 1000 / max(run.end_ms for run in runs)
                used = (sum(run.cpu_ms for run in runs) + after - before) / len(runs)
                rates[side.name].append(rate)
                cpu[side.name].append(used)
                p99 = quantile([run.ms for run in runs], 0.99)
                report.runs.append(
                    {"side": side.name, "pods_per_second": rate, "cpu_ms_per_pod": used, "add_ms_p99": p99}
                )
                plugins.run(record, side, "DEL", names, chosen.at_once)
                plugins.settle(record, side, 0)
    for side in sides:
        report.figures[f"pods_per_second_{side.name}"] = quantile(rates[side.name], 0.5)
        report.figures[f"cpu_ms_per_pod_{side.name}"] = quantile(cpu[side.name], 0.5)
    report.ratios["pods_per_second"] = quantile(rates["ours"], 0.5) / quantile(rates["base"], 0.5)
    report.ratios["cpu_ms_per_pod"] = quantile(cpu["ours"], 0.5) / quantile(cpu["base"], 0.5)
    report.show(chosen.json)


if __name__ == "__main__":
    main()
