"""Options that all tests share, and cleaning up after test runs that were killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from romana.apps.lab import build
from romana.apps.lab import record as records
from tests.probes.cloud import moto_server
from tests.probes.etcd import EtcdCluster

MADE_BY = re.compile(r"romt-[a-z]+(\d+)")
"""Labs and network namespaces of tests carry the process that made them in their names."""

settings.register_profile("romana", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("romana")  # how busy the machine is proves nothing


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write what is computed over the files in tests/golden"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """A run that is told to end takes its fixtures down, also where its parent ignores interrupts, and what it starts
    hears them too; what a killed one left is taken away by the next.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    for name in records.names():
        if _left(name):
            build.take_down(records.read(name))
    spaces = Path("/run/netns")
    for name in sorted(path.name for path in spaces.iterdir()) if spaces.is_dir() else ():
        if _left(name):
            inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
            for pid in map(int, inside.stdout.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], check=True)


def _left(name: str) -> bool:
    found = MADE_BY.match(name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One member for all tests that only need some etcd; each uses a prefix of its own."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def rewrite_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written instead of compared."""
    return bool(request.config.getoption("--rewrite-golden"))


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of moto's server, for all tests that need a cloud; each empties it first."""
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as port:
        yield port
