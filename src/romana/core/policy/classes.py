"""Identities to classes: sets of identities that no policy and no isolation default tells apart.

Owns the signature of an identity and the class id made from it. Knows no addresses. Invariant: identities of one class
are selected by the same policies, match the same peer selectors, and have the same defaults.
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
    own_host: bool = False


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
    subjects = SelectorIndex((policy, subject) for policy in world.policies.values() for subject in policy.subjects)
    peers = SelectorIndex((one, one) for one in {canonical(one) for one in peer_selectors(world.policies.values())})
    names = frozenset(port_names(world.policies.values()))
    of: dict[str, str] = {}
    by_id: dict[str, PolicyClass] = {}
    for id_, identity in sorted(world.all_identities().items()):
        one = class_of(identity, world.tenant(identity.owner.tenant), subjects, peers, names)
        of[id_] = one.id
        by_id.setdefault(one.id, one)
    by_id = dict(sorted(by_id.items()))
    matching: dict[Selector, list[str]] = {}
    for one in by_id.values():
        for selector in one.selectors:
            matching.setdefault(selector, []).append(one.id)
    return Classes(of=of, by_id=by_id, matching={selector: tuple(ids) for selector, ids in matching.items()})


class SelectorIndex:
    """Selectors with what they stand for, by the tenants they name, so that an identity meets only its own."""

    def __init__(self, pairs: Iterable[tuple[Policy | Selector, Selector]] = ()) -> None:
        self._anywhere: dict[tuple[str, Selector], Policy | Selector] = {}
        self._by_tenant: dict[str, dict[tuple[str, Selector], Policy | Selector]] = {}
        for meaning, selector in pairs:
            self.add(meaning, selector)

    def add(self, meaning: Policy | Selector, selector: Selector) -> None:
        """Those whom the selector matches have this meaning: a policy that selects them, or a peer selector."""
        for table in self._tables(selector):
            table[_name_of(meaning), selector] = meaning

    def remove(self, meaning: Policy | Selector, selector: Selector) -> None:
        """Undo `add`."""
        for table in self._tables(selector):
            table.pop((_name_of(meaning), selector), None)

    def matching(self, identity: Identity, tenant: Tenant) -> Iterator[Policy | Selector]:
        """What an identity means, perhaps more than once."""
        for table in (self._anywhere, self._by_tenant.get(tenant.name, {})):
            for (_, selector), meaning in table.items():
                if matches(selector, identity, tenant):
                    yield meaning

    def _tables(self, selector: Selector) -> list[dict[tuple[str, Selector], Policy | Selector]]:
        if selector.tenants is None:
            return [self._anywhere]
        return [self._by_tenant.setdefault(tenant, {}) for tenant in set(selector.tenants)]


def _name_of(meaning: Policy | Selector) -> str:
    return meaning.id if isinstance(meaning, Policy) else ""


def peer_selectors(policies: Iterable[Policy]) -> Iterator[Selector]:
    """The selectors that policies have as peers."""
    for policy in policies:
        for rule in (*(policy.ingress or ()), *(policy.egress or ())):
            yield from (peer for peer in rule.peers or () if isinstance(peer, Selector))


def port_names(policies: Iterable[Policy]) -> Iterator[str]:
    """The ports that policies name."""
    for policy in policies:
        for rule in (*(policy.ingress or ()), *(policy.egress or ())):
            yield from (traffic.name for traffic in rule.traffic if traffic.name)


def class_of(
    identity: Identity, tenant: Tenant, subjects: SelectorIndex, peers: SelectorIndex, names: frozenset[str]
) -> PolicyClass:
    """The class of an identity; `names` are the ports that some policy names."""
    policies = sorted({one.id for one in subjects.matching(identity, tenant) if isinstance(one, Policy)})
    found = {one for one in peers.matching(identity, tenant) if isinstance(one, Selector)}
    own = isolation_peer(identity, tenant.isolation)
    if own is not None:
        found.add(own)
    selectors = sorted((one for one in found if not is_unconditional(one)), key=selector_text)
    ports = tuple(sorted({port for port in identity.ports if port.name in names}))
    signature: tuple[object, ...] = (tenant.isolation, policies, [selector_text(one) for one in selectors])
    if ports or tenant.own_host:
        signature = (*signature, ports, tenant.own_host)
    return PolicyClass(
        id=hashlib.sha256(msgspec.json.encode(signature)).hexdigest()[:12],
        identity=identity,
        isolation=tenant.isolation,
        policies=tuple(policies),
        selectors=tuple(selectors),
        ports=ports,
        own_host=tenant.own_host,
    )
