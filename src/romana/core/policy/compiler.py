"""A program kept up with a world that changes: only rows that a change can touch are made again.

Owns which row depends on what. Invariant: after `update` the program is the one that `compile_program` makes of the
world from nothing; its mappings are in no particular order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from romana.core.policy.classes import Classes, PolicyClass
from romana.core.policy.classifier import ClassChanges, Classifier, differing
from romana.core.policy.compile import HOST, PREFIXES, host_rows_of, row_ids_of, row_of, verdicts_for
from romana.core.policy.locator import Locator
from romana.core.policy.selector import canonical, is_unconditional
from romana.core.policy.verdicts import Verdicts
from romana.core.policy.world import PolicyWorld, Touched
from romana.model.address import Address, Family, Prefix
from romana.model.policy import Direction, HostPeer, Selector
from romana.model.program import Profile, Program, Row, RowIds
from romana.model.tenancy import Identity, Tenant


class _Needs(msgspec.Struct, frozen=True):
    """What a row was made from besides its own class and policies: selectors, everybody, named ports, hosts; and where
    the endpoints of its host lived, None where it is not about them.
    """

    selectors: frozenset[Selector]
    everybody: bool
    ports: bool
    hosts: bool
    local: tuple[Prefix, ...] | None


class Compiler:
    """The programs of one world after the other."""

    def __init__(self) -> None:
        self._classifier = Classifier()
        self._before: dict[str, PolicyClass] = {}  # the classes of the last program
        self._moved: set[str] = set()  # since the last program, as are the next two
        self._selectors: set[Selector] = set()
        self._policies: set[str] = set()
        self._touched = Touched()
        self._locator = Locator()
        self._places = self._locator.places
        self._lengths: dict[Family, frozenset[int]] = {}
        self._row_ids: dict[str, RowIds] = {}
        self._sharing: dict[str, set[str]] = {}  # row -> classes
        self._rows: dict[str, Row] = {}
        self._used: dict[str, dict[str, Profile]] = {}  # row -> its profiles by id
        self._profiles: dict[str, Profile] = {}
        self._uses: Counter[str] = Counter()  # profile id -> rows
        self._needs: dict[str, _Needs] = {}
        self._about_everybody: set[str] = set()  # rows
        self._by_selector: dict[Selector, set[str]] = {}  # -> rows
        self._by_policy: dict[str, set[str]] = {}  # -> classes
        self._hosts: dict[str, tuple[dict[str, str], tuple[Address, ...]]] = {}
        self._host_rows: dict[str, RowIds] = {}
        self._changed: set[str] = set()

    @property
    def classes(self) -> Classes:
        """The classes of the last world; they change with the next one."""
        return self._classifier.classes

    def class_of(self, identity: Identity, tenant: Tenant) -> str:
        """The class that an identity of a tenant would have in the last world."""
        return self._classifier.class_of(identity, tenant).id

    def classify(self, world: PolicyWorld, touched: Touched | None = None) -> None:
        """Only the classes of a world, before more is known of it; `update` comes next.

        `touched` is what may differ from the world before, None for anything; the endpoints of a world may not change
        while it is used.
        """
        touched = Touched(everything=True) if touched is None else touched
        self._touched.join(touched)
        changes, policies = self._classifier.update(world, touched)
        self._moved |= changes.moved
        self._selectors |= changes.selectors
        self._policies |= policies.keys()

    def update(self, world: PolicyWorld, touched: Touched | None = None) -> Program:
        """The program of a world; `touched` is as in `classify`."""
        self.classify(world, touched)
        classes = self._classifier.classes
        before, self._before = self._before, classes.by_id.copy()
        changes = ClassChanges(
            added=frozenset(self._before.keys() - before.keys()),
            removed=frozenset(before.keys() - self._before.keys()),
            moved=frozenset(self._moved),
            selectors=frozenset(self._selectors),
        )
        self._changed |= changes.added | changes.removed | changes.moved
        policies = frozenset(self._policies)
        self._moved, self._selectors, self._policies = set(), set(), set()
        touched, self._touched = self._touched, Touched()
        for id_ in changes.removed:
            for name in before[id_].policies:
                self._by_policy[name].discard(id_)
        for id_ in changes.added:
            for name in classes.by_id[id_].policies:
                self._by_policy.setdefault(name, set()).add(id_)
        self._assign(world, changes, policies)
        self._assign_hosts(world)
        stale = self._place(world, changes, touched)
        stale |= self._stale(changes, policies, before)
        stale |= self._stale_by_hosts(world)
        for id_ in stale:
            self._make(world, id_)
        return Program(
            classes=classes.of.copy(),
            row_ids=self._row_ids.copy(),
            rows=self._rows.copy(),
            profiles=self._profiles.copy(),
            host_rows=self._host_rows,
        )

    def take_changed(self) -> set[str]:
        """Rows, classes and identities that say something else than when this was last asked, by their ids."""
        changed, self._changed = self._changed, set()
        return changed

    def _place(self, world: PolicyWorld, changes: ClassChanges, touched: Touched) -> set[str]:
        """Find the places; the rows to which it matters that some moved."""
        nested, networks = self._places.nested, self._places.networks
        self._places = self._locator.update(world, self._classifier.classes, changes.moved, touched)
        lengths = self._locator.block_lengths(world)
        renamed = any(self._is_nested_somewhere(class_id) for class_id in self._locator.moved)
        if lengths != self._lengths or self._places.nested != nested or renamed:
            self._lengths = lengths
            return set(self._sharing)
        stale: set[str] = set()
        if self._locator.moved or self._places.networks != networks:
            stale |= self._about_everybody
        classes = self._classifier.classes.by_id
        for id_ in self._locator.moved:
            if id_ in classes:
                stale |= self._rows_about(classes[id_])
        return stale

    def _is_nested_somewhere(self, class_id: str) -> bool:
        """Whether a class lives in a place inside another one, which every row tells apart."""
        nested = self._places.nested
        return bool(nested) and not set(nested).isdisjoint(self._places.by_class.get(class_id, ()))

    def _stale(self, changes: ClassChanges, policies: Iterable[str], before: Mapping[str, PolicyClass]) -> set[str]:
        """New rows, those of classes whose policies say something else, and those about other classes now."""
        stale = self._sharing.keys() - self._rows.keys()
        for name in policies:
            stale |= {
                self._row_ids[id_].of(direction) for id_ in self._by_policy.get(name, ()) for direction in Direction
            }
        changed = set(policies)
        for ids in self._host_rows.values():
            rows = [self._rows[id_] for id_ in (ids.ingress, ids.egress) if id_ in self._rows]
            stale |= {row.id for row in rows if not changed.isdisjoint((*row.policies, *row.staged))}
        for selector in changes.selectors:
            stale |= self._by_selector.get(selector, set())
        if changes.added or changes.removed:
            stale |= self._about_everybody
            after = self._classifier.classes.by_id
            if any(after[id_].ports for id_ in changes.added) or any(before[id_].ports for id_ in changes.removed):
                stale |= {id_ for id_, needs in self._needs.items() if needs.ports}
        return stale

    def _stale_by_hosts(self, world: PolicyWorld) -> set[str]:
        stale = set()
        for name, ids in self._host_rows.items():
            for id_ in (ids.ingress, ids.egress):
                local = self._needs[id_].local if id_ in self._needs else None
                if local is not None and local != world.local.get(name, ()):
                    stale.add(id_)
        hosts = {name: (host.labels, host.addresses) for name, host in world.hosts.items()}
        if differing(self._hosts, hosts):
            self._hosts = hosts
            stale |= {id_ for id_, needs in self._needs.items() if needs.hosts}
        return stale

    def _rows_about(self, one: PolicyClass) -> set[str]:
        """The rows to which it matters where a class lives."""
        found: set[str] = set()
        for selector in one.selectors:
            found |= self._by_selector.get(selector, set())
        if one.ports:
            found |= {id_ for id_, needs in self._needs.items() if needs.ports}
        return found

    def _assign(self, world: PolicyWorld, changes: ClassChanges, policies: Iterable[str]) -> None:
        """Say which rows decide for new classes, and for those whose policies may govern other directions now."""
        known = self._classifier.classes.by_id
        touched = {id_ for name in policies for id_ in self._by_policy.get(name, ())} | changes.added
        for id_ in touched | changes.removed:
            before = self._row_ids.pop(id_, None)
            after = row_ids_of(world.policies, known[id_]) if id_ in known else None
            if after is not None:
                self._row_ids[id_] = after
            self._share(id_, before, after)

    def _assign_hosts(self, world: PolicyWorld) -> None:
        """The same for hosts."""
        before, self._host_rows = self._host_rows, host_rows_of(world)
        for name in before.keys() | self._host_rows.keys():
            self._share(f"{HOST}{name}", before.get(name), self._host_rows.get(name))

    def _share(self, who: str, before: RowIds | None, after: RowIds | None) -> None:
        for direction in Direction:
            old, new = (ids.of(direction) if ids is not None else "" for ids in (before, after))
            if new:
                self._sharing.setdefault(new, set()).add(who)
            if old != new:
                self._changed.add(who)
            if old and old != new:
                self._sharing[old].discard(who)
                if not self._sharing[old]:
                    del self._sharing[old]
                    self._changed.add(old)
                    self._drop(old)

    def _make(self, world: PolicyWorld, id_: str) -> None:
        who = min(self._sharing[id_])
        direction = Direction.INGRESS if id_.startswith(PREFIXES[Direction.INGRESS]) else Direction.EGRESS
        verdicts = verdicts_for(world, self._classifier.classes, who, direction)
        row, profiles = row_of(id_, verdicts, self._places, self._lengths)
        if self._rows.get(id_) != row:
            self._changed.add(id_)
        self._drop(row.id)
        self._rows[row.id] = row
        self._used[row.id] = profiles
        self._uses.update(profiles.keys())
        self._profiles |= profiles
        needs = self._needs[row.id] = _needs(verdicts)
        if needs.everybody:
            self._about_everybody.add(row.id)
        for selector in needs.selectors:
            self._by_selector.setdefault(selector, set()).add(row.id)

    def _drop(self, id_: str) -> None:
        if self._rows.pop(id_, None) is None:
            return
        for profile in self._used.pop(id_):
            self._uses[profile] -= 1
            if not self._uses[profile]:
                del self._uses[profile], self._profiles[profile]
        self._about_everybody.discard(id_)
        for selector in self._needs.pop(id_).selectors:
            self._by_selector[selector].discard(id_)


def _needs(verdicts: Verdicts) -> _Needs:
    peers = [peer for clause in verdicts.tiers.clauses for peer in clause.peers or ()]
    selectors = frozenset(canonical(peer) for peer in peers if isinstance(peer, Selector))
    return _Needs(
        selectors=selectors,
        everybody=not verdicts.null_is_least or any(is_unconditional(selector) for selector in selectors),
        ports=verdicts.tiers.direction is Direction.EGRESS and verdicts.tiers.has_names,
        hosts=any(isinstance(peer, HostPeer) for peer in peers),
        local=verdicts.local if verdicts.tiers.names_local else None,
    )
