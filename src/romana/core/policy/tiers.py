"""Which rules decide about an endpoint's connections in a direction, in their order.

Owns the order of the tiers: admin, policies, baseline, the tenant's isolation default. Refuses to know addresses: which
clauses a peer matches is the caller's to say. Invariant: `decide` gives exactly one answer for each protocol and port.

Source of the admin and baseline tiers: the Network Policy API, ClusterNetworkPolicy v1alpha2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from romana.core.policy.profile import intersection, minus, profile_from, union
from romana.model.policy import Action, Direction, Peer, Policy, PolicyTier, Selector, Traffic
from romana.model.program import ACCEPT, DROP, Profile
from romana.model.tenancy import Identity, Isolation, NamedPort

ISOLATION = "isolation"


class Clause(msgspec.Struct, frozen=True):
    """What happens to this traffic (empty: all) with these peers (None: anyone), because of a rule (by its place) of a
    policy. A clause of the isolation default has no policy.
    """

    tier: str
    peers: tuple[Peer, ...] | None
    traffic: tuple[Traffic, ...] = ()
    action: Action = Action.ACCEPT
    policy: str = ""
    rule: int = 0


class Tiers(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides for an endpoint in a direction: clauses in their order.

    `governed` says whether the policies tier decides about all that reaches it. `policies` are the ids of all policies
    in it, `words` says it to a person.
    """

    direction: Direction
    clauses: tuple[Clause, ...]
    governed: bool
    policies: tuple[str, ...]
    words: str

    @property
    def only_accepts(self) -> bool:
        """Whether matching more clauses can never mean accepting less."""
        return all(clause.action is Action.ACCEPT for clause in self.clauses)

    @property
    def has_names(self) -> bool:
        """Whether some clause is about a named port."""
        return any(one.name for clause in self.clauses for one in clause.traffic)


class Decision(msgspec.Struct, frozen=True):
    """The traffic about which one tier decides with one action: in the admin and baseline tiers because of one clause
    (by its place in `Tiers.clauses`), in the policies tier because of all that match, so `clause` is None there.
    """

    tier: str
    action: Action
    profile: Profile
    clause: int | None = None


def tiers_of(selecting: Iterable[Policy], direction: Direction, identity: Identity, isolation: Isolation) -> Tiers:
    """What decides for an endpoint; `selecting` are the policies with a subject that matches it."""
    governing = sorted(
        (one for one in selecting if one.rules(direction) is not None), key=lambda one: (one.priority, one.id)
    )
    by_tier = {tier: [one for one in governing if one.tier is tier] for tier in PolicyTier}
    own = sorted(by_tier[PolicyTier.POLICIES], key=lambda one: one.id)
    admin = [clause for one in by_tier[PolicyTier.ADMIN] for clause in _clauses(one, direction)]
    clauses = [clause for one in own for clause in _clauses(one, direction)]
    baseline: list[Clause] = []
    if not own:
        baseline = [clause for one in by_tier[PolicyTier.BASELINE] for clause in _clauses(one, direction)]
        baseline += _isolation_default(direction, identity, isolation)
    deciding = [*by_tier[PolicyTier.ADMIN], *own, *(() if own else by_tier[PolicyTier.BASELINE])]
    return Tiers(
        direction=direction,
        clauses=(*admin, *clauses, *baseline),
        governed=bool(own),
        policies=tuple(one.id for one in deciding),
        words=_words(direction, deciding, identity, isolation),
    )


def isolation_peer(identity: Identity, isolation: Isolation) -> Selector | None:
    """Whom an isolation default accepts, None for anyone."""
    owner = identity.owner
    if isolation is Isolation.TENANT:
        return Selector(tenants=(owner.tenant,))
    if isolation is Isolation.SEGMENT:
        return Selector(tenants=(owner.tenant,), segments=(owner.segment,))
    return None


def decide(tiers: Tiers, matched: Collection[int], ports: Sequence[NamedPort]) -> Profile:
    """What is accepted with a peer that matches these clauses (by place); `ports` are the receiver's named ports."""
    return union(*(one.profile for one in decisions(tiers, matched, ports) if one.action is Action.ACCEPT))


def decisions(tiers: Tiers, matched: Collection[int], ports: Sequence[NamedPort]) -> list[Decision]:
    """Which tier decides about which traffic; the profiles are disjoint, and what is in none of them is dropped."""
    found: list[Decision] = []
    left = ACCEPT
    for tier in (PolicyTier.ADMIN, PolicyTier.POLICIES, PolicyTier.BASELINE, ISOLATION):
        places = [place for place in sorted(matched) if tiers.clauses[place].tier == tier]
        if tier is PolicyTier.POLICIES:
            if tiers.governed:
                accepted = union(*(profile_from(tiers.clauses[place].traffic, ports) for place in places))
                found.append(Decision(tier, Action.ACCEPT, intersection(left, accepted)))
                found.append(Decision(tier, Action.DENY, minus(left, accepted)))
                break
            continue
        passed = DROP
        for place in places:
            clause = tiers.clauses[place]
            profile = intersection(left, profile_from(clause.traffic, ports))
            left = minus(left, profile)
            if clause.action is Action.PASS:
                passed = union(passed, profile)
            else:
                found.append(Decision(tier, clause.action, profile, place))
        left = union(left, passed)
    return [one for one in found if one.profile != DROP]


def _clauses(policy: Policy, direction: Direction) -> Iterable[Clause]:
    for place, rule in enumerate(policy.rules(direction) or ()):
        yield Clause(policy.tier, rule.peers, rule.traffic, rule.action, policy.id, place)


def _isolation_default(direction: Direction, identity: Identity, isolation: Isolation) -> list[Clause]:
    peer = isolation_peer(identity, isolation) if direction is Direction.INGRESS else None
    return [Clause(ISOLATION, None if peer is None else (peer,))]


def _words(direction: Direction, deciding: Sequence[Policy], identity: Identity, isolation: Isolation) -> str:
    if deciding:
        noun = "policy" if len(deciding) == 1 else "policies"
        return f"{direction} of endpoints with {noun} {', '.join(one.id for one in deciding)}"
    if direction is Direction.EGRESS:
        return "egress of endpoints without policy: anything"
    if isolation is Isolation.TENANT:
        words = f"tenant {identity.owner.tenant} without policy: from the same tenant"
    elif isolation is Isolation.SEGMENT:
        words = f"segment {identity.owner} without policy: from the same segment"
    else:
        words = "endpoints without policy or isolation: from anyone"
    return f"ingress of {words}"
