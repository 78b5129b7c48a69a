"""The table of everything that romanad answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from romana.adapters.prometheus import MEDIA, exposition
from romana.apps.server.addresses import address_endpoints
from romana.apps.server.daemons import daemon_endpoints
from romana.apps.server.flows import flow_endpoints
from romana.apps.server.hosts import HostLives, host_endpoints
from romana.apps.server.http import Call, Endpoint, Stream, Text
from romana.apps.server.ipam import ipam_endpoints
from romana.apps.server.listing import list_endpoints
from romana.apps.server.plan import plan_endpoints
from romana.apps.server.proofs import proof_endpoints
from romana.apps.server.routes import route_endpoints
from romana.apps.server.vpc import vpc_endpoints
from romana.codec.document import convert
from romana.codec.records import KINDS, as_json
from romana.codec.text import parse_address
from romana.codec.traffic import parse_traffic
from romana.core.policy.trace import End, Trace, trace
from romana.core.walk import walk, walk_host
from romana.model.address import Address
from romana.model.endpoint import Endpoint as Workload
from romana.model.errors import Conflict, Fault, Invalid, NotFound
from romana.model.policy import NO_FAILSAFE, Policy, Traffic
from romana.model.tenancy import Segment, Tenant
from romana.model.topology import Host, Network
from romana.model.view import Claim, ClaimAnswer, Hello, Publication, ViewChange, Welcome
from romana.ports import StoreEvent
from romana.services.control.addresses import AddressVerbs
from romana.services.control.agents import AgentVerbs
from romana.services.control.audit import Auditor
from romana.services.control.backup import backup
from romana.services.control.core import Core
from romana.services.control.flows import FlowVerbs
from romana.services.control.hosts import HostDocument, HostVerbs
from romana.services.control.liveness import Liveness
from romana.services.control.metrics import control_metrics
from romana.services.control.program_leases import ProgramLeases
from romana.services.control.rooms import RoomVerbs
from romana.services.control.tenancy import TenancyVerbs, TenantDocument
from romana.services.control.views import ViewVerbs
from romana.services.control.vpc import VpcVerbs

PAGE = ("limit", "after")


class TraceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two ends, each an address, an endpoint's id or its name; and traffic such as `tcp/80`."""

    source: str
    destination: str
    traffic: str


class TraceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A trace, and the same in lines for a person."""

    trace: Trace
    lines: list[str]


class WatchEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A record that changed: its key, whether it is gone, and the revision."""

    revision: int
    key: str
    deleted: bool
    value: msgspec.Raw | None = None


class Api:
    """Handlers that need more than one call of a verb."""

    def __init__(self, core: Core, liveness: Liveness) -> None:
        self.core = core
        self.tenancy = TenancyVerbs(core)
        self.rooms = RoomVerbs(core)
        self.flows = FlowVerbs(core)
        self.views = ViewVerbs(core, self.flows)
        self.liveness = liveness
        self.agents = AgentVerbs(core, self.views, liveness)
        self.hosts = HostVerbs(core, self.agents.is_connected)
        self.addresses = AddressVerbs(core)
        self.leases = ProgramLeases(core, liveness.clock)
        self.vpc = VpcVerbs(core, liveness, self.leases)

    async def trace(self, call: Call) -> TraceAnswer:
        """Explain a connection."""
        request = convert(call.document(), TraceRequest)
        try:
            traffic = parse_traffic(request.traffic)
        except ValueError as error:
            raise Invalid(Fault("traffic", str(error))) from error
        found_ends = (self._end(request.source), self._end(request.destination))
        ends = [_place_of(*found_ends), _place_of(*reversed(found_ends))]
        known = {one.id: one for one in map(self._endpoint_at, ends) if one is not None}
        program = self.core.program
        world = self.core.state.world({**self.core.exact_endpoints(), **known})
        found = trace(world, program, ends[0], ends[1], traffic)
        egress = self._in_kernel(found.egress, found.destination, traffic, known)
        ingress = self._in_kernel(found.ingress, found.source, traffic, known)
        found = msgspec.structs.replace(found, egress=egress, ingress=ingress)
        return TraceAnswer(trace=found, lines=found.lines())

    def _in_kernel(self, end: End, peer: Address, traffic: Traffic, known: Mapping[str, Workload]) -> End:
        """The same with what the end's host finds in its table."""
        if not end.endpoint and end.row:
            failsafe = self.core.state.hosts[end.name].failsafe or NO_FAILSAFE
            steps = walk_host(self.views.now(end.name), end.direction, peer, traffic, failsafe).steps
            return msgspec.structs.replace(end, steps=steps)
        endpoint = known.get(end.endpoint)
        if endpoint is None or not end.row or endpoint.host not in self.core.state.hosts:
            return end
        whom = None if end.matched is None else peer
        found = walk(self.views.now(endpoint.host), endpoint, end.direction, end.address, whom, traffic)
        return msgspec.structs.replace(end, steps=found.steps)

    def _endpoint_at(self, end: Workload | Address) -> Workload | None:
        """The endpoint that an end of a connection is."""
        if isinstance(end, Workload):
            return end
        id_ = self.core.state.holder(end)
        return None if id_ is None else self.core.state.endpoints[id_]

    def _end(self, text: str) -> Workload | Host | Address:
        state = self.core.state
        if text in state.endpoints:
            return state.endpoints[text]
        named = state.endpoints.named(text)
        if not named and text in state.hosts:
            return state.hosts[text]
        if len(named) == 1:
            return named[0]
        if named:
            raise Invalid(Fault(text, f"is the name of {len(named)} endpoints; give an id or an address"))
        try:
            return parse_address(text)
        except ValueError:
            raise NotFound(
                f"{text!r} is neither an address nor an endpoint nor a host; `romana endpoint list` and `romana host "
                "list` show them"
            ) from None

    async def watch(self, call: Call) -> Stream:
        """Changes from a revision on."""
        after = call.number("from", self.core.state.revision)
        return Stream(self._watch(after, self.core.store.watch("", after)))

    async def _watch(self, after: int, changes: AsyncIterator[list[StoreEvent]]) -> AsyncIterator[WatchEvent]:
        yield WatchEvent(revision=after, key="", deleted=False)
        async for events in changes:
            for event in events:
                if event.key.partition("/")[0] not in KINDS:  # leases are romanad's own
                    continue
                value = None if event.value is None else msgspec.Raw(as_json(event.key, event.value))
                yield WatchEvent(revision=event.revision, key=event.key, deleted=event.value is None, value=value)


def _place_of(end: Workload | Host | Address, other: Workload | Host | Address) -> Workload | Address:
    """An end of a connection; of a host the address of a family that the other end has, where there is one."""
    if not isinstance(end, Host):
        return end
    if not end.addresses:
        raise Conflict(
            f"no address of host {end.name} is known yet; its agent tells them, or the address plan lists them"
        )
    families = {one.family for one in ((other,) if isinstance(other, Address) else other.addresses)}
    return min(end.addresses, key=lambda one: (one.family not in families, one))


def _one(found: Any, kind: str, name: str) -> Any:
    if found is None:
        raise NotFound(f"no {kind} {name!r}; `romana {kind} list` shows them")
    return found


def _line(method: str, path: str, summary: str, handler: Any, **more: Any) -> Endpoint:
    return Endpoint(method=method, path=path, summary=summary, handler=handler, **more)


def _plain(verb: Any, *names: str, document: bool = False) -> Any:
    """A handler that calls a verb with path parameters, and the body's document."""

    async def handler(call: Call) -> object:
        found = [call.path[name] for name in names]
        return await (verb(*found, call.document()) if document else verb(*found))

    return handler


def _message(verb: Any, kind: Any) -> Any:
    """A handler that calls a verb with an agent's message."""

    async def handler(call: Call) -> object:
        sent = call.message(kind)
        if sent.host != call.path["host"]:
            raise Invalid(Fault("host", f"is {sent.host!r}, the address says {call.path['host']!r}"))
        return await verb(sent)

    return handler


def _getter(kind: str, look: Any, name: str) -> Any:
    """A handler that answers one thing by its name."""

    async def handler(call: Call) -> object:
        return _one(look(call.path[name]), kind, call.path[name])

    return handler


def endpoints(api: Api) -> list[Endpoint]:
    """The table."""
    state, tenancy, agents = api.core.state, api.tenancy, api.agents

    async def view(call: Call) -> Stream:
        return Stream(api.views.view(call.path["host"]))

    async def copy(_call: Call) -> Stream:
        return Stream(backup(api.core.store))

    async def healthy(_call: Call) -> dict[str, object]:
        return {"healthy": True, "revision": state.revision, "incarnation": api.core.incarnation}

    async def ready(call: Call) -> dict[str, object]:
        await api.core.check_ready()
        return await healthy(call)

    async def metrics(_call: Call) -> Text:
        lives = HostLives(api.core, api.liveness, api.agents)
        found = await control_metrics(state, [one.state for one in lives.all()])
        return Text(exposition(found), MEDIA)

    async def policies(call: Call) -> list[Policy]:
        return await tenancy.apply_policies(call.document())

    auditor = Auditor(api.core, api.liveness.clock, patience=api.liveness.settings.patience)

    def network(name: str) -> Network | None:
        return next((found for found in state.plan.networks if found.name == name), None)

    return [
        *list_endpoints(state),
        _line("GET", "/v1/networks/{name}", "One network", _getter("network", network, "name"), gives=Network),
        *plan_endpoints(api.core),
        *address_endpoints(api.core, api.addresses),
        *proof_endpoints(api.core),
        *ipam_endpoints(api.core, auditor),
        *flow_endpoints(api.flows),
        *host_endpoints(api.core, api.liveness, agents, api.hosts),
        _line("GET", "/v1/hosts/{name}", "One host", _getter("host", state.hosts.get, "name"), gives=Host),
        _line(
            "PUT",
            "/v1/hosts/{name}",
            "Add or change a host",
            _plain(api.hosts.set_host, "name", document=True),
            takes=HostDocument,
            gives=Host,
        ),
        _line("DELETE", "/v1/hosts/{name}", "Remove a host", _plain(api.hosts.remove_host, "name")),
        _line("GET", "/v1/tenants/{name}", "One tenant", _getter("tenant", state.tenants.get, "name"), gives=Tenant),
        _line(
            "PUT",
            "/v1/tenants/{name}",
            "Make or change a tenant",
            _plain(tenancy.set_tenant, "name", document=True),
            takes=TenantDocument,
            gives=Tenant,
        ),
        _line("DELETE", "/v1/tenants/{name}", "Remove a tenant", _plain(tenancy.remove_tenant, "name")),
        _line(
            "PUT",
            "/v1/tenants/{tenant}/segments/{name}",
            "Make a segment",
            _plain(tenancy.set_segment, "tenant", "name"),
            gives=Segment,
        ),
        _line(
            "DELETE",
            "/v1/tenants/{tenant}/segments/{name}",
            "Remove a segment",
            _plain(tenancy.remove_segment, "tenant", "name"),
        ),
        _line(
            "GET",
            "/v1/endpoints/{name:path}",
            "One endpoint",
            _getter("endpoint", state.endpoints.get, "name"),
            gives=Workload,
        ),
        _line(
            "POST",
            "/v1/policies",
            "Put policies in force, of any known form",
            policies,
            takes=dict[str, Any],
            gives=list[Policy],
        ),
        _line(
            "GET", "/v1/policies/{name:path}", "One policy", _getter("policy", state.policies.get, "name"), gives=Policy
        ),
        _line(
            "DELETE", "/v1/policies/{name:path}", "Take a policy out of force", _plain(tenancy.remove_policy, "name")
        ),
        *route_endpoints(api.core, auditor),
        *vpc_endpoints(api.vpc, api.leases),
        *daemon_endpoints(api.core, api.views, api.agents.is_connected),
        _line(
            "POST",
            "/v1/trace",
            "Why a connection is accepted or not",
            api.trace,
            takes=TraceRequest,
            gives=TraceAnswer,
            rel="trace",
        ),
        _line(
            "GET",
            "/v1/watch",
            "Changes as JSON lines, from a revision",
            api.watch,
            gives=WatchEvent,
            query=("from",),
            streams=True,
            rel="watch",
        ),
        _line(
            "POST",
            "/v1/hosts/{host}/hello",
            "An agent reports in",
            _message(agents.hello, Hello),
            takes=Hello,
            gives=Welcome,
        ),
        _line(
            "POST",
            "/v1/hosts/{host}/claims",
            "An agent asks for room",
            _message(api.rooms.claim, Claim),
            takes=Claim,
            gives=ClaimAnswer,
        ),
        _line(
            "POST",
            "/v1/hosts/{host}/publications",
            "An agent says what it did",
            _message(api.rooms.publish, Publication),
            takes=Publication,
            gives=int,
        ),
        _line("GET", "/v1/hosts/{host}/view", "What a host needs, as it changes", view, gives=ViewChange, streams=True),
        _line("GET", "/v1/backup", "A copy of the store as JSON lines", copy, streams=True),
        _line("GET", "/metrics", "Numbers for Prometheus", metrics, rel="metrics"),
        _line("GET", "/healthz", "Whether romanad runs", healthy, rel="health"),
        _line("GET", "/readyz", "Whether romanad takes changes", ready),
    ]
