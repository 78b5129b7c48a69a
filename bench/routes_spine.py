"""What the routers of a fabric hold (one spine, two racks of two hosts, eBGP), before and after endpoints start, and
how many BGP UPDATE messages their starting brings.

Messages are counted from the wire, in the routers' own namespaces: at the spine all are above the racks. Then a fixed
address of one rack is used in the other, which is an exception: it has to bring messages, or the counter sees nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path

import msgspec

from bench import datacentre, plugins
from bench.fabric import KEEPALIVE, UPDATE, BgpMessages, fabric
from bench.report import Report
from romana.apps.lab import api
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.pods import add_pod, plugin, remove_pod
from romana.apps.lab.record import LabRecord

RACKS = {"rack1": ["h11", "h12"], "rack2": ["h21", "h22"]}
HOSTS = [host for hosts in RACKS.values() for host in hosts]
ROUTERS = ("spine", "tor1", "tor2")
STATIC = "10.112.255.0/24"
"""In the part of the first rack, and used in the second one."""
NETWORKS = [
    {"name": "pods4", "cidr": "10.112.0.0/12", "block_length": 26, "span_length": 20, "static": [STATIC]},
    {"name": "pods6", "cidr": "fd00:10:110::/44", "block_length": 122, "span_length": 116},
]
SETTLED = 4.0
"""Seconds without an UPDATE after which no more come: longer than the time between two KEEPALIVEs."""
LONGEST = 60.0


def measure(report: Report, endpoints: int) -> None:
    """The routes before and after, and the messages between."""
    with fabric(RACKS, NETWORKS) as record, ExitStack() as stack:
        counters = {name: stack.enter_context(BgpMessages(record, name)) for name in ROUTERS}
        before = settled(record, counters)
        updates = {name: one.of(UPDATE) for name, one in counters.items()}
        began = time.perf_counter()
        start(record, endpoints)
        report.figures["endpoints_started"] = float(endpoints)
        report.figures["endpoints_started_s"] = time.perf_counter() - began
        after = settled(record, counters)
        brought = {name: one.of(UPDATE) - updates[name] for name, one in counters.items()}
        tell(report, before, after)
        report.figures |= {
            "updates_above_the_racks_messages": float(brought["spine"]),
            "updates_below_the_racks_messages": float(brought["tor1"] + brought["tor2"] - brought["spine"]),
            "keepalives_seen": float(sum(one.of(KEEPALIVE) for one in counters.values())),
            "updates_above_by_one_exception": float(by_exception(record, counters["spine"])),
            "packets_missed": float(sum(one.lost() for one in counters.values())),
        }
        report.goals["updates_above_the_racks_messages"] = 0


def tell(report: Report, before: dict[str, Counter[str]], after: dict[str, Counter[str]]) -> None:
    """Routes by kind; what is of the underlay, connected or discards beside."""
    for family in (4, 6):
        spine = after["spine"]
        report.figures[f"spine_endpoint_routes_v{family}"] = float(spine[f"endpoint_v{family}"])
        report.goals[f"spine_endpoint_routes_v{family}"] = len(RACKS)
        report.figures[f"rack_router_endpoint_routes_v{family}"] = float(after["tor1"][f"endpoint_v{family}"])
    for name in ("spine", "tor1"):
        word = "spine" if name == "spine" else "rack_router"
        for kind in ("discard", "underlay", "underlay_discard", "connected"):
            report.figures[f"{word}_{kind}_routes_both"] = float(after[name][kind])
    changed = sum(sum(((after[name] - before[name]) + (before[name] - after[name])).values()) for name in ROUTERS)
    report.figures["router_routes_changed_by_endpoints_entries"] = float(changed)
    report.goals["router_routes_changed_by_endpoints_entries"] = 0


def settled(record: LabRecord, counters: dict[str, BgpMessages]) -> dict[str, Counter[str]]:
    """The routers' routes by kind, once no UPDATE comes any more."""
    deadline = time.monotonic() + LONGEST
    seen, since = -1, time.monotonic()
    while time.monotonic() < since + SETTLED:
        now = sum(one.of(UPDATE) for one in counters.values())
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() > deadline:
            raise SystemExit("bench: the fabric does not settle")
        time.sleep(0.1)
    return {name: kinds(routes(record, name)) for name in counters}


def routes(record: LabRecord, node: str) -> list[dict[str, str]]:
    """The main table of a node, as `ip` has it."""
    return [
        {**one, "family": family}
        for family in ("4", "6")
        for one in json.loads(datacentre.on(record, node, ["ip", "-json", f"-{family}", "route", "show"]))
    ]


def kinds(found: Iterable[dict[str, str]]) -> Counter[str]:
    """How many routes there are of each kind."""
    counted: Counter[str] = Counter()
    inside = [ip_network(str(one["cidr"])) for one in NETWORKS]
    for route in found:
        prefix = ip_network("::/0" if route["dst"] == "default" else route["dst"])
        ours = any(prefix.version == one.version and prefix.subnet_of(one) for one in inside)  # type: ignore[arg-type]
        discards = route.get("type") in ("blackhole", "unreachable")
        if ours:
            counted["discard" if discards else f"endpoint_v{prefix.version}"] += 1
        elif route.get("protocol") == "kernel":
            counted["connected"] += 1
        else:
            counted["underlay_discard" if discards else "underlay"] += 1
    return counted


def start(record: LabRecord, count: int) -> None:
    """So many endpoints, the same number on each host."""
    with tempfile.TemporaryDirectory(prefix="romana-bench-") as place:
        configuration = Path(place, "ours.json")
        configuration.write_bytes(msgspec.json.encode({"cniVersion": "1.1.0", "name": "romana", "type": "romana-cni"}))
        for host in HOSTS:
            names = [f"{host}-{number:04}" for number in range(count // len(HOSTS))]
            datacentre.namespaces(record, host, names)
            side = plugins.Side(name="ours", node=host, program=str(plugin()), configuration=configuration)
            plugins.run(record, side, "ADD", names, 8)


def by_exception(record: LabRecord, counter: BgpMessages) -> int:
    """The messages at the spine when an address of one rack is used in the other; ends the program without any."""
    tenant, segment = datacentre.TENANT, datacentre.SEGMENT
    asked = {"name": "mover", "tenant": tenant, "segment": segment, "networks": ["pods4"]}
    api.post(record, "/v1/addresses", asked)
    before = counter.of(UPDATE)
    host = RACKS["rack2"][0]
    add_pod(record, LabEndpoint(name="mover", host=host, tenant=tenant, segment=segment), address="mover")
    deadline = time.monotonic() + LONGEST
    while counter.of(UPDATE) == before:
        if time.monotonic() > deadline:
            raise SystemExit("bench: an exception brought no UPDATE: the counter sees nothing")
        time.sleep(0.05)
    time.sleep(1)
    remove_pod(record, host, "mover")
    return counter.of(UPDATE) - before
