"""Rounds over VPC route tables: read, decide, write what differs.

Owns the order of writes, and what is written down about them: what becomes ours is recorded before it is made, and
forgotten after it is gone, so whoever continues after a death in between finishes it. Refuses to decide who relays
what (`core.routing.vpc`). Invariants: a route is led elsewhere at one moment, never removed for it; a call that fails
because the cloud is away or wants fewer calls ends the round.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec
import structlog

from romana.core.routing.vpc.decision import Decision, TableDecision, VpcRules, VpcWorld, decide
from romana.core.routing.vpc.health import Health
from romana.core.routing.vpc.places import place_hosts
from romana.model.address import Prefix
from romana.model.errors import AlreadyExists, Invalid, RomanaError, Unavailable
from romana.model.vpc import Instance, OwnedRoutes, VpcPlan
from romana.ports import Clock, VpcControl, Vpcs
from romana.services.agent.work import Worker
from romana.services.vpc.retries import Retries
from romana.services.vpc.turn import Turn, Word

log = structlog.get_logger()


class TableChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which route tables: those with these ids, and those that have all of these tags."""

    ids: tuple[str, ...] = ()
    tags: dict[str, str] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a round decided, how many changes it made, and everything that is not as it should be."""

    decision: Decision
    changed: int
    problems: tuple[str, ...]


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """How many routes of ours were taken out, and why some were not."""

    removed: int
    problems: tuple[str, ...]


class Writer:
    """Rounds, one at a time."""

    def __init__(
        self,
        control: VpcControl,
        vpcs: Vpcs,
        clock: Clock,
        worker: Worker,
        *,
        turn: Turn,
        choice: TableChoice,
        rules: VpcRules,
        retries: Retries | None = None,
    ) -> None:
        self._control = control
        self._vpcs = vpcs
        self._clock = clock
        self._worker = worker
        self._turn = turn
        self._choice = choice
        self._rules = rules
        self._retries = retries or Retries()
        self._plan: VpcPlan | None = None
        self._health: dict[str, Health] = {}

    async def look(self, unanswered: Mapping[str, int] | None = None, *, adopt: bool = False) -> Outcome:
        """Read everything and decide; nothing is written. Unavailable when what is needed for that is away."""
        problems: list[str] = []
        plan = await self._present_plan(problems)
        tables = await self._worker(self._vpcs.tables, self._choice.ids, self._choice.tags)
        missing = sorted(set(self._choice.ids) - {table.id for table in tables})
        problems += [f"aws.tables: there is no route table {id_} in this region" for id_ in missing]
        if not tables:
            problems.append("no route table has an id of aws.tables or the tags of aws.table_tags; nothing is written")
        others = sorted(plan.owned.keys() - {table.id for table in tables} - set(missing))
        for id_ in others:
            problems.append(
                f"route table {id_} has {len(plan.owned[id_])} routes of ours, but is none of those that the "
                "configuration names; they stay as they are until `romana-aws remove`"
            )
        instances = await self._worker(self._vpcs.instances, {table.vpc for table in tables})
        instances = await self._with_statuses(plan, instances, problems)
        world = VpcWorld(plan=plan, tables=tables, instances=instances, unanswered=dict(unanswered or {}))
        decision = decide(world, self._health, self._clock.boottime(), self._rules, adopt=adopt)
        self._health = decision.health
        return Outcome(decision=decision, changed=0, problems=(*problems, *decision.problems))

    async def round(self, unanswered: Mapping[str, int] | None = None, *, adopt: bool = False) -> Outcome:
        """Make the tables as they should be, as far as it is this program's turn.

        Unavailable when a round had to end early; what was done until then stays, and the next round goes on.
        """
        outcome = await self.look(unanswered, adopt=adopt)
        work = self._work()
        if self._turn.word is not Word.STANDS_BY:
            await work.stop_checking(outcome.decision)
            for table in outcome.decision.tables:
                await work.lead_elsewhere(table)
            for table in outcome.decision.tables:
                await work.come_and_go(table, outcome.decision.plan.owned.get(table.table.id, ()))
        return msgspec.structs.replace(outcome, changed=work.changed, problems=(*outcome.problems, *work.problems))

    async def remove(self, *, forget: bool = False) -> Removal:
        """Take all routes of ours out of all tables, also of those that the configuration does not name any more. With
        `forget`, tables that are not there (any more) have none.
        """
        plan = await self._control.vpc_plan(self._turn.lease)
        tables = await self._worker(self._vpcs.tables, tuple(plan.owned), {})
        work = self._work()
        there = {table.id: table.routes for table in tables}
        for id_, owned in plan.owned.items():
            if id_ in there or forget:
                await work.remove_all(id_, [prefix for prefix in owned if prefix in there.get(id_, {})])
            else:
                work.problems.append(
                    f"there is no route table {id_} in this region, in which {len(owned)} routes are ours; if it was "
                    "deleted, `romana-aws remove --forget` forgets them"
                )
        return Removal(removed=work.changed, problems=tuple(work.problems))

    async def _present_plan(self, problems: list[str]) -> VpcPlan:
        """The plan; the last one while the control plane is away."""
        try:
            self._plan = await self._control.vpc_plan(self._turn.lease)
            if self._turn.word is Word.FAILS_OVER_ONLY:
                await self._turn.renew()
        except Unavailable as error:
            if self._plan is None:
                raise
            await self._turn.renew()
            problems.append(f"{error}; going on with the plan of revision {self._plan.revision}")
        return self._plan

    def _work(self) -> _Work:
        self._retries.now = self._clock.boottime()
        return _Work(self._control, self._vpcs, self._worker, self._turn, self._retries, self._recorded)

    def _recorded(self, table: str, routes: tuple[Prefix, ...]) -> None:
        """What is ours by now, also when the control plane is away at the next round."""
        if self._plan is not None:
            self._plan = msgspec.structs.replace(self._plan, owned={**self._plan.owned, table: routes})

    async def _with_statuses(
        self, plan: VpcPlan, instances: dict[str, Instance], problems: list[str]
    ) -> dict[str, Instance]:
        """The instances of hosts with their status checks."""
        places = place_hosts(plan.hosts, instances, self._rules.label).by_host.values()
        ids = {place.instance.id for place in places if place.instance.state == "running"}
        try:
            statuses = await self._worker(self._vpcs.statuses, ids)
        except Invalid as error:  # without them health is known less well, and all else is as before
            problems.append(str(error))
            return instances
        return instances | {
            id_: msgspec.structs.replace(instances[id_], status=status) for id_, status in statuses.items()
        }


class _Work:
    """The writes of one round."""

    def __init__(
        self,
        control: VpcControl,
        vpcs: Vpcs,
        worker: Worker,
        turn: Turn,
        retries: Retries,
        recorded: Callable[[str, tuple[Prefix, ...]], None],
    ) -> None:
        self.changed = 0
        self.problems: list[str] = []
        self._control = control
        self._vpcs = vpcs
        self._worker = worker
        self._turn = turn
        self._retries = retries
        self._recorded = recorded

    async def stop_checking(self, decision: Decision) -> None:
        """First of all, because a route to an interface that checks leads nowhere."""
        for host, interface in sorted(decision.checked.items()):
            if await self._do(self._vpcs.stop_checking, interface):
                log.info("source/destination check off", host=host, interface=interface)

    async def lead_elsewhere(self, table: TableDecision) -> None:
        """Routes that are there, to other hosts."""
        for prefix, interface in table.changes.replace.items():
            was = table.table.routes[prefix].target
            if await self._do(self._vpcs.replace_route, table.table.id, prefix, interface):
                self._note("route led elsewhere", table, prefix, interface=interface, was=was)

    async def come_and_go(self, table: TableDecision, recorded: Collection[Prefix]) -> None:
        """Routes that are new, and those that are needed no more; only while the control plane can write that down."""
        if self._turn.word is not Word.WRITES:
            return
        changes, id_ = table.changes, table.table.id
        owned = await self._record(id_, set(recorded), set(changes.owned))
        for prefix in changes.unused:
            if await self._remove(id_, prefix):
                owned.discard(prefix)
        complete = True
        for prefix, interface in changes.add.items():
            if await self._add(table, prefix, interface, recorded):
                self._note("route added", table, prefix, interface=interface)
            else:
                complete = False
                owned.discard(prefix)
        for prefix in changes.remove if complete else ():
            if await self._remove(id_, prefix):
                owned.discard(prefix)
        await self._record(id_, set(changes.owned), owned)

    async def remove_all(self, table: str, prefixes: Collection[Prefix]) -> None:
        """Everything of ours in a table."""
        left = {prefix for prefix in prefixes if not await self._remove(table, prefix)}
        await self._record(table, None, left)

    async def _record(self, table: str, before: set[Prefix] | None, now: set[Prefix]) -> set[Prefix]:
        """Have it written down what is ours, where that is not what was written before."""
        if before != now:
            owned = OwnedRoutes(lease=self._turn.lease, holder=self._turn.holder, routes=tuple(sorted(now)))
            await self._control.own_vpc_routes(table, owned)
            self._recorded(table, owned.routes)
        return now

    async def _remove(self, table: str, prefix: Prefix) -> bool:
        done = await self._do(self._vpcs.remove_route, table, prefix)
        if done:
            log.info("route removed", table=table, prefix=str(prefix))
        return done

    async def _add(self, table: TableDecision, prefix: Prefix, interface: str, recorded: Collection[Prefix]) -> bool:
        """Make a new route. One that is there by now is ours when it was recorded before or leads where we asked."""
        id_ = table.table.id
        try:
            return await self._do(self._vpcs.add_route, id_, prefix, interface, expected=AlreadyExists)
        except AlreadyExists as error:
            if prefix in recorded:
                return await self._do(self._vpcs.replace_route, id_, prefix, interface)
            (present,) = await self._worker(self._vpcs.tables, (id_,), {}) or (table.table,)
            there = present.routes.get(prefix)
            if there is not None and there.target == interface:
                return True
            self.problems.append(f"route table {id_}: somebody else made a route to {prefix} just now; {error}")
            return False

    async def _do(
        self, call: Callable[..., None], *arguments: object, expected: type[RomanaError] | None = None
    ) -> bool:
        """One write; whether it worked. Unavailable and what is `expected` pass through, anything else is a problem."""
        if self._turn.word is Word.STANDS_BY:
            raise Unavailable(f"it is not this program's turn any more: {self._turn.why}")
        key = (call.__name__, *arguments)
        waits = self._retries.waits(key)
        if waits:
            self.problems.append(waits)
            return False
        try:
            await self._worker(call, *arguments)
        except Unavailable:
            raise
        except RomanaError as error:
            if expected is not None and isinstance(error, expected):
                raise
            where = " ".join(map(str, arguments))
            self.problems.append(f"{error} ({where})")
            self._retries.failed(key, self.problems[-1])
            return False
        self._retries.worked(key)
        self.changed += 1
        return True

    def _note(self, event: str, table: TableDecision, prefix: Prefix, **more: str) -> None:
        host = next((hop.host for hop in table.next_hops if hop.prefix == prefix), "")
        log.info(event, table=table.table.id, prefix=str(prefix), host=host, **more)
