"""What one class accepts from (or may send to) each other class at an address, as profiles.

Owns which clauses a peer matches, and the meet for addresses of which nothing is known. Refuses to know where classes
live. Invariant: an unknown address of a network is accepted no traffic that somebody, living there, would be denied,
whether anybody like that is known yet or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from romana.core.policy.classes import Classes
from romana.core.policy.places import NULL_CLASS, UNKNOWN_CLASS
from romana.core.policy.selector import selects
from romana.core.policy.tiers import Contact, Tiers, decide, least_accepted
from romana.model.address import Address, Prefix
from romana.model.policy import CidrPeer, Direction, HostPeer, LocalPeer, Selector
from romana.model.program import Profile, Staged
from romana.model.tenancy import NamedPort
from romana.model.topology import Host

Ports = tuple[NamedPort, ...]


class AddressedPeer(msgspec.Struct, frozen=True):
    """Addresses that match a clause (by place), whoever has them."""

    clause: int
    cidrs: tuple[Prefix, ...]
    excluded: tuple[Prefix, ...] = ()


class Verdicts:
    """The verdicts of one class, or one kind of hosts, in one direction."""

    def __init__(
        self,
        tiers: Tiers,
        own_ports: Ports,
        classes: Classes,
        hosts: Mapping[str, Host],
        local: tuple[Prefix, ...] = (),
    ) -> None:
        """`own_ports` are the named ports of those whom it is about, `local` is where the endpoints of a host live that
        it is about.
        """
        self.tiers = tiers
        self.local = local
        self.addressed: list[AddressedPeer] = []
        self.null_is_least = tiers.only_accepts
        """Whether what the null class is accepted is what every class is accepted at least."""
        self._own_ports = own_ports
        self._classes = classes
        self._ports_matter = tiers.direction is Direction.EGRESS and tiers.has_names
        self._anyone = frozenset(place for place, clause in enumerate(tiers.clauses) if clause.peers is None)
        matched: dict[str, set[int]] = {}
        for place, clause in enumerate(tiers.clauses):
            for peer in clause.peers or ():
                if isinstance(peer, Selector):
                    for class_id in classes.matched_by(peer):
                        matched.setdefault(class_id, set()).add(place)
                elif not isinstance(peer, LocalPeer):
                    self.addressed += _addressed(place, peer, hosts)
                elif local:
                    self.addressed.append(AddressedPeer(place, local))
        if self._ports_matter:
            for class_id, one in classes.by_id.items():
                if one.ports:
                    matched.setdefault(class_id, set())
        self._sets: dict[frozenset[int], frozenset[int]] = {}
        self.known = {class_id: self._shared(places) for class_id, places in matched.items()}
        """The clauses that each class matches by what it is, where it matters."""
        self._found: dict[Contact, Profile] = {}
        self._known: dict[tuple[str, frozenset[int]], Profile | Staged] = {}

    def of(self, class_id: str, inside: frozenset[int]) -> Profile | Staged:
        """What is accepted from a class at an address that these of `addressed` (by place) hold."""
        key = (class_id if class_id in self.known or class_id == UNKNOWN_CLASS else NULL_CLASS, inside)
        found = self._known.get(key)
        if found is None:
            here = frozenset(self.addressed[number].clause for number in inside) | self._anyone
            if key[0] == UNKNOWN_CLASS:
                ports = None if self._ports_matter else self._own_ports
                found = self._decided(lambda staged: least_accepted(self.tiers, here, ports, staged=staged))
            else:
                found = self._contact(self.known.get(class_id, frozenset[int]()) | here, class_id)
            self._known[key] = found
        return found

    def of_own_host(self, inside: frozenset[int]) -> Profile | Staged:
        """What is accepted from the host that an endpoint is on, at an address that these of `addressed` hold."""
        here = frozenset(self.addressed[number].clause for number in inside) | self._anyone
        return self._contact(here, NULL_CLASS, is_own_host=True)

    def inside(self, address: Address) -> frozenset[int]:
        """Which of `addressed` (by place) hold an address."""
        return frozenset(
            number
            for number, peer in enumerate(self.addressed)
            if any(cidr.contains(address) for cidr in peer.cidrs)
            and not any(excluded.contains(address) for excluded in peer.excluded)
        )

    def matches(self, class_id: str, inside: Iterable[int]) -> frozenset[int]:
        """The clauses (by place) that a class at such an address matches."""
        here = frozenset(self.addressed[number].clause for number in inside)
        return self.known.get(class_id, frozenset[int]()) | here | self._anyone

    def _contact(self, matched: frozenset[int], class_id: str, *, is_own_host: bool = False) -> Profile | Staged:
        """What a peer is accepted of whom this is known."""
        ports = self.receiver_ports(class_id)
        return self._decided(lambda staged: self._decide(Contact(matched, ports, is_own_host, staged)))

    def _decided(self, decided: Callable[[bool], Profile]) -> Profile | Staged:
        """What is accepted, and what would be with what is staged (`decided(True)`)."""
        enforced = decided(False)
        if not self.tiers.staged:
            return enforced
        planned = decided(True)
        return enforced if planned == enforced else Staged(enforced, planned)

    def _decide(self, contact: Contact) -> Profile:
        found = self._found.get(contact)
        if found is None:
            found = self._found[contact] = decide(self.tiers, contact)
        return found

    def receiver_ports(self, class_id: str) -> Ports:
        """The named ports that a name in a clause means with a peer of this class."""
        if self.tiers.direction is Direction.INGRESS:
            return self._own_ports
        one = self._classes.by_id.get(class_id) if self._ports_matter else None
        return one.ports if one is not None else ()

    def _shared(self, places: Iterable[int]) -> frozenset[int]:
        found = frozenset(places)
        return self._sets.setdefault(found, found)


def _addressed(place: int, peer: CidrPeer | HostPeer, hosts: Mapping[str, Host]) -> Iterator[AddressedPeer]:
    if isinstance(peer, CidrPeer):
        if not any(excluded.contains(peer.cidr) for excluded in peer.excluded):
            yield AddressedPeer(place, (peer.cidr,), peer.excluded)
        return
    found = [host for _, host in sorted(hosts.items()) if selects(peer, host)]
    addresses = {address for host in found for address in host.addresses}
    if addresses:
        yield AddressedPeer(place, tuple(Prefix(one.family, one.value, one.length) for one in sorted(addresses)))
