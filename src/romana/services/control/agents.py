"""Agents report in, and say what their hosts hold when the store knows another history.

Owns which agent is whose. Invariants: one instance, on one machine, is bound to a host's name; while what another
machine holds under that name may still run there, no other machine gets the name; a memory that was set back is another
one.
"""

from __future__ import annotations

import msgspec
import structlog

from romana.codec.records import HOST, PLAN_KEY, PUBLISHED, SEEN
from romana.core.ipam import fill_stock
from romana.core.topology import listed_addresses, place_host
from romana.model.errors import Conflict
from romana.model.topology import Host
from romana.model.view import Heartbeat, HeartbeatAnswer, Hello, Welcome
from romana.services.control.core import Core, Draft
from romana.services.control.hosts import check_name, put_roster
from romana.services.control.liveness import Liveness
from romana.services.control.rooms import claim_state_of, put_claimed
from romana.services.control.state import State
from romana.services.control.views import ViewVerbs

log = structlog.get_logger()


class AgentVerbs:
    """Whose agent is whose."""

    def __init__(self, core: Core, views: ViewVerbs, liveness: Liveness) -> None:
        self._core = core
        self._views = views
        self._liveness = liveness

    async def hello(self, hello: Hello) -> Welcome:
        """Bind an agent's instance to its host.

        An unknown host joins by its labels. Invalid when no group takes it, or when another host has one of its
        addresses; Conflict when another instance of the host is connected, or when what the host holds may still run on
        another machine.
        """
        check_name("host", hello.host)

        def decide(state: State, draft: Draft) -> Host:
            draft.read(PLAN_KEY, PUBLISHED.key(hello.host))
            known = state.hosts.get(hello.host) or Host(name=hello.host, labels=hello.labels)
            bound = self._bound(state, known, hello)
            addresses = hello.addresses or bound.addresses or listed_addresses(state.plan, hello.host)
            moved = set(addresses) != set(bound.addresses)
            if moved or hello.host not in state.hosts:
                moved_there = msgspec.structs.replace(bound, addresses=addresses)
                bound = place_host(state.plan, state.hosts, moved_there, state.blackouts)
                put_roster(state, draft)
            if bound != state.hosts.get(hello.host):
                draft.put(HOST, HOST.key(hello.host), bound)
            self._count_as_reader(state, draft, bound)
            if not state.unsettled and not bound.draining:
                put_claimed(draft, fill_stock(claim_state_of(state, bound), bound.name), bound)
            return bound

        revision, host = await self._core.commit(decide)
        log.info("agent reported in", host=host.name, instance=host.instance, epoch=host.epoch, version=hello.version)
        return Welcome(
            epoch=host.epoch,
            incarnation=self._core.incarnation,
            revision=revision,
            unsettled=host.name in self._core.state.unsettled,
        )

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Renew a host's lease; Conflict for another agent, or one of another store."""
        return await self._liveness.heartbeat(heartbeat)

    def is_connected(self, host: str) -> bool:
        """Whether the host's agent follows its view here, or is heard from at any replica."""
        return bool(self._views.live[host]) or self._liveness.knows_of(host)

    def _bound(self, state: State, known: Host, hello: Hello) -> Host:
        """The host with this agent bound to it."""
        other = known.instance not in ("", hello.instance) or _is_set_back(state, known, hello)
        moved = "" not in (known.machine, hello.machine) and known.machine != hello.machine
        if (other or moved) and self._is_live(state, known.name):
            raise Conflict(f"another agent (instance {known.instance}) runs for host {known.name}; stop one of them")
        if moved and (state.spans_on(known.name) or state.endpoints_on(known.name)):
            raise Conflict(
                f"host {known.name} is another machine, and what it holds may still run there; when that machine is "
                f"off, say so with `romana host lost {known.name}`"
            )
        safe = known.failsafe if hello.failsafe is None else hello.failsafe
        bound = msgspec.structs.replace(known, machine=hello.machine or known.machine, failsafe=safe)
        if known.instance == hello.instance and not (other or moved):
            return bound
        return msgspec.structs.replace(bound, instance=hello.instance, epoch=known.epoch + 1)

    def _is_live(self, state: State, host: str) -> bool:
        """Whether a view stream of the host is open here, or the host is another replica's."""
        seen = state.seen.get(host)
        return bool(self._views.live[host]) or (seen is not None and self._liveness.is_elsewhere(seen.by))

    def _count_as_reader(self, state: State, draft: Draft, host: Host) -> None:
        """From now on what is retired waits for this host again, so a view from now on is one it may use; and other
        replicas know where its agent is.
        """
        seen = state.seen.get(host.name)
        if seen is None:
            return
        by = seen.by if self._liveness.is_elsewhere(seen.by) else self._liveness.replica
        counted = msgspec.structs.replace(seen, silent=0, by=by)
        if counted != seen:
            draft.put(SEEN, SEEN.key(host.name), counted)


def _is_set_back(state: State, known: Host, hello: Hello) -> bool:
    """Whether an agent's memory is older than what it published: its disk is an earlier copy of itself."""
    last = state.published.get(known.name)
    if hello.logged is None or last is None or last.epoch != known.epoch or last.number <= hello.logged:
        return False
    log.warning(
        "an agent's memory was set back; it is another one from now on",
        host=known.name,
        logged=hello.logged,
        published=last.number,
    )
    return True
