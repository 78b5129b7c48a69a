"""The lab's prober on loopback of a network namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from romana.apps.lab import probe

PORT = "8080"
RULES = """\
table inet t {
    chain c {
        type filter hook input priority 0
        ip protocol tcp drop
        ip6 nexthdr ipv6-icmp drop
    }
}
"""


class Prober:
    """A prober in a namespace with lo up and, if asked, rules."""

    def __init__(self, rules: str = "") -> None:
        script = 'ip link set lo up && { [ -z "$RULES" ] || nft "$RULES"; } && exec "$@"'
        program = [sys.executable, "-I", "-S", str(Path(probe.__file__)), PORT]
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script, "sh", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"RULES": rules, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        try:
            assert self.answer() == {"ready": True}
        except BaseException:
            self.end()
            raise

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def probe(self, *addresses: str) -> set[tuple[str, str]]:
        protocols = ["tcp", "udp", "icmp"]
        answer = self.ask(do="probe", addresses=addresses, protocols=protocols, port=int(PORT), seconds=1)
        return {(address, protocol) for address, protocol in answer["reached"]}

    def end(self) -> int:
        self.process.communicate(timeout=10)
        return self.process.returncode


@pytest.fixture(params=["", RULES], ids=["open", "filtered"])
def prober(request: pytest.FixtureRequest) -> Iterator[Prober]:
    prober = Prober(request.param)
    yield prober
    assert prober.end() == 0, "a prober ends with its input"


def test_it_reaches_what_is_open_and_only_that(prober: Prober, request: pytest.FixtureRequest) -> None:
    reached = prober.probe("127.0.0.1", "::1", "192.0.2.1")
    everything = {(address, protocol) for address in ("127.0.0.1", "::1") for protocol in ("tcp", "udp", "icmp")}
    filtered = {("127.0.0.1", "tcp"), ("::1", "icmp")}
    assert reached == (everything if request.node.callspec.id == "open" else everything - filtered)


def test_a_stream_counts_what_comes_back() -> None:
    prober = Prober()
    try:
        assert prober.ask(do="stream", address="::1", port=int(PORT)) == {"started": True}
        assert prober.probe("127.0.0.1") == {("127.0.0.1", protocol) for protocol in ("tcp", "udp", "icmp")}
        result = prober.ask(do="stop")
    finally:
        prober.end()
    assert result["bytes"] > 0
    assert (result["bytes_lost"], result["retransmits"]) == (0, 0)
