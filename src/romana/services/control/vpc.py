"""What a VPC has to know of the plan, and which routes in its tables are there for the plan.

Owns the record of what is ours in route tables, which say nothing about that themselves. Refuses to know the cloud.
Invariant: only the program that has the lease of this work changes the record.
"""

from __future__ import annotations

import re

from romana.codec.records import VPC_TABLE, VpcTable
from romana.core.routing.vpc.groups import vpc_routes
from romana.model.errors import Conflict, Fault, Invalid
from romana.model.topology import Host
from romana.model.vpc import VPC_LEASE, OwnedRoutes, VpcHost, VpcPlan
from romana.services.control.core import Core, Draft
from romana.services.control.liveness import Liveness
from romana.services.control.program_leases import ProgramLeases
from romana.services.control.retirement import is_fenced
from romana.services.control.state import State


class VpcVerbs:
    """What the program that writes VPC route tables asks for."""

    def __init__(self, core: Core, liveness: Liveness, leases: ProgramLeases) -> None:
        self._core = core
        self._liveness = liveness
        self._leases = leases

    def plan(self, lease: str = VPC_LEASE) -> VpcPlan:
        """Routes, hosts and what is ours under a lease, as of one revision."""
        state = self._core.state
        return VpcPlan(
            revision=state.revision,
            routes=vpc_routes(state.plan, state.hosts.values(), state.routes.held()),
            hosts=tuple(self._host(state, state.hosts[name]) for name in sorted(state.hosts)),
            owned={table: one.routes for table, one in sorted(state.vpc_tables.items()) if one.lease == lease},
        )

    async def own(self, table: str, owned: OwnedRoutes) -> OwnedRoutes:
        """Write down what is ours in a table; nothing takes the record away.

        Conflict without the lease, and for a table that is written under another one.
        """
        if not re.fullmatch(r"rtb-[0-9a-f]{1,40}", table):
            raise Invalid(Fault("table", f"{table!r} is not the id of a route table, such as rtb-0123456789abcdef0"))
        wanted = VpcTable(lease=owned.lease, routes=tuple(sorted(owned.routes)))

        def decide(state: State, draft: Draft) -> None:
            self._leases.bind(draft, owned.lease, owned.holder)
            known = state.vpc_tables.get(table)
            if known is not None and known.lease != owned.lease:
                raise Conflict(f"route table {table} is written under the lease {known.lease}, not {owned.lease}")
            if not wanted.routes:
                if known is not None:
                    draft.delete(VPC_TABLE.key(table))
            elif known != wanted:
                draft.put(VPC_TABLE, VPC_TABLE.key(table), wanted)

        await self._core.commit(decide)
        return OwnedRoutes(lease=wanted.lease, holder=owned.holder, routes=wanted.routes)

    def _host(self, state: State, host: Host) -> VpcHost:
        announced = {*state.spans_on(host.name), *state.routes.exceptions_of(host.name)}
        return VpcHost(
            name=host.name,
            addresses=host.addresses,
            labels=host.labels,
            announced=tuple(sorted(announced)),
            joined=bool(host.instance),
            silent=self._liveness.quiet(host.name) if host.instance else None,
            fenced=bool(host.instance) and is_fenced(state.seen.get(host.name), self._liveness.settings),
            draining=host.draining,
        )
