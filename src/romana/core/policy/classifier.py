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
from romana.core.policy.world import PolicyWorld, Touched
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
        self._strangers: dict[str, Identity] = {}  # those of endpoints alone

    def update(self, world: PolicyWorld, touched: Touched) -> tuple[ClassChanges, dict[str, Change]]:
        """The classes of a world now; what changed in them, and the policies that changed, by id."""
        stale = self._changed_identities(world, touched) | self._changed_tenants(world, touched)
        policies = differing(self._policies, world.policies, None if touched.everything else touched.policies)
        named = frozenset(self._name_uses)
        for before, after in policies.values():
            stale |= self._policy(world, before, after)
        if named != self._name_uses.keys():
            stale |= {id_ for id_, identity in self._identities.items() if identity.ports}
        changes = self._classify(world, stale)
        take_over(self._policies, policies)
        return changes, policies

    def class_of(self, identity: Identity, tenant: Tenant) -> PolicyClass:
        """The class that an identity of a tenant would have in the last world."""
        return class_of(identity, tenant, self._subjects, self._peers, frozenset(self._name_uses))

    def _changed_identities(self, world: PolicyWorld, touched: Touched) -> set[str]:
        before, self._strangers = self._strangers, world.strangers()
        if touched.everything:
            found = differing(self._identities, {**self._strangers, **world.identities})
        else:
            wanted = {**self._strangers, **world.identities} if before or self._strangers else world.identities
            found = differing(self._identities, wanted, touched.identities | before.keys() | self._strangers.keys())
        for id_, (old, new) in found.items():
            if old is not None:
                self._by_tenant[old.owner.tenant].discard(id_)
            if new is not None:
                self._by_tenant.setdefault(new.owner.tenant, set()).add(id_)
        take_over(self._identities, found)
        return set(found)

    def _changed_tenants(self, world: PolicyWorld, touched: Touched) -> set[str]:
        found = differing(self._tenants, world.tenants, None if touched.everything else touched.tenants)
        take_over(self._tenants, found)
        return {id_ for name in found for id_ in self._by_tenant.get(name, ())}

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


def differing(
    before: Mapping[K, V], after: Mapping[K, V], names: Iterable[K] | None = None
) -> dict[K, tuple[V | None, V | None]]:
    """What differs, by name: the value before and after, None where it is absent. Only these `names` are looked at, if
    they are given.
    """
    found: dict[K, tuple[V | None, V | None]] = {}
    if names is None:
        found = {name: (old, None) for name, old in before.items() if name not in after}
        names = after
    for name in names:
        old, new = before.get(name), after.get(name)
        if old is not new and old != new:
            found[name] = (old, new)
    return found


def take_over(known: dict[K, V], changes: Mapping[K, tuple[V | None, V | None]]) -> None:
    """Make what is known as it is after these changes."""
    for name, (_, new) in changes.items():
        if new is None:
            known.pop(name, None)
        else:
            known[name] = new
