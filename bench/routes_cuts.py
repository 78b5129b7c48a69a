"""How long endpoints cannot reach each other after a link between a spine and a rack router fails (two spines, two
racks, eBGP, the sessions' timers as configured by default).

Endpoints ping each other every 10 ms, in both families; a fault's time is the longest in which a pair had no answer.
The link loses its carrier; or it goes silent (both ends drop all that comes in, the carrier stays), with BFD and
without.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.probes.pings import Pings

from bench import datacentre
from bench.fabric import fabric
from bench.report import Report
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.pods import add_pods, namespace
from romana.apps.lab.record import LabRecord
from romana.core.routing.neighbors import DEFAULTS

RACKS = {"rack1": ["h11"], "rack2": ["h21", "h22"]}
NETWORKS = [
    {"name": "pods4", "cidr": "10.112.0.0/12", "block_length": 26, "span_length": 20},
    {"name": "pods6", "cidr": "fd00:10:110::/44", "block_length": 122, "span_length": 116},
]
SPINES = ("s1", "s2")
ROUTERS = ("tor1", "tor2")
INTERVAL = 0.01
LONGEST = 60.0
HOLD = float(DEFAULTS.hold_seconds or 0)
SILENT = """\
add table netdev silent
add chain netdev silent in {{ type filter hook ingress device "{device}" priority 0; policy drop; }}
"""
Break = Callable[[LabRecord, str, str], None]


def measure(report: Report, cuts: int, silences: int) -> None:
    """Carrier loss and silence without BFD in one fabric, silence with BFD in another."""
    with _pinged({}) as (record, pings):
        taken = [fail(record, pings, number, cut, uncut, 1.5) for number in range(cuts)]
        _tell(report, "carrier_lost", taken, 200)
        taken = [fail(record, pings, number, hush, unhush, HOLD + 3) for number in range(silences)]
        _tell(report, "silent_with_hold_timers", taken, HOLD * 1000)
    report.figures["hold_timer_s"] = HOLD
    with _pinged({"bfd": True}) as (record, pings):
        taken = [fail(record, pings, number, hush, unhush, 2) for number in range(cuts)]
        _tell(report, "silent_with_bfd", taken, 500)


def _tell(report: Report, word: str, taken: list[float], goal: float) -> None:
    report.measured(f"{word}_ms_lower", taken, goal=goal)
    report.runs += [{"part": "cuts", "fault": word, "ms": one} for one in taken]


@contextmanager
def _pinged(sessions: dict[str, bool]) -> Iterator[tuple[LabRecord, Pings]]:
    with fabric(RACKS, NETWORKS, spines=SPINES, sessions=sessions) as record:
        hosts = [host for members in RACKS.values() for host in members]
        tenant, segment = datacentre.TENANT, datacentre.SEGMENT
        pods = add_pods(
            record, [LabEndpoint(name=f"p-{host}", host=host, tenant=tenant, segment=segment) for host in hosts]
        )
        there = {
            pod.endpoint.host: (
                str(namespace(record, pod.endpoint.host, pod.name)),
                tuple(one.text for one in pod.addresses),
            )
            for pod in pods
        }
        established(record)
        with Pings(there, INTERVAL) as pings:
            yield record, pings


def fail(record: LabRecord, pings: Pings, number: int, break_: Break, mend: Break, seconds: float) -> float:
    """Break a link, wait, mend it: the longest time without an answer meanwhile, in milliseconds.

    A link that no pair crosses is passed over. Where no ping was lost, the time is that between two pings, at most. A
    prober that had not all its time is told by how many pings it sent, and the time is longer by as much.
    """
    for attempt in range(len(SPINES) * len(ROUTERS)):
        spine = SPINES[(number + attempt) % len(SPINES)]
        router = ROUTERS[(number + attempt) // len(SPINES) % len(ROUTERS)]
        quiet(pings)
        if not crossed(record, spine, router):
            continue
        began = time.monotonic()
        break_(record, spine, router)
        time.sleep(seconds)
        taken = time.monotonic() - began
        result = pings.lap()
        mend(record, spine, router)
        established(record)
        sent = max(loss.sent for loss in result.pairs.values())
        if result.exceeded:
            raise SystemExit(f"bench: {result.exceeded} packets went round")
        return max(result.worst(), INTERVAL) * 1000 * max(1.0, taken / (sent * INTERVAL))
    raise SystemExit("bench: no pair of endpoints crosses any of the links")


def crossed(record: LabRecord, spine: str, router: str) -> bool:
    """Whether pings go over a link: both ways together, as many as one pair sends."""
    seen: list[int] = []
    for pause in (0.5, 0):
        (shown,) = json.loads(datacentre.on(record, spine, ["ip", "-json", "-s", "link", "show", f"to-{router}"]))
        seen.append(shown["stats64"]["rx"]["packets"] + shown["stats64"]["tx"]["packets"])
        time.sleep(pause)
    return seen[1] - seen[0] > 0.4 / INTERVAL


def quiet(pings: Pings) -> None:
    """Wait until every ping is answered."""
    deadline = time.monotonic() + LONGEST
    while pings.lap().lossy():
        if time.monotonic() > deadline:
            raise SystemExit("bench: the fabric does not come back")
        time.sleep(0.5)


def cut(record: LabRecord, spine: str, router: str) -> None:
    """The router's end loses its carrier."""
    datacentre.on(record, spine, ["ip", "link", "set", f"to-{router}", "down"])


def uncut(record: LabRecord, spine: str, router: str) -> None:
    """It has one again."""
    datacentre.on(record, spine, ["ip", "link", "set", f"to-{router}", "up"])


def hush(record: LabRecord, spine: str, router: str) -> None:
    """Both ends lose all packets."""
    for node, other in ((spine, router), (router, spine)):
        datacentre.on(record, node, ["nft", "-f", "-"], SILENT.format(device=f"to-{other}"))


def unhush(record: LabRecord, spine: str, router: str) -> None:
    """They come again."""
    for node in (spine, router):
        datacentre.on(record, node, ["nft", "delete", "table", "netdev", "silent"])


def established(record: LabRecord) -> None:
    """Wait until all sessions of the routers are up."""
    deadline = time.monotonic() + LONGEST
    for node in (*SPINES, *ROUTERS):
        while down := [one for one in _sessions(record, node) if "Established" not in one]:
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: a session of {node} stays down: {down[0]}")
            time.sleep(0.2)


def _sessions(record: LabRecord, node: str) -> list[str]:
    shown = datacentre.on(record, node, ["birdc", "-s", "/run/bird/bird.ctl", "show", "protocols"])
    return [line for line in shown.splitlines() if len(line.split()) > 1 and line.split()[1] == "BGP"]
