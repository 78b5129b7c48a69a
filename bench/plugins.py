"""Running CNI plugins as a container runtime does: romana's, and Debian's ptp with host-local as the baseline.

The baseline runs on a node of its own, so that neither sees the other's links and tables. It gives one IPv4 address
and enforces nothing; ours gives an IPv4 and an IPv6 address with policy in place before ADD ends.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench import datacentre
from romana.apps.lab.pods import plugin
from romana.apps.lab.record import LabRecord

_PTP = "/usr/lib/cni/ptp"


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two: where and how it runs."""

    name: str
    node: str
    program: str
    configuration: Path


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a plugin: milliseconds from posix_spawn to exit, and its own processor time."""

    container: str
    start_ms: float
    end_ms: float
    cpu_ms: float

    @property
    def ms(self) -> float:
        """How long it took."""
        return self.end_ms - self.start_ms


@contextmanager
def sides() -> Iterator[tuple[Side, Side]]:
    """Ours and the baseline, with their configurations in files."""
    ours = {"cniVersion": "1.1.0", "name": "romana", "type": "romana-cni"}
    local = {"type": "host-local", "ranges": [[{"subnet": "10.240.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    base = {"cniVersion": "1.0.0", "name": "base", "type": "ptp", "ipMasq": False, "ipam": local}
    with tempfile.TemporaryDirectory(prefix="romana-bench-") as directory:
        found = []
        for name, node, program, configuration in (
            ("ours", datacentre.OURS, str(plugin()), ours),
            ("base", datacentre.BARE, _PTP, base),
        ):
            path = Path(directory, f"{name}.json")
            path.write_bytes(msgspec.json.encode(configuration))
            found.append(Side(name=name, node=node, program=program, configuration=path))
        yield found[0], found[1]


def run(record: LabRecord, side: Side, verb: str, names: Sequence[str], at_once: int = 1) -> list[Run]:
    """Run a verb for containers of these names, `at_once` at a time; SystemExit when one fails."""
    said = datacentre.on(
        record,
        side.node,
        [str(datacentre.PROGRAMS / "cni_timer"), side.program, verb, str(side.configuration), str(at_once)],
        "".join(f"{name} /run/netns/{name}\n" for name in names),
        {"CNI_PATH": str(Path(side.program).parent), "CNI_ARGS": datacentre.IDENTITY},
    )
    fields = [line.split() for line in said.splitlines()]
    return [
        Run(container=one[0], start_ms=float(one[1]) / 1e3, end_ms=float(one[2]) / 1e3, cpu_ms=float(one[3]) / 1e3)
        for one in fields
    ]


def settle(record: LabRecord, side: Side, expected: int, seconds: float = 60) -> float:
    """Wait until the host has just so many of our links: DEL answers before they are gone. Answers milliseconds."""
    begin = time.monotonic()
    while side.name == "ours" and datacentre.links(record, side.node) != expected:
        if time.monotonic() > begin + seconds:
            raise SystemExit(f"bench: {side.node} has {datacentre.links(record, side.node)} links, not {expected}")
        time.sleep(0.001)
    return (time.monotonic() - begin) * 1000
