"""The agent's loops: following the view, rounds over the kernel, announcing, publishing."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from romana.codec.text import parse_prefix
from romana.core.diff import Changes
from romana.model.errors import Conflict
from romana.model.route import Route, RouteKind
from romana.model.view import ViewChange
from romana.services.agent.work import Backoff, Bell
from romana.services.control.tenancy import TenancyVerbs
from tests.fakes.route_daemon import FakeRouteDaemon
from tests.unit.services.agent.site import Site, run

STRAY = parse_prefix("10.77.0.0/24")


def stray(site: Site) -> None:
    route = Route(prefix=STRAY, kind=RouteKind.BLACKHOLE)
    site.kernel.ports.routes.apply(Changes({STRAY: route}, {}, {}))


def test_spans_are_blackholed_and_announced() -> None:
    async def test(site: Site) -> None:
        spans = set(site.agent.ledger.view.spans)
        assert {str(span) for span in spans} == {"10.1.0.0/26", "fd00:1::/118"}
        assert {prefix for prefix, route in site.kernel.routing.items() if not route.link} == spans
        await site.until(lambda: site.daemon.running == spans)

    run(test)


def test_nothing_is_removed_before_the_first_view_and_strays_go_with_it() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.stop()
        stray(site)
        site.daemon.announce({STRAY})
        site.control.leave()
        await site.start(ready=False)
        await site.until(lambda: site.agent.reconciler.last_success is not None)
        assert STRAY in site.kernel.routing
        assert STRAY in site.daemon.running
        assert set(site.agent.ledger.view.spans) < site.daemon.running
        site.control.come_back()
        await site.until(lambda: STRAY not in site.kernel.routing)
        await site.until(lambda: STRAY not in site.daemon.running)

    run(test)


def test_a_file_that_was_put_there_before_the_start_stays_until_the_first_view() -> None:
    async def test(site: Site) -> None:
        spans = set(site.agent.ledger.view.spans)
        await site.until(lambda: site.daemon.running == spans)
        await site.stop()
        written = site.daemon.written
        site.control.leave()
        await site.start(ready=False)
        await site.until(lambda: site.agent.reconciler.last_success is not None)
        assert site.daemon.written == written
        await site.stop()
        site.daemon.file = frozenset()
        await site.start(ready=False)
        await site.until(lambda: site.daemon.file == frozenset(spans))
        assert site.daemon.written == written + 1, "one without its spans does not"
        site.control.come_back()
        await site.until(lambda: site.daemon.written == written + 2)

    run(test)


def test_restart_changes_nothing_in_the_kernel() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        await asyncio.sleep(0.02)
        await site.stop()
        before = site.kernel.filter.transactions
        await site.start()
        assert site.kernel.filter.transactions == before
        assert site.agent.status().drift == 0

    run(test)


def test_drift_is_put_right_and_counted() -> None:
    async def test(site: Site) -> None:
        endpoint = (await site.add(1)).endpoint
        await site.until(lambda: len(site.published()) == 1)
        site.agent.reconciler.disturbed()
        await asyncio.sleep(0.02)
        assert site.agent.status().drift == 0
        stray(site)
        site.kernel.filter.remove_endpoint(endpoint)
        site.agent.reconciler.disturbed()
        await site.until(lambda: site.agent.status().drift == 7)  # six elements and a route
        assert STRAY not in site.kernel.routing
        assert (await site.agent.attachments.check("c1", "eth0"))[1] == []

    run(test)


def test_flushed_table_comes_back_whole() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        before = site.kernel.filter.table
        site.flush()
        site.agent.reconciler.disturbed()
        await site.until(lambda: site.kernel.filter.table is not None)
        assert before is not None
        assert site.kernel.filter.table is not None
        assert site.kernel.filter.table.elements == before.elements

    run(test)


def test_table_that_others_changed_in_secret_is_read_again_by_the_next_add() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        site.flush()
        await site.add(2)
        assert len(site.in_kernel()[2]) == 4

    run(test)


def test_failing_round_is_repeated_with_growing_pauses_until_it_works() -> None:
    async def test(site: Site) -> None:
        await site.stop()
        site.kernel.broken = {"routes"}
        site.kernel.routing.clear()
        await site.start(ready=False)
        await site.until(lambda: len(site.pauses) > 4)
        assert "routes" in site.agent.status().problems["kernel"]
        assert not site.agent.status().ready
        site.kernel.broken = set()
        await site.until(lambda: site.agent.status().ready)

    run(test)


def test_silent_routing_daemon_is_told_when_it_answers_again() -> None:
    async def test(site: Site) -> None:
        await site.stop()
        site.daemon = FakeRouteDaemon()
        site.daemon.away = True
        await site.start(ready=False)
        await site.until(lambda: "BIRD" in site.agent.status().problems.get("kernel", ""))
        assert site.daemon.file
        site.daemon.come_back()
        await site.until(lambda: site.daemon.running == site.daemon.file)

    run(test)


def test_a_routing_daemon_that_refuses_keeps_what_it_has_and_its_words_are_shown() -> None:
    async def test(site: Site) -> None:
        await site.until(lambda: site.daemon.running == set(site.agent.ledger.view.spans))
        before = site.daemon.running
        site.daemon.refusal = "line 7: syntax error"
        site.agent.reconciler.disturbed()
        words = "BIRD refuses: line 7: syntax error"
        await site.until(lambda: site.agent.status().problems.get("kernel") == words)
        assert (site.daemon.running, site.daemon.file) == (before, before)
        await site.add(1)  # endpoints start all the same
        assert site.agent.reporter is not None
        assert site.agent.reporter.trouble() == words
        site.daemon.refusal = ""
        await site.until(lambda: not site.agent.status().problems)

    run(test)


def test_a_round_that_is_not_about_the_routing_daemon_leaves_it_alone() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        await asyncio.sleep(0.02)
        calls, transactions = site.daemon.calls, site.kernel.filter.transactions
        await TenancyVerbs(site.control.core).set_tenant("red", {"isolation": "none"})
        await site.until(lambda: site.kernel.filter.transactions > transactions)
        await asyncio.sleep(0.02)
        assert site.daemon.calls == calls
        site.agent.reconciler.disturbed()
        await site.until(lambda: site.daemon.calls > calls)
        await asyncio.sleep(0.02)
        calls = site.daemon.calls
        site.agent.reconciler.forgotten()
        await site.until(lambda: site.daemon.calls > calls)

    run(test)


def test_a_password_file_that_changed_is_told_to_the_routing_daemon_without_a_full_round() -> None:
    async def test(site: Site) -> None:
        await site.until(lambda: site.daemon.running == set(site.agent.ledger.view.spans))
        assert site.agent.reporter is not None
        await site.agent.reporter.look()
        await asyncio.sleep(0.02)
        calls = site.daemon.calls
        await site.agent.reporter.look()
        await asyncio.sleep(0.02)
        assert site.daemon.calls == calls
        site.daemon.stale = True
        await site.agent.reporter.look()
        await site.until(lambda: not site.daemon.stale)

    run(test)


def test_older_view_is_refused() -> None:
    async def test(site: Site) -> None:
        ledger = site.agent.ledger
        old = msgspec.structs.replace(ledger.view, revision=ledger.view.revision - 1, spans={})
        with pytest.raises(Conflict, match="revision"):
            await ledger.take_in(ViewChange(put=old, snapshot=True))
        assert ledger.view.spans

    run(test)


def test_view_on_disk_starts_an_agent_and_a_broken_one_does_not() -> None:
    async def test(site: Site) -> None:
        first = (await site.add(1)).endpoint
        await site.until(lambda: first.identity.id.encode() in (site.state.load().view or b""))
        await site.stop()
        site.control.leave()
        await site.start(ready=False)
        await site.until(lambda: site.agent.status().ready)
        assert (await site.add(2)).endpoint.identity == first.identity
        await site.stop()
        site.state.save_view(b'{"revision":')
        await site.start(ready=False)
        await site.until(lambda: len(site.pauses) > 3)
        status = site.agent.status()
        assert not status.ready
        assert "no view" in status.problems["ready"]

    run(test)


def test_publication_survives_a_lost_answer_and_a_restart() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        site.control.leave()
        await site.add(2)
        await site.delete(1)
        await site.stop()
        await site.start(ready=False)
        site.control.come_back()
        await site.until(lambda: list(site.published()) == ["c2/eth0"])
        await site.until(lambda: site.state.load().pending == ())

    run(test)


def test_policy_change_reaches_the_table_of_a_running_endpoint() -> None:
    async def test(site: Site) -> None:
        await site.add(1)
        await site.until(lambda: len(site.published()) == 1)
        before = site.kernel.filter.table
        await TenancyVerbs(site.control.core).set_tenant("red", {"isolation": "none"})
        await site.until(lambda: site.kernel.filter.table != before)
        assert (await site.agent.attachments.check("c1", "eth0"))[1] == []

    run(test)


def test_backoff_grows_to_its_limit_and_starts_again() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def body() -> None:
        backoff = Backoff(1, 4, sleep=sleep)
        for _ in range(4):
            await backoff.pause()
        backoff.reset()
        await backoff.pause()

    asyncio.run(body())
    assert pauses == [1, 2, 4, 4, 1]


def test_bell_answers_many_rings_once() -> None:
    async def body() -> list[bool]:
        bell = Bell()
        bell.ring()
        bell.ring()
        return [await bell.wait(1), await bell.wait(0.001)]

    assert asyncio.run(body()) == [True, False]
