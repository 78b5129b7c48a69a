"""Packets between two endpoints on two hosts: romana's ruleset with policy, against one rule, and none.

All three on the same namespaces, in turns. The baseline is one rule, `ct state established,related accept`, on both
hosts; without any ruleset there is no connection tracking either.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from bench import datacentre, plugins
from bench.report import Report, arguments, quantile, versions
from romana.apps.lab.nodes import entering, environment
from romana.apps.lab.record import LabRecord

PORT = "7000"
FLOWS = "1000"
WIDTH = "64"
BASELINE = """\
table inet baseline {
    chain forward { type filter hook forward priority filter; ct state established,related accept; }
}
"""
CLIENT, SERVER = "client", "server"
CLIENT_CPU, SERVER_CPU = "0", "1"  # where the scheduler puts them decides more than any ruleset does


def main() -> None:
    chosen = arguments(__doc__ or "", rounds=8, seconds=1)
    report = Report(benchmark="packet", versions=versions())
    found: dict[str, dict[str, list[float]]] = {}
    with datacentre.datacentre() as record, plugins.sides() as (ours, _):
        address = _start(record, ours)
        with datacentre.agents_frozen(record), _tables(record) as tables:
            for turn in range(chosen.rounds):
                for kind in list(tables) if turn % 2 else reversed(list(tables)):
                    tables[kind]()
                    figures = _measure(record, address, chosen.seconds)
                    report.runs.append({"ruleset": kind, **figures})
                    for name, value in figures.items():
                        found.setdefault(name, {}).setdefault(kind, []).append(value)
    for name, kinds in found.items():
        report.figures |= {f"{name}_{kind}": quantile(values, 0.5) for kind, values in kinds.items()}
        for kind, words in (("base", ""), ("none", "_to_no_ruleset")):
            if name != "udp_sent_packets_per_second":
                report.ratios[f"{name}{words}"] = _paired(kinds["ours"], kinds[kind])
    report.show(chosen.json)


def _paired(ours: list[float], theirs: list[float]) -> float:
    """The median of the rounds' ratios: what else the machine does changes between rounds more than within one."""
    return quantile([one / other for one, other in zip(ours, theirs, strict=True)], 0.5)


def _start(record: LabRecord, ours: plugins.Side) -> str:
    """An endpoint on each host; answers the server's IPv4 address."""
    for node, name in ((datacentre.OURS, CLIENT), (datacentre.OTHER, SERVER)):
        datacentre.namespaces(record, node, [name])
        plugins.run(record, msgspec.structs.replace(ours, node=node), "ADD", [name])
    said = datacentre.on(record, datacentre.OTHER, ["ip", "-netns", SERVER, "-j", "-4", "addr", "show", "eth0"])
    return str(msgspec.json.decode(said)[0]["addr_info"][0]["local"])


@contextmanager
def _tables(record: LabRecord) -> Iterator[dict[str, Callable[[], None]]]:
    """For each of the three, what puts it in force on both hosts; ours is put back at the end."""
    hosts = (datacentre.OURS, datacentre.OTHER)
    saved = {host: datacentre.on(record, host, ["nft", "list", "ruleset"]) for host in hosts}

    def put(texts: dict[str, str]) -> None:
        for host, text in texts.items():
            datacentre.on(record, host, ["nft", "-f", "-"], "flush ruleset\n" + text)

    try:
        yield {
            "ours": lambda: put(saved),
            "base": lambda: put(dict.fromkeys(hosts, BASELINE)),
            "none": lambda: put(dict.fromkeys(hosts, "")),
        }
    finally:
        put(saved)


def _measure(record: LabRecord, address: str, seconds: int) -> dict[str, float]:
    with _serving(record, "udp_load", "sink", PORT, str(seconds + 1)) as sink:
        sent = _load(record, "udp_load", "send", address, PORT, str(seconds), FLOWS)
        received = float(sink.communicate()[0])
    with _serving(record, "tcp_load", "serve", PORT, str(2 * seconds + 1)):
        connections = _load(record, "tcp_load", "connect", address, PORT, str(seconds), WIDTH)
        trips = _load(record, "tcp_load", "rr", address, PORT, str(seconds))
    return {
        "udp_packets_per_second": received,
        "udp_sent_packets_per_second": float(sent),
        "tcp_connections_per_second": float(connections),
        "tcp_rr_latency_us_p50": float(trips.split()[0]),
    }


@contextmanager
def _serving(record: LabRecord, program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A program in the server's namespace that listens; it ends by itself."""
    command = datacentre.in_space(
        SERVER, ["taskset", "--cpu-list", SERVER_CPU, str(datacentre.PROGRAMS / program), *words]
    )
    process = record.process(datacentre.OTHER)
    with subprocess.Popen(entering(process, command), stdout=subprocess.PIPE, text=True, env=environment()) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield server


def _load(record: LabRecord, program: str, *words: str) -> str:
    command = datacentre.in_space(
        CLIENT, ["taskset", "--cpu-list", CLIENT_CPU, str(datacentre.PROGRAMS / program), *words]
    )
    return datacentre.on(record, datacentre.OURS, command).strip()


if __name__ == "__main__":
    main()
