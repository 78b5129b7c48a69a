"""The load that `romana plan` assumes: what people say of it, and what follows where they say nothing."""

from __future__ import annotations

import msgspec

from romana.core.planner.load import PODS_A_HOST, PODS_A_TENANT, Load
from romana.core.planner.usage import open_leaves
from romana.model.errors import Fault, Invalid
from romana.model.topology import AddressPlan

HOSTS_A_RACK = 16
"""For a plan that lists no host."""
FEWEST_TENANTS = 4
MOST_HOSTS = 10_000
MOST_PODS = 1_000_000


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as they were given; None where they were not."""

    hosts: int | None = None
    pods: int | None = None
    tenants: int | None = None
    pods_per_tenant: int | None = None
    apart: float = 0.0
    spread: bool = False
    churn: float = 10.0
    seed: int = 1


def load_of(plan: AddressPlan, options: LoadOptions) -> Load:
    """The load of a plan; Invalid when the options contradict each other."""
    listed = len({host.name for topology in plan.topologies for host in topology.hosts})
    racks = sum(len(open_leaves(topology)) for topology in plan.topologies)
    hosts = max(listed, options.hosts or 0) or min(MOST_HOSTS, HOSTS_A_RACK * racks)
    tenants, each = options.tenants, options.pods_per_tenant
    pods = options.pods or (tenants * each if tenants and each else hosts * PODS_A_HOST)
    if options.pods and tenants and each and tenants * each != options.pods:
        sentence = (
            f"{tenants} tenants of {each} endpoints are {tenants * each}, not {options.pods}; leave one of them out"
        )
        raise Invalid(Fault("--pods-per-tenant", sentence))
    if pods > MOST_PODS:
        raise Invalid(Fault("--pods", f"{pods:,} endpoints are too many to draw; at most {MOST_PODS:,}"))
    if tenants is None:
        tenants = -(-pods // each) if each else max(FEWEST_TENANTS, pods // PODS_A_TENANT)
    return Load(
        hosts=hosts,
        pods=pods,
        tenants=tenants,
        apart=options.apart,
        spread=options.spread,
        churn=options.churn,
        seed=options.seed,
    )
