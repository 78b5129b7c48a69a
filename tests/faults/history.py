"""What clients were answered while things went wrong, what is there at the end, and what is certain of it.

Owns the form of a recorded run, and the story of each endpoint in it. An endpoint certainly has its addresses from the
answer of its ADD to the request of its next DEL; what a client did not hear may have happened or not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Verb(StrEnum):
    """What a client asked for. A CLAIM's addresses are CIDRs, and it is never ended."""

    ADD = "add"
    DEL = "del"
    CLAIM = "claim"


class Outcome(StrEnum):
    """What the client knows: it was done, it was refused, or no answer came."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a client, with its monotonic times in seconds. `words` are those of a refusal, `fixed` is the name
    whose addresses an ADD asked for.
    """

    verb: Verb
    host: str
    container: str
    invoked: float
    ended: float
    outcome: Outcome
    addresses: tuple[str, ...] = ()
    words: str = ""
    fixed: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has at the end: its agent's memory and its kernel.

    `endpoints` and `routed` are by container, and by link; `links` has the link that each container's endpoint would
    have. `unpublished` is how long the agent's log is, `in_use` how many addresses its book has in use (None: it does
    not run). `spans` and `blocks` are those of its view.
    """

    endpoints: dict[str, tuple[str, ...]] = {}
    links: frozenset[str] = frozenset()
    routed: dict[str, str] = {}
    """Address -> link."""
    unpublished: int = 0
    in_use: int | None = None
    spans: frozenset[str] = frozenset()
    blocks: frozenset[str] = frozenset()


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A span or block at romanad: whose it is, and for a block the span that it lies in. Those of host "" are romanad's
    own.
    """

    cidr: str
    host: str
    span: str = ""


class Fixed(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed addresses of a name at romanad; `host` and `container` say who uses them, empty for nobody."""

    name: str
    addresses: tuple[str, ...]
    host: str = ""
    container: str = ""


class ServerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What romanad has at the end. `endpoints` are by host and container; `retired` are CIDRs that wait."""

    endpoints: dict[str, dict[str, tuple[str, ...]]] = {}
    hosts: frozenset[str] = frozenset()
    spans: tuple[Held, ...] = ()
    blocks: tuple[Held, ...] = ()
    retired: frozenset[str] = frozenset()
    fixed: tuple[Fixed, ...] = ()


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at the end, after quiet. `link_of` names the link of each container that was ever asked for."""

    hosts: dict[str, Seen]
    server: ServerSeen
    link_of: dict[str, str] = {}


class Forgot(msgspec.Struct, frozen=True, kw_only=True):
    """A host's memory lost what it had learnt between two moments: of an endpoint that was added then, and that nobody
    had published, only the kernel has something.
    """

    host: str
    until: float
    since: float = -math.inf


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A host was declared lost at `said`. From then on what it had may be others', though it may not have heard of it
    before `back`, when its agent was ready again.
    """

    host: str
    said: float
    back: float = math.inf


class History(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `rest` is the hosts' setting in seconds, 0 for none; `names` has the addresses of each sticky name."""

    operations: tuple[Operation, ...]
    final: Final
    rest: float = 0.0
    names: dict[str, tuple[str, ...]] = {}
    forgot: tuple[Forgot, ...] = ()
    lost: tuple[Lost, ...] = ()


class Use(msgspec.Struct, kw_only=True):
    """An endpoint certainly had these addresses from `start` to `end`, by the name that is `fixed` if any. `sure` says
    that it was answered that they are free again; from `taken` on they are anybody's, because the host was declared
    lost.
    """

    host: str
    container: str
    addresses: tuple[str, ...]
    start: float
    end: float = math.inf
    sure: bool = False
    fixed: str = ""
    taken: float = math.inf

    def __str__(self) -> str:
        until = "the end" if self.end == math.inf else f"{self.end:.3f}"
        return f"{self.container} on {self.host} ({self.start:.3f} to {until})"


class State(StrEnum):
    """Whether an endpoint has to be there at the end."""

    PRESENT = "present"
    ABSENT = "absent"
    EITHER = "either"


class Fate(msgspec.Struct, kw_only=True):
    """How an endpoint's story ends. `gone` says why it must not be there, `since` when its last ADD was answered."""

    state: State = State.ABSENT
    addresses: tuple[str, ...] = ()
    gone: str = ""
    since: float = 0.0
    fixed: str = ""


class Stories:
    """Certain uses, the fate of each endpoint by host and container, and answers that contradict an earlier one."""

    def __init__(self, operations: Iterable[Operation], lost: Iterable[Lost] = ()) -> None:
        self.uses: list[Use] = []
        self.fates: dict[tuple[str, str], Fate] = {}
        self.contradictions: list[str] = []
        told: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for one in operations:
            if one.verb is not Verb.CLAIM:
                told[one.host, one.container].append(one)
        lost = list(lost)
        for place, story in told.items():
            self.fates[place] = Fate()
            losses = sorted((one for one in lost if one.host == place[0]), key=lambda one: one.said)
            self._tell(sorted(story, key=lambda one: one.invoked), losses, self.fates[place])
        for use in self.uses:
            said = (one.said for one in lost if one.host == use.host and one.said >= use.start)
            use.taken = min(said, default=math.inf)

    def _tell(self, story: Iterable[Operation], losses: list[Lost], fate: Fate) -> None:
        last: Use | None = None
        coming = list(losses)
        for one in story:
            while coming and coming[0].said <= one.invoked:
                _taken(coming.pop(0), fate, last)
            if any(loss.said < one.ended and one.invoked < loss.back for loss in losses):
                _unheard(one, fate)
            elif one.verb is Verb.ADD:
                last = self._added(one, fate, last)
            else:
                _deleted(one, fate, last)
        for loss in coming:
            _taken(loss, fate, last)

    def _added(self, one: Operation, fate: Fate, last: Use | None) -> Use | None:
        if one.outcome is not Outcome.DONE:
            if one.outcome is Outcome.UNKNOWN and fate.state is State.ABSENT:
                fate.state = State.EITHER
            return last
        goes_on = last is not None and last.end == math.inf
        if last is not None and goes_on and set(last.addresses) != set(one.addresses):
            self.contradictions.append(f"{last} was then answered {', '.join(one.addresses)}")
            goes_on = False
        if last is None or not goes_on:
            last = Use(
                host=one.host, container=one.container, addresses=one.addresses, start=one.ended, fixed=one.fixed
            )
            self.uses.append(last)
        fate.state, fate.addresses, fate.since, fate.fixed = State.PRESENT, one.addresses, one.ended, one.fixed
        return last


def _deleted(one: Operation, fate: Fate, last: Use | None) -> None:
    if last is not None:
        last.end = min(last.end, one.invoked)
    if one.outcome is Outcome.DONE:
        fate.state, fate.gone = State.ABSENT, "the DEL was answered"
        if last is not None:
            last.sure = True
    elif fate.state is State.PRESENT:
        fate.state = State.EITHER


def _taken(loss: Lost, fate: Fate, last: Use | None) -> None:
    """The host is declared lost: its endpoints stop, now or when it hears of it."""
    if last is not None:
        last.end = min(last.end, loss.said)
    fate.state, fate.gone = State.ABSENT, "its host was declared lost"


def _unheard(one: Operation, fate: Fate) -> None:
    """An answer of a host that may not have heard that it was declared lost, so an ADD holds nothing for certain."""
    if one.verb is Verb.DEL and one.outcome is Outcome.DONE:
        fate.state, fate.gone = State.ABSENT, "the DEL was answered"
    elif one.verb is Verb.ADD and one.outcome is not Outcome.FAILED:
        fate.state = State.EITHER


def open_ends(operations: Iterable[Operation], lost: Iterable[Lost] = ()) -> list[tuple[str, str]]:
    """Hosts and containers of which nobody knows whether they are there."""
    return [place for place, fate in Stories(operations, lost).fates.items() if fate.state is State.EITHER]


def present(operations: Iterable[Operation], lost: Iterable[Lost] = ()) -> dict[tuple[str, str], tuple[str, ...]]:
    """Hosts and containers that must be there, with their addresses."""
    fates = Stories(operations, lost).fates
    return {place: fate.addresses for place, fate in fates.items() if fate.state is State.PRESENT}
