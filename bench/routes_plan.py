"""The route plan of a large data centre: racks of hosts, dual stack, every host with one span a family that has room
for its share of the blocks, which are in no route. All devices are planned one after the other, and none is kept. Then
one more span, many times, and the devices that it touches.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

from bench.report import Report, quantile
from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.routing.plan import RoutePlan
from romana.core.topology import carve
from romana.model.ipam import Span
from romana.model.topology import AddressPlan, Host

BLOCKS_A_SPAN = 32
MORE = 200
"""Spans that are added one at a time."""
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


def measure(report: Report, racks: int, hosts: int, blocks: int, rounds: int) -> None:
    """From nothing, several times; then span by span. Call it first: the peak of memory is the process's."""
    each = max(1, -(-blocks // (2 * racks * hosts * BLOCKS_A_SPAN)))
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        plan = data_centre(racks)
        spans = list(spans_of(plan, hosts, each))
        members = [Host(name=f"rack{r}-{h}", groups={"dc": f"/rack{r}"}) for r in range(racks) for h in range(hosts)]
        routes = RoutePlan(plan, members, spans)
        total = most = 0
        for device in routes.devices():
            held = len(routes.device_plan(device).routes)
            total, most = total + held, max(most, held)
        took.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report.figures.setdefault("plan_peak_rss_mib_lower", peak)  # later rounds have the one before beside them
        report.runs.append({"part": "plan", "plan_from_nothing_s": took[-1]})
    report.figures |= {
        "devices": float(len(members) + racks + 1),
        "spans": float(len(spans)),
        "blocks": float(blocks),
        "routes_of_all_devices": float(total),
        "routes_of_the_largest_device": float(most),
        "routes_of_the_spine": float(len(routes.device_plan("/").routes)),
    }
    report.measured("plan_from_nothing_s_lower", took, goal=15)
    report.goals["plan_peak_rss_mib_lower"] = 2048
    more_spans(report, plan, routes, racks, hosts, each)


def more_spans(report: Report, plan: AddressPlan, routes: RoutePlan, racks: int, hosts: int, each: int) -> None:
    """One more span, and every device that it touches planned again."""
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
    report.measured("one_more_span_ms_lower", took, goal=5)
    report.figures["one_more_span_ms_p99_lower"] = quantile(took, 0.99)
    report.figures["spans_that_touched_the_spine"] = float(spine)
