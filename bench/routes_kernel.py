"""Routes put into a kernel: as many as asked for, half of them of each family and each through a next hop, into a
network namespace of its own, by our batch and by `ip -batch`, in turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import Report
from bench.routes_plan import LENGTHS, WHOLE
from romana.adapters.linux import netns
from romana.adapters.linux.routes import KernelRoutes
from romana.adapters.linux.rtnetlink import ROUTE_PROTOCOL
from romana.codec.text import parse_address
from romana.core.diff import Changes
from romana.model.address import Prefix
from romana.model.route import Route

GATEWAYS = {4: parse_address("192.0.2.2"), 6: parse_address("2001:db8::2")}


@contextmanager
def space() -> Iterator[str]:
    """A network namespace with one link whose other addresses are next hops."""
    name = f"romt-rb{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        lines = ["link add fabric type veth peer name beyond", "address add 192.0.2.1/24 dev fabric"]
        lines += ["address add 2001:db8::1/64 dev fabric nodad", "link set fabric up", "link set beyond up"]
        batch(name, lines)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def batch(name: str, lines: list[str]) -> None:
    """`ip -batch` in a namespace."""
    command = ["ip", "-netns", name, "-batch", "-"]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True, timeout=120)


def prefixes(count: int) -> list[Prefix]:
    """So many, half of each family."""
    return [WHOLE[family].subnet(LENGTHS[family], index) for index in range(count // 2) for family in (4, 6)]


def measure(report: Report, count: int, rounds: int) -> None:
    """Ours and the baseline's, in turns."""
    wanted = {one: Route(prefix=one, next_hops=(GATEWAYS[int(one.family)],)) for one in prefixes(count)}
    rates: dict[str, list[float]] = {"ours": [], "ip_batch": []}
    costs: list[float] = []
    with space() as name, tempfile.TemporaryDirectory() as folder:
        with netns.opened(f"/run/netns/{name}") as descriptor, netns.inside(descriptor):
            kernel = KernelRoutes()
        lines = [f"route add {one} via {route.next_hops[0]} proto {ROUTE_PROTOCOL}" for one, route in wanted.items()]
        text = Path(folder) / "routes"
        text.write_text("\n".join(lines) + "\n")
        with kernel:
            for turn in range(rounds):
                for side in ("ours", "ip_batch") if turn % 2 else ("ip_batch", "ours"):
                    before, cpu = time.perf_counter(), time.process_time()
                    if side == "ours":
                        kernel.apply(Changes(wanted, {}, {}))
                    else:
                        subprocess.run(["ip", "-netns", name, "-batch", str(text)], check=True, timeout=120)
                    rates[side].append(len(wanted) / (time.perf_counter() - before))
                    if side == "ours":
                        costs.append((time.process_time() - cpu) / len(wanted) * 1e6)
                    report.runs.append({"part": "kernel", "side": side, "routes_a_second": rates[side][-1]})
                    for family in ("-4", "-6"):
                        flush = ["ip", "-netns", name, family, "route", "flush", "proto", str(ROUTE_PROTOCOL)]
                        subprocess.run(flush, check=True, timeout=120, capture_output=True)
    for side, found in rates.items():
        report.figures[f"{side}_best_routes_a_second_higher"] = max(found)
        report.measured(f"{side}_routes_a_second_higher", found, goal=50_000 if side == "ours" else None)
    report.measured("ours_processor_us_a_route_lower", costs)
    key = "routes_a_second_higher"
    report.ratios[key] = statistics.median(rates["ours"]) / statistics.median(rates["ip_batch"])
    report.goals[key] = 0.8
