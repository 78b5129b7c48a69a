"""Agents report in, and go on saying that they are there."""

from __future__ import annotations

import msgspec
import structlog

from romana.codec.records import HOST, PLAN_KEY
from romana.core.ipam import fill_stock
from romana.core.topology import place_host
from romana.model.errors import Conflict
from romana.model.topology import Host
from romana.model.view import Heartbeat, HeartbeatAnswer, Hello, Welcome
from romana.services.control.core import Core, Draft
from romana.services.control.hosts import check_name, put_roster
from romana.services.control.rooms import bound_host, claim_state_of, put_claimed
from romana.services.control.state import State
from romana.services.control.views import ViewVerbs

log = structlog.get_logger()

LEASE = 24 * 3600
"""Seconds after which an agent that could not renew its lease fences itself."""


class AgentVerbs:
    """Whose agent is whose."""

    def __init__(self, core: Core, views: ViewVerbs) -> None:
        self._core = core
        self._views = views

    async def hello(self, hello: Hello) -> Welcome:
        """Bind an agent's instance to its host.

        An unknown host joins by its labels. Invalid when no group takes it, or when another host has one of its
        addresses; Conflict when another instance of the host is connected.
        """
        check_name("host", hello.host)

        def decide(state: State, draft: Draft) -> Host:
            draft.read(PLAN_KEY)
            known = state.hosts.get(hello.host) or Host(name=hello.host, labels=hello.labels)
            if known.instance not in ("", hello.instance) and self._views.live[hello.host]:
                raise Conflict(
                    f"another agent (instance {known.instance}) runs for host {hello.host}; stop one of them"
                )
            bound = known
            if known.instance != hello.instance:
                bound = msgspec.structs.replace(known, instance=hello.instance, epoch=known.epoch + 1)
            moved = bool(hello.addresses) and set(hello.addresses) != set(bound.addresses)
            if moved or hello.host not in state.hosts:
                addresses = hello.addresses or bound.addresses
                bound = place_host(state.plan, state.hosts, msgspec.structs.replace(bound, addresses=addresses))
                put_roster(state, draft)
            if bound != state.hosts.get(hello.host):
                draft.put(HOST, HOST.key(hello.host), bound)
            put_claimed(draft, fill_stock(claim_state_of(state, bound, {}), bound.name), bound)
            return bound

        revision, host = await self._core.commit(decide)
        log.info("agent reported in", host=host.name, instance=host.instance, epoch=host.epoch, version=hello.version)
        return Welcome(epoch=host.epoch, incarnation=self._core.incarnation, revision=revision)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Renew a host's lease; Conflict for another agent, or a view of another store."""
        bound_host(self._core.state, heartbeat.host, heartbeat.epoch)
        if heartbeat.incarnation != self._core.incarnation:
            raise Conflict(
                f"host {heartbeat.host} follows store {heartbeat.incarnation}, this is {self._core.incarnation}"
            )
        return HeartbeatAnswer(lease=LEASE)
