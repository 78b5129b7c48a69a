"""The route plan of a large data centre, and putting routes into a kernel.

The plan: racks of hosts, dual stack, every host with one span a family that has room for its share of the blocks; all
devices are planned one after the other, and none is kept. Then one more span, and the devices that it touches.

The kernel: as many routes as asked for, each through a next hop, put into a network namespace of its own by our batch
and by `ip -batch`, in turns, half of them of each family.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import Report, arguments, quantile, versions
from romana.adapters.linux import netns
from romana.adapters.linux.routes import KernelRoutes
from romana.adapters.linux.rtnetlink import ROUTE_PROTOCOL
from romana.codec.text import parse_address, parse_prefix
from romana.codec.topology import read_plan
from romana.core.diff import Changes
from romana.core.routing.plan import RoutePlan
from romana.core.topology import carve
from romana.model.address import Prefix
from romana.model.ipam import Span
from romana.model.route import Route
from romana.model.topology import AddressPlan, Host

BLOCKS_A_SPAN = 32
MORE = 200
"""Spans that are added one at a time."""
GATEWAYS = {4: parse_address("192.0.2.2"), 6: parse_address("2001:db8::2")}
WHOLE = {4: parse_prefix("10.0.0.0/8"), 6: parse_prefix("fd00::/40")}
LENGTHS = {4: 24, 6: 117}


def data_centre(racks: int) -> AddressPlan:
    """The address plan."""
    document = {
        "version": 1,
        "networks": [
            {"name": f"v{family}", "cidr": str(WHOLE[family]), "span_length": LENGTHS[family]} for family in WHOLE
        ],
        "topologies": [
            {"name": "dc", "networks": ["v4", "v6"], "groups": [{"name": f"rack{index}"} for index in range(racks)]}
        ],
    }
    return carve(read_plan(document))


def spans_of(plan: AddressPlan, hosts: int, each: int) -> Iterator[Span]:
    """`each` spans a host and family, host by host."""
    for group in plan.topologies[0].root.groups:
        if group.closed:
            continue
        for index in range(hosts * each):
            for network, cidr in group.cidrs.items():
                part = cidr.subnet(LENGTHS[int(cidr.family)], index)
                yield Span(cidr=part, network=network, host=f"{group.name}-{index // each}")


def plan_all(report: Report, racks: int, hosts: int, blocks: int) -> None:
    """From nothing, then span by span."""
    plan = data_centre(racks)
    each = max(1, -(-blocks // (2 * racks * hosts * BLOCKS_A_SPAN)))
    spans = list(spans_of(plan, hosts, each))
    members = [Host(name=f"rack{r}-{h}", groups={"dc": f"/rack{r}"}) for r in range(racks) for h in range(hosts)]
    started = time.perf_counter()
    routes = RoutePlan(plan, members, spans)
    built = time.perf_counter()
    total = most = 0
    for device in routes.devices():
        held = len(routes.device_plan(device).routes)
        total, most = total + held, max(most, held)
    done = time.perf_counter()
    report.figures |= {
        "devices": float(len(members) + racks + 1),
        "spans": float(len(spans)),
        "blocks": float(blocks),
        "plan_from_nothing_s_lower": done - started,
        "plan_index_s_lower": built - started,
        "routes_of_all_devices": float(total),
        "routes_of_the_largest_device": float(most),
        "routes_of_the_spine": float(len(routes.device_plan("/").routes)),
        "peak_rss_mib_lower": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    took, spine = [], 0
    for more in range(MORE):
        rack = f"rack{more * 7 % racks}"
        cidr = plan.topologies[0].root.groups[more * 7 % racks].cidrs["v6"]
        span = Span(cidr=cidr.subnet(LENGTHS[6], hosts * each + more), network="v6", host=f"{rack}-{more % hosts}")
        before = time.perf_counter()
        touched = routes.put_span(span)
        plans = [routes.device_plan(device) for device in sorted(touched)]
        took.append((time.perf_counter() - before) * 1e3)
        spine += any(one.device == "/" for one in plans)
    report.figures |= {
        "one_more_span_ms_p50_lower": quantile(took, 0.5),
        "one_more_span_ms_p99_lower": quantile(took, 0.99),
        "spans_that_touched_the_spine": float(spine),
    }


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


def program(report: Report, count: int, rounds: int) -> None:
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
                    report.runs.append({"side": side, "routes_a_second": rates[side][-1]})
                    for family in ("-4", "-6"):
                        flush = ["ip", "-netns", name, family, "route", "flush", "proto", str(ROUTE_PROTOCOL)]
                        subprocess.run(flush, check=True, timeout=120, capture_output=True)
    best = {side: max(found) for side, found in rates.items()}
    report.figures |= {f"{side}_routes_a_second_higher": rate for side, rate in best.items()}
    report.figures["ours_processor_us_a_route_lower"] = min(costs)
    report.ratios["routes_a_second_higher"] = best["ours"] / best["ip_batch"]


def main() -> None:
    """Measure, print, write."""
    asked = arguments(__doc__ or "", racks=1000, hosts=40, blocks=1_000_000, routes=20_000, rounds=5)
    report = Report(benchmark="routes", versions=versions())
    plan_all(report, asked.racks, asked.hosts, asked.blocks)
    program(report, asked.routes, asked.rounds)
    report.show(asked.json)


if __name__ == "__main__":
    main()
