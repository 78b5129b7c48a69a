"""An agent's numbers for monitoring, from its status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from romana.model.daemon import SessionState
from romana.model.metric import Metric, Sample, by, single
from romana.services.agent.agent import Status
from romana.services.agent.router import RouterStatus


class Requests:
    """Requests of runtimes, by verb and how they ended, and the seconds that they took."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str, str], tuple[int, float]] = {}

    def note(self, verb: str, result: str, seconds: float) -> None:
        """One ended: `result` is `done` or `failed`."""
        count, sum_ = self._ended.get((verb, result), (0, 0.0))
        self._ended[verb, result] = count + 1, sum_ + seconds

    def metrics(self) -> Iterator[Metric]:
        """Both."""
        labels = {key: {"verb": key[0], "result": key[1]} for key in self._ended}
        counts = tuple(Sample(count, labels[key]) for key, (count, _) in self._ended.items())
        seconds = tuple(Sample(sum_, labels[key]) for key, (_, sum_) in self._ended.items())
        yield Metric("cni_requests_total", "Requests of container runtimes.", counts)
        yield Metric("cni_request_seconds_total", "Seconds that requests of container runtimes took.", seconds)


def agent_metrics(status: Status, requests: Requests) -> Iterator[Metric]:
    """Of a host's agent."""
    yield from _common(status)
    yield from requests.metrics()
    yield single("endpoints", "Endpoints on this host.", status.endpoints)
    yield by("state", "addresses", "Blocks and addresses of this host's address book.", status.addresses)
    yield single("drift_total", "Kernel objects that full rounds had to put right.", status.drift)
    yield single("lease_seconds", "Seconds for which this host may go on without romanad.", status.lease)
    if status.last_success is not None:
        yield single("round_age_seconds", "Seconds since a round last left the kernel as planned.", status.last_success)


def router_metrics(status: RouterStatus) -> Iterator[Metric]:
    """Of a router's agent."""
    yield from _common(status)
    words = "Packets that were dropped because they would have gone back where they came from."
    yield single("turned_packets_total", words, status.turned)


def _common(status: Status | RouterStatus) -> Iterator[Metric]:
    yield Metric("agent_info", "The agent's version.", (Sample(1, {"version": status.version}),))
    yield single("ready", "1 when this agent can do its work, else 0.", status.ready)
    yield single("connected", "1 while romanad's view is followed, else 0.", status.connected)
    yield single("view_revision", "The revision of the view in force.", status.revision)
    yield by("part", "problem", "1 for each part that has a problem.", dict.fromkeys(status.problems, 1))
    yield by("reach", "routes", "Routes that this device should hold, by where they lead.", status.routes)
    yield Metric("session_up", "1 while the routing daemon's session is up, else 0.", tuple(_sessions(status.sessions)))


def _sessions(sessions: Iterable[SessionState]) -> Iterator[Sample]:
    for one in sessions:
        yield Sample(one.up, {"session": one.name, "protocol": one.protocol, "neighbor": one.neighbor})
