"""What every routing daemon promises: the fake, and BIRD 2 in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from romana.adapters.bird import Bird
from romana.codec.bird import include_text
from romana.codec.text import parse_prefix
from romana.model.address import Prefix
from romana.model.errors import Unavailable
from romana.ports import RouteDaemon
from tests.fakes.route_daemon import FakeRouteDaemon

SPANS = frozenset(map(parse_prefix, ("10.1.0.0/24", "10.1.4.0/24", "2001:db8:1::/117")))
CONFIG = """router id 192.0.2.1;
protocol device {{}}
protocol kernel kernel4 {{ ipv4 {{ export where proto = "romana4"; }}; }}
protocol kernel kernel6 {{ ipv6 {{ export where proto = "romana6"; }}; }}
include "{include}*";
"""


class Daemon:
    """A daemon under test, and what it really originates."""

    def __init__(self, port: RouteDaemon, originated: Callable[[], frozenset[Prefix]]) -> None:
        self.port = port
        self._originated = originated

    def originates(self, prefixes: frozenset[Prefix]) -> bool:
        deadline = time.monotonic() + 10
        while self._originated() != prefixes:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


@contextmanager
def bird(directory: Path) -> Iterator[str]:
    """BIRD in a network namespace; its name."""
    name = f"romt-g{os.getpid()}"
    (directory / "bird.conf").write_text(CONFIG.format(include=directory / "romana.conf"))
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        options = ["-f", "-c", str(directory / "bird.conf"), "-s", str(directory / "bird.ctl")]
        with subprocess.Popen(["ip", "netns", "exec", name, "bird", *options], stderr=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 10
                while not (directory / "bird.ctl").exists():
                    assert time.monotonic() < deadline, "BIRD does not start"
                    time.sleep(0.01)
                yield name
            finally:
                process.terminate()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def kernel_routes(name: str) -> frozenset[Prefix]:
    found = set()
    for family in ("-4", "-6"):
        command = ["ip", "-n", name, family, "route", "show", "proto", "bird"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        found |= {parse_prefix(line.split()[1]) for line in lines if line.startswith("blackhole ")}
    return frozenset(found)


@pytest.fixture(params=["fake", "bird"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    if request.param == "fake":
        fake = FakeRouteDaemon()
        yield Daemon(fake, lambda: fake.running)
        return
    with bird(tmp_path) as name:
        port = Bird(tmp_path / "romana.conf", tmp_path / "bird.ctl")
        yield Daemon(port, lambda: kernel_routes(name))


def test_nothing_is_announced_before_the_first_time(daemon: Daemon) -> None:
    assert daemon.port.read() is None
    assert daemon.port.originated() is None
    assert daemon.originates(frozenset())


def test_nobody_is_spoken_to_without_a_session(daemon: Daemon) -> None:
    assert daemon.port.up() == frozenset()


def test_what_is_announced_is_originated_and_read_back(daemon: Daemon) -> None:
    daemon.port.announce(SPANS)
    assert daemon.port.read() == SPANS
    assert daemon.port.originated() == SPANS
    assert daemon.originates(SPANS)
    fewer = frozenset(sorted(SPANS)[1:])
    daemon.port.announce(fewer)
    assert daemon.port.read() == fewer
    assert daemon.originates(fewer)
    daemon.port.announce(())
    assert daemon.port.read() == frozenset()
    assert daemon.port.originated() == frozenset()
    assert daemon.originates(frozenset())


def test_a_file_that_is_to_be_kept_is_taken_in_as_it_is_when_it_has_all(daemon: Daemon) -> None:
    fewer = frozenset(sorted(SPANS)[1:])
    daemon.port.announce(fewer, keep=True)
    assert daemon.port.read() == fewer
    daemon.port.announce(SPANS, keep=True)
    assert daemon.port.read() == SPANS
    daemon.port.announce(fewer, keep=True)
    assert daemon.port.read() == SPANS
    assert daemon.originates(SPANS)
    daemon.port.announce(fewer)
    assert daemon.originates(fewer)


def test_refused_file_is_put_back_with_the_words_of_bird(tmp_path: Path) -> None:
    with bird(tmp_path) as name:
        port = Bird(tmp_path / "romana.conf", tmp_path / "bird.ctl")
        port.announce(SPANS)
        text = (tmp_path / "romana.conf").read_text()
        with (tmp_path / "bird.conf").open("a") as file:
            file.write("protocol nonsense;\n")
        with pytest.raises(Unavailable, match=r"BIRD refuses .*bird\.conf.* syntax error"):
            port.announce(())
        assert (tmp_path / "romana.conf").read_text() == text
        assert Daemon(port, lambda: kernel_routes(name)).originates(SPANS)


def test_bird_is_asked_and_not_the_file(tmp_path: Path) -> None:
    with bird(tmp_path):
        port = Bird(tmp_path / "romana.conf", tmp_path / "bird.ctl")
        port.announce(SPANS)
        (tmp_path / "romana.conf").write_text(include_text(()))
        assert port.originated() == SPANS
        assert port.read() == frozenset()
        (tmp_path / "bird.conf").write_text("router id 192.0.2.1;\nprotocol device {}\n")
        port.announce(frozenset(sorted(SPANS)[1:]))  # BIRD takes it, and has nothing to do with our file
        assert port.originated() is None
    with pytest.raises(Unavailable, match="is it running"):
        port.originated()


def test_file_waits_for_a_bird_that_is_not_running(tmp_path: Path) -> None:
    port = Bird(tmp_path / "etc" / "romana.conf", tmp_path / "bird.ctl")
    with pytest.raises(Unavailable, match="is it running"):
        port.announce(SPANS)
    assert port.read() == SPANS


@contextmanager
def strange_bird(directory: Path, greeting: str) -> Iterator[None]:
    """Something that greets as BIRD does, hears one command, and hangs up."""
    server = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True);"
        "c,_=s.accept(); c.sendall(sys.argv[2].encode()); c.recv(99); c.close()"
    )
    command = [sys.executable, "-c", server, str(directory / "bird.ctl"), f"0001 {greeting}\n"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield


def test_bird_that_hangs_up_is_unavailable(tmp_path: Path) -> None:
    with strange_bird(tmp_path, "BIRD 2.0.12 ready."), pytest.raises(Unavailable, match="middle of an answer"):
        Bird(tmp_path / "romana.conf", tmp_path / "bird.ctl").announce(SPANS)


@pytest.mark.parametrize("version", ["1.6.8", "2.0.7"])
def test_bird_that_is_too_old_is_told_nothing_and_the_file_is_put_back(tmp_path: Path, version: str) -> None:
    file = tmp_path / "romana.conf"
    file.write_text("# as it was\n")
    words = rf"BIRD {version} ready. on .*bird.ctl, and romana needs BIRD 2.0.8 or later; install bird2"
    with strange_bird(tmp_path, f"BIRD {version} ready."), pytest.raises(Unavailable, match=words):
        Bird(file, tmp_path / "bird.ctl").announce(SPANS)
    assert file.read_text() == "# as it was\n"


def test_strange_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "romana.conf").write_text("route 10.0.0.1/8 blackhole;\n")
    assert Bird(tmp_path / "romana.conf", tmp_path / "bird.ctl").read() is None
