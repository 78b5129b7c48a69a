"""Which rules decide about an endpoint's connections in a direction, in their order.

Owns the order of the tiers: admin, policies, baseline, the tenant's isolation default. Refuses to know addresses: which
clauses a peer matches is the caller's to say. Invariant: `decide` gives exactly one answer for each protocol and port.

Source of the admin and baseline tiers: the Network Policy API, ClusterNetworkPolicy v1alpha2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from romana.core.policy.profile import complement, intersection, minus, profile_from, union
from romana.model.policy import (
    PORT_PROTOCOLS,
    Action,
    Direction,
    LocalPeer,
    Peer,
    Policy,
    PolicyTier,
    Selector,
    Traffic,
)
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
    staged: bool = False


class Tiers(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides for an endpoint in a direction: clauses in their order.

    `governed` says whether the policies tier decides about all that reaches it, `governed_staged` the same with staged
    policies in force. `policies` are the ids of all policies in it, `staged` those of staged ones, `words` says it to
    a person. With `own_host` its own host is accepted in the policies tier, or where that does not decide, before the
    isolation default.
    """

    direction: Direction
    clauses: tuple[Clause, ...]
    governed: bool
    policies: tuple[str, ...]
    words: str
    governed_staged: bool = False
    staged: tuple[str, ...] = ()
    own_host: bool = False

    @property
    def only_accepts(self) -> bool:
        """Whether matching more clauses can never mean accepting less."""
        return all(clause.action is Action.ACCEPT for clause in self.clauses)

    @property
    def has_names(self) -> bool:
        """Whether some clause is about a named port."""
        return any(one.name for clause in self.clauses for one in clause.traffic)

    @property
    def names_local(self) -> bool:
        """Whether some clause is about the endpoints of the host itself, so that no other host shares it."""
        return any(isinstance(peer, LocalPeer) for clause in self.clauses for peer in clause.peers or ())


class Decision(msgspec.Struct, frozen=True):
    """The traffic about which one tier decides with one action: in the admin and baseline tiers because of one clause
    (by its place in `Tiers.clauses`), in the policies tier because of all that match, so `clause` is None there.
    """

    tier: str
    action: Action
    profile: Profile
    clause: int | None = None


def tiers_of(
    selecting: Iterable[Policy], direction: Direction, identity: Identity, isolation: Isolation, *, own_host: bool
) -> Tiers:
    """What decides for an endpoint; `selecting` are the policies with a subject that matches it."""
    tiers = _tiers(selecting, direction, _isolation_default(direction, identity, isolation))
    words = _words(direction, tiers.policies) or _default_words(direction, identity, isolation)
    return msgspec.structs.replace(tiers, own_host=own_host, words=words)


def host_tiers(selecting: Iterable[Policy], direction: Direction) -> Tiers | None:
    """What decides for a host's own traffic; None when no policy governs that direction."""
    tiers = _tiers(selecting, direction, [Clause(ISOLATION, None)])
    if not tiers.policies and not tiers.staged:
        return None
    return msgspec.structs.replace(tiers, words=_words(direction, tiers.policies, "hosts") or f"{direction} of hosts")


def _tiers(selecting: Iterable[Policy], direction: Direction, default: Iterable[Clause]) -> Tiers:
    governing = sorted(
        (one for one in selecting if one.rules(direction) is not None), key=lambda one: (one.priority, one.id)
    )
    by_tier = {tier: [one for one in governing if one.tier is tier] for tier in PolicyTier}
    own = sorted(by_tier[PolicyTier.POLICIES], key=lambda one: one.id)
    governed = any(not one.staged for one in own)
    deciding = [*by_tier[PolicyTier.ADMIN], *own, *(() if governed else by_tier[PolicyTier.BASELINE])]
    clauses = [clause for one in deciding for clause in _clauses(one, direction)]
    return Tiers(
        direction=direction,
        clauses=(*clauses, *(() if governed else default)),
        governed=governed,
        governed_staged=bool(own),
        policies=tuple(one.id for one in deciding if not one.staged),
        staged=tuple(one.id for one in deciding if one.staged),
        words="",
    )


def isolation_peer(identity: Identity, isolation: Isolation) -> Selector | None:
    """Whom an isolation default accepts, None for anyone."""
    owner = identity.owner
    if isolation is Isolation.TENANT:
        return Selector(tenants=(owner.tenant,))
    if isolation is Isolation.SEGMENT:
        return Selector(tenants=(owner.tenant,), segments=(owner.segment,))
    return None


class Contact(msgspec.Struct, frozen=True):
    """Who is at the other end: the clauses (by place) that it matches, the receiver's named ports, and whether it is
    the host that the endpoint is on. With `staged`, what would be decided about it if staged policies did.
    """

    matched: frozenset[int]
    ports: tuple[NamedPort, ...] = ()
    is_own_host: bool = False
    staged: bool = False


def decide(tiers: Tiers, contact: Contact) -> Profile:
    """What is accepted with a peer."""
    return union(*(one.profile for one in decisions(tiers, contact) if one.action is Action.ACCEPT))


def decisions(tiers: Tiers, contact: Contact) -> list[Decision]:
    """Which tier decides about which traffic; the profiles are disjoint, and what is in none of them is dropped."""
    found: list[Decision] = []
    left = ACCEPT
    governed = tiers.governed_staged if contact.staged else tiers.governed
    for tier in (PolicyTier.ADMIN, PolicyTier.POLICIES, PolicyTier.BASELINE, ISOLATION):
        places = [place for place in sorted(contact.matched) if _decides(tiers.clauses[place], tier, contact)]
        if tier is PolicyTier.POLICIES:
            if governed:
                found += _by_policies(tiers, places, contact, left)
                break
            continue
        if tier == ISOLATION and contact.is_own_host:
            found += _by_own_host(tiers, left)
            break
        passed = DROP
        for place in places:
            clause = tiers.clauses[place]
            profile = intersection(left, profile_from(clause.traffic, contact.ports))
            left = minus(left, profile)
            if clause.action is Action.PASS:
                passed = union(passed, profile)
            else:
                found.append(Decision(tier, clause.action, profile, place))
        left = union(left, passed)
    return [one for one in found if one.profile != DROP]


def least_accepted(
    tiers: Tiers, certain: Collection[int], ports: tuple[NamedPort, ...] | None, *, staged: bool = False
) -> Profile:
    """What is accepted from a peer of whom nothing is known: what everybody who could be there is accepted, whether
    anybody like that is known or not.

    It matches the clauses (by place) that are `certain`, and perhaps those about endpoints; `ports` are the receiver's
    named ports, None where they are not known either.
    """
    left, denied = ACCEPT, DROP
    governed = tiers.governed_staged if staged else tiers.governed
    for tier in (PolicyTier.ADMIN, PolicyTier.POLICIES, PolicyTier.BASELINE, ISOLATION):
        if tier is PolicyTier.POLICIES and not governed:
            continue
        passed = DROP
        for place, clause in enumerate(tiers.clauses):
            if clause.tier != tier or (clause.staged and not staged):
                continue
            if place not in certain and not any(isinstance(peer, Selector) for peer in clause.peers or ()):
                continue
            most = intersection(
                left, profile_from(_any_port(clause.traffic) if ports is None else clause.traffic, ports or ())
            )
            if clause.action is Action.DENY:
                denied = union(denied, most)
            elif clause.action is Action.PASS:
                passed = union(passed, most)
            if place in certain:
                left = minus(left, profile_from(clause.traffic, ports or ()))
        left = union(left, passed)
        if tier is PolicyTier.POLICIES:
            break
    return complement(union(denied, left))


def _any_port(traffic: Iterable[Traffic]) -> Iterator[Traffic]:
    """The same with every port in place of a name of which it is not known what it means."""
    for one in traffic:
        if not one.name:
            yield one
        elif one.protocol is None:
            yield from map(Traffic, sorted(PORT_PROTOCOLS))
        else:
            yield Traffic(one.protocol)


def _decides(clause: Clause, tier: str, contact: Contact) -> bool:
    return clause.tier == tier and (contact.staged or not clause.staged)


def _by_policies(tiers: Tiers, places: Iterable[int], contact: Contact, left: Profile) -> list[Decision]:
    accepted = union(*(profile_from(tiers.clauses[place].traffic, contact.ports) for place in places))
    if contact.is_own_host and tiers.own_host:
        accepted = ACCEPT
    return [
        Decision(PolicyTier.POLICIES, Action.ACCEPT, intersection(left, accepted)),
        Decision(PolicyTier.POLICIES, Action.DENY, minus(left, accepted)),
    ]


def _by_own_host(tiers: Tiers, left: Profile) -> list[Decision]:
    """What no policy says about an endpoint and its own host."""
    return [Decision(ISOLATION, Action.ACCEPT if tiers.own_host else Action.DENY, left)]


def _clauses(policy: Policy, direction: Direction) -> Iterable[Clause]:
    for place, rule in enumerate(policy.rules(direction) or ()):
        yield Clause(policy.tier, rule.peers, rule.traffic, rule.action, policy.id, place, policy.staged)


def _isolation_default(direction: Direction, identity: Identity, isolation: Isolation) -> list[Clause]:
    peer = isolation_peer(identity, isolation) if direction is Direction.INGRESS else None
    return [Clause(ISOLATION, None if peer is None else (peer,))]


def _words(direction: Direction, policies: Sequence[str], whose: str = "endpoints") -> str:
    if not policies:
        return ""
    return f"{direction} of {whose} with {'policy' if len(policies) == 1 else 'policies'} {', '.join(policies)}"


def _default_words(direction: Direction, identity: Identity, isolation: Isolation) -> str:
    if direction is Direction.EGRESS:
        return "egress of endpoints without policy: anything"
    if isolation is Isolation.TENANT:
        words = f"tenant {identity.owner.tenant} without policy: from the same tenant"
    elif isolation is Isolation.SEGMENT:
        words = f"segment {identity.owner} without policy: from the same segment"
    else:
        words = "endpoints without policy or isolation: from anyone"
    return f"ingress of {words}"
