"""A site under pings, what a fault did to it, and whether that was allowed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from romana.apps.lab.waiting import wait
from romana.model.route import DevicePlan
from tests.lab.sites import Site
from tests.probes.pings import Pair, Pings, Result

PATIENCE = {"ebgp": 1.0, "ibgp": 1.0, "ospf": 3.0}
"""Seconds that a pair with another way may be without connectivity: carrier loss and a session more, or two of OSPF's
calculations, which BIRD makes once a second.
"""
ROUNDS = 2
"""Pings of one sender that may go round when what they are for moves: those of the moment in which three disagree."""
Crosses = Callable[[Pair], bool]


class Trial(msgspec.Struct, kw_only=True):
    """A fault: what was done, which pairs cross it, whether they have another way, and what was lost.

    Where it `wavers`, packets of others to what moves may go round for a moment, and pings to the addresses that are
    `moving`, as many of each sender as in `ROUNDS`: routers learn of it one after the other (micro-loops, RFC 5715).
    """

    words: str
    crosses: Crosses
    spared: bool
    wavers: bool = False
    moving: tuple[str, ...] = ()
    results: list[Result] = []


class Bench:
    """A site under pings, and the choice of what breaks."""

    def __init__(self, found: Site, pings: Pings, choice: random.Random) -> None:
        self.site = found
        self.pings = pings
        self.choice = choice
        self.rack_of = {name: node.rack for name, node in found.fabric.nodes.items()}
        self.routers = {rack.name: list(rack.all_routers) for rack in found.lab.file.racks}
        self.layer2 = {rack.name for rack in found.lab.file.racks if rack.layer2}
        self.spines = list(found.lab.file.all_spines)
        self.hosts = list(found.pods)
        self.kept: dict[str, DevicePlan] | None = None
        """What was planned before romanad went away."""

    def of(self, *names: str) -> Crosses:
        """Pairs with one of these hosts."""
        return lambda pair: pair.source in names or pair.destination in names

    def leaving(self, rack: str) -> Crosses:
        """Pairs between a rack and another one."""
        return lambda pair: (self.rack_of[pair.source] == rack) != (self.rack_of[pair.destination] == rack)

    def within(self, rack: str) -> Crosses:
        """Pairs with an end in a rack."""
        return lambda pair: rack in (self.rack_of[pair.source], self.rack_of[pair.destination])

    def through(self, node: str) -> Crosses:
        """Pairs that may cross a node."""
        role, rack = self.site.fabric.nodes[node].role, self.rack_of[node]
        if role == "host":
            return self.of(node)
        if role == "router":
            return self.within(rack)
        return lambda pair: self.rack_of[pair.source] != self.rack_of[pair.destination]

    def a_host(self, *, two: bool | None = None) -> str:
        """A host; of a rack with two routers, or with one, where that is asked."""
        fitting = [host for host in self.hosts if two is None or (len(self.routers[self.rack_of[host]]) > 1) == two]
        return self.choice.choice(fitting)

    def a_router(self) -> str:
        return self.choice.choice([router for routers in self.routers.values() for router in routers])

    def lap(self) -> Result:
        return self.pings.lap()

    def settled(self) -> None:
        """Until plan, daemons and kernels agree; while romanad is away, whose check that is, until kernels are as it
        last planned and all sessions are up.
        """
        if self.kept is None:
            self.site.until_checked(60)
            return
        for _ in range(2):  # OSPF tells of a lost neighbour and of the same one found again seconds apart
            wait("sessions", self.site.sessions_missing, seconds=60)
            wait("routes", lambda: self.site.differences(self.kept), seconds=60)
            time.sleep(1)

    @contextmanager
    def without_romanad(self) -> Iterator[None]:
        """romanad is away for the length of the block."""
        self.settled()
        self.kept = self.site.plans()
        self.site.kill("ctl", "romanad")
        yield
        self.kept = None
        self.site.start_romanad()


def judge(trial: Trial, fabric: str) -> list[str]:
    """What is wrong with a fault's results on such a fabric, as sentences."""
    wrong = []
    for result in trial.results:
        wrong += result.harm(trial.crosses, trial.moving)
        for address in trial.moving:
            count, senders = result.exceeded.get(address, 0), len({pair.source for pair in result.pairs}) - 1
            if count > ROUNDS * senders:
                wrong.append(f"{count} pings to {address} of {senders} senders went round: {result.rounds}")
        if result.strays and not trial.wavers:
            wrong.append(f"{result.strays} packets to what moves went round: {result.rounds}")
        if trial.spared and result.worst() > PATIENCE[fabric]:
            wrong.append(f"pairs with another way were without connectivity for {result.worst():.1f} s")
    return wrong
