"""The part of the table that lists things, page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from romana.apps.server.http import Call, Endpoint, Page, page, page_size
from romana.apps.server.roll import Roll
from romana.codec.text import parse_prefix
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint as Workload
from romana.model.errors import Fault, Invalid
from romana.model.ipam import Block, Retired, Span
from romana.model.policy import Policy
from romana.model.tenancy import Segment, Tenant
from romana.model.topology import Host, Network
from romana.services.control.state import State

PAGE = ("limit", "after")


def list_endpoints(state: State) -> list[Endpoint]:
    """The lines of the table."""

    async def segments(call: Call) -> Page[Segment]:
        tenant = call.query.get("tenant")
        found = [one for one in state.segments.values() if tenant in (None, one.tenant)]
        return page(found, call, lambda one: f"{one.tenant}/{one.name}")

    return [
        _line("/v1/networks", "All networks", Network, _lister(lambda: state.plan.networks, lambda one: one.name)),
        _line("/v1/hosts", "All hosts", Host, _lister(state.hosts.values, lambda one: one.name)),
        _line("/v1/tenants", "All tenants", Tenant, _lister(state.tenants.values, lambda one: one.name)),
        _line("/v1/segments", "All segments", Segment, segments, ("tenant",)),
        _line("/v1/spans", "All spans", Span, _cidrs(state, state.spans, state.spans_on), ("host",)),
        _line("/v1/blocks", "All blocks", Block, _cidrs(state, state.blocks, state.blocks_on), ("host",)),
        _line(
            "/v1/retired",
            "What waits until every host has forgotten it",
            Retired,
            _lister(state.retired.values, lambda one: str(one.cidr)),
        ),
        _line("/v1/endpoints", "All endpoints", Workload, _workloads(state), ("host", "tenant", "segment")),
        _line("/v1/policies", "All policies", Policy, _lister(state.policies.values, lambda one: one.id)),
    ]


def _lister(values: Callable[[], Any], name: Callable[[Any], str]) -> Any:
    async def handler(call: Call) -> object:
        return page(values(), call, name)

    return handler


def _cidrs(state: State, every: Mapping[Prefix, Any], on: Callable[[str], Mapping[Prefix, Any]]) -> Any:
    """A list of what lies at CIDRs, in the order of addresses."""
    roll = Roll(every.keys, _place, lambda: state.revision)

    async def handler(call: Call) -> object:
        size, after = page_size(call), _cidr(call.query.get("after", ""))
        host = call.query.get("host")
        if host is None:
            cidrs = await roll.after(None if after is None else _place(after), size + 1)
        else:
            cidrs = sorted(on(host), key=_place)
            cidrs = [cidr for cidr in cidrs if after is None or _place(cidr) > _place(after)][: size + 1]
        table = every if host is None else on(host)
        items = [table[cidr] for cidr in cidrs[:size] if cidr in table]
        return Page(items, str(cidrs[size - 1]) if len(cidrs) > size else None)

    return handler


def _workloads(state: State) -> Any:
    """The list of endpoints, by id; those of a host or a tenant are found without looking at all."""
    table = state.endpoints
    roll = Roll(table.handles, table.id_of, lambda: state.revision)

    async def handler(call: Call) -> object:
        size, after = page_size(call), call.query.get("after", "")
        host, tenant, segment = (call.query.get(name) for name in ("host", "tenant", "segment"))
        if host is tenant is segment is None:
            ids = [table.id_of(handle) for handle in await roll.after(after or None, size + 1)]
        else:
            found = table.on_host(host) if host is not None else table.of_owner(tenant, segment)
            if host is not None and (tenant is not None or segment is not None):
                found &= table.of_owner(tenant, segment)
            ids = sorted(id_ for id_ in found if id_ > after)[: size + 1]
        items = [table[id_] for id_ in ids[:size] if id_ in table]
        return Page(items, ids[size - 1] if len(ids) > size else None)

    return handler


def _place(cidr: Prefix) -> tuple[int, int, int]:
    return cidr.family, cidr.value, cidr.length


def _cidr(text: str) -> Prefix | None:
    try:
        return parse_prefix(text) if text else None
    except ValueError as error:
        raise Invalid(Fault("after", str(error))) from error


def _line(path: str, summary: str, kind: Any, handler: Any, query: tuple[str, ...] = ()) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        summary=summary,
        handler=handler,
        gives=Page[kind],
        query=(*PAGE, *query),
        rel=path.rsplit("/", 1)[1],
    )
