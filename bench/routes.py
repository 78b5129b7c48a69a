"""Routes: the plan of a large data centre, routes put into a kernel, what routers hold, how long new prefixes take to a
neighbour, and how long endpoints are apart after a failure.

The parts are `routes_plan`, `routes_kernel`, `routes_spine`, `routes_arrival` and `routes_cuts`; each says how it
measures. A count of 0 leaves a part out. The labs are real kernels and daemons in namespaces.
"""

from __future__ import annotations

from bench import routes_arrival, routes_cuts, routes_kernel, routes_plan, routes_spine
from bench.report import Report, arguments, versions

QUICK = {"routes": 10_000, "rounds": 3, "endpoints": 100, "prefixes": 100, "burst": 40, "cuts": 3, "silences": 1}


def main() -> None:
    """Measure, print, write."""
    asked = arguments(
        __doc__ or "",
        QUICK,
        racks=1000,
        hosts=40,
        blocks=1_000_000,
        routes=20_000,
        rounds=5,
        endpoints=1000,
        prefixes=1000,
        burst=200,
        cuts=7,
        silences=3,
    )
    report = Report(benchmark="routes", versions=versions())
    if asked.racks:
        routes_plan.measure(report, asked.racks, asked.hosts, asked.blocks, asked.rounds)
    if asked.routes:
        routes_kernel.measure(report, asked.routes, asked.rounds)
    if asked.endpoints:
        routes_spine.measure(report, asked.endpoints)
    if asked.prefixes:
        routes_arrival.measure(report, asked.prefixes, asked.burst)
    if asked.cuts:
        routes_cuts.measure(report, asked.cuts, asked.silences)
    report.show(asked.json)


if __name__ == "__main__":
    main()
