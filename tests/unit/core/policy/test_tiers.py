"""What is accepted from somebody of whom nothing is known: what everybody who could be there is accepted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from romana.core.policy.profile import intersection
from romana.core.policy.tiers import ISOLATION, Clause, Contact, Tiers, decide, least_accepted
from romana.model.policy import TCP, UDP, Action, Direction, PolicyTier, Selector, Traffic
from romana.model.program import Profile
from romana.model.tenancy import NamedPort

TRAFFIC = (Traffic(TCP, 80, 80), Traffic(TCP, 80, 90), Traffic(UDP), Traffic(TCP, name="http"), Traffic(name="http"))
PORTS = [(), *((NamedPort("http", protocol, port),) for protocol in (TCP, UDP) for port in (80, 85, 443))]
traffic = st.lists(st.sampled_from(TRAFFIC), max_size=2).map(tuple)
peers = st.sampled_from((None, (), (Selector(),)))  # anyone, addresses that are elsewhere, perhaps this one


def clauses(tier: str, actions: Iterable[Action]) -> st.SearchStrategy[list[Clause]]:
    made = st.builds(
        Clause, st.just(tier), peers, traffic, st.sampled_from(tuple(actions)), st.just("p"), staged=st.booleans()
    )
    return st.lists(made, max_size=3)


def everybody(tiers: Tiers, certain: frozenset[int], ports: Iterable[tuple[NamedPort, ...]]) -> Iterable[Contact]:
    """Whoever could be there: each clause about endpoints may be about this one, each name may be any port."""
    perhaps = [place for place, clause in enumerate(tiers.clauses) if clause.peers and place not in certain]
    for size in range(len(perhaps) + 1):
        for some in itertools.combinations(perhaps, size):
            for known in ports:
                yield Contact(certain | frozenset(some), known)


@given(
    clauses(PolicyTier.ADMIN, Action),
    clauses(PolicyTier.POLICIES, [Action.ACCEPT]),
    clauses(PolicyTier.BASELINE, Action),
    st.sampled_from((None, (Selector(),))),
    st.booleans(),
    st.sampled_from([None, *PORTS]),
)
def test_the_least_is_what_everybody_is_accepted(
    admin: list[Clause],
    policies: list[Clause],
    baseline: list[Clause],
    default: tuple[Selector, ...] | None,
    governed: bool,
    ports: tuple[NamedPort, ...] | None,
) -> None:
    after = [*policies] if governed else [*baseline, Clause(ISOLATION, default)]
    tiers = Tiers(direction=Direction.EGRESS, clauses=(*admin, *after), governed=governed, policies=("p",), words="w")
    certain = frozenset(place for place, clause in enumerate(tiers.clauses) if clause.peers is None)
    contacts = everybody(tiers, certain, PORTS if ports is None else [ports])
    met: Profile = intersection(*(decide(tiers, contact) for contact in contacts))
    least = least_accepted(tiers, certain, ports)
    assert intersection(least, met) == least
    if ports is not None:
        assert least == met
