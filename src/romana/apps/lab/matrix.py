"""Who reaches whom: probers in pod namespaces, the matrix they fill, and its table.

Owns the probers' life and the picture of their answers. Refuses to know what is expected. Invariant: every ordered pair
of pods has an answer for every protocol and family; a prober that does not answer is an error, never a "no".
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from romana.apps.lab import probe
from romana.apps.lab.nodes import environment
from romana.apps.lab.pods import Pod, namespace
from romana.apps.lab.record import LabRecord
from romana.model.errors import Unavailable

PORT = 8080
PROTOCOLS = ("tcp", "udp", "icmp")
SECONDS = 1.5
"""How long a probe waits for its answer; a connection that is denied takes all of it."""

Reached = frozenset[tuple[int, str]]
"""What got through from one pod to another: (family, protocol)."""
Matrix = dict[tuple[str, str], Reached]
"""By the names of source and destination."""
EVERYTHING: Reached = frozenset((family, protocol) for family in (4, 6) for protocol in PROTOCOLS)
TCP_ONLY: Reached = frozenset((family, "tcp") for family in (4, 6))
NOTHING: Reached = frozenset()


class Probers:
    """One prober in each pod's namespace, as long as the context lasts."""

    def __init__(self, record: LabRecord, pods: Sequence[Pod]) -> None:
        self.pods = {pod.name: pod for pod in pods}
        self._record = record
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        for name, pod in self.pods.items():
            path = namespace(self._record, pod.endpoint.host, name)
            program = [sys.executable, "-I", "-S", str(Path(probe.__file__)), str(PORT)]
            self._processes[name] = subprocess.Popen(
                ["nsenter", f"--net={path}", "--", *program],  # noqa: S607
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
        for name in self._processes:
            self._answer(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()

    def matrix(self) -> Matrix:
        """Try every pair, both families and all protocols, at once."""
        for source in self.pods:
            addresses = [address.text for pod in self._others(source) for address in pod.addresses]
            command = {"do": "probe", "addresses": addresses, "protocols": PROTOCOLS, "port": PORT, "seconds": SECONDS}
            self._send(source, command)
        with ThreadPoolExecutor(len(self.pods)) as pool:
            answers = dict(zip(self.pods, pool.map(self._answer, self.pods), strict=True))
        return {
            (source, pod.name): _reached(pod, answers[source]["reached"])
            for source in self.pods
            for pod in self._others(source)
        }

    def stream(self, source: str, address: str) -> Callable[[], dict[str, int]]:
        """Start a ping and a TCP stream from a pod; calling the answer stops them and says what came back."""
        self._send(source, {"do": "stream", "address": address, "port": PORT})
        self._answer(source)

        def stop() -> dict[str, int]:
            self._send(source, {"do": "stop"})
            return self._answer(source)

        return stop

    def _others(self, source: str) -> list[Pod]:
        return [pod for name, pod in self.pods.items() if name != source]

    def _send(self, name: str, command: Mapping[str, Any]) -> None:
        stream = self._processes[name].stdin
        assert stream is not None  # noqa: S101 - it was asked for
        stream.write(json.dumps(command) + "\n")
        stream.flush()

    def _answer(self, name: str) -> dict[str, Any]:
        stream = self._processes[name].stdout
        assert stream is not None  # noqa: S101 - it was asked for
        line = stream.readline()
        if not line:
            raise Unavailable(f"the prober in {name} ended; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _reached(pod: Pod, answers: Sequence[Sequence[str]]) -> Reached:
    families = {address.text: int(address.family) for address in pod.addresses}
    return frozenset((families[address], protocol) for address, protocol in answers if address in families)


def differences(matrix: Matrix, expected: Callable[[str, str], Reached]) -> list[str]:
    """Where a matrix is not as expected, each as a sentence."""
    found = []
    for (source, destination), reached in matrix.items():
        for family, protocol in sorted(reached ^ expected(source, destination)):
            word = "reached" if (family, protocol) in reached else "did not reach"
            found.append(f"{source} {word} {destination} by {protocol} over IPv{family}")
    return found


def table(matrix: Matrix, pods: Sequence[Pod], expected: Callable[[str, str], Reached]) -> Table:
    """The matrix, rows are sources; what is not as expected is marked with `!`."""
    drawn = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    drawn.add_column("from \\ to", no_wrap=True)
    for pod in pods:
        drawn.add_column(_short(pod), no_wrap=True, justify="center")
    before = None
    for source in pods:
        owner = (source.endpoint.tenant, source.endpoint.segment)
        if before is not None and owner[0] != before[0]:
            drawn.add_row()
        before = owner
        cells = [_cell(matrix, source.name, destination.name, expected) for destination in pods]
        drawn.add_row(f"{source.name} ({source.endpoint.host})", *cells)
    return drawn


def _short(pod: Pod) -> str:
    """A column's head of at most four characters: tenant's and segment's first letters, and the number."""
    number = pod.name.rpartition("-")[2]
    return f"{pod.endpoint.tenant[:1]}.{pod.endpoint.segment[:1]}{number[:2]}"


def _cell(matrix: Matrix, source: str, destination: str, expected: Callable[[str, str], Reached]) -> Text:
    if source == destination:
        return Text("-", style="dim")
    reached = matrix[source, destination]
    letters = "".join(
        letter if {(4, protocol), (6, protocol)} <= reached else letter.lower() if _any(reached, protocol) else "."
        for letter, protocol in zip("TUI", PROTOCOLS, strict=True)
    )
    if reached != expected(source, destination):
        return Text(f"{letters}!", style="bold red")
    return Text(letters, style="green" if reached == EVERYTHING else "yellow" if reached else "dim")


def _any(reached: Reached, protocol: str) -> bool:
    return any(one == protocol for _, one in reached)
