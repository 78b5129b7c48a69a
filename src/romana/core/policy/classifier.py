"""Classes kept up with a world that changes: only identities that a change can touch are looked at again.

Owns who is in which class, and which classes a selector matches. Refuses to know rows. Invariant: after `update` the
classes are those that `classify` makes of the world from nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from romana.core.policy.classes import Classes, PolicyClass, SelectorIndex, class_of, peer_selectors, port_names
from romana.core.policy.selector import canonical, is_unconditional, matches
from romana.core.policy.world import PolicyWorld
from romana.model.policy import Policy, Selector
from romana.model.tenancy import Identity, Tenant

K = TypeVar("K")
V = TypeVar("V")

Change = tuple[Policy | None, Policy | None]
"""A policy before and after."""


class ClassChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Classes that came and went, identities whose class is another one, selectors that match other classes."""

    added: frozenset[str]
    removed: frozenset[str]
    moved: frozenset[str]
    selectors: frozenset[Selector]


class Classifier:
    """The classes of one world after the other."""

    def __init__(self) -> None:
        self.classes = Classes(of={}, by_id={}, matching={})
        self._identities: dict[str, Identity] = {}
        self._tenants: dict[str, Tenant] = {}
        self._policies: dict[str, Policy] = {}
        self._by_tenant: dict[str, set[str]] = {}  # tenant -> identities
        self._members: dict[str, set[str]] = {}  # class -> identities
        self._matching: dict[Selector, set[str]] = {}  # peer selector -> classes
        self._subjects = SelectorIndex()
        self._peers = SelectorIndex()
        self._peer_uses: Counter[Selector] = Counter()
        self._name_uses: Counter[str] = Counter()

    def update(self, world: PolicyWorld) -> tuple[ClassChanges, dict[str, Change]]:
        """The classes of a world now; what changed in them, and the policies that changed, by id."""
        identities = world.all_identities()
        stale = self._changed_identities(identities) | self._changed_tenants(world)
        policies = differing(self._policies, world.policies)
        named = frozenset(self._name_uses)
        for before, after in policies.values():
            stale |= self._policy(world, before, after)
        if named != self._name_uses.keys():
            stale |= {id_ for id_, identity in self._identities.items() if identity.ports}
        changes = self._classify(world, stale)
        self._policies = dict(world.policies)
        return changes, policies

    def class_of(self, identity: Identity, tenant: Tenant) -> PolicyClass:
        """The class that an identity of a tenant would have in the last world."""
        return class_of(identity, tenant, self._subjects, self._peers, frozenset(self._name_uses))

    def _changed_identities(self, identities: Mapping[str, Identity]) -> set[str]:
        stale = set()
        for id_ in self._identities.keys() - identities.keys():
            self._by_tenant[self._identities[id_].owner.tenant].discard(id_)
            stale.add(id_)
        for id_ in identities.keys() - self._identities.keys():
            self._by_tenant.setdefault(identities[id_].owner.tenant, set()).add(id_)
            stale.add(id_)
        self._identities = dict(identities)
        return stale

    def _changed_tenants(self, world: PolicyWorld) -> set[str]:
        stale: set[str] = set()
        for name in differing(self._tenants, world.tenants):
            stale |= self._by_tenant.get(name, set())
        self._tenants = dict(world.tenants)
        return stale

    def _policy(self, world: PolicyWorld, before: Policy | None, after: Policy | None) -> set[str]:
        """Take a changed policy into the indexes; the identities that it may put in another class."""
        stale: set[str] = set()
        if before is None or after is None or before.subjects != after.subjects:
            for policy in filter(None, (before, after)):
                for subject in policy.subjects:
                    stale |= self._matched(world, subject)
        if before is not None:
            for subject in before.subjects:
                self._subjects.remove(before, subject)
        if after is not None:
            for subject in after.subjects:
                self._subjects.add(after, subject)
        then, now = (Counter({canonical(one) for one in peer_selectors(filter(None, (p,)))}) for p in (before, after))
        for selector in then - now:
            self._peer_uses[selector] -= 1
            if not self._peer_uses[selector]:
                del self._peer_uses[selector]
                self._peers.remove(selector, selector)
                stale |= self._matched(world, selector)
        for selector in now - then:
            self._peer_uses[selector] += 1
            if self._peer_uses[selector] == 1:
                self._peers.add(selector, selector)
                stale |= self._matched(world, selector)
        self._name_uses.subtract(port_names(filter(None, (before,))))
        self._name_uses.update(port_names(filter(None, (after,))))
        self._name_uses = +self._name_uses
        return stale

    def _matched(self, world: PolicyWorld, selector: Selector) -> set[str]:
        """The identities that a selector matches, unless it tells nothing apart as a peer."""
        names: Iterable[str] = self._by_tenant if selector.tenants is None else selector.tenants
        found = set()
        for name in names:
            tenant = world.tenant(name)
            for id_ in self._by_tenant.get(name, ()):
                if matches(selector, self._identities[id_], tenant):
                    found.add(id_)
        return found

    def _classify(self, world: PolicyWorld, stale: Iterable[str]) -> ClassChanges:
        known = frozenset(self.classes.by_id)
        names = frozenset(self._name_uses)
        touched: set[str] = set()
        moved: set[str] = set()
        found: dict[str, PolicyClass] = {}
        for id_ in stale:
            before = self.classes.of.pop(id_, "")
            identity = self._identities.get(id_)
            after = ""
            if identity is not None:
                tenant = world.tenant(identity.owner.tenant)
                one = class_of(identity, tenant, self._subjects, self._peers, names)
                after = self.classes.of[id_] = one.id
                found.setdefault(one.id, one)
                self._members.setdefault(one.id, set()).add(id_)
                touched.add(one.id)
            if before and before != after:
                self._members[before].discard(id_)
                touched.add(before)
            if before != after:
                moved.add(id_)
        return self._settle(known, touched, found, moved)

    def _settle(
        self, known: frozenset[str], touched: Iterable[str], found: Mapping[str, PolicyClass], moved: Iterable[str]
    ) -> ClassChanges:
        """Classes without members go; of those with other members the smallest identity stands for all."""
        selectors: set[Selector] = set()
        for id_ in touched:
            members = self._members[id_]
            one = found.get(id_) or self.classes.by_id[id_]
            if not members:
                del self._members[id_]
                self.classes.by_id.pop(id_, None)
                selectors |= self._match(one, present=False)
                continue
            first = self._identities[min(members)]
            self.classes.by_id[id_] = msgspec.structs.replace(one, identity=first)
            if id_ not in known:
                selectors |= self._match(one, present=True)
        for selector in selectors:
            matched = self._matching.get(selector)
            if matched:
                self.classes.matching[selector] = tuple(sorted(matched))
            else:
                self.classes.matching.pop(selector, None)
                self._matching.pop(selector, None)
        present = frozenset(self.classes.by_id)
        return ClassChanges(
            added=present - known, removed=known - present, moved=frozenset(moved), selectors=frozenset(selectors)
        )

    def _match(self, one: PolicyClass, *, present: bool) -> set[Selector]:
        for selector in one.selectors:
            classes = self._matching.setdefault(selector, set())
            (classes.add if present else classes.discard)(one.id)
        return {selector for selector in one.selectors if not is_unconditional(selector)}


def differing(before: Mapping[K, V], after: Mapping[K, V]) -> dict[K, tuple[V | None, V | None]]:
    """What differs, by name: the value before and after, None where it is absent."""
    found: dict[K, tuple[V | None, V | None]] = {name: (old, None) for name, old in before.items() if name not in after}
    for name, new in after.items():
        old = before.get(name)
        if old is not new and old != new:
            found[name] = (old, new)
    return found
