"""Tenants, segments and policies."""

from __future__ import annotations

import msgspec

from romana.codec.document import convert
from romana.codec.policy import read_policies
from romana.codec.records import POLICY, SEGMENT, TENANT
from romana.model.errors import Conflict, NotFound
from romana.model.policy import Policy
from romana.model.tenancy import Isolation, Segment, Tenant
from romana.services.control.core import Core, Draft
from romana.services.control.hosts import check_name
from romana.services.control.state import State


class TenantDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant as people write it: who may reach its endpoints where no policy says, labels for selectors, and whether
    they and their own host always reach each other.
    """

    isolation: Isolation = Isolation.TENANT
    labels: dict[str, str] = {}
    own_host: bool = False


class TenancyVerbs:
    """Tenants, segments, policies."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def set_tenant(self, name: str, document: object) -> Tenant:
        """Make or change a tenant."""
        check_name("tenant", name)
        wanted = convert(document, TenantDocument)
        tenant = Tenant(name=name, isolation=wanted.isolation, labels=wanted.labels, own_host=wanted.own_host)

        def decide(state: State, draft: Draft) -> Tenant:
            if state.tenants.get(name) != tenant:
                draft.put(TENANT, TENANT.key(name), tenant)
            return tenant

        return (await self._core.commit(decide))[1]

    async def remove_tenant(self, name: str) -> None:
        """Remove a tenant and its segments; Conflict while it has endpoints."""

        def decide(state: State, draft: Draft) -> None:
            known_tenant(state, name)
            _check_unused(state, name, None)
            draft.delete(TENANT.key(name))
            for tenant, segment in state.segments:
                if tenant == name:
                    draft.delete(SEGMENT.key(tenant, segment))

        await self._core.commit(decide)

    async def set_segment(self, tenant: str, name: str) -> Segment:
        """Make a segment of a tenant; NotFound for an unknown tenant."""
        check_name("segment", name)
        segment = Segment(tenant=tenant, name=name)

        def decide(state: State, draft: Draft) -> Segment:
            known_tenant(state, tenant)
            draft.read(TENANT.key(tenant))
            if (tenant, name) not in state.segments:
                draft.put(SEGMENT, SEGMENT.key(tenant, name), segment)
            return segment

        return (await self._core.commit(decide))[1]

    async def remove_segment(self, tenant: str, name: str) -> None:
        """Remove a segment; Conflict while it has endpoints."""

        def decide(state: State, draft: Draft) -> None:
            known_segment(state, tenant, name)
            _check_unused(state, tenant, name)
            draft.delete(SEGMENT.key(tenant, name))

        await self._core.commit(decide)

    async def apply_policies(self, document: object) -> list[Policy]:
        """Put policies of any known form in force, all or none; Invalid with every fault."""
        policies = read_policies(document)

        def decide(state: State, draft: Draft) -> list[Policy]:
            for policy in policies:
                if state.policies.get(policy.id) != policy:
                    draft.put(POLICY, POLICY.key(policy.id), policy)
            return policies

        return (await self._core.commit(decide))[1]

    async def remove_policy(self, name: str) -> None:
        """Take a policy out of force."""

        def decide(state: State, draft: Draft) -> None:
            if name not in state.policies:
                raise NotFound(f"no policy {name!r}; `romana policy list` shows them")
            draft.delete(POLICY.key(name))

        await self._core.commit(decide)


def known_tenant(state: State, name: str) -> Tenant:
    """The tenant of that name; NotFound with what to do."""
    tenant = state.tenants.get(name)
    if tenant is None:
        raise NotFound(f"unknown tenant {name!r}; make it with `romana tenant add {name}`")
    return tenant


def known_segment(state: State, tenant: str, name: str) -> Segment:
    """The segment of that name; NotFound with what to do."""
    known_tenant(state, tenant)
    segment = state.segments.get((tenant, name))
    if segment is None:
        raise NotFound(f"tenant {tenant} has no segment {name!r}; make it with `romana segment add {tenant} {name}`")
    return segment


def _check_unused(state: State, tenant: str, segment: str | None) -> None:
    where = tenant if segment is None else f"{tenant}/{segment}"
    found = state.endpoints.of_owner(tenant, segment)
    if found:
        names = (state.endpoints[id_].name or id_ for id_ in sorted(found)[:20])
        raise Conflict(f"{where} still has {len(found)} endpoints, such as {min(names)}; end them first")
    owners = ((one.identity.owner, one.name) for one in state.reservations.values())
    fixed = [name for owner, name in owners if owner.tenant == tenant and segment in (None, owner.segment)]
    if fixed:
        raise Conflict(f"{where} still has {len(fixed)} fixed addresses, such as {min(fixed)}; remove them first")
