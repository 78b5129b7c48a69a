"""Rounds of misfortunes at sites of real programs: `python -m tests.soak.faults --seed S --minutes M`.

Each round has a seed of its own, one more than that of the round before it, which decides the store, what goes wrong,
and when. `--seed S --rounds 1` repeats the round with that seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.actions import (
    cut_off,
    drained_host,
    full_disk,
    full_disk_at_start,
    jumping_clocks,
    killed_agent,
    killed_member,
    killed_plane,
    lost_by_mistake,
    lost_host,
    plane_without_store,
    restored_backup,
    set_back_disk,
    together,
    wiped_agent,
    write_protected,
)
from tests.faults.replicas import replicated
from tests.faults.site import Site
from tests.faults.storm import Action, Run
from tests.probes.etcd import EtcdCluster


@contextmanager
def _site(directory: Path, *, etcd: bool) -> Iterator[tuple[Site, EtcdCluster | None]]:
    if etcd:
        with replicated(directory, "q") as found:
            yield found
        return
    site = Site(directory, "q")
    try:
        yield site.open(small=("p1", "h1", "h2")), None
    finally:
        site.close()


def _misfortunes(choice: random.Random, cluster: EtcdCluster | None) -> list[tuple[str, Action]]:
    """Four to eight of those that the site can have."""
    own: list[tuple[str, Action]] = [
        ("agent", killed_agent()),
        ("agents", together(killed_agent("h3"), killed_agent("h4"))),
        ("romanad", killed_plane()),
        ("all", together(killed_agent("h3"), killed_agent("h6"), killed_plane("p1"))),
        ("cut", cut_off(seconds=choice.choice((0.3, 1, 5)))),
        ("cut romanad", cut_off("p1", seconds=choice.choice((0.3, 3)))),
        ("cut and killed", together(cut_off("h3", "h4"), killed_agent("h3"))),
        ("full disk", full_disk("h1")),
        ("full disk at start", full_disk_at_start("h2")),
        ("clocks", jumping_clocks()),
        ("wiped", wiped_agent()),
        ("set back", set_back_disk()),
        ("drained", drained_host()),
        ("drained and killed", together(drained_host("h4"), killed_agent("h4"))),
        ("lost", lost_host("h5", cable=choice.random() < 0.3, replaced=choice.random() < 0.3)),
        ("lost by mistake", lost_by_mistake("h6", cable=choice.random() < 0.3)),
    ]
    if cluster is None:
        own += [
            ("full disk of romanad", full_disk("p1")),
            ("read-only", write_protected("h4", "p1")),
            ("backup", restored_backup("p1")),
            ("set back unheard", set_back_disk(away="p1")),
        ]
    else:
        own += [
            ("member", killed_member(cluster)),
            ("member and romanad", together(killed_member(cluster), killed_plane("p2"))),
            ("without store", plane_without_store("p1", "p2")),
            ("both", together(killed_plane("p1"), killed_plane("p2"))),
        ]
    return choice.choices(own, k=choice.randint(4, 8))


def play(seed: int) -> None:
    """One round; AssertionError with everything that it broke."""
    choice = random.Random(f"round {seed}")
    etcd = seed % 2 == 0
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="romana-soak-"))  # stays when the round fails
    with _site(directory, etcd=etcd) as (site, cluster):
        chosen = _misfortunes(choice, cluster)
        names = ", ".join(name for name, _ in chosen)
        print(f"round {seed}: {'etcd' if etcd else 'SQLite'}: {names}", flush=True)
        run = Run(site, f"soak {seed}")
        run.clients.doubtful = True
        asyncio.run(run.play(*(action for _, action in chosen), pause=choice.choice((0.3, 1, 2))))
    shutil.rmtree(directory)
    print(f"round {seed}: {len(run.clients.operations)} answers, {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--minutes", type=float, default=20.0, help="no round begins later")
    parser.add_argument("--rounds", type=int, default=0, help="at most so many; 0 for as many as there is time for")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    until = time.monotonic() + 60 * chosen.minutes
    seed = chosen.seed
    while time.monotonic() < until and (not chosen.rounds or seed < chosen.seed + chosen.rounds):
        try:
            play(seed)
        except BaseException:
            print(f"failed: --seed {seed} --rounds 1 repeats the round, --seed {seed} goes on from it", flush=True)
            raise
        seed += 1
    print(f"{seed - chosen.seed} rounds, none failed; the next seed is {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
