"""A small data centre for the benchmarks: two hosts below one router, in namespaces, with real daemons.

Owns building it and taking it away, and running programs on its nodes. Measures nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from romana.apps.lab import build
from romana.apps.lab import record as records
from romana.apps.lab.nodes import entering, environment, run
from romana.apps.lab.reading import read_lab
from romana.apps.lab.record import LabRecord

HERE = Path(__file__).parent
LAB = HERE / "lab.yaml"
PROGRAMS = HERE.parent / "build" / "bench"
OURS, OTHER, BARE = "h1", "h2", "spine"
TENANT, SEGMENT = "bench", "load"
IDENTITY = f"IgnoreUnknown=1;ROMANA_TENANT={TENANT};ROMANA_SEGMENT={SEGMENT}"
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def datacentre(file: Path = LAB) -> Iterator[LabRecord]:
    """The lab of a file, up, with its tenants and policies; gone at the end, whatever happens."""
    lab = read_lab(file)
    if lab.file.name in records.names():
        left = records.read(lab.file.name)  # of a run that was killed
        _thaw(left)
        build.take_down(left)
    try:
        record = build.build(lab, file, _report).record
        build.make_tenants(record, lab.file.tenants, _report)
        build.make_policies(record, lab, _report)
        yield build.finish(record)
    finally:
        if lab.file.name in records.names():
            build.take_down(records.read(lab.file.name))


def namespaces(record: LabRecord, node: str, names: Sequence[str]) -> dict[str, str]:
    """Make network namespaces on a node: name -> path there."""
    run(record.process(node), ["ip", "-batch", "-"], "".join(f"netns add {name}\n" for name in names), seconds=120)
    return {name: f"/run/netns/{name}" for name in names}


def remove_namespaces(record: LabRecord, node: str, names: Sequence[str]) -> None:
    """Remove network namespaces of a node."""
    text = "".join(f"netns delete {name}\n" for name in names)
    run(record.process(node), ["ip", "-batch", "-"], text, seconds=120)


def on(
    record: LabRecord, node: str, command: Sequence[str], text: str = "", more: Mapping[str, str] | None = None
) -> str:
    """Run a program on a node and answer its output; what it says on standard error is ours."""
    ran = subprocess.run(
        entering(record.process(node), command),
        input=text,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | dict(more or {}),
        check=False,
    )
    if ran.returncode:
        raise SystemExit(f"bench: `{' '.join(command)}` on {node} ended with status {ran.returncode}")
    return ran.stdout


def in_space(name: str, command: Sequence[str]) -> list[str]:
    """The command line that runs a command in a network namespace of the node where it is run."""
    return ["nsenter", f"--net=/run/netns/{name}", "--", *command]


def links(record: LabRecord, node: str) -> int:
    """How many of romana's links a node has."""
    path = Path(f"/proc/{record.process(node).pid}/net/dev")
    return sum(line.strip().startswith("rom") for line in path.read_text().splitlines())


def agent_cpu_ms(record: LabRecord, node: str) -> float:
    """Processor time that the agent of a host used so far."""
    pid = record.programs[f"{node}/romana-agent"].pid
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / _TICKS


@contextmanager
def agents_frozen(record: LabRecord) -> Iterator[None]:
    """The agents do not run for the length of the block."""
    for pid in _agents(record):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        _thaw(record)


def _agents(record: LabRecord) -> list[int]:
    return [process.pid for name, process in record.programs.items() if name.endswith("/romana-agent")]


def _thaw(record: LabRecord) -> None:
    for pid in _agents(record):
        # nsenter, its parent, stops itself with it, and lets it go on with itself; nobody takes note of its end before.
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            for one in (parent, pid):
                os.kill(one, signal.SIGCONT)


def _report(line: str) -> None:
    sys.stderr.write(f"   {line}\n")
