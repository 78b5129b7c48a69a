"""Who may talk to whom, straight from the words of the specifications; shares no code with the compiler.

There are no classes, prefixes or profiles here: every question is answered by reading every policy.
"""

from __future__ import annotations

from collections.abc import Iterator

from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.policy import Direction, HostPeer, Peer, Policy, Requirement, Selector, Traffic
from romana.model.tenancy import Identity


def allowed(
    world: PolicyWorld, source: Endpoint | Address, destination: Endpoint | Address, protocol: int, port: int
) -> bool:
    """Both ends decide; an end that is no endpoint decides nothing. For endpoints of one family."""
    from_address = source if isinstance(source, Address) else source.addresses[0]
    to_address = destination if isinstance(destination, Address) else destination.addresses[0]
    from_identity = source.identity if isinstance(source, Endpoint) else None
    to_identity = destination.identity if isinstance(destination, Endpoint) else None
    if from_identity is not None and source == destination:
        return True
    return (
        from_identity is None
        or end_allows(world, Direction.EGRESS, from_identity, to_address, to_identity, protocol, port)
    ) and (
        to_identity is None
        or end_allows(world, Direction.INGRESS, to_identity, from_address, from_identity, protocol, port)
    )


def end_allows(
    world: PolicyWorld,
    direction: Direction,
    own: Identity,
    peer_address: Address,
    peer: Identity | None,
    protocol: int,
    port: int,
    *,
    own_host: bool = False,
    staged: bool = False,
) -> bool:
    """What one end decides about a peer, of which nothing but its address is known when `peer` is None. `own_host`: the
    peer is the host that the endpoint is on. `staged`: as if staged policies were in force.
    """
    receiver = own if direction is Direction.INGRESS else peer
    selecting = [
        policy for policy in world.policies.values() if any(selects(world, subject, own) for subject in policy.subjects)
    ]
    tenant = world.tenants.get(own.owner.tenant)
    promised = own_host and tenant is not None and tenant.own_host
    said = by_policies(world, selecting, direction, peer_address, peer, protocol, port, receiver, promised, staged)
    if said is not None:
        return said
    if own_host:
        return promised
    if direction is Direction.EGRESS:
        return True
    isolation = tenant.isolation if tenant is not None else "tenant"
    if isolation == "none":
        return True
    if peer is None or peer.owner.tenant != own.owner.tenant:
        return False
    return isolation == "tenant" or peer.owner.segment == own.owner.segment


def host_allows(
    world: PolicyWorld,
    direction: Direction,
    name: str,
    peer_address: Address,
    peer: Identity | None,
    protocol: int,
    port: int,
    *,
    staged: bool = False,
) -> bool:
    """What a host decides about its own traffic."""
    host = world.hosts[name]
    selecting = [
        policy
        for policy in world.policies.values()
        if any(all(is_true(one, host.labels) for one in peer.labels) for peer in policy.hosts)
    ]
    receiver = None if direction is Direction.INGRESS else peer
    said = by_policies(world, selecting, direction, peer_address, peer, protocol, port, receiver, False, staged)
    return True if said is None else said


def by_policies(
    world: PolicyWorld,
    selected_by: list[Policy],
    direction: Direction,
    peer_address: Address,
    peer: Identity | None,
    protocol: int,
    port: int,
    receiver: Identity | None,
    promised: bool,
    staged: bool,
) -> bool | None:
    """What policies decide; None when they leave it to the default. `promised` peers are accepted where the policies
    tier decides.
    """
    selecting = [
        policy
        for policy in selected_by
        if (policy.ingress if direction is Direction.INGRESS else policy.egress) is not None
        and (staged or not policy.staged)
    ]

    def matching(tier: str) -> Iterator[str]:
        """The actions of the rules of a tier that are about this peer and traffic, in order."""
        for policy in sorted(selecting, key=lambda one: (one.priority, one.id)):
            rules = policy.ingress if direction is Direction.INGRESS else policy.egress
            for rule in (rules or ()) if policy.tier == tier else ():
                about_peer = rule.peers is None or any(is_about(world, one, peer_address, peer) for one in rule.peers)
                about_traffic = not rule.traffic or any(
                    is_traffic(one, protocol, port, receiver) for one in rule.traffic
                )
                if about_peer and about_traffic:
                    yield rule.action

    first = next(matching("admin"), "pass")
    if first != "pass":
        return first == "accept"
    if any(policy.tier == "policies" for policy in selecting):
        return promised or any(True for _ in matching("policies"))
    last = next(matching("baseline"), "")
    return None if last in ("", "pass") else last == "accept"


def is_about(world: PolicyWorld, peer: Peer, address: Address, identity: Identity | None) -> bool:
    if isinstance(peer, Selector):
        return identity is not None and selects(world, peer, identity)
    if isinstance(peer, HostPeer):
        return any(
            address in host.addresses and all(is_true(one, host.labels) for one in peer.labels)
            for host in world.hosts.values()
        )
    return inside(address, peer.cidr) and not any(inside(address, excluded) for excluded in peer.excluded)


def inside(address: Address, cidr: Prefix) -> bool:
    return address.family == cidr.family and cidr.value <= address.value <= cidr.last


def selects(world: PolicyWorld, selector: Selector, identity: Identity) -> bool:
    if selector.tenants is not None and identity.owner.tenant not in selector.tenants:
        return False
    if selector.segments is not None and identity.owner.segment not in selector.segments:
        return False
    tenant = world.tenants.get(identity.owner.tenant)
    tenant_labels = dict(tenant.labels) if tenant is not None else {}
    tenant_labels["kubernetes.io/metadata.name"] = identity.owner.tenant
    for requirement in selector.tenant_labels:
        if not is_true(requirement, tenant_labels):
            return False
    return all(is_true(requirement, identity.labels) for requirement in selector.labels)


def is_true(requirement: Requirement, labels: dict[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return requirement.key in labels and labels[requirement.key] in requirement.values
        case "NotIn":
            return requirement.key not in labels or labels[requirement.key] not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
    raise AssertionError(requirement.operator)


def is_traffic(traffic: Traffic, protocol: int, port: int, receiver: Identity | None) -> bool:
    if traffic.name:
        return receiver is not None and any(
            (one.name, one.protocol, one.port) == (traffic.name, protocol, port)
            and traffic.protocol in (None, one.protocol)
            for one in receiver.ports
        )
    if traffic.protocol is None:
        whole = traffic.first == 0 and traffic.last == 65535
        return whole or (protocol in (6, 17, 132) and traffic.first <= port <= traffic.last)
    return traffic.protocol == protocol and traffic.first <= port <= traffic.last
