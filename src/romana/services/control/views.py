"""Hosts' views, as they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from romana.core.topology import group_cidrs
from romana.core.view import ViewSource, diff_view, host_view, snapshot
from romana.model.errors import Conflict, NotFound
from romana.model.view import View, ViewChange
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

    def _view(self, host: str) -> View:
        state = self._core.state
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
        )
        return host_view(source, host, frozenset(group_cidrs(state.plan, state.hosts[host])))
