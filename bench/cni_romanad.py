"""CNI ADD from delegated blocks does not depend on romanad: with one that is away, and with one that holds a million
endpoints, against one that is there and holds none.

A request is what the plugin sends to the agent's socket, until its answer. The three sites take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.probes.agenthost import AgentHost, wait

from bench.ipam_api import HERE, fill
from bench.report import Report, arguments, quantile, versions

CHUNK = 8
"""Pods of one site before it is the next one's turn; a host's blocks and stock have room for them without romanad."""
OWNER = "team-000/service-0"


class Site:
    """A host with its own romanad, on a store with so many endpoints; `away` ends romanad for its turns."""

    def __init__(self, name: str, host: AgentHost, *, away: bool) -> None:
        self.name = name
        self.ms: list[float] = []
        self._host = host
        self._away = away
        self._pods = 0

    def warm_up(self) -> None:
        """Get the owner's own blocks, and let the next one be claimed ahead."""
        self._add(6)
        self.ms.clear()
        time.sleep(1.0)

    def take_turn(self) -> list[float]:
        """Start some pods, with romanad as this site has it."""
        if self._away:
            self._host.kill_romanad()
        taken = self._add(CHUNK)
        if self._away:
            self._host.start_romanad()
        time.sleep(0.5)
        self._add(2)  # what is claimed ahead now is there for the next turn
        del self.ms[-2:]
        time.sleep(0.5)
        return taken

    def _add(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            self._pods += 1
            pod = f"{self.name}{self._pods}"
            self._host.add_space(pod)
            began = time.perf_counter()
            answer = self._host.cni("ADD", pod, owner=OWNER)
            taken.append((time.perf_counter() - began) * 1000)
            if answer.status:
                raise SystemExit(f"bench: ADD at {self.name}: {answer.body}")
        self.ms += taken
        return taken


def main() -> None:
    chosen = arguments(__doc__ or "", rounds=12, endpoints=1_000_000)
    report = Report(benchmark="cni_romanad", versions=versions())
    HERE.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        sites = [
            stack.enter_context(site("there", 0, away=False)),
            stack.enter_context(site("away", 0, away=True)),
            stack.enter_context(site("full", chosen.endpoints, away=False)),
        ]
        for one in sites:
            one.warm_up()
        for number in range(chosen.rounds):
            for one in sites[number % 3 :] + sites[: number % 3]:
                report.runs.append(
                    {"site": one.name, "round": number, "add_ms_p50": statistics.median(one.take_turn())}
                )
        base = sites[0]
        for one in sites:
            for name, part in (("p50", 0.5), ("p90", 0.9)):
                report.figures[f"add_ms_{name}_{one.name}"] = quantile(one.ms, part)
                if one is not base:
                    ratio = quantile(one.ms, part) / quantile(base.ms, part)
                    report.ratios[f"add_ms_{name}_{one.name}_to_there"] = ratio
        report.figures["endpoints_of_full"] = float(chosen.endpoints)
    report.show(chosen.json)


@contextmanager
def site(name: str, endpoints: int, *, away: bool) -> Iterator[Site]:
    """Everything of one site, taken away at the end."""
    with tempfile.TemporaryDirectory(dir=HERE) as place:
        fill(Path(place) / "romanad.db", endpoints)
        host = AgentHost(Path(place), tag=name[0])
        try:
            host.add_space("host")
            host.start_romanad()
            host.put("/v1/hosts/h1", {"labels": {"rack": "0"}})
            host.start_agent(ready=False)
            wait(lambda: host.cni("STATUS").status == 0, f"the agent of {name} is not ready: {host.log()}")
            yield Site(name, host, away=away)
        finally:
            host.close()


if __name__ == "__main__":
    main()
