"""Checks of addresses: agents are asked what they have, and that is compared with the records.

Owns how often something must be seen. Refuses to change anything that is checked. Invariants: an observation is judged
by the romanad that it comes to, with the records at a revision that has everything the agent published before it;
nothing that an observation showed is actionable before a second one, `patience` seconds later, showed the same use.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

import msgspec
import structlog

from romana.codec.records import AUDIT, AUDIT_KEY, AUDITED, BLOCK, HOST
from romana.core.ipam.check import Checker
from romana.core.ipam.findings import Records, sorted_findings
from romana.core.ipam.observed import Comparison
from romana.core.ipam.usage import UsageSource, usage
from romana.model.address import Prefix
from romana.model.errors import Conflict, Unavailable
from romana.model.report import Audit, Audited, Finding, FindingKind, Observation, Report
from romana.model.usage import Usage
from romana.ports import Clock
from romana.services.control.core import Core, Draft
from romana.services.control.hosts import bound_host
from romana.services.control.routes import judged_routes
from romana.services.control.settled import check_host_settled
from romana.services.control.state import State

log = structlog.get_logger()

PATIENCE = 120
"""Seconds between two observations before something is done about what both showed."""
CATCH_UP = 10.0
"""Seconds that an observation waits for this romanad to have what its agent published elsewhere."""
HOSTS_AT_ONCE = 50
AT_ONCE = 500
"""Things that are checked before others have their turn."""
REPAIRABLE = frozenset({FindingKind.LEAKED, FindingKind.UNALLOCATED})
"""What an observation can show and a repair can do something about."""
Key = tuple[FindingKind, Prefix, str, str, int, str]
T = TypeVar("T")


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many seconds a check waits for agents to answer."""

    wait: float = 10.0


class Sighting(msgspec.Struct, frozen=True):
    """When the first check that showed a finding ended, and when the last one began: CLOCK_BOOTTIME, seconds."""

    first: int
    last: int

    @property
    def seconds(self) -> int:
        """The time between two observations of it, at least."""
        return max(0, self.last - self.first)


class Auditor:
    """Checks, and what agents observe for them. One a romanad: it remembers what it saw, and for how long."""

    def __init__(self, core: Core, clock: Clock, *, patience: int = PATIENCE) -> None:
        self.patience = patience
        self._core = core
        self._clock = clock
        self._arrived: dict[str, Observation] = {}
        self._turn = asyncio.Lock()
        self._sightings: dict[Key, Sighting] = {}

    async def observe(self, observation: Observation) -> int:
        """Judge what an agent has. Conflict for another agent, or one that follows another store; Unavailable while the
        host of a restored store has not said what it holds.
        """
        state, host = self._core.state, observation.host
        bound_host(state, host, observation.epoch)
        check_host_settled(state, host)
        if observation.incarnation != self._core.incarnation:
            raise Conflict(f"host {host} follows store {observation.incarnation}, this is {self._core.incarnation}")
        try:
            async with asyncio.timeout(CATCH_UP):
                await self._core.reached(max(observation.published, observation.revision))
        except TimeoutError:
            raise Unavailable(f"this romanad does not have revision {observation.published} yet; try again") from None
        self._arrived[host] = observation
        async with self._turn:  # whoever has it takes what others brought meanwhile along
            batch = list(islice(self._arrived.values(), HOSTS_AT_ONCE))
            for one in batch:
                self._arrived.pop(one.host)
            if batch:
                await self._core.commit(lambda state, draft: self._note(state, draft, batch))
        known = state.audited.get(host)
        if known is None or known.number < observation.number:
            raise Unavailable(f"what host {host} has could not be noted; try again")
        return observation.number

    async def check(self, request: CheckRequest) -> Report:
        """Ask every agent, wait for the answers, and check everything."""
        began, state = self._clock.boottime(), self._core.state
        number, asked, heard = await self.ask(request.wait)
        seen = [finding for name in sorted(heard) for finding in state.audited[name].findings]
        self._see(seen, heard, began)
        findings = {one.key: one for one in (*map(self.dated, seen), *await self._check_records())}
        return Report(
            incarnation=self._core.incarnation,
            revision=state.revision,
            audit=number,
            patience=self.patience,
            findings=sorted_findings(findings.values()),
            observed=len(heard),
            unreachable=tuple(sorted(name for name in asked - heard if name in state.hosts)),
        )

    async def ask(self, wait: float) -> tuple[int, set[str], set[str]]:
        """Ask every agent, and wait so many seconds for answers: the audit's number, the hosts that were asked, and
        those that answered.
        """
        number, asked = await self._ask()
        await self._answered(asked, number, wait)
        return number, asked, {name for name in asked if self.is_heard(self._core.state, name, number)}

    def dated(self, finding: Finding) -> Finding:
        """A finding of an observation with the time between its observations, and whether that is enough."""
        seconds = self._sightings.get(finding.key, Sighting(0, 0)).seconds
        enough = seconds >= self.patience and finding.kind in REPAIRABLE
        return msgspec.structs.replace(finding, seconds=seconds, actionable=enough)

    def is_heard(self, state: State, host: str, number: int) -> bool:
        """Whether the host's present agent answered that audit, or a later one."""
        found, known = state.audited.get(host), state.hosts.get(host)
        return found is not None and known is not None and found.number >= number and found.epoch == known.epoch

    async def _ask(self) -> tuple[int, set[str]]:
        """A new audit's number, and the hosts that have an agent."""

        def decide(state: State, draft: Draft) -> int:
            draft.put(AUDIT, AUDIT_KEY, Audit(number=state.audit + 1))
            for gone in islice((name for name in state.audited if name not in state.hosts), HOSTS_AT_ONCE):
                draft.delete(AUDITED.key(gone))
            return state.audit + 1

        _, number = await self._core.commit(decide)
        return number, {name for name, host in self._core.state.hosts.items() if host.instance}

    async def _answered(self, asked: Iterable[str], number: int, wait: float) -> None:
        state = self._core.state
        missing = set(asked)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while missing and loop.time() < until:
            missing = {name for name in missing if not self.is_heard(state, name, number)}
            if missing:
                await self._core.newer(state.revision, at_most=until - loop.time())

    def _note(self, state: State, draft: Draft, batch: Iterable[Observation]) -> None:
        comparison = Comparison(records_of(state))
        for observation in batch:
            name, host = observation.host, state.hosts.get(observation.host)
            if host is None or host.epoch != observation.epoch:
                continue
            findings = sorted_findings(comparison.findings(observation))
            before = state.audited.get(name)
            links = {one.link for one in findings if one.kind is FindingKind.UNALLOCATED}
            cut = before.cut if before is not None and before.epoch == host.epoch else ()
            audited = Audited(
                number=observation.number,
                epoch=observation.epoch,
                findings=findings,
                resting=_resting(state, observation),
                cut=tuple(link for link in cut if link in links),
                routes=judged_routes(state, observation),
            )
            draft.read(HOST.key(name))
            draft.put(AUDITED, AUDITED.key(name), audited)

    def _see(self, seen: Iterable[Finding], heard: set[str], began: int) -> None:
        """Remember what the observations of a check that began then showed, and forget what they no longer show."""
        now = self._clock.boottime()
        kept = {one.key: self._sightings.get(one.key) for one in seen}
        silent = {key: found for key, found in self._sightings.items() if key[2] not in heard}
        fresh = {key: Sighting(found.first if found else now, began) for key, found in kept.items()}
        self._sightings = {**silent, **fresh}

    async def _check_records(self) -> list[Finding]:
        """Everything that the records alone show, a part at a time; each thing as it is when it is looked at."""
        state = self._core.state
        checker = Checker(records_of(state))
        return [
            *await _sweep(checker.span, list(state.spans)),
            *await _sweep(checker.block, list(state.blocks)),
            *await _sweep(checker.reservation, list(state.reservations)),
            *await _sweep(checker.endpoints_in, list(state.used)),
            *await _sweep(checker.endpoint, sorted(state.endpoints.loose())),
        ]


def records_of(state: State) -> Records:
    """What is checked, as it is in a state; it follows the state's changes."""
    return Records(
        plan=state.plan,
        hosts=state.hosts,
        spans=state.spans,
        blocks=state.blocks,
        endpoints=state.endpoints,
        holder=state.holder,
        written=lambda cidr: state.revisions.of(BLOCK.key(cidr)),
        endpoints_in=state.endpoints_in,
        hosts_in=state.endpoints.hosts_in,
        uses_on=state.endpoints.uses_on,
        blocks_on=state.blocks_on,
        reservations=state.reservations,
        blackouts=state.blackouts,
        retired=state.retired,
    )


async def count_usage(state: State) -> list[Usage]:
    """How full the networks are; what rests is as of the last observations. Others have their turn meanwhile."""
    blocks = list(state.blocks.values())
    source = UsageSource(
        plan=state.plan,
        spans=list(state.spans.values()),
        blocks=blocks,
        resting={name: audited.resting for name, audited in state.audited.items()},
        retired=list(state.retired),
        blackouts=list(state.blackouts),
        used={},
    )
    used: dict[Prefix, int] = {}
    for first in range(0, len(blocks), AT_ONCE):
        used |= {block.cidr: state.used.get(block.cidr, 0) for block in blocks[first : first + AT_ONCE]}
        await asyncio.sleep(0)
    return await asyncio.to_thread(usage, msgspec.structs.replace(source, used=used))


async def _sweep(check: Callable[[T], Iterable[Finding]], things: Sequence[T]) -> list[Finding]:
    found: list[Finding] = []
    for first in range(0, len(things), AT_ONCE):
        for thing in things[first : first + AT_ONCE]:
            found += check(thing)
        await asyncio.sleep(0)
    return found


def _resting(state: State, observation: Observation) -> dict[str, int]:
    """Addresses at rest by network."""
    found: Counter[str] = Counter()
    for cidr, seen in observation.blocks.items():
        block = state.blocks.get(cidr)
        if block is not None and seen.resting:
            found[block.network] += seen.resting
    return dict(sorted(found.items()))
