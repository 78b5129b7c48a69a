"""Labs of every kind of fabric, with an endpoint on every host and pings between all of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from romana.apps.lab import api, build, change, planned, programs
from romana.apps.lab import record as records
from romana.apps.lab.file import FabricKind, LabEndpoint
from romana.apps.lab.nodes import end, run, way_to_control
from romana.apps.lab.pods import Pod, add_pod, add_pods, namespace
from romana.apps.lab.reading import Lab, read_lab
from romana.apps.lab.record import LabRecord
from romana.apps.lab.waiting import wait
from romana.model.route import DevicePlan
from tests.probes.pings import Pair, Pings, Result

NETWORKS = [
    {
        "name": "pods4",
        "cidr": "10.112.0.0/12",
        "block_length": 29,
        "span_length": 24,
        "mixed": 0,
        "static": ["10.112.255.0/24"],
    },
    {"name": "pods6", "cidr": "fd00:10:110::/44", "block_length": 122, "span_length": 117},
]


SUFFERED: list[tuple[str, float, int, int]] = []
"""The faults of this run: words, seconds without connectivity, pairs that were disturbed, and all pairs."""


def nobody(_: Pair) -> bool:
    """The pairs that cross a fault which disturbs nobody."""
    return False


def having(*hosts: str) -> Callable[[Pair], bool]:
    """The pairs that have one of these hosts."""
    return lambda pair: pair.source in hosts or pair.destination in hosts


def suffered(
    words: str, result: Result, crosses: Callable[[Pair], bool] = nobody, moving: Collection[str] = ()
) -> float:
    """The longest time without connectivity in a fault's result, in seconds, which the end of the run shows.

    Fails when a pair lost a packet that does not cross the fault, or when a packet went round that was not for one of
    the `moving` addresses.
    """
    SUFFERED.append((words, result.worst(), len(result.lossy()), len(result.pairs)))
    assert result.harm(crosses, moving) == []
    assert result.strays == 0
    return result.worst()


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a lab is made of; `spare` parts stay free in its plan, `more` goes into the lab file; `directory` has the
    files.
    """

    directory: Path
    name: str
    racks: list[dict[str, Any]]
    spare: int = 0
    more: dict[str, Any] = {}

    def with_host_in(self, host: str, rack: str) -> Shape:
        """The same with the last host of a rack in another one."""
        racks: list[dict[str, Any]] = []
        for one in self.racks:
            hosts = [name for name in one["hosts"] if name != host]
            racks.append({**one, "hosts": [*hosts, host] if one["name"] == rack else hosts})
        return msgspec.structs.replace(self, racks=racks)

    def with_rack(self, rack: dict[str, Any]) -> Shape:
        """The same with a rack more, in one of the spare parts."""
        return msgspec.structs.replace(self, racks=[*self.racks, rack], spare=self.spare - 1)

    def lab(self) -> Lab:
        """The lab, by way of its files."""
        groups = [{"name": rack["name"], "hosts": list(rack["hosts"])} for rack in self.racks]
        topology = {"name": "dc", "networks": ["pods4", "pods6"], "groups": groups, "spare": self.spare}
        document = {"version": 1, "networks": NETWORKS, "topologies": [topology]}
        hosts = [host for rack in self.racks for host in rack["hosts"]]
        file = {
            "version": 1,
            "name": self.name,
            "underlay": ["192.168.0.0/16", "fd00:192:168::/48"],
            "racks": self.racks,
            "topology": ["topology.json"],
            "tenants": [{"name": "blue", "segments": ["web"]}],
            "endpoints": [{"name": f"p-{host}", "host": host, "tenant": "blue", "segment": "web"} for host in hosts],
            **self.more,
        }
        (self.directory / "topology.json").write_bytes(msgspec.json.encode(document))
        (self.directory / "lab.json").write_bytes(msgspec.json.encode(file))
        return read_lab(self.directory / "lab.json")


class Site:
    """A lab that is up; its record changes as programs come and go, the lab itself as it is built otherwise."""

    def __init__(self, lab: Lab, record: LabRecord, pods: Sequence[Pod], shape: Shape | None = None) -> None:
        self.lab = lab
        self.shape = shape
        self.fabric = lab.fabric
        self.record = record
        self.pods = {pod.endpoint.host: pod for pod in pods}
        self.networks = [network.cidr for network in lab.plan.networks]

    def pings(self, interval: float = 0.05) -> Pings:
        """Pings between the endpoints of all hosts, which are named by their host."""
        return Pings(self.places(), interval)

    def places(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Where the endpoints of all hosts are: host -> the path of the namespace, and the addresses."""
        return {
            host: (str(namespace(self.record, host, pod.name)), tuple(one.text for one in pod.addresses))
            for host, pod in self.pods.items()
        }

    def run(self, node: str, *command: str) -> str:
        """A command inside a node."""
        return run(self.record.process(node), command)

    def cut(self, node: str, other: str) -> None:
        """Cut the link between two nodes: the other one's interface loses its carrier."""
        self.run(node, "ip", "link", "set", f"to-{other}", "down")

    def mend(self, node: str, other: str) -> None:
        """Put it together again."""
        self.run(node, "ip", "link", "set", f"to-{other}", "up")

    def kill(self, node: str, program: str, number: int = signal.SIGKILL) -> None:
        """End a program of a node."""
        end([self.record.programs[f"{node}/{program}"]], number)

    def start_agent(self, node: str) -> None:
        """Start a node's agent again, and wait until it is in sync."""
        self.record = programs.start_agent(self.record, node)

    def start_romanad(self) -> None:
        """Start romanad again, and wait until it answers."""
        self.record = programs.start_romanad(self.record, self.fabric)

    def restart_bird(self, node: str, *, boot: bool = False) -> None:
        """Start a node's BIRD again, as after a crash; or as when its machine starts."""
        self.record = programs.restart_bird(self.record, node, gather=not boot or programs.gathers(self.lab, node))

    def move(self, host: str, rack: str) -> None:
        """Bring the last host of a rack into another one, with what runs on it."""
        assert self.shape is not None
        shape = self.shape.with_host_in(host, rack)
        lab = shape.lab()
        self.record = change.move(self.record, self.lab, lab, host)
        self.shape, self.lab, self.fabric = shape, lab, lab.fabric

    def grow(self, rack: dict[str, Any]) -> None:
        """A rack more, with an endpoint on each of its hosts."""
        assert self.shape is not None
        shape = self.shape.with_rack(rack)
        lab = shape.lab()
        self.record = change.grow(self.record, self.lab, lab)
        self.shape, self.lab, self.fabric = shape, lab, lab.fabric
        pods = add_pods(self.record, [one for one in lab.file.endpoints if one.host in rack["hosts"]])
        self.pods |= {pod.endpoint.host: pod for pod in pods}

    def way_to_control(self, node: str) -> list[str]:
        """The routes by hand that a spine has to the control node, as words for `ip`."""
        return way_to_control(self.fabric, node) if self.fabric.nodes[node].role == "spine" else []

    def plans(self) -> dict[str, DevicePlan]:
        """What romanad's records say of all devices."""
        return planned.device_plans(self.record, self.fabric, self.lab.plan)

    def differences(self, plans: dict[str, DevicePlan] | None = None) -> list[str]:
        """Where the kernels are not as planned, now or earlier, host routes of the underlay aside."""
        found = planned.all_routes(self.record, self.fabric, self.networks)
        return planned.differences(self.plans() if plans is None else plans, found)

    def sessions_missing(self) -> list[str]:
        """What a BIRD has no session with, a sentence each."""
        names = [key.removesuffix("/bird") for key in self.record.programs if key.endswith("/bird")]
        found = programs.sessions_missing(self.record, names)
        return found or [one for name in names for one in self._links_missing(name, names)]

    def _links_missing(self, name: str, names: Collection[str]) -> list[str]:
        """The links of a node over which its OSPF has no neighbour, where that is what it speaks."""
        if self.lab.file.fabric is not FabricKind.OSPF:
            return []
        ends = [link.ends for link in self.fabric.links if {end.node for end in link.ends} <= set(names)]
        wanted = {end.name for pair in ends for end in pair if end.node == name}
        lines = [
            line.split()
            for family in (4, 6)
            for line in self.run(
                name, "birdc", "-s", programs.BIRD_SOCKET, f"show ospf neighbors ospf{family}"
            ).splitlines()
        ]
        full = [line[4] for line in lines if len(line) > 4 and line[2].startswith("Full")]
        return [f"{name}: {one} has no neighbour" for one in wanted if full.count(one) < 2]

    def settle(self, seconds: float = 30) -> None:
        """Wait until every kernel is as planned."""
        wait("routes", self.differences, seconds=seconds)

    def checked(self, seconds: float = 10) -> list[dict[str, Any]]:
        """What `romana route check` finds."""
        found: list[dict[str, Any]] = api.post(self.record, "/v1/routes/check", {"wait": seconds})["differences"]
        return found

    def until_checked(self, seconds: float = 30) -> None:
        """Wait until a check finds nothing."""
        wait("a check without differences", lambda: [one["sentence"] for one in self.checked()], seconds=seconds)


@contextmanager
def site(directory: Path, letters: str, racks: list[dict[str, Any]], *, spare: int = 0, **more: Any) -> Iterator[Site]:
    """A lab of these racks, gone at the end; `spare` parts stay free in its plan, `more` goes into the lab file."""
    name = f"romt-{letters}{os.getpid()}"
    shape = Shape(directory=directory, name=name, racks=racks, spare=spare, more=more)
    lab = shape.lab()
    began = time.monotonic()
    try:
        record = build.build(lab, directory / "lab.json", print).record
        build.make_tenants(record, lab.file.tenants, print)
        pods = build.make_endpoints(record, lab, print)
        found = Site(lab, record, pods, shape)
        found.settle()
        print(f"lab {name} is up after {time.monotonic() - began:.1f} s")
        yield found
    finally:
        if name in records.names():
            record = records.read(name)
            for log in sorted((record.directory / "log").iterdir()):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}")
            build.take_down(record)


def another(pod: Pod, name: str) -> LabEndpoint:
    """An endpoint like a pod's, under another name."""
    return msgspec.structs.replace(pod.endpoint, name=name)


def add(found: Site, host: str, name: str) -> Pod:
    """Start an endpoint more on a host."""
    return add_pod(found.record, another(found.pods[host], name))
