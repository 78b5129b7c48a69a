"""Pings between all pairs of pods, without a pause: which were answered, for how long none was, and which went round.

A process of its own (`tests.probes.pinger`) sends them, so that nothing of the test delays it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Self

import msgspec


class Pair(msgspec.Struct, frozen=True):
    """One direction between two pods, in one family."""

    source: str
    destination: str
    family: int


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What one pair lost: pings, and the longest time in which none was answered, in seconds."""

    sent: int
    lost: int
    gap: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What all pairs lost, and how many pings went round until their TTL was over, by the address that they were for;
    `strays` are packets of others, sent by one of the pods, that did. `rounds` are examples of both: from where to
    where, and the router that gave up.
    """

    pairs: dict[Pair, Loss]
    exceeded: dict[str, int] = {}
    strays: int = 0
    rounds: tuple[str, ...] = ()

    def worst(self, which: Callable[[Pair], bool] = lambda _: True) -> float:
        """The longest time without connectivity of some pairs, in seconds."""
        return max((loss.gap for pair, loss in self.pairs.items() if which(pair) and loss.lost), default=0.0)

    def lossy(self, which: Callable[[Pair], bool] = lambda _: True) -> list[Pair]:
        """Those of some pairs that lost a ping."""
        return [pair for pair, loss in self.pairs.items() if which(pair) and loss.lost]

    def harm(self, crosses: Callable[[Pair], bool], moving: Collection[str] = ()) -> list[str]:
        """What no fault may do, whatever it is, as sentences; `crosses` are the pairs that it may disturb, and packets
        to the addresses that are `moving` may go round.
        """
        disturbed = self.lossy(lambda pair: not crosses(pair))
        found = [f"{len(disturbed)} pairs that do not cross it lost packets: {disturbed[:4]}"] if disturbed else []
        circling = sum(count for address, count in self.exceeded.items() if address not in moving)
        return [*found, f"{circling} packets went round: {self.rounds}"] if circling else found


class Pings:
    """Pings between pods, for as long as the context lasts: name -> (path of the namespace, addresses)."""

    def __init__(self, pods: dict[str, tuple[str, tuple[str, ...]]], interval: float = 0.05) -> None:
        self._pods = pods
        self._interval = interval

    def again(self, pods: dict[str, tuple[str, tuple[str, ...]]]) -> None:
        """Go on between these pods instead."""
        self.__exit__()
        self._pods = pods
        self.__enter__()

    def __enter__(self) -> Self:
        program = [sys.executable, "-m", "tests.probes.pinger", json.dumps(self._pods), str(self._interval)]
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def lap(self) -> Result:
        """What was lost since the last lap. The last pings have a moment to be answered."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("lap\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        pairs = {Pair(*row[:3]): Loss(sent=row[3], lost=row[4], gap=row[5]) for row in answer["pairs"]}
        return Result(pairs=pairs, exceeded=answer["exceeded"], strays=answer["strays"], rounds=tuple(answer["rounds"]))
