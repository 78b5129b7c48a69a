"""The CNI plugin's C half against a peer of ours, well behaved and hostile; built with sanitizers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "native" / "romana-cni.c"
Peer = Callable[[socket.socket], None]


def sanitized(program: Path, *flags: str) -> Path:
    """The plugin with address and undefined behaviour sanitizers; a finding ends it with status 99."""
    strict = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    subprocess.run(["gcc", *strict, "-fno-sanitize-recover=all", *flags, "-o", program, SOURCE], check=True)
    return program


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sanitized(tmp_path_factory.mktemp("shim") / "romana-cni")


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but its time limit is a second."""
    return sanitized(tmp_path_factory.mktemp("impatient") / "romana-cni", "-DSECONDS=1")


@contextlib.contextmanager
def listening(path: Path, peer: Peer) -> Iterator[None]:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(8)
    server.settimeout(20)

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                peer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        server.close()


def run(shim: Path, path: Path, text: bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    variables = {"ROMANA_AGENT_SOCKET": str(path), "ASAN_OPTIONS": "exitcode=99:detect_leaks=0", **environment}
    return subprocess.run([shim], input=text, capture_output=True, timeout=30, check=False, env=variables)


def received(connection: socket.socket) -> bytes:
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack_from("<I", data)[0]:
        part = connection.recv(65536)
        assert part, "the plugin hung up"
        data += part
    return data[4:]


def answer(status: int, output: bytes) -> bytes:
    return struct.pack("<II", len(output) + 4, status) + output


@pytest.mark.parametrize("size", [0, 10, 70_000, 3_000_000], ids=["empty", "small", "large", "huge"])
def test_the_request_and_the_answer_pass_unchanged(shim: Path, tmp_path: Path, size: int) -> None:
    got: list[bytes] = []
    text = random.Random(size).randbytes(size)

    def peer(connection: socket.socket) -> None:
        got.append(received(connection))
        connection.sendall(answer(7, text[::-1]))

    with listening(tmp_path / "s", peer):
        ended = run(shim, tmp_path / "s", text, CNI_COMMAND="ADD", ROMANA_TENANT="a", SECRET="x")
    length = struct.unpack_from("<I", got[0])[0]
    entries = got[0][4 : 4 + length].split(b"\0")
    assert {b"CNI_COMMAND=ADD", b"ROMANA_TENANT=a"} < set(entries)
    assert not any(entry.startswith((b"SECRET", b"ASAN")) for entry in entries)
    assert got[0][4 + length :] == text
    assert (ended.returncode, ended.stdout) == (7, text[::-1])


def test_an_answer_in_small_pieces_is_put_together(shim: Path, tmp_path: Path) -> None:
    def peer(connection: socket.socket) -> None:
        received(connection)
        for byte in answer(0, b"hello"):
            connection.sendall(bytes([byte]))
            time.sleep(0.005)

    with listening(tmp_path / "s", peer):
        ended = run(shim, tmp_path / "s", b"{}")
    assert (ended.returncode, ended.stdout) == (0, b"hello")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"a":1, "cniVersion" :\n "1.1.0"}', "1.1.0"),
        (b'{"cniVersion":"', "1.0.0"),
        (b'{"cniVersion"', "1.0.0"),
        (b'{"cniVersion":"1\\"}', "1.0.0"),
        (b'{"cniVersion":"' + b"1" * 99 + b'"}', "1.0.0"),
        (b"", "1.0.0"),
    ],
    ids=["plain", "spaced", "cut", "shorter", "odd", "long", "empty"],
)
def test_without_an_agent_it_says_try_again_later(shim: Path, tmp_path: Path, text: bytes, version: str) -> None:
    ended = run(shim, tmp_path / "nobody", text)
    said = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert (said["code"], said["cniVersion"]) == (11, version)
    assert f"agent's socket {tmp_path}/nobody: No such file" in said["details"]
    assert "romana-agent" in said["details"]


def test_an_odd_socket_path_does_not_break_the_answer(shim: Path, tmp_path: Path) -> None:
    said = json.loads(run(shim, tmp_path / 'a"b\\c\n', b"{}").stdout)
    assert said["code"] == 11
    assert said["details"].startswith("connecting to the agent's socket: No such file")


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x01",
        struct.pack("<I", 4),
        struct.pack("<II", 3, 0),
        struct.pack("<II", 1 << 31, 0),
        struct.pack("<II", 4, 256),
        answer(0, b"hello")[:-1],
    ],
    ids=["nothing", "a byte", "half a head", "too short", "too large", "no exit status", "cut"],
)
def test_an_answer_that_makes_no_sense_is_try_again_later(shim: Path, tmp_path: Path, bad: bytes) -> None:
    def peer(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(bad)

    with listening(tmp_path / "s", peer):
        ended = run(shim, tmp_path / "s", b'{"cniVersion":"1.1.0"}')
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["code"] == 11


@pytest.mark.parametrize("taken", [True, False], ids=["it does not answer", "it takes no connection"])
def test_an_agent_that_is_stuck_costs_the_time_limit_only(impatient: Path, tmp_path: Path, taken: bool) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as waiting:
        server.bind(str(tmp_path / "s"))
        server.listen(0)
        if not taken:
            waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "s"))
        ended = run(impatient, tmp_path / "s", b'{"cniVersion":"1.1.0"}')
    said = json.loads(ended.stdout)
    assert (ended.returncode, said["code"], said["cniVersion"]) == (1, 11, "1.1.0")
    assert "within the time limit" in said["details"]


def test_input_that_is_too_large_is_not_worth_a_retry(shim: Path, tmp_path: Path) -> None:
    ended = run(shim, tmp_path / "nobody", b"x" * ((8 << 20) + 1))
    said = json.loads(ended.stdout)
    assert (ended.returncode, said["code"], said["details"]) == (1, 7, "standard input has over 8 MiB")


def test_a_hostile_peer_never_breaks_it(shim: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    for number in range(40):
        data = chance.choice([chance.randbytes(chance.randrange(40)), answer(chance.randrange(3), b"x" * 50)])
        cut, early = chance.randrange(len(data) + 1), chance.random() < 0.3

        def peer(connection: socket.socket, data: bytes = data[:cut], early: bool = early) -> None:
            with contextlib.suppress(OSError):
                if not early:
                    received(connection)
                connection.sendall(data)

        with listening(tmp_path / str(number), peer):
            ended = run(shim, tmp_path / str(number), chance.randbytes(chance.randrange(100_000)))
        assert ended.returncode != 99, ended.stderr.decode()
        assert ended.returncode >= 0
        assert b"runtime error" not in ended.stderr


def test_a_socket_path_that_is_too_long_is_said(shim: Path, tmp_path: Path) -> None:
    ended = run(shim, tmp_path / ("x" * 200), b"{}")
    assert b"too long" in ended.stdout
    assert ended.returncode == 1


def test_the_installed_plugin_is_static_and_says_its_version() -> None:
    plugin = SOURCE.parents[1] / "build" / "romana-cni"
    ended = subprocess.run([plugin, "--version"], capture_output=True, check=True)
    assert ended.stdout.startswith(b"romana-cni 0.")
    assert b"ld-linux" not in plugin.read_bytes()
    assert os.access(plugin, os.X_OK)
