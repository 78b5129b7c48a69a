"""The part of the table that is for the program that writes VPC route tables: its lease, its plan, what is ours."""

from __future__ import annotations

from romana.apps.server.http import Call, Endpoint
from romana.model.errors import Fault, Invalid
from romana.model.vpc import VPC_LEASE, OwnedRoutes, VpcPlan
from romana.services.control.program_leases import LeaseRequest, ProgramLease, ProgramLeases
from romana.services.control.vpc import VpcVerbs


def vpc_endpoints(verbs: VpcVerbs, leases: ProgramLeases) -> list[Endpoint]:
    """The lines of the table."""

    async def plan(call: Call) -> VpcPlan:
        return verbs.plan(call.query.get("lease", VPC_LEASE))

    async def own(call: Call) -> OwnedRoutes:
        return await verbs.own(call.path["table"], call.message(OwnedRoutes))

    async def held(_call: Call) -> list[ProgramLease]:
        return leases.all()

    async def hold(call: Call) -> ProgramLease:
        return await leases.hold(call.path["name"], call.wanted(LeaseRequest))

    async def let_go(call: Call) -> None:
        holder = call.query.get("holder", "")
        if not holder:
            raise Invalid(Fault("holder", "is missing: who gives the lease up?"))
        await leases.let_go(call.path["name"], holder)

    return [
        Endpoint(
            method="GET",
            path="/v1/routes/vpc",
            summary="What VPC route tables should lead to which hosts, and what in them is ours",
            handler=plan,
            gives=VpcPlan,
            query=("lease",),
            rel="vpc-routes",
        ),
        Endpoint(
            method="PUT",
            path="/v1/routes/vpc/tables/{table}",
            summary="Write down which destinations in a VPC route table are ours",
            handler=own,
            takes=OwnedRoutes,
            gives=OwnedRoutes,
        ),
        Endpoint(
            method="GET",
            path="/v1/leases",
            summary="Leases that programs have through this romanad",
            handler=held,
            gives=list[ProgramLease],
            rel="leases",
        ),
        Endpoint(
            method="PUT",
            path="/v1/leases/{name}",
            summary="Get or keep a lease for a program",
            handler=hold,
            takes=LeaseRequest,
            gives=ProgramLease,
        ),
        Endpoint(
            method="DELETE",
            path="/v1/leases/{name}",
            summary="Give a program's lease up",
            handler=let_go,
            query=("holder",),
        ),
    ]
