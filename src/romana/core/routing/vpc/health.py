"""How hosts are as next hops, and for how long: what is certain counts at once, what may pass counts after a while.

Owns the words for what is wrong, and the hysteresis: a host that failed is preferred again only when it was well for a
time, which doubles with each failure that comes soon after. Refuses to know which routes there are. Invariant: what is
known after a step depends on what was known before, the verdicts and the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum

import msgspec

from romana.core.routing.vpc.places import Place
from romana.model.vpc import VpcHost

FORGIVEN = 4
"""After how many settling times without a failure the earlier ones are forgotten."""
MOST_DOUBLINGS = 30


class Sign(StrEnum):
    """What is seen of a host now: `gone` is certain, `unwell` may pass."""

    WELL = "well"
    UNWELL = "unwell"
    GONE = "gone"


class Level(IntEnum):
    """How good a host is as a next hop. `settled` has been well for long enough to be preferred."""

    GONE = 0
    FAILING = 1
    WELL = 2
    SETTLED = 3


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A sign, and why; `awaited` says that whoever saw it has waited already for it to pass."""

    sign: Sign
    why: str = ""
    awaited: bool = False


class HealthTimes(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds: for how long nobody may hear from a host's agent, how long something that may pass is waited for, and
    for how long a host is well before it is preferred again; the last at most `most_fail_back`. `probes` in a row that
    nobody answers are a failure.
    """

    silent: int = 60
    fail_over: int = 5
    fail_back: int = 120
    most_fail_back: int = 3600
    probes: int = 3


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a host: its sign `since` some second, whether it `failed` by that, whether it is `settled`, and
    how many `failures` there were that are not forgiven.
    """

    sign: Sign
    since: int
    why: str = ""
    failed: bool = False
    settled: bool = False
    failures: int = 0

    @property
    def level(self) -> Level:
        """How good it is as a next hop."""
        if self.sign is Sign.GONE:
            return Level.GONE
        if self.failed:
            return Level.FAILING
        return Level.SETTLED if self.settled else Level.WELL


def judge(host: VpcHost, place: Place, unanswered: int, times: HealthTimes) -> Verdict:
    """What is seen of a host: its instance, its status checks, its agent, and `unanswered` probes in a row."""
    state = place.instance.state
    if state != "running":
        return Verdict(sign=Sign.GONE, why=f"instance {place.instance.id} is {state}")
    if host.fenced:
        return Verdict(sign=Sign.GONE, why="its lease is over, so it has cut its endpoints off")
    if unanswered >= times.probes:
        return Verdict(sign=Sign.UNWELL, why=f"it did not answer {unanswered} probes in a row", awaited=True)
    if place.instance.status == "impaired":
        return Verdict(sign=Sign.UNWELL, why=f"status checks of instance {place.instance.id} fail")
    if not host.joined:
        return Verdict(sign=Sign.UNWELL, why="no agent has reported in for it")
    if host.silent is not None and host.silent > times.silent:
        return Verdict(sign=Sign.UNWELL, why=f"its agent was not heard from for {host.silent} s")
    return Verdict(sign=Sign.WELL)


def follow(
    known: Mapping[str, Health], verdicts: Mapping[str, Verdict], now: int, times: HealthTimes
) -> dict[str, Health]:
    """What is known after one more look at all hosts; hosts that are not looked at any more are forgotten."""
    return {name: _step(known.get(name), verdict, now, times) for name, verdict in verdicts.items()}


def _step(known: Health | None, verdict: Verdict, now: int, times: HealthTimes) -> Health:
    # Nothing is waited for that was awaited already, or by a host that nobody saw well yet.
    tolerated = 0 if known is None or verdict.awaited else times.fail_over
    if known is None:
        known = Health(sign=verdict.sign, since=now)
    since = known.since if known.sign is verdict.sign else now
    step = msgspec.structs.replace(known, sign=verdict.sign, since=since, why=verdict.why)
    lasted, wait = now - since, settling_time(known, times)
    if verdict.sign is Sign.WELL:
        forgiven = lasted >= FORGIVEN * wait
        return msgspec.structs.replace(
            step,
            failed=False,
            settled=step.settled or lasted >= wait,
            failures=0 if forgiven else step.failures,
        )
    if step.failed or (verdict.sign is Sign.UNWELL and lasted < tolerated):
        return step
    return msgspec.structs.replace(step, failed=True, settled=False, failures=step.failures + 1)


def settling_time(health: Health, times: HealthTimes) -> int:
    """For how many seconds a host has to be well before it is settled: more with each failure."""
    doublings = min(max(health.failures - 1, 0), MOST_DOUBLINGS)
    return max(times.fail_back, min(times.fail_back << doublings, times.most_fail_back))
