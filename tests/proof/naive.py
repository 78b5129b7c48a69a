"""Who may talk to whom, by the words of the specifications; what the compiler and the kernel are held against.

Shares no code with romana: it reads the documents themselves, as they were loaded, and knows neither classes nor
prefixes. Every question is answered by reading every document. What each kind of document says is in `readings`; here
is how tiers, isolation defaults and the two ends of a connection make one verdict of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.proof.facts import INGRESS, Host, Labels, Peer, Pod, Question, Tenant, Traffic
from tests.proof.readings import Reading, reading


@dataclass(frozen=True)
class Site:
    """All that is known: tenants by name, hosts, and the documents in force."""

    documents: Sequence[Mapping[str, object]]
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    hosts: Sequence[Host] = ()


class Naive:
    """The evaluator of one site. `labels` says how label selectors are read; with `staged`, documents that are only
    staged decide, too.
    """

    def __init__(self, site: Site, labels: Labels | None = None, *, staged: bool = False) -> None:
        self.site = site
        self._labels = labels or Labels()
        self._readings = [one for one in map(reading, site.documents) if staged or not one.staged]

    def allows(self, source: Peer, destination: Peer, traffic: Traffic) -> bool:
        """Both ends decide, each for itself; an end that is no endpoint of ours decides nothing. Neither is the host of
        the other one here.
        """
        return self.sends(source, destination, traffic) and self.accepts(source, destination, traffic)

    def sends(self, source: Peer, destination: Peer, traffic: Traffic) -> bool:
        """What the source's end decides."""
        return source.pod is None or self.end_allows("egress", source, destination, traffic)

    def accepts(self, source: Peer, destination: Peer, traffic: Traffic) -> bool:
        """What the destination's end decides."""
        return destination.pod is None or self.end_allows(INGRESS, destination, source, traffic)

    def end_allows(self, direction: str, own: Peer, peer: Peer, traffic: Traffic) -> bool:
        """What an endpoint decides about a peer in a direction; itself it always reaches."""
        assert own.pod is not None
        return own == peer or self.decides(direction, own.pod, peer, traffic)

    def decides(self, direction: str, own: Pod, peer: Peer, traffic: Traffic, *, own_host: bool = False) -> bool:
        """What an endpoint decides about another one, or about the host that it is on."""
        tenant = self.site.tenants.get(own.tenant, Tenant())
        promised = own_host and tenant.own_host
        said = self._by_documents(direction, own, peer, traffic, promised=promised)
        if said is not None:
            return said
        if own_host:
            return promised
        return direction != INGRESS or _is_let_in(tenant.isolation, own, peer.pod)

    def host_decides(self, direction: str, own: Host, peer: Peer, traffic: Traffic) -> bool:
        """What a host decides about its own traffic, which is open where no document says otherwise."""
        said = self._by_documents(direction, own, peer, traffic, promised=False)
        return said is None or said

    def _by_documents(
        self, direction: str, own: Pod | Host, peer: Peer, traffic: Traffic, *, promised: bool
    ) -> bool | None:
        """The tiers in their order: admin, policies, baseline; None when they leave it to the default. Whoever is
        `promised` is let through where the policies tier decides.
        """
        question = Question(direction, own, peer, traffic, self.site.tenants, self.site.hosts, self._labels)
        selecting = [one for one in self._readings if one.governs(direction) and one.selects(question)]
        first = next(_actions(selecting, "admin", question), "pass")
        if first != "pass":
            return first == "accept"
        if any(one.tier == "policies" for one in selecting):
            return promised or any(True for _ in _actions(selecting, "policies", question))
        first = next(_actions(selecting, "baseline", question), "pass")
        return None if first == "pass" else first == "accept"


def _actions(selecting: Sequence[Reading], tier: str, question: Question) -> Iterator[str]:
    """What the rules of a tier that match do, in their order: lower priorities first, then by id."""
    for one in sorted(selecting, key=lambda one: (one.priority, one.id)):
        if one.tier == tier:
            yield from one.actions(question)


def _is_let_in(isolation: str, own: Pod, peer: Pod | None) -> bool:
    """The isolation default of the receiver's tenant."""
    if isolation == "none":
        return True
    if peer is None or peer.tenant != own.tenant:
        return False
    return isolation == "tenant" or peer.segment == own.segment
