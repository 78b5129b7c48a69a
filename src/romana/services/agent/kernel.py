"""What the agent makes of the kernel: table, routes, connections and links of this host's endpoints.

Owns the order of the steps that one endpoint takes, and what the kernel is believed to hold. Everything here is called
from one thread, so what is desired is decided with the endpoints that really are there. Refuses to know which addresses
are free, and the control plane. Invariants: an endpoint's rules are in the kernel before its link is up and until it is
cut off; a failed step leaves nothing of the ones before; nothing is removed before the first view from the control
plane.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack

import msgspec

from romana.core.diff import Changes, diff
from romana.core.routing import host_routes
from romana.core.ruleset import (
    Contents,
    Element,
    Ruleset,
    RulesetChanges,
    desired_ruleset,
    endpoint_elements,
    lookups,
    ruleset_changes,
)
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, NotFound
from romana.model.ipam import Retired
from romana.model.policy import NO_FAILSAFE, Failsafe
from romana.model.route import Route
from romana.model.view import View
from romana.ports import Connections, Fence, Filter, LinkPlan, Links, LinkState, Routes
from romana.services.agent.condemnation import Condemnation


class KernelPorts(msgspec.Struct, frozen=True, kw_only=True):
    """The ports of this host's kernel; `own_addresses` says which addresses the host itself has."""

    links: Links
    routes: Routes
    filter: Filter
    connections: Connections
    fence: Fence
    own_addresses: Callable[[], Collection[Address]] = frozenset


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What a full round found otherwise than it had been left, and put right; `ruleset` 1 for a whole table."""

    ruleset: int = 0
    routes: int = 0
    missing_links: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Number of objects."""
        return self.ruleset + self.routes


class Kernel:
    """The kernel as the agent keeps it. One thread at a time."""

    def __init__(self, ports: KernelPorts, endpoints: Iterable[Endpoint], failsafe: Failsafe = NO_FAILSAFE) -> None:
        """`endpoints` are those remembered, whose links may be there."""
        self._ports = ports
        self._failsafe = failsafe
        self._view = View()
        self._endpoints = {endpoint.id: endpoint for endpoint in endpoints}
        self.unreachable: tuple[Prefix, ...] = ()
        """What is beside this host and has no next hop in a network of it."""
        self._under: Mapping[Prefix, Route] = {}  # the routes that are there beside endpoints'
        self._sources: tuple[object, ...] = ()  # the parts of the view that they were made of
        self._believed = False  # whether the kernel has exactly these, as far as is known
        self._connected: Collection[Prefix] | None = None  # this host's networks; None: to be read
        self._blocks: frozenset[Prefix] = frozenset()
        self._forgotten: Mapping[Prefix, Retired] = {}
        self._complete = False
        self.condemnation = Condemnation(ports.connections, ports.own_addresses, failsafe)
        self._contents = Contents()
        self._table: Ruleset | None = None  # what the kernel holds; None: to be read
        self._changing: dict[str, dict[Element, str]] = {}  # its maps in which endpoints come and go

    def hold(self, seconds: int) -> None:
        """Let endpoints' traffic pass for so many seconds from now; then the kernel cuts it off by itself."""
        self._ports.fence.hold(seconds)

    def cut(self) -> None:
        """Cut all endpoints off, until `hold`."""
        self._ports.fence.cut()

    def keep(self) -> None:
        """See to it that endpoints are cut off at some time, when nobody holds."""
        self._ports.fence.keep()

    def admit(self, endpoint: Endpoint, plan: LinkPlan, view: View) -> LinkState:
        """The view's rules, the endpoint's, then the link; when it fails, nothing of the endpoint is left.

        The view is not older than that of any call before. NotFound when it has no rows for the endpoint.
        """
        if view is not self._view:
            self._take_in(view)
            self._plumb_table()
        with ExitStack() as undo:
            undo.callback(self._withdraw, endpoint)
            self._enforce(endpoint)
            lone = self._blackholes(endpoint)
            if lone:
                undo.callback(self._ports.routes.apply, Changes(lone, {}, {}))
                self._ports.routes.apply(Changes({}, {}, lone))
            state = self._ports.links.create(plan)
            undo.pop_all()
        return state

    def complete(self, endpoint: Endpoint, plan: LinkPlan, view: View) -> LinkState:
        """The same for an endpoint of which a part may be there already."""
        self._ports.links.delete(plan.link)
        return self.admit(endpoint, plan, view)

    def adopt(self, endpoint: Endpoint, stand_in: Endpoint) -> None:
        """Who a link belongs to is known now; the next round gives it its rows."""
        self._endpoints.pop(stand_in.id, None)
        self._endpoints[endpoint.id] = endpoint

    def dismiss(self, endpoint: Endpoint) -> None:
        """Cut an endpoint off: rules, routes. What takes the kernel longer is done elsewhere: connections, the link."""
        self._withdraw(endpoint)
        stays = self._blackholes(endpoint)
        routes: dict[Prefix, Route] = {
            address: Route(prefix=address, link=endpoint.link) for address in endpoint.addresses if address not in stays
        }
        self._ports.routes.apply(Changes({}, stays, routes))

    def check(self, endpoint: Endpoint, plan: LinkPlan) -> list[str]:
        """What of the endpoint the kernel does not have, as sentences."""
        missing = self._ports.links.check(plan)
        actual = self._ports.filter.read()
        self._table = None if actual is None else self._own(actual)
        if self._table is None:
            return [*missing, "the host's nftables table is missing or not as romana writes it"]
        try:
            wanted = endpoint_elements(endpoint, *self._rows(endpoint))
        except NotFound as error:
            return [*missing, str(error)]
        elements = self._table.elements
        return missing + [
            f"the host's table has {elements.get(key, 'nothing')!r} for {key.prefix} in {key.map}, not {value!r}"
            for key, value in wanted.items()
            if elements.get(key) != value
        ]

    def routed(self) -> dict[Address, str]:
        """The addresses that are routed to links, with the link."""
        routes = self._ports.routes.read()
        return {prefix.address(0): route.link for prefix, route in routes.items() if route.link and prefix.is_address}

    def routes(self) -> tuple[Mapping[Prefix, Route], Mapping[Prefix, Route]]:
        """The routes of ours, and those of others inside the view's networks."""
        within = [network.cidr for network in self._view.networks.values()]
        return self._ports.routes.read(), self._ports.routes.learned(within)

    def is_gone(self, endpoint: Endpoint) -> bool:
        """Whether the host's side of an endpoint's link is not there."""
        return endpoint.link not in self._ports.links.read()

    def state(self, link: str) -> LinkState | None:
        """The host's side of a link, None when there is none."""
        return self._ports.links.read().get(link)

    def plumb(self, view: View, *, complete: bool, fresh: bool, left: frozenset[Prefix] = frozenset()) -> Drift:
        """Make table and routes as the view says; answers what was not as it had been left.

        `complete` allows removals, from now on. `fresh` reads everything first; without it only what the view changes
        is looked at. What `left` this host a moment ago is discarded as if it were here.
        """
        self._take_in(view)
        self._complete = self._complete or complete
        ruleset = self._read_table() if fresh else 0
        # The table first: a route to an endpoint whose rules are missing would be open.
        self._plumb_table()
        if self._complete:
            self._forget_retired()
            self.condemnation.plumbed(view, tuple(self._endpoints.values()))
        if fresh:
            self._believed, self._connected = False, None
        routes, missing = self._plumb_routes(left)
        return Drift(ruleset=ruleset, routes=routes, missing_links=missing)

    def _take_in(self, view: View) -> None:
        """Make it the view. What others did with the addresses of a new block is over: their connections go, at once
        for the whole block, because looking for them costs a walk over all connections of the machine.
        """
        new = [cidr for cidr in view.blocks if cidr not in self._blocks]
        if new:
            used = {address for endpoint in self._endpoints.values() for address in endpoint.addresses}
            self._ports.connections.forget(new, but=used)
        self._view, self._blocks = view, frozenset(view.blocks)

    def _forget_retired(self) -> None:
        """End the connections with what was given back or lost, now that no rule lets new ones begin."""
        retired = self._view.retired
        new = [cidr for cidr, one in retired.items() if self._forgotten.get(cidr) != one]
        if new:
            self._ports.connections.forget(new)
        self._forgotten = retired

    def _read_table(self) -> int:
        """Believe what the kernel says; answers in how many objects it differs from what was believed."""
        believed, self._table = self._table, None
        actual = self._ports.filter.read()
        self._table = None if actual is None else self._own(actual)
        if believed is None:
            return 0
        changes = ruleset_changes(believed, actual)
        return 1 if changes.table is not None else len(changes)

    def _plumb_table(self) -> None:
        believed, self._table = self._table, None
        try:
            self._change_table(believed)
        except Conflict:
            if believed is None:
                raise
            self._change_table(None)  # it was not as we believed

    def _change_table(self, actual: Ruleset | None) -> None:
        desired = desired_ruleset(self._view, self._endpoints.values(), self._failsafe, self._contents)
        changes = ruleset_changes(desired, actual if actual is not None else self._ports.filter.read())
        if not self._complete:
            changes = _without_removals(changes)
        self._ports.filter.apply(changes)
        if changes.table is not None:
            self.condemnation.distrust()  # there was none, and whatever began meanwhile is known to conntrack
        self._table = self._own(desired) if self._complete else None

    def _blackholes(self, endpoint: Endpoint) -> dict[Prefix, Route]:
        """Those of single addresses, which an endpoint's routes replace while it is there."""
        return {address: self._under[address] for address in endpoint.addresses if address in self._under}

    def _plumb_routes(self, left: frozenset[Prefix]) -> tuple[int, tuple[str, ...]]:
        """Only what the view changes, as long as the kernel is believed; else everything that is there is read.

        Answers how many routes were changed, and the links of endpoints that are not there, where they were read.
        """
        view = self._view
        sources = (view.via, view.spans, view.announced, view.discards, left)
        if self._believed and sources == self._sources:
            return 0, ()
        beside = self._beside(left)
        believed, self._believed = self._believed, False
        missing: tuple[str, ...] = ()
        changes = diff(beside, self._under)
        if not believed or self._is_about_endpoints(changes):
            changes, missing = self._compared(beside)
        if changes:
            self._ports.routes.apply(changes)
        self._under, self._sources, self._believed = beside, sources, self._complete
        return len(changes), missing

    def _beside(self, left: Collection[Prefix]) -> dict[Prefix, Route]:
        """The routes that should be there beside endpoints'."""
        view = self._view
        if view.via and self._connected is None:
            self._connected = self._ports.routes.connected()
        found = host_routes(view, self._connected or (), left)
        self.unreachable = tuple(sorted(view.via.keys() - found.keys()))
        return found

    def _is_about_endpoints(self, changes: Changes[Prefix, Route]) -> bool:
        """Whether a route of an endpoint may be in the place of one of these."""
        alone = {one for one in (*changes.add, *changes.replace, *changes.remove) if one.is_address}
        return bool(alone) and any(one in alone for endpoint in self._endpoints.values() for one in endpoint.addresses)

    def _compared(self, beside: Mapping[Prefix, Route]) -> tuple[Changes[Prefix, Route], tuple[str, ...]]:
        """What to change of all that the kernel has, and the links that are not there."""
        links = self._ports.links.read()
        desired: dict[Prefix, Route] = dict(beside)
        missing = []
        for endpoint in self._endpoints.values():
            if endpoint.link in links and links[endpoint.link].up:  # the kernel takes no route to a link that is down
                desired |= {address: Route(prefix=address, link=endpoint.link) for address in endpoint.addresses}
            else:
                missing.append(endpoint.link)
        changes = diff(desired, self._ports.routes.read())
        return changes if self._complete else Changes(changes.add, changes.replace, {}), tuple(missing)

    def _enforce(self, endpoint: Endpoint) -> None:
        ingress, egress = self._rows(endpoint)
        self._endpoints[endpoint.id] = endpoint
        try:
            self._ports.filter.add_endpoint(endpoint, ingress, egress)
        except NotFound:
            self._plumb_table()  # rows come with their first endpoint
        else:
            self._note(endpoint_elements(endpoint, ingress, egress), {})

    def _withdraw(self, endpoint: Endpoint) -> None:
        self._endpoints.pop(endpoint.id, None)
        self._ports.filter.remove_endpoint(endpoint)
        self._note({}, endpoint_elements(endpoint, "-", "-"))

    def _note(self, added: dict[Element, str], removed: dict[Element, str]) -> None:
        if self._table is not None:
            for key in removed:
                self._changing[key.map].pop(key, None)
            for key, value in added.items():
                self._changing[key.map][key] = value

    def _own(self, ruleset: Ruleset) -> Ruleset:
        """A copy in which the elements of endpoints may be changed here."""
        names = [name for name, lookup in lookups(ruleset.shape).items() if not lookup.is_replaced_whole]
        self._changing = {name: dict(ruleset.maps.get(name, {})) for name in names}
        return msgspec.structs.replace(ruleset, maps={**ruleset.maps, **self._changing})

    def _rows(self, endpoint: Endpoint) -> tuple[str, str]:
        known = self._view.identities.get(endpoint.identity.id)
        if known is None or known.ingress not in self._view.rows or known.egress not in self._view.rows:
            raise NotFound(
                f"this host's view has no rows for {endpoint.identity.owner} (identity {endpoint.identity.id})"
            )
        return known.ingress, known.egress


def _without_removals(changes: RulesetChanges) -> RulesetChanges:
    return msgspec.structs.replace(
        changes,
        rows=Changes(changes.rows.add, changes.rows.replace, {}),
        guards=Changes(changes.guards.add, changes.guards.replace, {}),
        profiles=Changes(changes.profiles.add, changes.profiles.replace, {}),
        elements=Changes(changes.elements.add, changes.elements.replace, {}),
    )
