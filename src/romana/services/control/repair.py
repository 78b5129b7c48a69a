"""Repairs: acting on exactly what a report says, and only as far as it still holds.

Owns what is done about each kind of finding. Refuses to find anything by itself, and to guess: where two have the same
thing, the one that its agent confirms stays, or a person decides. Invariants: each finding is looked at again in the
transaction that acts on it, which compares every record that it rests on; what agents observed is acted on only after
two observations; nothing that a kernel still has is cut off without being told so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import msgspec
import structlog

from romana.codec.records import AUDITED, BLOCK, ENDPOINT, HOST, RETIRED, SPAN
from romana.core.ipam.check import Checker
from romana.core.ipam.findings import sorted_findings
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict
from romana.model.ipam import Retired
from romana.model.report import Finding, FindingKind, Outcome, Repair, Report
from romana.services.control.audit import Auditor, records_of
from romana.services.control.core import Core, Draft
from romana.services.control.reservations import put_use_ended
from romana.services.control.settled import check_settled
from romana.services.control.state import State

log = structlog.get_logger()


class RepairRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The report of a check; whether only to say what would be done; and whether to cut off what nobody allocated."""

    report: Report
    dry_run: bool = False
    cut: bool = False


GONE = "it is no longer so; nothing to do"


class _Refused(Exception):  # noqa: N818 - it says why, and is no error
    """Why nothing is done about a finding."""


def _refuse(why: str) -> NoReturn:
    raise _Refused(why)


class Repairs:
    """What is done about findings."""

    def __init__(self, core: Core, auditor: Auditor) -> None:
        self._core = core
        self._auditor = auditor

    async def repair(self, request: RepairRequest) -> Repair:
        """Each finding of the report in turn. Conflict for a report of another store; Unavailable while hosts of a
        restored store did not say what they hold.
        """
        if request.report.incarnation != self._core.incarnation:
            raise Conflict(
                f"the report is of store {request.report.incarnation}, this is {self._core.incarnation}; check again"
            )
        check_settled(self._core.state)
        checker = Checker(records_of(self._core.state))
        outcomes = []
        for finding in sorted_findings(request.report.findings):
            step = _Step(finding, checker, self._auditor, cut=request.cut)
            if request.dry_run:
                outcome = step.decide(self._core.state, Draft(self._core.state))
            else:
                _, outcome = await self._core.commit(step.decide)
                log.info(
                    "repair", kind=finding.kind, cidr=str(finding.cidr), done=outcome.done, outcome=outcome.sentence
                )
            outcomes.append(outcome)
        return Repair(dry_run=request.dry_run, outcomes=tuple(outcomes))


class _Step:
    """One finding of a report."""

    def __init__(self, finding: Finding, checker: Checker, auditor: Auditor, *, cut: bool) -> None:
        self._finding = finding
        self._checker = checker
        self._auditor = auditor
        self._cut = cut

    def decide(self, state: State, draft: Draft) -> Outcome:
        """Look again, and do what is to be done."""
        finding = self._finding
        try:
            if not self._still(state):
                _refuse(GONE)
            match finding.kind:
                case FindingKind.LEAKED:
                    done = self._remove_leaked(state, draft)
                case FindingKind.DOUBLY_OWNED:
                    done = self._settle(state, draft)
                case FindingKind.UNALLOCATED:
                    done = self._condemn(state, draft)
                case FindingKind.ORPHAN_BLOCK:
                    done = self._retire_block(state, draft)
                case FindingKind.ORPHAN_SPAN:
                    done = self._retire_span(state, draft)
                case _:
                    _refuse("no repair can decide this: " + finding.sentence)
        except _Refused as refusal:
            return Outcome(finding=finding, done=False, sentence=str(refusal))
        return Outcome(finding=finding, done=True, sentence=done)

    def _still(self, state: State) -> bool:
        """Whether a check would find the same now."""
        finding = self._finding
        if finding.observed:
            audited, host = state.audited.get(finding.host), state.hosts.get(finding.host)
            return (
                audited is not None
                and host is not None
                and audited.epoch == host.epoch
                and any(one.key == finding.key for one in audited.findings)
            )
        return any(one.key == finding.key for one in self._again(state))

    def _again(self, state: State) -> Iterator[Finding]:
        finding = self._finding
        if finding.endpoint:
            yield from self._checker.endpoint(finding.endpoint)
            reservation = state.reservation_of(finding.endpoint)
            if reservation is not None:
                yield from self._checker.reservation(reservation.name)
        else:
            yield from self._checker.span(finding.cidr)
            yield from self._checker.block(finding.cidr)

    def _remove_leaked(self, state: State, draft: Draft) -> str:
        finding = self._finding
        endpoint = state.endpoints.get(finding.endpoint)
        if endpoint is None or not _has(endpoint, finding):
            return self._end_use(state, draft)
        self._check_patience(finding)
        draft.read(HOST.key(finding.host), AUDITED.key(finding.host))
        self._remove(state, draft, endpoint)
        return f"endpoint {endpoint.id} removed; its agent decides when {_listed(endpoint)} is used again"

    def _remove(self, state: State, draft: Draft, endpoint: Endpoint) -> None:
        """The endpoint goes, and with it its use of fixed addresses."""
        draft.delete(ENDPOINT.key(endpoint.id))
        reservation = state.reservation_of(endpoint.id)
        if reservation is not None and reservation.host == endpoint.host:
            put_use_ended(state, draft, reservation)

    def _end_use(self, state: State, draft: Draft) -> str:
        """A fixed address whose host is gone."""
        reservation = state.reservation_of(self._finding.endpoint)
        if reservation is None or reservation.host in state.hosts:
            _refuse(GONE)
        draft.read(HOST.key(reservation.host))
        put_use_ended(state, draft, reservation)
        return f"nobody uses reservation {reservation.name} any more"

    def _check_patience(self, finding: Finding) -> None:
        """Refused for what was observed once, or twice within too short a time."""
        if finding.observed and not self._auditor.dated(finding).actionable:
            _refuse(
                f"this romanad saw it over {self._auditor.dated(finding).seconds} s, and acts on what it saw twice, "
                f"{self._auditor.patience} s apart; `romana ipam check --confirm` does that"
            )

    def _settle(self, state: State, draft: Draft) -> str:
        """Two endpoints with one address: the one that its agent confirms stays, when the other one is leaked."""
        finding = self._finding
        one = state.endpoints.get(finding.endpoint)
        two = state.endpoints.get(state.holder(finding.cidr.address(0)) or "") if finding.cidr.is_address else None
        if finding.observed or one is None or two is None or one.id == two.id:
            _refuse("no repair can decide this: " + finding.sentence)
        for kept, lost in ((one, two), (two, one)):
            leak = self._leak_of(state, lost)
            if leak is not None and self._is_confirmed(state, kept):
                self._check_patience(leak)
                draft.read(*(kind.key(each.host) for each in (kept, lost) for kind in (HOST, AUDITED)))
                self._remove(state, draft, lost)
                draft.put(ENDPOINT, ENDPOINT.key(kept.id), kept)  # so that it is found by its address again
                return f"endpoint {lost.id} removed, which no agent has; {kept.id} on host {kept.host} stays"
        words = ", ".join(
            f"the agent of {each.host} {'has' if self._is_confirmed(state, each) else 'does not confirm'} {each.id}"
            for each in (one, two)
        )
        _refuse(f"a person must decide which workload ends: {words}")

    def _leak_of(self, state: State, endpoint: Endpoint) -> Finding | None:
        audited = state.audited.get(endpoint.host)
        found = audited.findings if audited is not None and endpoint.host in state.hosts else ()
        return next((each for each in found if each.kind is FindingKind.LEAKED and each.endpoint == endpoint.id), None)

    def _is_confirmed(self, state: State, endpoint: Endpoint) -> bool:
        """Whether the endpoint's agent was observed, in the last audit, with nothing to say against it."""
        audited = state.audited.get(endpoint.host)
        if audited is None or not self._auditor.is_heard(state, endpoint.host, state.audit):
            return False
        return all(found.endpoint != endpoint.id for found in audited.findings)

    def _condemn(self, state: State, draft: Draft) -> str:
        finding = self._finding
        if not self._cut:
            _refuse("left alone, as somebody may use it: end that workload, or repair with --cut")
        self._check_patience(finding)
        audited = state.audited[finding.host]
        cut = tuple(sorted({*audited.cut, finding.link}))
        draft.read(HOST.key(finding.host))
        draft.put(AUDITED, AUDITED.key(finding.host), msgspec.structs.replace(audited, cut=cut))
        return f"the agent of {finding.host} is told to cut {finding.link} off"

    def _retire_block(self, state: State, draft: Draft) -> str:
        block = state.blocks[self._finding.cidr]
        if block.host in state.hosts:
            _refuse(f"host {block.host} is there and may hand it out: drain the host, so that it is given back")
        used = len(state.endpoints_in(block.cidr))
        if used:
            _refuse(f"{used} endpoints have addresses of it; repair those first")
        draft.read(HOST.key(block.host), SPAN.key(block.span))
        draft.delete(BLOCK.key(block.cidr))
        retired = Retired(cidr=block.cidr, network=block.network, host=block.host)
        draft.put(RETIRED, RETIRED.key(block.cidr), retired)
        return f"block {block.cidr} retired; it is used again once every host has forgotten it"

    def _retire_span(self, state: State, draft: Draft) -> str:
        span = state.spans[self._finding.cidr]
        blocks = [str(block.cidr) for block in state.blocks.values() if block.span == span.cidr]
        if blocks:
            _refuse(f"it has blocks ({', '.join(sorted(blocks)[:3])}); repair those first")
        draft.read(HOST.key(span.host))
        draft.delete(SPAN.key(span.cidr))
        draft.put(RETIRED, RETIRED.key(span.cidr), Retired(cidr=span.cidr, network=span.network, host=span.host))
        return f"span {span.cidr} retired; it is used again once every host has forgotten it"


def _has(endpoint: Endpoint, finding: Finding) -> bool:
    """Whether the endpoint has the finding's address, in the same use."""
    return any(one.address == finding.cidr and one.sequence == finding.sequence for one in endpoint.allocations)


def _listed(endpoint: Endpoint) -> str:
    return ", ".join(map(str, endpoint.addresses))
