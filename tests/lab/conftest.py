"""The example's data centre, built once for all tests that use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from romana.apps.lab import build
from romana.apps.lab import record as records
from romana.apps.lab.matrix import Probers
from romana.apps.lab.pods import Pod
from romana.apps.lab.reading import Lab, read_lab
from romana.apps.lab.record import LabRecord
from romana.apps.lab.wiring import Fabric
from tests.lab.sites import SUFFERED

LAB = Path(__file__).parents[2] / "examples/demo/lab.yaml"


class Centre:
    """A lab with tenants and endpoints, without policies, and a prober in every pod."""

    def __init__(self, lab: Lab, record: LabRecord, fabric: Fabric, pods: list[Pod], probers: Probers) -> None:
        self.lab = lab
        self.record = record
        self.fabric = fabric
        self.pods = pods
        self.probers = probers
        self.networks = [network.cidr for network in lab.plan.networks]


@pytest.fixture(scope="session")
def centre() -> Iterator[Centre]:
    lab = read_lab(LAB)
    name = f"romt-hc{os.getpid()}"
    lab = msgspec.structs.replace(lab, file=msgspec.structs.replace(lab.file, name=name))
    try:
        built = build.build(lab, LAB, print)
        record = built.record
        build.make_tenants(record, lab.file.tenants, print)
        pods = build.make_endpoints(record, lab, print)
        with Probers(record, pods) as probers:
            yield Centre(lab, record, built.fabric, pods, probers)
    finally:
        if name in records.names():
            record = records.read(name)
            for log in sorted((record.directory / "log").iterdir()):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}")
            build.take_down(record)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long nothing got through, fault by fault."""
    if SUFFERED:
        terminalreporter.section("time without connectivity")
    for words, seconds, disturbed, pairs in SUFFERED:
        terminalreporter.line(f"{seconds:5.2f} s  {disturbed:3} of {pairs} pairs  {words}")
