"""What romana-aws tells people is all there, and true."""

from __future__ import annotations

import pytest

from romana.apps.aws import show
from romana.codec.text import parse_prefix
from romana.core.routing.vpc.decision import Decision
from romana.model.vpc import VpcPlan
from romana.services.vpc.status import HostStatus, RouteStatus, Status, TableStatus
from romana.services.vpc.writer import Outcome

REASON = "no agent has reported in for it, which is longer than [most] terminals are wide, by quite a number of letters"


def test_a_status_cuts_nothing_off_and_reads_nothing_into_it(capsys: pytest.CaptureFixture[str]) -> None:
    route = RouteStatus(
        prefix=parse_prefix("fd00:100::/41"),
        group="vpc:/a",
        host="a1",
        interface="eni-1",
        target="eni-1",
        hosts=("a1",),
    )
    table = TableStatus(table="rtb-1", vpc="vpc-1", ipv4=0, ipv6=1, quota=50, routes=(route,))
    host = HostStatus(
        host="a1", instance="i-1", interface="eni-1", subnet="s-1", level="failing", seconds=3, why=REASON, failures=1
    )
    show.status(
        Status(
            version="1",
            holder="one",
            region="eu-north-1",
            turn="writes",
            why="",
            revision=1,
            last_success=1,
            problem="",
            problems=(),
            tables=(table,),
            hosts=(host,),
        )
    )
    shown = capsys.readouterr().out
    assert "fd00:100::/41" in shown
    assert REASON in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("problems", [(), ("nobody has a route",)])
def test_tables_are_as_the_plan_says_only_when_nothing_keeps_them_from_it(
    capsys: pytest.CaptureFixture[str], problems: tuple[str, ...]
) -> None:
    decision = Decision(plan=VpcPlan(revision=1), places={}, health={}, tables=(), checked={}, problems=())
    show.outcome(Outcome(decision=decision, changed=0, problems=problems), dry_run=False, as_json=False)
    said = capsys.readouterr()
    assert ("as the plan says" in said.out) is (not problems)
    assert said.err == "".join(f"romana-aws: {one}\n" for one in problems)
