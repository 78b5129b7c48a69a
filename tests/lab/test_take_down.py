"""A lab is taken away whole, whenever its building ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from romana.apps.lab import record as records
from romana.apps.lab.record import LabRecord

ROMANA = Path(sys.executable).parent / "romana"
TOPOLOGY = """\
version: 1
networks: [{name: pods4, cidr: 10.112.0.0/12}]
topologies: [{name: dc, networks: [pods4], groups: [{name: rack1}]}]
"""
LAB = """\
version: 1
name: NAME
underlay: [192.168.0.0/16, fd00:192:168::/48]
racks: [{name: rack1, router: tor1, hosts: [h1], group: /rack1}]
topology: [topology.yaml]
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    name = f"romt-h{os.getpid()}"
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    (tmp_path / "lab.yaml").write_text(LAB.replace("NAME", name))
    yield name, tmp_path / "lab.yaml"
    if name in records.names():
        subprocess.run([ROMANA, "lab", "down", name], check=True)


def seen(name: str, *, programs: int) -> LabRecord:
    """The record of the lab as soon as it has nodes and that many programs."""
    path = records.ROOT / name / "lab.json"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists():
            record = msgspec.json.decode(path.read_bytes(), type=LabRecord)
            if record.nodes and len(record.programs) >= programs:
                return record
        time.sleep(0.002)
    raise AssertionError(f"lab {name} does not get as far as {programs} programs")


def network(pid: str | int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def inside(networks: set[str]) -> list[str]:
    """Processes of this machine in one of these network namespaces."""
    return [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and network(path.name) in networks]


@pytest.mark.parametrize("programs", [0, 2, 4])
def test_down_after_up_was_killed(lab: tuple[str, Path], programs: int) -> None:
    name, file = lab
    up = subprocess.Popen([ROMANA, "lab", "up", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        record = seen(name, programs=programs)
        networks = {network(process.pid) for process in record.nodes.values()}
    finally:
        up.send_signal(signal.SIGKILL)
        up.wait()
    assert len(networks) == 4
    assert network("self") not in networks
    subprocess.run([ROMANA, "lab", "down", name], check=True, stdout=subprocess.DEVNULL, timeout=20)
    assert inside(networks) == []
    assert not (records.ROOT / name).exists()


def test_an_interrupted_up_takes_itself_down(lab: tuple[str, Path]) -> None:
    name, file = lab
    up = subprocess.Popen([ROMANA, "lab", "up", file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        record = seen(name, programs=1)
        networks = {network(process.pid) for process in record.nodes.values()}
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=20)
    finally:
        up.kill()
        up.wait()
    assert up.returncode == 130
    assert inside(networks) == []
    assert not (records.ROOT / name).exists()


@pytest.mark.parametrize("verb", ["up", "demo"])
def test_a_second_lab_of_the_name_changes_nothing(lab: tuple[str, Path], verb: str) -> None:
    name, file = lab
    record = LabRecord(name=name, file="elsewhere")
    records.create(record)
    ended = subprocess.run([ROMANA, "lab", verb, file], capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 4
    assert f"`romana lab down {name}`" in ended.stderr
    assert records.read(name) == record


def test_up_with_a_faulty_file_makes_nothing(lab: tuple[str, Path]) -> None:
    name, file = lab
    file.write_text(LAB.replace("NAME", name).replace("underlay:", "overlay:"))
    ended = subprocess.run([ROMANA, "lab", "up", file], capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 5
    assert "overlay" in ended.stderr
    assert "underlay" in ended.stderr
    assert not (records.ROOT / name).exists()
