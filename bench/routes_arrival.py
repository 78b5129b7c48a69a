"""New prefixes, from the write through the API until the kernel of a neighbour has them.

Every prefix is a span of its own: a block claimed for one more segment of a host. The time of a prefix begins when the
request for its block is sent, and ends when the neighbour's kernel tells of the route. The neighbour is another host of
one layer 2 network, whose agent sets the route; or the rack router, which learns it from the host's BIRD by eBGP.

First each claim waits until the one before is there; then, for fewer, each is sent as soon as romanad has answered the
one before, so that all queues fill.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from bench import datacentre
from bench.fabric import Arrivals, fabric, segment_names
from bench.ipam_clients import Connection, connect
from bench.report import Report, quantile
from romana.apps.lab import api
from romana.codec.text import parse_prefix
from romana.model.address import Prefix

HOST = "h1"
NETWORKS = [
    {"name": "pods4", "cidr": "10.112.0.0/12", "block_length": 28, "span_length": 28, "stock": 0, "mixed": 0},
    {"name": "pods6", "cidr": "fd00:10:110::/44", "block_length": 122, "span_length": 122, "stock": 0, "mixed": 0},
]
FABRICS: dict[str, tuple[str, dict[str, Any]]] = {"layer2": ("h2", {"fabric": "layer2"}), "ebgp": ("tor1", {})}
"""Kind of fabric -> the neighbour, and what the lab file says."""
GOAL_MS = 100
LONGEST = 30.0
"""Seconds after which a prefix is lost."""


def measure(report: Report, prefixes: int, burst: int) -> None:
    """In both kinds of fabric."""
    for kind, (near, more) in FABRICS.items():
        segments = segment_names((prefixes + burst) // 2)
        with (
            fabric({"rack1": [HOST, "h2"]}, NETWORKS, segments=len(segments), **more) as record,
            Arrivals(record, near) as arrivals,
        ):
            (epoch,) = [one["epoch"] for one in api.items(record, "/v1/hosts") if one["name"] == HOST]
            socket = api.url(record).removeprefix("unix://")
            taken = asyncio.run(_claim(socket, epoch, arrivals, segments, prefixes // 2))
        for word, times in taken.items():
            report.runs.append(
                {"part": "arrival", "fabric": kind, "how": word, "ms": " ".join(f"{t:.1f}" for t in times)}
            )
            report.measured(f"{kind}_{word}_ms_p50_lower", times, goal=GOAL_MS if word == "prefix_to_kernel" else None)
            report.figures[f"{kind}_{word}_ms_p99_lower"] = quantile(times, 0.99)
        report.figures[f"{kind}_prefixes"] = float(prefixes)


async def _claim(
    socket: str, epoch: int, arrivals: Arrivals, segments: list[str], paced: int
) -> dict[str, list[float]]:
    """How long each prefix took, in milliseconds, by how they were asked for."""
    connection = await connect(socket)
    sent: dict[Prefix, float] = {}
    for segment in segments[:paced]:
        await _there(arrivals, await _one(connection, epoch, segment, sent))
    found = {"prefix_to_kernel": _milliseconds(arrivals, sent)}
    sent.clear()
    for segment in segments[paced:]:
        await _one(connection, epoch, segment, sent)
    await _there(arrivals, sent)
    return {**found, "burst_to_kernel": _milliseconds(arrivals, sent)}


async def _one(connection: Connection, epoch: int, segment: str, sent: dict[Prefix, float]) -> list[Prefix]:
    owner = {"tenant": datacentre.TENANT, "segment": segment}
    body = msgspec.json.encode({"host": HOST, "epoch": epoch, "identity": {"owner": owner}})
    began = time.perf_counter()
    answer = msgspec.json.decode(await connection.ask("POST", f"/v1/hosts/{HOST}/claims", body))
    blocks = [parse_prefix(one) for one in answer["blocks"]]
    sent.update(dict.fromkeys(blocks, began))
    return blocks


async def _there(arrivals: Arrivals, prefixes: list[Prefix] | dict[Prefix, float]) -> None:
    deadline = time.perf_counter() + LONGEST
    while missing := [one for one in prefixes if one not in arrivals.at]:
        if time.perf_counter() > deadline:
            raise SystemExit(f"bench: after {LONGEST:g} s the neighbour's kernel has no route to {missing[0]}")
        await asyncio.sleep(0.001)


def _milliseconds(arrivals: Arrivals, sent: dict[Prefix, float]) -> list[float]:
    return [(arrivals.at[prefix] - began) * 1e3 for prefix, began in sent.items()]
