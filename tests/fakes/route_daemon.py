"""A routing daemon that is a value."""

from __future__ import annotations

from collections.abc import Collection

from romana.model.address import Prefix
from romana.model.daemon import DaemonState, SessionState
from romana.model.errors import Unavailable
from romana.model.speaker import DaemonPlan, Speaker


class FakeRouteDaemon:
    """`ports.RouteDaemon` in memory; `away` and `refusal` make it fail as a daemon does."""

    def __init__(self) -> None:
        self.file: frozenset[Prefix] | None = None
        self.running: frozenset[Prefix] = frozenset()
        self.plan: DaemonPlan | None = None
        self.sessions: tuple[SessionState, ...] = ()
        self.away = False
        self.refusal = ""
        self.stale = False
        self.calls = 0
        """Of `read` and `announce`."""
        self.written = 0
        """How often the file was written."""

    def come_back(self) -> None:
        self.away = False

    def read(self) -> frozenset[Prefix] | None:
        self.calls += 1
        return self.file

    def originated(self) -> frozenset[Prefix] | None:
        if self.away:
            raise Unavailable("BIRD does not answer")
        return None if self.file is None else self.running

    def is_stale(self) -> bool:
        return self.stale

    def up(self) -> frozenset[str]:
        if self.away:
            raise Unavailable("BIRD does not answer")
        return frozenset(one.name for one in self.sessions if one.up)

    def state(self, speaker: Speaker | None = None) -> DaemonState:
        if self.away:
            raise Unavailable("BIRD does not answer")
        return DaemonState(daemon="a fake", sessions=self.sessions)

    def announce(self, prefixes: Collection[Prefix], plan: DaemonPlan | None = None, *, keep: bool = False) -> None:
        self.calls += 1
        self.stale = False
        if self.refusal:
            raise Unavailable(f"BIRD refuses: {self.refusal}")
        if not (keep and self.file is not None and self.file >= frozenset(prefixes)):
            self.file = frozenset(prefixes)
            self.written += 1
        if self.away:
            raise Unavailable("BIRD does not answer")
        self.running, self.plan = self.file, plan
