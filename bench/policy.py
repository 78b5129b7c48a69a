"""Policy with 1,000 policies and 10,000 endpoints in 1,000 namespaces, 100 of them on one real host.

How soon a change is in force, from the request to romanad until the first datagram that passes, and the last one that
does not any more; the baseline is the kernel alone: the same element, put into the same table by nft's own library. How
large a host's table is, what a new endpoint costs, and how long everything takes from nothing.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from bench import datacentre, policy_world
from bench.report import Report, arguments, quantile, versions
from romana.adapters.linux.libnftables import Libnftables
from romana.adapters.linux.netns import inside, opened
from romana.adapters.linux.nftables import NftTable
from romana.adapters.romanad import RomanadClient
from romana.apps.lab import api, programs
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.nodes import end, entering, environment
from romana.apps.lab.pods import Pod, add_pods
from romana.apps.lab.record import LabRecord
from romana.model.address import Address, Family
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation

LAB = datacentre.HERE / "cluster.yaml"
HOST = "h1"
FAR = "far-0000"
PORT = 7777
MICROSECONDS = 250
LOCAL = 10
"""Namespaces whose endpoints are on the real host."""
FLOOR = "romana-bench-floor"
FLOOR_TABLE = """
table inet floor {
    set open { type inet_service; }
    chain output { type filter hook output priority filter; udp dport 7777 udp dport != @open drop; }
}
"""


def main() -> None:
    chosen = arguments(__doc__ or "", namespaces=1000, changes=100, endpoints=100, large=5000)
    report = Report(benchmark="policy", versions=versions())
    with datacentre.datacentre(LAB) as record:
        began = time.monotonic()
        asyncio.run(_fill(record, LOCAL))
        pods = {one.name: one for one in add_pods(record, _local())}
        table_size(record, report, "10_policies_100_endpoints")
        asyncio.run(_fill(record, chosen.namespaces))
        report.figures["fill_seconds"] = time.monotonic() - began
        size = chosen.namespaces
        table_size(record, report, f"{size}_policies_{size * policy_world.PER_NAMESPACE}_endpoints")
        with _policy_gate(record, pods) as policy, _floor_gate() as floor:
            for turn in range(chosen.changes):
                for gate in (policy, floor) if turn % 2 else (floor, policy):
                    report.runs += gate.change()
        _summarize(report)
        asyncio.run(_new_endpoints(record, report, chosen.endpoints))
        _agent_start(record, report)
    _compile(report, chosen.namespaces, policies=chosen.namespaces)
    _compile(report, 2 * chosen.large, policies=chosen.large)
    report.show(chosen.json)


async def _fill(record: LabRecord, namespaces: int) -> None:
    """The whole cluster; what is there already stays as it is."""
    async with RomanadClient(api.url(record)) as client:
        await policy_world.fill(client, namespaces, first_remote=LOCAL)


def _local() -> list[LabEndpoint]:
    return [
        LabEndpoint(
            name=f"ns{number}-{app}-{each}",
            host=HOST,
            tenant=policy_world.namespace(number),
            segment=policy_world.SEGMENT,
            labels={"app": app},
        )
        for number in range(LOCAL)
        for app in ("web", "api")
        for each in range(policy_world.PER_NAMESPACE // 2)
    ]


def table_size(record: LabRecord, report: Report, words: str) -> None:
    """Objects of the host's table."""
    listing = datacentre.on(record, HOST, ["nft", "-j", "list", "table", "inet", "romana"])
    objects = [next(iter(one)) for one in msgspec.json.decode(listing)["nftables"]]
    for word in ("rule", "chain", "map", "set"):
        report.figures[f"{word}s_with_{words}"] = float(objects.count(word))


class Gate:
    """Something that lets datagrams pass or not, and a probe that says since when."""

    def __init__(self, kind: str, command: list[str], switch: Callable[[str], None]) -> None:
        self._kind = kind
        self._switch = switch
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        self._next("closed")

    def change(self) -> list[dict[str, float | str]]:
        """Open and close once: milliseconds until the first datagram that passes, and to the last one."""
        found: list[dict[str, float | str]] = []
        for word in ("open", "closed"):
            time.sleep(0.02)
            begun = time.monotonic_ns()
            self._switch(word)
            found.append({"kind": self._kind, "change": word, "ms": max(0.0, (self._next(word) - begun) / 1e6)})
        return found

    def close(self) -> None:
        """End the probe."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _next(self, word: str) -> int:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().split()
        if not said or said[0] != word:
            raise SystemExit(f"bench: the probe of {self._kind} was to say {word}, it said {said}")
        return int(said[1])


@contextmanager
def _policy_gate(record: LabRecord, pods: dict[str, Pod]) -> Iterator[Gate]:
    """A NetworkPolicy that is made and removed through romanad's API; sender and receiver are on the real host."""
    sender, receiver = pods["ns0-api-0"], pods["ns0-web-0"]
    words = [f"/run/netns/{one.name}" for one in (sender, receiver)]
    program = str(datacentre.PROGRAMS / "gate_probe")
    command = [program, *words, str(receiver.addresses[0]), str(PORT), str(MICROSECONDS)]
    with asyncio.Runner() as runner:
        client = RomanadClient(api.url(record))

        def switch(word: str) -> None:
            if word == "open":
                document = policy_world.policy(0, "probe", "api", PORT, "UDP")
                runner.run(client.post("/v1/policies", document))
            else:
                runner.run(client.delete(f"/v1/policies/kube.{policy_world.namespace(0)}.probe"))

        gate = Gate("policy", entering(record.process(HOST), command), switch)
        try:
            yield gate
        finally:
            gate.close()
            runner.run(client.close())


@contextmanager
def _floor_gate() -> Iterator[Gate]:
    """What the kernel alone takes: one element of a set, changed by libnftables in this process."""
    subprocess.run(["ip", "netns", "add", FLOOR], check=True)
    path = f"/run/netns/{FLOOR}"
    try:
        subprocess.run(["ip", "-netns", FLOOR, "link", "set", "lo", "up"], check=True)
        with opened(path) as space, inside(space):
            nft = Libnftables()
            nft.run(FLOOR_TABLE)

        def switch(word: str) -> None:
            nft.run(f"{'add' if word == 'open' else 'delete'} element inet floor open {{ {PORT} }}")

        program = str(datacentre.PROGRAMS / "gate_probe")
        gate = Gate(
            "kernel",
            [program, path, path, "127.0.0.1", str(PORT), str(MICROSECONDS)],
            switch,
        )
        try:
            yield gate
        finally:
            gate.close()
            nft.close()
    finally:
        subprocess.run(["ip", "netns", "delete", FLOOR], check=True)


def _summarize(report: Report) -> None:
    for change in ("open", "closed"):
        for kind in ("policy", "kernel"):
            values = [float(one["ms"]) for one in report.runs if (one["kind"], one["change"]) == (kind, change)]
            for part, word in ((0.5, "p50"), (0.99, "p99")):
                report.figures[f"{kind}_{change}_ms_{word}"] = quantile(values, part)
            report.figures[f"{kind}_{change}_ms_spread"] = f"{min(values):.3g} to {max(values):.3g}"
        report.ratios[f"policy_to_kernel_{change}_ms_p50"] = float(report.figures[f"policy_{change}_ms_p50"]) / max(
            0.001, float(report.figures[f"kernel_{change}_ms_p50"])
        )


async def _new_endpoints(record: LabRecord, report: Report, endpoints: int) -> None:
    """Elements, transactions and time for each endpoint in a known block; and what another host is told of it."""
    heard = 0

    async def listen() -> None:
        nonlocal heard
        async with RomanadClient(api.url(record)) as client:
            first = True
            async for line in client.watch(f"/v1/hosts/{FAR}/view"):
                heard += 0 if first else len(line)
                first = False

    listening = asyncio.create_task(listen())
    await asyncio.sleep(1)
    report.figures["endpoint_in_agent_ms_p50"], changes = await asyncio.to_thread(_add_endpoints, record, endpoints)
    report.figures |= {f"endpoint_{word}": count / endpoints for word, count in changes.items()}
    more = [
        LabEndpoint(
            name=f"more-{number}",
            host=HOST,
            tenant=policy_world.namespace(number % LOCAL),
            segment=policy_world.SEGMENT,
            labels={"app": "api"},
        )
        for number in range(2 * LOCAL)
    ]
    await asyncio.to_thread(add_pods, record, more)
    await asyncio.sleep(1)
    listening.cancel()
    report.figures["endpoint_bytes_told_to_another_host"] = float(heard)


def _add_endpoints(record: LabRecord, endpoints: int) -> tuple[float, dict[str, int]]:
    """Add endpoints to a copy of the host's table, in a namespace of its own; the median, and what each changes."""
    listing = datacentre.on(record, HOST, ["nft", "-n", "list", "table", "inet", "romana"])
    space = f"{FLOOR}-2"
    subprocess.run(["ip", "netns", "add", space], check=True)
    try:
        with opened(f"/run/netns/{space}") as descriptor, inside(descriptor):
            table, monitor = NftTable(), Generations()
            Libnftables().run(listing)
            ruleset = table.read()
            if ruleset is None:
                raise SystemExit("bench: the copy of the table is not read back")
            row = {way: next(one for one in ruleset.rows if one.startswith(way)) for way in ("in_", "out_")}
            before, taken = len(ruleset.elements), []
            monitor.count()
            for number in range(endpoints):
                lodger = _lodger(number)
                begun = time.perf_counter()
                table.add_endpoint(lodger, row["in_"], row["out_"])
                taken.append((time.perf_counter() - begun) * 1000)
            transactions = monitor.count()
            after = table.read()
            assert after is not None
            table.close()
        return statistics.median(taken), {"nft_messages": transactions, "element_entries": len(after.elements) - before}
    finally:
        subprocess.run(["ip", "netns", "delete", space], check=True)


class Generations:
    """Counts transactions of nftables in the namespace where it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self._socket.bind((0, 0))
        self._socket.setsockopt(270, 1, 7)  # NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES

    def count(self) -> int:
        """Transactions since the last time."""
        found = 0
        while True:
            try:
                text = self._socket.recv(1 << 20)
            except BlockingIOError:
                return found
            offset = 0
            while offset + 16 <= len(text):
                length, kind = struct.unpack_from("=IH", text, offset)
                found += kind == (10 << 8 | 15)  # NFT_MSG_NEWGEN
                offset += (length + 3) & ~3


def _lodger(number: int) -> Endpoint:
    id_ = f"bench-{number}/eth0"
    addresses = (Address(Family.V4, 0x0A7F0000 + number), Address(Family.V6, (0xFD7F << 112) + number))
    return Endpoint(
        id=id_,
        name=id_,
        host=HOST,
        identity=policy_world.identity(0, "web"),
        allocations=tuple(
            Allocation(
                address=one, block=one.supernet(29 if one.family is Family.V4 else 122), endpoint=id_, sequence=1
            )
            for one in addresses
        ),
        link=f"rom{number:012x}",
    )


def _agent_start(record: LabRecord, report: Report) -> None:
    """From the start of an agent that has its view on disk, and whose table is gone, to the complete table."""
    wanted = _elements(record)
    taken = []
    for _ in range(3):
        process = record.programs[f"{HOST}/romana-agent"]
        end([process])
        datacentre.on(record, HOST, ["nft", "delete", "table", "inet", "romana"])
        begun = time.monotonic()
        record = programs.start_agent(record, HOST)
        while _elements(record) != wanted:
            if time.monotonic() > begun + 60:
                raise SystemExit("bench: the agent's table did not come back")
        taken.append(time.monotonic() - begun)
        programs.wait_for_agents(record, HOST)
    report.figures["agent_start_to_complete_table_seconds"] = statistics.median(taken)


def _elements(record: LabRecord) -> int:
    listing = datacentre.on(record, HOST, ["nft", "list", "ruleset"])
    return listing.count(" : goto ") + listing.count(" : jump ") + listing.count('"rom')


def _compile(report: Report, namespaces: int, policies: int) -> None:
    """Compile a cluster from nothing, in a process of its own."""
    command = [sys.executable, "-c", "from bench.policy_compile import main; main()", str(namespaces), str(policies)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=1200)
    report.figures |= msgspec.json.decode(ran.stdout)


if __name__ == "__main__":
    main()
