"""Fixed addresses through romanad's API with 8 clients, on SQLite and on one etcd member, beside the bare stores; and
what a romanad with a million endpoints needs in memory and until it is ready.

An allocation is one request for one address, answered when it is durable.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import msgspec
import uvloop
from tests.probes.etcd import EtcdCluster

from bench import crowd
from bench.ipam_clients import Taken, connect
from bench.report import Report, arguments, quantile, versions
from romana.apps.server.config import ServerConfig
from romana.apps.server.storing import open_store
from romana.codec.config import load
from romana.ports import Transaction

HERE = Path(__file__).parent.parent / "build" / "bench"
"""On the checkout's own file system, where a store's fsync means something."""
CLIENTS = 8
WARM_UP = 800
NETWORK = "fixed"
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    chosen = arguments(__doc__ or "", rounds=5, allocations=12_000, endpoints=1_000_000)
    report = Report(benchmark="ipam_api", versions=versions())
    HERE.mkdir(parents=True, exist_ok=True)
    for number in range(chosen.rounds):
        for kind in ("sqlite", "etcd") if number % 2 == 0 else ("etcd", "sqlite"):
            run = {"store": kind, "fsyncs_per_s": fsyncs()}
            with tempfile.TemporaryDirectory(dir=HERE) as place, store_of(kind, Path(place)) as text:
                run |= through_the_api(Path(place), text, chosen.allocations)
            with tempfile.TemporaryDirectory(dir=HERE) as place, store_of(kind, Path(place)) as text:
                run["bare_transactions_per_s"] = uvloop.run(bare(text, chosen.allocations))
            report.runs.append(run)
    summarize(report)
    if chosen.endpoints:
        report.figures |= with_a_crowd(chosen.endpoints)
    report.show(chosen.json)


def summarize(report: Report) -> None:
    """Medians and spreads of the rounds."""
    for kind in ("sqlite", "etcd"):
        runs = [run for run in report.runs if run["store"] == kind]
        for key in ("allocations_per_s", "allocation_ms_p50", "allocation_ms_p99", "bare_transactions_per_s"):
            values = [float(run[key]) for run in runs]
            report.figures[f"{kind}_{key}"] = statistics.median(values)
            report.figures[f"{kind}_{key}_spread"] = f"{min(values):.4g} to {max(values):.4g}"
        ratios = [float(run["allocations_per_s"]) / float(run["bare_transactions_per_s"]) for run in runs]
        report.ratios[f"{kind}_allocations_to_bare_transactions_per_s"] = statistics.median(ratios)
    report.figures["fsyncs_per_s"] = statistics.median(float(run["fsyncs_per_s"]) for run in report.runs)


def fsyncs(seconds: float = 1.0) -> float:
    """How often a block written to this file system can be made durable, one after the other."""
    with tempfile.NamedTemporaryFile(dir=HERE) as file:
        block, count, began = b"x" * 4096, 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            os.pwrite(file.fileno(), block, count % 256 * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.perf_counter() - began)


@contextmanager
def store_of(kind: str, place: Path) -> Iterator[str]:
    """The `store` section of romanad's configuration, for a new store; etcd runs as long as that."""
    cluster = EtcdCluster(place / "etcd") if kind == "etcd" else None
    running: AbstractContextManager[object] = cluster if cluster is not None else nullcontext()
    with running:
        if cluster is None:
            yield f'[store]\npath = "{place / "romanad.db"}"\n'
        else:
            yield f'[store]\nkind = "etcd"\n[etcd]\nendpoints = ["{cluster.endpoint(0)}"]\n'


@contextmanager
def romanad(place: Path, store: str) -> Iterator[tuple[int, str, float]]:
    """A romanad on a store: its process id, its socket, and the seconds until it was ready."""
    socket, config = place / "romanad.sock", place / "romanad.toml"
    config.write_text(f'{store}[listen]\nsocket = "{socket}"\nport = 0\n[log]\nlevel = "warning"\n')
    began = time.perf_counter()
    process = subprocess.Popen([str(Path(sys.executable).parent / "romanad"), "--config", str(config)])
    try:
        uvloop.run(until_ready(process, str(socket)))
        yield process.pid, str(socket), time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


async def until_ready(process: subprocess.Popen[bytes], socket: str) -> None:
    """Wait until it says that it takes changes."""
    while True:
        try:
            connection = await connect(socket)
        except OSError:
            if process.poll() is not None:
                raise SystemExit("bench: romanad did not start") from None
            await asyncio.sleep(0.02)
        else:
            await connection.ask("GET", "/readyz")
            return


def through_the_api(place: Path, store: str, allocations: int) -> dict[str, float | str]:
    """Allocations a second, and how long each takes."""
    with romanad(place, store) as (_, socket, _seconds):
        uvloop.run(prepare(socket))
        clients(socket, WARM_UP, "warm")
        taken = clients(socket, allocations, "vm")
    ms = [seconds * 1000 for seconds in taken.requests]
    return {
        "allocations_per_s": len(ms) / taken.seconds,
        "allocation_ms_p50": quantile(ms, 0.5),
        "allocation_ms_p99": quantile(ms, 0.99),
    }


async def prepare(socket: str) -> None:
    """The plan, and who asks."""
    connection = await connect(socket)
    await connection.ask("PUT", "/v1/topology", msgspec.json.encode(crowd.plan_document()))
    await connection.ask("PUT", f"/v1/tenants/{crowd.SERVED}", b"{}")
    await connection.ask("PUT", f"/v1/tenants/{crowd.SERVED}/segments/load", b"{}")


def clients(socket: str, requests: int, word: str) -> Taken:
    """A load from a process of its own."""
    command = [sys.executable, "-c", "from bench.ipam_clients import main; main()"]
    command += [socket, str(CLIENTS), str(requests), word, crowd.SERVED, "load", NETWORK]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600)
    return msgspec.json.decode(ran.stdout, type=Taken)


async def bare(text: str, transactions: int) -> float:
    """Transactions a second of the store alone, 8 at a time, each as an allocation's: six compares, two records."""
    store = await open_store(load(ServerConfig, text, {}))
    await store.commit(Transaction(puts={f"known/{number}": b"x" * 100 for number in range(4)}))
    found = {
        key: record.revision for key in (f"known/{number}" for number in range(4)) if (record := await store.get(key))
    }

    async def client(number: int, count: int, word: str) -> None:
        for each in range(count):
            new = {f"{one}/{word}-{number}-{each}": b"x" * size for one, size in (("reservation", 320), ("fixed", 60))}
            await store.commit(Transaction(compares={**found, **dict.fromkeys(new, 0)}, puts=new))

    async def all_of(count: int, word: str) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(client(number, count // CLIENTS, word) for number in range(CLIENTS)))
        return count / (time.perf_counter() - began)

    try:
        await all_of(WARM_UP, "warm")
        return await all_of(transactions, "vm")
    finally:
        await store.close()


def with_a_crowd(endpoints: int) -> dict[str, float | str]:
    """What a full romanad has more than an empty one, and how soon it is there; and how soon it lists a host."""
    found: dict[str, float | str] = {"endpoints": float(endpoints)}
    rss = {}
    for name, count in (("empty", 0), ("full", endpoints)):
        with tempfile.TemporaryDirectory(dir=HERE) as place:
            path = Path(place) / "romanad.db"
            if count:
                fill(path, count)
            with romanad(Path(place), f'[store]\npath = "{path}"\n') as (pid, socket, seconds):
                rss[name] = resident(pid)
                found[f"{name}_ready_s"] = seconds
                found[f"{name}_rss_mb"] = rss[name] / 1e6
                if count:
                    found["list_of_one_host_ms"] = uvloop.run(one_host(socket)) * 1000
    found["memory_bytes_per_endpoint"] = (rss["full"] - rss["empty"]) / endpoints
    return found


def fill(path: Path, endpoints: int) -> None:
    """A store with a crowd, made in a process of its own; it takes a while."""
    code = "import asyncio, sys; from pathlib import Path; from bench import crowd; "
    code += "asyncio.run(crowd.fill(Path(sys.argv[1]), int(sys.argv[2])))"
    subprocess.run([sys.executable, "-c", code, str(path), str(endpoints)], check=True, timeout=1200)


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


async def one_host(socket: str, times: int = 20) -> float:
    """Seconds for the list of one host's endpoints, the median."""
    connection = await connect(socket)
    taken = []
    for number in range(times):
        began = time.perf_counter()
        await connection.ask("GET", f"/v1/endpoints?host={crowd.host_name(number)}")
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
