"""What is known on disk of the labs of this machine, so that they can be entered and taken away, after a crash too.

Owns `/run/romana-lab`: one directory a lab with its record and logs. Refuses to start or end processes. Invariant: a
process is only ever taken for one of ours when its pid and its start time are both as recorded.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from romana.model.errors import AlreadyExists, NotFound

ROOT = Path("/run/romana-lab")


class Process(msgspec.Struct, frozen=True):
    """A process: its pid and its start time in clock ticks since boot (proc(5), /proc/pid/stat, field 22)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The running process with a pid; NotFound when there is none."""
        started = _started(pid)
        if started is None:
            raise NotFound(f"process {pid} has ended")
        return cls(pid, started)

    @property
    def alive(self) -> bool:
        """Whether it, and no later process with its pid, runs."""
        return _started(self.pid) == self.started


class LabRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A lab: the absolute path of its file, the first process of every node (its end is the node's end), programs.

    `programs` has `<node>/<program>` -> process. `ready` is set when everything is up. `api` is romanad's URL inside.
    """

    name: str
    file: str
    nodes: dict[str, Process] = {}
    programs: dict[str, Process] = {}
    roles: dict[str, str] = {}
    api: str = ""
    ready: bool = False

    @property
    def directory(self) -> Path:
        """Where its record and logs are."""
        return ROOT / self.name

    def process(self, node: str) -> Process:
        """The first process of a node; NotFound when there is no such node, or when it has ended."""
        found = self.nodes.get(node)
        if found is None:
            raise NotFound(f"lab {self.name} has no node {node!r}; it has {', '.join(self.nodes)}")
        if not found.alive:
            raise NotFound(f"node {node} of lab {self.name} has ended; run `romana lab down {self.name}`")
        return found


def names() -> list[str]:
    """All labs with a record."""
    return sorted(path.parent.name for path in ROOT.glob("*/lab.json"))


def create(record: LabRecord) -> None:
    """The first record of a lab; AlreadyExists when a lab of that name has one."""
    ROOT.mkdir(mode=0o755, exist_ok=True)
    try:
        record.directory.mkdir()
    except FileExistsError:
        sentence = f"lab {record.name} is there already; `romana lab down {record.name}` takes it away"
        raise AlreadyExists(sentence) from None
    (record.directory / "log").mkdir()
    write(record)


def write(record: LabRecord) -> None:
    """Replace the record of a lab."""
    path = record.directory / "lab.json"
    written = path.with_suffix(".new")
    written.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    written.replace(path)


def read(name: str = "") -> LabRecord:
    """The record of a lab, or of the only one; NotFound with a sentence otherwise."""
    known = names()
    if not name:
        if len(known) != 1:
            listed = f"say which one with --lab: {', '.join(known)}" if known else "`romana lab up FILE` makes one"
            raise NotFound(f"there are {len(known)} labs; {listed}")
        name = known[0]
    if name not in known:
        raise NotFound(f"there is no lab {name!r}; there is {', '.join(known) or 'none'}")
    return msgspec.json.decode((ROOT / name / "lab.json").read_bytes(), type=LabRecord)


def remove(record: LabRecord) -> None:
    """Forget a lab, with its logs."""
    shutil.rmtree(record.directory)


def _started(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
