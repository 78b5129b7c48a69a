"""Identities to classes: sets of identities that no policy and no isolation default tells apart.

Owns the signature of an identity and the class id made from it. Knows no addresses. Invariant: identities of one class
are selected by the same policies, match the same peer selectors, and have the same isolation default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from romana.core.policy.selector import canonical, is_unconditional, matches, selector_text
from romana.core.policy.tiers import isolation_peer
from romana.core.policy.world import PolicyWorld
from romana.model.policy import Policy, Selector
from romana.model.tenancy import Identity, Isolation, NamedPort, Tenant


class PolicyClass(msgspec.Struct, frozen=True, kw_only=True):
    """One class: the identity with the smallest id stands for all of it. `policies` are those that select it, `ports`
    its named ports, as far as a policy names them.
    """

    id: str
    identity: Identity
    isolation: Isolation
    policies: tuple[str, ...]
    selectors: tuple[Selector, ...]
    ports: tuple[NamedPort, ...] = ()


class Classes(msgspec.Struct, frozen=True, kw_only=True):
    """Class ids by identity id, classes by id, and the ids of the classes that a (canonical) peer selector matches."""

    of: dict[str, str]
    by_id: dict[str, PolicyClass]
    matching: dict[Selector, tuple[str, ...]]

    def matched_by(self, selector: Selector) -> tuple[str, ...]:
        """The ids of the classes that a selector of some policy or isolation default matches."""
        tidy = canonical(selector)
        return tuple(self.by_id) if is_unconditional(tidy) else self.matching.get(tidy, ())


def classify(world: PolicyWorld) -> Classes:
    """All classes of a world's identities, in the order of their ids."""
    subjects = _Index((policy, subject) for policy in world.policies.values() for subject in policy.subjects)
    peers = _Index((canonical(selector), selector) for selector in set(_peer_selectors(world.policies.values())))
    names = _port_names(world.policies.values())
    of: dict[str, str] = {}
    by_id: dict[str, PolicyClass] = {}
    for id_, identity in sorted(world.all_identities().items()):
        one = _class_of(identity, world.tenant(identity.owner.tenant), subjects, peers, names)
        of[id_] = one.id
        by_id.setdefault(one.id, one)
    by_id = dict(sorted(by_id.items()))
    matching: dict[Selector, list[str]] = {}
    for one in by_id.values():
        for selector in one.selectors:
            matching.setdefault(selector, []).append(one.id)
    return Classes(of=of, by_id=by_id, matching={selector: tuple(ids) for selector, ids in matching.items()})


class _Index:
    """Selectors with what they stand for, by the tenants they name, so that an identity meets only its own."""

    def __init__(self, pairs: Iterable[tuple[Policy | Selector, Selector]]) -> None:
        self._anywhere: list[tuple[Policy | Selector, Selector]] = []
        self._by_tenant: dict[str, list[tuple[Policy | Selector, Selector]]] = {}
        for pair in pairs:
            if pair[1].tenants is None:
                self._anywhere.append(pair)
            else:
                for tenant in set(pair[1].tenants):
                    self._by_tenant.setdefault(tenant, []).append(pair)

    def matching(self, identity: Identity, tenant: Tenant) -> Iterator[Policy | Selector]:
        for pairs in (self._anywhere, self._by_tenant.get(tenant.name, ())):
            for meaning, selector in pairs:
                if matches(selector, identity, tenant):
                    yield meaning


def _peer_selectors(policies: Iterable[Policy]) -> Iterator[Selector]:
    for policy in policies:
        for rule in (*(policy.ingress or ()), *(policy.egress or ())):
            yield from (peer for peer in rule.peers or () if isinstance(peer, Selector))


def _port_names(policies: Iterable[Policy]) -> frozenset[str]:
    return frozenset(
        traffic.name
        for policy in policies
        for rule in (*(policy.ingress or ()), *(policy.egress or ()))
        for traffic in rule.traffic
        if traffic.name
    )


def _class_of(
    identity: Identity, tenant: Tenant, subjects: _Index, peers: _Index, names: frozenset[str]
) -> PolicyClass:
    policies = sorted({one.id for one in subjects.matching(identity, tenant) if isinstance(one, Policy)})
    found = {one for one in peers.matching(identity, tenant) if isinstance(one, Selector)}
    own = isolation_peer(identity, tenant.isolation)
    if own is not None:
        found.add(own)
    selectors = sorted((one for one in found if not is_unconditional(one)), key=selector_text)
    ports = tuple(sorted({port for port in identity.ports if port.name in names}))
    signature: tuple[object, ...] = (tenant.isolation, policies, [selector_text(one) for one in selectors])
    if ports:
        signature = (*signature, ports)
    return PolicyClass(
        id=hashlib.sha256(msgspec.json.encode(signature)).hexdigest()[:12],
        identity=identity,
        isolation=tenant.isolation,
        policies=tuple(policies),
        selectors=tuple(selectors),
        ports=ports,
    )
