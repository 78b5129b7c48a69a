"""Which rules decide for an endpoint in a direction: the tier that governs it, flattened to clauses.

Owns the order of the tiers. Today: the policies that select the endpoint, else its tenant's isolation default. Clauses
only accept, and what no clause accepts is dropped; so whoever matches fewer selectors is accepted less, and the null
class (an address without a known identity) is accepted least.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from romana.core.policy.profile import profile_from
from romana.model.policy import Direction, Peer, Policy, Selector
from romana.model.program import ACCEPT, Profile
from romana.model.tenancy import Identity, Isolation

POLICIES = "policies"
ISOLATION = "isolation"


class Clause(msgspec.Struct, frozen=True):
    """These peers (None: anyone) may use this traffic, because of a rule (by its place) of a policy.

    A clause of the isolation default has no policy.
    """

    peers: tuple[Peer, ...] | None
    profile: Profile
    policy: str = ""
    rule: int = 0


class Tier(msgspec.Struct, frozen=True):
    """The tier that decides, its clauses, the ids of the policies in it, and what it is in words."""

    name: str
    clauses: tuple[Clause, ...]
    policies: tuple[str, ...]
    words: str


def deciding_tier(selecting: Iterable[Policy], direction: Direction, identity: Identity, isolation: Isolation) -> Tier:
    """The tier that decides for an endpoint; `selecting` are the policies with a subject that matches it."""
    governing = sorted((one for one in selecting if one.rules(direction) is not None), key=lambda one: one.id)
    if governing:
        ids = tuple(one.id for one in governing)
        clauses = tuple(clause for one in governing for clause in _clauses(one, direction))
        noun = "policy" if len(ids) == 1 else "policies"
        return Tier(POLICIES, clauses, ids, f"{direction} of endpoints with {noun} {', '.join(ids)}")
    if direction is Direction.EGRESS:
        return Tier(ISOLATION, (Clause(None, ACCEPT),), (), "egress of endpoints without policy: anything")
    return _isolation_default(identity, isolation)


def isolation_peer(identity: Identity, isolation: Isolation) -> Selector | None:
    """Whom an isolation default accepts, None for anyone."""
    owner = identity.owner
    if isolation is Isolation.TENANT:
        return Selector(tenants=(owner.tenant,))
    if isolation is Isolation.SEGMENT:
        return Selector(tenants=(owner.tenant,), segments=(owner.segment,))
    return None


def _isolation_default(identity: Identity, isolation: Isolation) -> Tier:
    peer = isolation_peer(identity, isolation)
    if isolation is Isolation.TENANT:
        words = f"tenant {identity.owner.tenant} without policy: from the same tenant"
    elif isolation is Isolation.SEGMENT:
        words = f"segment {identity.owner} without policy: from the same segment"
    else:
        words = "endpoints without policy or isolation: from anyone"
    clause = Clause(None if peer is None else (peer,), ACCEPT)
    return Tier(ISOLATION, (clause,), (), f"ingress of {words}")


def _clauses(policy: Policy, direction: Direction) -> Iterable[Clause]:
    for place, rule in enumerate(policy.rules(direction) or ()):
        yield Clause(rule.peers, profile_from(rule.traffic), policy.id, place)
