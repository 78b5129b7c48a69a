"""The views of hosts and routers, as they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import msgspec

from romana.core.routing.segment import private_discards, segment_routes
from romana.core.routing.speakers import speaker
from romana.core.routing.turns import around
from romana.core.topology import group_cidrs
from romana.core.view import ViewSource, diff_view, host_view, snapshot
from romana.model.errors import Conflict, NotFound
from romana.model.speaker import DaemonPlan
from romana.model.view import RouterView, View, ViewChange
from romana.services.control.core import Core
from romana.services.control.flows import FlowVerbs
from romana.services.control.hosts import known_host
from romana.services.control.settled import check_host_settled


class ViewVerbs:
    """The streams that agents follow, and who follows one."""

    def __init__(self, core: Core, flows: FlowVerbs | None = None) -> None:
        """`flows` knows whether somebody follows flows."""
        self._core = core
        self._flows = flows
        self.live: Counter[str] = Counter()
        """Host -> open view streams."""

    @contextmanager
    def connected(self, host: str) -> Iterator[None]:
        """While the host's view is followed, no other instance may report in."""
        self.live[host] += 1
        try:
            yield
        finally:
            self.live[host] -= 1

    async def view(self, host: str) -> AsyncGenerator[ViewChange, None]:
        """A snapshot, then changes, until another agent gets the host's name or the host is lost (Conflict).

        NotFound for an unknown host; Unavailable while it has to say first what it holds.
        """
        epoch = known_host(self._core.state, host).epoch
        check_host_settled(self._core.state, host)
        with self.connected(host), self._core.following(host) as follower:
            last = self._view(host)
            follower.uses = self._uses(last)
            yield snapshot(last)
            while True:
                await follower.wait()
                if host not in self._core.state.hosts:
                    raise NotFound(f"host {host} was removed")
                if self._core.state.hosts[host].epoch != epoch:
                    raise Conflict(f"host {host} has another agent, or was declared lost; report in again")
                new = self._view(host)
                follower.uses = self._uses(new)
                change = diff_view(last, new)
                if change is not None:
                    last = new
                    yield change

    def _uses(self, view: View) -> frozenset[str]:
        """What a change of the program has to touch to be news for whoever has this view."""
        named = (identity for block in view.blocks.values() for identity in block.identities)
        classes = (one.class_id for one in view.identities.values())
        return frozenset((*view.rows, *view.identities, *named, *classes))

    def now(self, host: str) -> View:
        """A host's view as it is now; NotFound for an unknown host."""
        known_host(self._core.state, host)
        return self._view(host)

    async def router_view(self, name: str) -> AsyncGenerator[RouterView, None]:
        """A router's view, whole each time it changes; NotFound for one that the plan does not name (any more)."""
        with self.connected(name), self._core.following(name) as follower:
            last = self._router_view(name)
            yield last
            while True:
                await follower.wait()
                new = self._router_view(name)
                if new != msgspec.structs.replace(last, revision=new.revision):
                    last = new
                    yield new

    def _router_view(self, name: str) -> RouterView:
        state = self._core.state
        known = state.routes.fabric.devices
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise NotFound(f"the address plan names no router {name!r}; it names {listed}")
        plan, said = state.routes.device_plan(name), speaker(state.routes, name)
        return RouterView(
            incarnation=self._core.incarnation,
            revision=state.revision,
            speaker=said,
            via=segment_routes(state.routes, name),
            around=around(state.routes, name),
            discards=() if said is not None else plan.originates,
            routes=plan.routes,
            networks=tuple(sorted(network.cidr for network in state.plan.networks)),
            audit=state.audit,
        )

    def _view(self, host: str) -> View:
        state = self._core.state
        groups = group_cidrs(state.plan, state.hosts[host])
        source = ViewSource(
            incarnation=self._core.incarnation,
            revision=state.revision,
            networks=state.networks,
            spans=state.spans_on(host),
            blocks=state.blocks_on(host),
            fixed=tuple(state.reservations_on(host).values()),
            identities=state.identities,
            program=self._core.program,
            addresses=state.hosts[host].addresses,
            retired=state.retired,
            draining=state.hosts[host].draining,
            audit=state.audit,
            cut=state.condemned(host),
            announced=state.routes.exceptions_of(host),
            flows=0 if self._flows is None else self._flows.wanted,
            via=segment_routes(state.routes, host),
            discards=private_discards(state.routes, host),
            daemon=DaemonPlan(speaker=speaker(state.routes, host), groups=groups),
        )
        return host_view(source, host, frozenset(groups))
