"""What a lab's kernels hold: routes by kind, rules, and packets on a link.

Owns reading `ip`, `nft` and `tcpdump` inside nodes. Refuses to know what is expected. Invariant: nothing is changed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from romana.apps.lab.nodes import entering, environment, run
from romana.apps.lab.record import LabRecord
from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Address, Prefix
from romana.model.errors import Unavailable

_FRAME = re.compile(r"ethertype (?:IPv4|IPv6) \(0x\w+\), length \d+: (\S+) > (\S+): (.*)")
QUIET = "not tcp port 179 and not tcp port 9600 and not (icmp6 and ip6[40] >= 133)"
"""Everything but BGP, romanad's API, and neighbour discovery."""


class RouteCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A device's routes inside the endpoint networks."""

    learned: frozenset[Prefix]
    discards: frozenset[Prefix]
    endpoints: frozenset[Prefix]
    """Routes to endpoints of the device's own, by their links."""


def routes(record: LabRecord, node: str, networks: Iterable[Prefix]) -> RouteCounts:
    """A node's routes inside the networks, both families."""
    inside = list(networks)
    learned, discards, endpoints = set(), set(), set()
    for family in ("-4", "-6"):
        for route in json.loads(run(record.process(node), ["ip", "-json", family, "route", "show", "table", "main"])):
            if route["dst"] == "default":
                continue
            text = str(route["dst"])
            prefix = parse_prefix(text) if "/" in text else _whole(text)
            if not any(network.contains(prefix) for network in inside):
                continue
            if route.get("type") == "blackhole":
                discards.add(prefix)
            elif route.get("dev", "").startswith("rom"):
                endpoints.add(prefix)
            else:
                learned.add(prefix)
    return RouteCounts(learned=frozenset(learned), discards=frozenset(discards), endpoints=frozenset(endpoints))


def _whole(text: str) -> Prefix:
    address = parse_address(text)
    return Prefix(address.family, address.value, address.length)


class RulesetSize(msgspec.Struct, frozen=True):
    """The size of the table `inet romana`."""

    rules: int
    elements: int


def ruleset_size(record: LabRecord, node: str) -> RulesetSize:
    """Rules and elements that a host's table has."""
    listed = json.loads(run(record.process(node), ["nft", "--json", "list", "table", "inet", "romana"]))["nftables"]
    elements = sum(len(one[kind].get("elem", [])) for one in listed for kind in ("set", "map") if kind in one)
    return RulesetSize(rules=sum("rule" in one for one in listed), elements=elements)


class Frame(msgspec.Struct, frozen=True):
    """One captured frame: its outermost addresses, and what tcpdump says of the rest."""

    source: Address
    destination: Address
    words: str
    line: str


class Capture:
    """tcpdump on an interface of a node, as long as the context lasts."""

    def __init__(self, record: LabRecord, node: str, interface: str) -> None:
        command = ["tcpdump", "-n", "-e", "-l", "-t", "-i", interface, QUIET]
        self._command = entering(record.process(node), command)
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self._process.stderr is not None  # noqa: S101 - it was asked for
        said = ""
        while "listening on" not in said:
            line = self._process.stderr.readline()
            if not line:
                raise Unavailable(f"tcpdump does not start: {said.strip()}")
            said += line
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in _children(self._process.pid):  # nsenter, its parent, passes no signal on
            os.kill(child, signal.SIGINT)
        output, _ = self._process.communicate(timeout=10)
        self._lines = output.splitlines()

    def frames(self) -> list[Frame]:
        """What was captured; Unavailable for a frame that is neither plain IPv4 nor plain IPv6."""
        return [frame_of(line) for line in self._lines if line.strip()]


def _children(pid: int) -> Sequence[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def frame_of(line: str) -> Frame:
    """The frame that a line of `tcpdump -e` describes."""
    found = _FRAME.search(line)
    if found is None:
        raise Unavailable(f"on the link was a frame that is not plain IP: {line}")
    source, destination, words = found.groups()
    return Frame(_address(source), _address(destination), words, line)


def _address(text: str) -> Address:
    """An address as tcpdump writes it, with a port after the last dot or without one."""
    try:
        return parse_address(text)
    except ValueError:
        return parse_address(text.rpartition(".")[0])
