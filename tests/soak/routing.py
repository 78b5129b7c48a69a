"""What goes wrong in a data centre, one thing after another, under pings between all hosts.

`python -m tests.soak.routing` has four sites, one after the other: eBGP, iBGP with reflectors and OSPF with two spines,
four racks of four hosts, two of them with two routers; and a rack of layer 2 beside one of layer 3. In each, every kind
of fault; which link, router or host it is, the seed says. A fault fails when it disturbs a pair that does not cross it,
when a packet goes round, when a pair that has another way is without connectivity for longer than `PATIENCE`, or when
the site is not as planned again. Those that need no romanad are made once more while it is away for all of them.
`--site ospf --fault link --seed S` repeats one, with `--away` without romanad.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from romana.model.errors import RomanaError
from tests.lab.sites import Site, site
from tests.probes.pings import Pings
from tests.soak import routing_faults as faults
from tests.soak import routing_moves as moves
from tests.soak.routing_bench import Bench, Trial, judge

INTERVAL = 0.1
Fault = Callable[[Bench], Trial | None]
FAULTS: dict[str, Fault] = {
    "link": faults.link,
    "downlink": faults.downlink,
    "between": faults.between,
    "flapping": faults.flapping,
    "router": faults.router_off,
    "spine": faults.spine_off,
    "bird": faults.bird,
    "agent": faults.agent,
}
"""Those that are also made without romanad ..."""
MOVES: dict[str, Fault] = {"grown": moves.grown, "moved": moves.moved, "span": moves.span}
"""... and those that it has a part in; all but the one that ends a site."""


def racks(shape: list[int], hosts: int) -> list[dict[str, Any]]:
    """Racks with so many routers each."""
    return [
        {
            "name": f"rack{number}",
            "routers": [f"t{number}{letter}" for letter in "ab"[:routers]],
            "hosts": [f"h{number}{index}" for index in range(1, hosts + 1)],
        }
        for number, routers in enumerate(shape, 1)
    ]


@contextmanager
def site_of(name: str) -> Iterator[Site]:
    """A site by its name."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        if name == "mixed":
            built = racks([1, 2], 3)
            built[0]["layer2"] = True
            with site(path, "sm", built, spines=["s1", "s2"], spare=4) as found:
                yield found
        else:
            with site(path, f"s{name[0]}", racks([2, 2, 1, 1], 4), fabric=name, spines=["s1", "s2"], spare=4) as found:
                yield found


SITES = ("ebgp", "ibgp", "ospf", "mixed")


def play(bench: Bench, name: str, fault: Fault) -> None:
    """One fault, judged, and the time without connectivity when it came and when it went."""
    bench.settled()
    bench.lap()
    trial = fault(bench)
    if trial is None:
        return
    worst = [result.worst() for result in trial.results]
    shown = " and ".join(f"{seconds:.1f} s" for seconds in worst)
    print(f"  {name:9} {trial.words}: without connectivity for {shown}", flush=True)
    wrong = judge(trial, bench.site.lab.file.fabric)
    time.sleep(1)
    if bench.lap().lossy(lambda pair: not trial.crosses(pair) or name != "lost"):
        wrong.append("packets are lost after it is over")
    if wrong:
        raise AssertionError(f"{name}: {trial.words}: {'; '.join(wrong)}")


class Run:
    """The faults of one site, as long as there is time."""

    def __init__(self, name: str, seed: int, until: float, found: Site, pings: Pings) -> None:
        self.name, self.seed, self.until = name, seed, until
        self.site, self.pings = found, pings

    def bench(self, fault: str) -> Bench:
        return Bench(self.site, self.pings, random.Random(f"{self.seed} {self.name} {fault}"))

    def play(self, name: str, fault: Fault, bench: Bench, more: str = "") -> None:
        """One fault, if there is time; AssertionError with how to repeat it."""
        if time.monotonic() > self.until:
            print(f"  {name:9} left out: the time is over", flush=True)
            return
        try:
            play(bench, name, fault)
        except (AssertionError, RomanaError) as error:
            raise AssertionError(
                f"{error}; repeat with `--site {self.name} --fault {name}{more}`, or `make soak NAME=routing "
                f"SEED={self.seed}`"
            ) from error

    def all(self, order: list[str]) -> None:
        """These faults, one after the other."""
        for name in order:
            self.play(name, {**FAULTS, **MOVES, "lost": moves.lost}[name], self.bench(name))

    def away(self, order: list[str]) -> None:
        """These faults while romanad is away for all of them."""
        began = self.bench("away")
        with began.without_romanad():
            print("  romanad is away", flush=True)
            for name in order:
                bench = self.bench(f"{name} away")
                bench.kept = began.kept
                self.play(name, FAULTS[name], bench, " --away")
        self.play("back", came_back, began, " --away")


def came_back(bench: Bench) -> Trial:
    """romanad was away, and is back."""
    bench.settled()
    return Trial(words="romanad is back", crosses=lambda _: False, spared=True, results=[bench.lap()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--site", choices=SITES)
    parser.add_argument("--fault", choices=[*FAULTS, *MOVES, "lost"])
    parser.add_argument("--away", action="store_true", help="Only what is made without romanad.")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.minutes * 60
    order = [arguments.fault] if arguments.fault else [*FAULTS, *MOVES]
    random.Random(arguments.seed).shuffle(order)
    try:
        for name in [arguments.site] if arguments.site else SITES:
            began = time.monotonic()
            with site_of(name) as found, found.pings(INTERVAL) as pings:
                print(f"{name}: {len(found.fabric.nodes)} nodes up after {time.monotonic() - began:.0f} s", flush=True)
                run = Run(name, arguments.seed, until, found, pings)
                if not arguments.away:
                    run.all(order)
                if arguments.away or not arguments.fault:
                    run.away([one for one in order if one in FAULTS])
                if not (arguments.away or arguments.fault):
                    run.all(["lost"])
    except AssertionError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
