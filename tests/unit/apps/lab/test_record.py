from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from romana.apps.lab import record
from romana.apps.lab.record import LabRecord, Process
from romana.apps.lab.waiting import wait
from romana.model.errors import AlreadyExists, NotFound, Unavailable


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "ROOT", tmp_path / "labs")
    return tmp_path / "labs"


def test_a_record_is_read_as_written(root: Path) -> None:
    written = LabRecord(name="a", file="/x.yaml", nodes={"h1": Process(1, 2)}, api="http://192.0.2.1:9600")
    record.create(written)
    assert record.read("a") == record.read() == written
    record.remove(written)
    assert record.names() == []


def test_a_second_lab_of_the_name_is_refused_and_the_first_stays(root: Path) -> None:
    first = LabRecord(name="a", file="/x.yaml")
    record.create(first)
    with pytest.raises(AlreadyExists, match="`romana lab down a`"):
        record.create(LabRecord(name="a", file="/y.yaml"))
    assert record.read("a") == first


def test_the_only_lab_needs_no_name(root: Path) -> None:
    with pytest.raises(NotFound, match="`romana lab up FILE` makes one"):
        record.read()
    record.create(LabRecord(name="a", file=""))
    record.create(LabRecord(name="b", file=""))
    with pytest.raises(NotFound, match="say which one with --lab: a, b"):
        record.read()
    with pytest.raises(NotFound, match="no lab 'c'; there is a, b"):
        record.read("c")


def test_a_pid_with_another_start_time_is_not_ours() -> None:
    own = Process.of(os.getpid())
    assert own.alive
    assert not Process(own.pid, own.started + 1).alive


def test_a_process_that_ended_is_not_alive_even_before_it_is_reaped() -> None:
    child = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NotFound, match="has ended"):
            Process.of(child.pid)
    finally:
        child.wait()


def test_entering_a_node_that_ended_says_what_to_do() -> None:
    lab = LabRecord(name="a", file="", nodes={"h1": Process(os.getpid(), 1)})
    with pytest.raises(NotFound, match="`romana lab down a`"):
        lab.process("h1")
    with pytest.raises(NotFound, match="no node 'h9'; it has h1"):
        lab.process("h9")


def test_a_wait_names_what_is_missing() -> None:
    answers = [["x", "y"], ["y"], []]
    wait("things", lambda: answers.pop(0), seconds=10)
    with pytest.raises(Unavailable, match=r"things: after 0 s still missing: y"):
        wait("things", lambda: ["y"], seconds=0)
