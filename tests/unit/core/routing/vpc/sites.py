"""Hosts in subnets of VPCs, for tests of what is decided about them."""

from __future__ import annotations

from romana.codec.text import parse_address, parse_prefix
from romana.core.routing.vpc.places import Place, place_hosts
from romana.model.address import Prefix
from romana.model.vpc import Instance, Interface, VpcHost, VpcPlan, VpcRoute

LABEL = "romana.io/instance"


def instance(name: str, address: str, *, vpc: str = "vpc-1", subnet: str = "subnet-a", **more: str) -> Instance:
    interface = Interface(id=f"eni-{name}", subnet=subnet, addresses=(parse_address(address),))
    return Instance(
        id=f"i-{name}",
        vpc=vpc,
        state=more.get("state", "running"),
        status=more.get("status", "ok"),
        interfaces=(interface,),
    )


def vpc_host(name: str, address: str, *announced: str) -> VpcHost:
    return VpcHost(
        name=name,
        addresses=(parse_address(address),),
        announced=tuple(map(parse_prefix, announced)),
        silent=0,
    )


def route(prefix: str, *hosts: str, group: str = "") -> VpcRoute:
    return VpcRoute(prefix=parse_prefix(prefix), hosts=hosts, group=group)


def places(plan: VpcPlan, *instances: Instance) -> dict[str, Place]:
    return place_hosts(plan.hosts, {one.id: one for one in instances}, LABEL).by_host


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(parse_prefix, texts))


def longest(table: dict[Prefix, VpcRoute], prefix: Prefix) -> VpcRoute | None:
    """Where a table leads a prefix, looked for in all of it."""
    around = [one for one in table if one.contains(prefix)]
    return table[max(around, key=lambda one: one.length)] if around else None
