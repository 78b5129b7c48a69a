"""Who is next to whom: the neighbours of a device, from links, from peers, and from addresses that share a network.

Owns which sessions there are. Refuses to know what goes over them. Invariant: of two devices of the plan each has the
other as neighbour, or neither has; but for ranges from which a router lets anybody of its group connect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from romana.core.routing.fabric import parent
from romana.core.routing.plan import RoutePlan
from romana.model.address import Address, Family, Prefix
from romana.model.fabric import Link, Peer, Protocol, SessionOptions
from romana.model.speaker import Relation
from romana.model.topology import Host

DEFAULTS = SessionOptions(ttl_security=False, graceful_restart=True, bfd=False, hold_seconds=9, keepalive_seconds=3)
"""What a session is like where nobody says otherwise; the times are those of FRR's profile for data centres."""
LONGEST = 60
"""Characters of a session's name; BIRD's symbols have 64 at most."""


class Neighbor(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbour of a device; `place` is what routes call it, empty for one that the plan does not describe.

    `pairs` has ours and theirs by family; without one the neighbour answers on the `interface`, or connects from
    `listen`.
    """

    name: str
    place: str
    relation: Relation
    asn: int
    pairs: tuple[tuple[Address, Address], ...] = ()
    remotes: tuple[Address, ...] = ()
    listen: Prefix | None = None
    interface: str = ""
    cost: int = 0
    multihop: bool = False
    options: SessionOptions = DEFAULTS


class Neighborhood:
    """The neighbours of the devices of a route plan, as it is now."""

    def __init__(self, routes: RoutePlan) -> None:
        self.routes = routes
        self.fabric = routes.fabric
        self.routing = routes.fabric.routing

    def of(self, device: str) -> list[Neighbor]:
        """The neighbours of a router or host, in the order of links, hosts and peers."""
        if self.routing.protocol is Protocol.NONE:
            return []
        found = [self._linked(device, link) for link in self.fabric.links_of.get(device, ())]
        if device in self.fabric.devices:
            found += self._hosts_of(device)
            found += [self._peer(one) for one in self.routing.peers if device in one.routers]
        elif not found:
            peers = self.peers_of(device)
            found = [self._peer(one) for one in peers] if peers else list(self._routers_of(device))
        return found

    def is_linked(self, device: str) -> bool:
        """Whether a device has links, so that its own addresses are on its loopback."""
        return bool(self.fabric.links_of.get(device))

    def peers_of(self, host: str) -> list[Peer]:
        """The peers that a host has by its group or labels."""
        known, seat = self.routes.host(host), self.routes.seat(host)
        if known is None or seat is None:
            return []
        paths = [leaf.path for leaf in seat.leaves.values()]
        return [one for one in self.routing.peers if _is_selected(one, known, paths)]

    def asn_of(self, device: str) -> int:
        """A device's AS number, 0 where it has none."""
        if self.routing.protocol is Protocol.IBGP:
            return self.routing.asn
        if device in self.fabric.devices:
            return self.fabric.devices[device].asn
        seat = self.routes.seat(device)
        return next((leaf.asn for leaf in seat.leaves.values() if leaf.asn), 0) if seat is not None else 0

    def addresses_of(self, device: str) -> tuple[Address, ...]:
        """A device's own addresses, as the plan lists them; of another host those that it said."""
        if device in self.fabric.devices:
            return self.fabric.devices[device].addresses
        if self.fabric.listed.get(device):
            return self.fabric.listed[device]
        host = self.routes.host(device)
        return host.addresses if host is not None else ()

    def speaks(self, host: str) -> bool:
        """Whether a host has sessions or links."""
        return bool(self.of(host))

    def _linked(self, device: str, link: Link) -> Neighbor:
        other, first = link.other(device), link.ends[0] == device
        own = 0 if first else 1
        return Neighbor(
            name=other,
            place=self.routes.place_of(other),
            relation=self._relation(device, other),
            asn=self._asn_for(device, other),
            pairs=tuple((pair[own], pair[1 - own]) for pair in link.addresses),
            interface=link.interfaces[own],
            cost=link.cost,
            options=self._options(link.options),
        )

    def _relation(self, device: str, other: str) -> Relation:
        if device not in self.fabric.devices:
            return Relation.ABOVE
        if other not in self.fabric.devices:
            return Relation.BELOW
        here, there = self.fabric.place_of[device], self.fabric.place_of[other]
        if here == there:
            return Relation.BESIDE
        return Relation.ABOVE if parent(here) == there else Relation.BELOW

    def _asn_for(self, device: str, other: str) -> int:
        """The AS number of a neighbour; of a host that is not known yet, that of the hosts there."""
        found = self.asn_of(other)
        if found or device not in self.fabric.devices:
            return found
        here = self.fabric.place_of[device]
        groups = (self.fabric.group(topology, here) for topology in self.fabric.topologies)
        return next((group.asn for group in groups if group is not None and group.asn), 0)

    def _hosts_of(self, router: str) -> Iterator[Neighbor]:
        """The hosts that reach a router by its own addresses, and the ranges from which others may."""
        place, device = self.fabric.place_of[router], self.fabric.devices[router]
        for host in self.routes.hosts_under(place):
            if self._is_beside_routers(host):
                yield from self._by_addresses(router, host)
        for cidr in device.listen:
            yield Neighbor(
                name=str(cidr),
                place="",
                relation=Relation.BELOW,
                asn=self._asn_for(router, ""),
                listen=cidr,
                options=self._options(SessionOptions()),
            )

    def _routers_of(self, host: str) -> Iterator[Neighbor]:
        """The routers that a host without links reaches by their addresses."""
        seat = self.routes.seat(host)
        if seat is None or not self._is_beside_routers(host):
            return
        for path in dict.fromkeys(seat.uplinks.values()):
            for router in self.fabric.routers[path].members:
                if router in self.fabric.devices:
                    yield from self._by_addresses(host, router)

    def _is_beside_routers(self, host: str) -> bool:
        """Whether neither a link, nor a peer, nor a layer 2 network says who is next to a host."""
        seat = self.routes.seat(host)
        return seat is not None and not (seat.domains or self.is_linked(host) or self.peers_of(host))

    def _by_addresses(self, device: str, other: str) -> Iterator[Neighbor]:
        ours = {one.family: one for one in self.addresses_of(device)}
        pairs = tuple((ours[one.family], one) for one in sorted(self.addresses_of(other)) if one.family in ours)
        if pairs and self.routing.protocol is not Protocol.OSPF:
            yield Neighbor(
                name=other,
                place=self.routes.place_of(other),
                relation=self._relation(device, other),
                asn=self._asn_for(device, other),
                pairs=pairs,
                options=self._options(SessionOptions()),
            )

    def _peer(self, peer: Peer) -> Neighbor:
        return Neighbor(
            name=peer.name,
            place="",
            relation=Relation.ABOVE,
            asn=peer.asn or self.routing.asn,
            remotes=peer.addresses,
            interface=peer.interface,
            multihop=peer.multihop,
            options=self._options(peer.options),
        )

    def _options(self, own: SessionOptions) -> SessionOptions:
        """With a value everywhere; a hold time without a keepalive time has a third of itself."""
        merged = own.over(self.routing.sessions)
        if merged.hold_seconds is not None and merged.keepalive_seconds is None:
            merged = msgspec.structs.replace(merged, keepalive_seconds=max(1, merged.hold_seconds // 3))
        return merged.over(DEFAULTS)


def session_name(neighbor: str, relation: Relation, family: Family | None) -> str:
    """The name of a session: `up_spine1_4`, `down_h11`, `side_tor2_6`; without a family it is for both."""
    word = {Relation.ABOVE: "up", Relation.BELOW: "down", Relation.BESIDE: "side"}[relation]
    plain = neighbor.replace("/", "_").replace(":", "_")
    if len(plain) > LONGEST - 8:
        plain = f"{plain[: LONGEST - 18]}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
    return f"{word}_{plain}" if family is None else f"{word}_{plain}_{int(family)}"


def _is_selected(peer: Peer, host: Host, paths: list[str]) -> bool:
    if not (peer.group or peer.selector):
        return False
    inside = any(path == peer.group or path.startswith(peer.group.rstrip("/") + "/") for path in paths)
    labelled = all(host.labels.get(key) == value for key, value in peer.selector.items())
    return (not peer.group or inside) and labelled
