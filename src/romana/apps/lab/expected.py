"""What the matrix of a lab should be, straight from the meaning of tenants and policies.

Owns a naive reading, written apart from the compiler so that the two check each other. Invariant: a connection is
expected when the sender's egress and the receiver's ingress both allow it (`docs/design/policy.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from romana.apps.lab.file import LabEndpoint, LabTenant
from romana.apps.lab.matrix import EVERYTHING, PORT, Reached
from romana.apps.lab.pods import Pod
from romana.model.address import Address, Family
from romana.model.policy import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    CidrPeer,
    Direction,
    Operator,
    Peer,
    Policy,
    Requirement,
    Rule,
    Selector,
)
from romana.model.tenancy import Isolation

Expected = Callable[[str, str], Reached]
ECHO = {4: (ICMP, 8 << 8), 6: (ICMPV6, 128 << 8)}


def expected(pods: Sequence[Pod], tenants: Sequence[LabTenant], policies: Sequence[Policy]) -> Expected:
    """By the names of source and destination, what should get through."""
    by_name = {pod.name: pod for pod in pods}
    by_tenant = {tenant.name: tenant for tenant in tenants}

    def reached(source: str, destination: str) -> Reached:
        one, other = by_name[source], by_name[destination]
        return frozenset(
            (family, protocol)
            for family, protocol in EVERYTHING
            if _allows(policies, by_tenant, Direction.EGRESS, (one, other), family, protocol)
            and _allows(policies, by_tenant, Direction.INGRESS, (other, one), family, protocol)
        )

    return reached


def _allows(
    policies: Sequence[Policy],
    tenants: Mapping[str, LabTenant],
    direction: Direction,
    ends: tuple[Pod, Pod],
    family: int,
    protocol: str,
) -> bool:
    """Whether the first of two ends allows the traffic with the second."""
    mine, theirs = ends
    governing = [
        rules
        for policy in policies
        if (rules := policy.rules(direction)) is not None
        and any(_selects(selector, mine.endpoint, tenants) for selector in policy.subjects)
    ]
    if governing:
        return any(_permits(rule, theirs, tenants, family, protocol) for rules in governing for rule in rules)
    if direction is Direction.EGRESS:
        return True
    return _default(tenants[mine.endpoint.tenant], mine.endpoint, theirs.endpoint)


def _default(tenant: LabTenant, mine: LabEndpoint, theirs: LabEndpoint) -> bool:
    if tenant.isolation is Isolation.NONE:
        return True
    same = mine.tenant == theirs.tenant
    return same and (tenant.isolation is Isolation.TENANT or mine.segment == theirs.segment)


def _permits(rule: Rule, peer: Pod, tenants: Mapping[str, LabTenant], family: int, protocol: str) -> bool:
    if rule.peers is not None and not any(_is(one, peer, tenants, family) for one in rule.peers):
        return False
    number, value = {"tcp": (TCP, PORT), "udp": (UDP, PORT)}.get(protocol) or ECHO[family]
    return not rule.traffic or any(
        one.protocol in (None, number) and (one.protocol is None or one.first <= value <= one.last)
        for one in rule.traffic
    )


def _is(peer: Peer, pod: Pod, tenants: Mapping[str, LabTenant], family: int) -> bool:
    if isinstance(peer, CidrPeer):
        addresses: list[Address] = [one for one in pod.addresses if one.family is Family(family)]
        return any(
            peer.cidr.contains(one) and not any(other.contains(one) for other in peer.excluded) for one in addresses
        )
    return isinstance(peer, Selector) and _selects(peer, pod.endpoint, tenants)


def _selects(selector: Selector, endpoint: LabEndpoint, tenants: Mapping[str, LabTenant]) -> bool:
    return (
        (selector.tenants is None or endpoint.tenant in selector.tenants)
        and (selector.segments is None or endpoint.segment in selector.segments)
        and all(_meets(one, tenants[endpoint.tenant].labels) for one in selector.tenant_labels)
        and all(_meets(one, endpoint.labels) for one in selector.labels)
    )


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    return {
        Operator.IN: value in requirement.values,
        Operator.NOT_IN: value not in requirement.values,
        Operator.EXISTS: value is not None,
        Operator.DOES_NOT_EXIST: value is None,
    }[requirement.operator]
