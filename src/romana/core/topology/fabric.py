"""What can be wrong with the devices of a plan: routers, links, peers, and what sessions are like.

Owns the rules between them. Refuses to know documents. Invariants of a plan without faults: every router has a name of
its own and serves a group that has routers; links are between neighbours in the tree; routers that originate one
aggregate know of each other what is below it, or hand it down to devices that choose between them (RFC 7938, section
8); and no discard of the plan covers an address of a device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from romana.core.routing.fabric import ROOT, Fabric, parent
from romana.core.topology.networks import NAME, NAME_WORDS
from romana.core.topology.places import Place
from romana.core.topology.sessions import option_faults
from romana.model.address import Address, Prefix
from romana.model.errors import Fault
from romana.model.fabric import Link, Peer, Protocol, RouterDevice
from romana.model.topology import AddressPlan, Group

MOST_ASN = (1 << 32) - 1
MOST_AREA = (1 << 32) - 1
MOST_COST = 65535
"""OSPF's largest cost of a link (RFC 2328, appendix C.3)."""
INTERFACE = re.compile(r"[^\s/\"'\\]{1,15}")


def fabric_faults(plan: AddressPlan, places: Mapping[str, Place]) -> list[Fault]:
    """Everything that is wrong with a carved plan's devices; nothing where it says nothing of them."""
    said = plan.routing.protocol is not Protocol.NONE or plan.routing.links or plan.routing.peers
    named = any(place.routers or place.underlay or place.asn is not None for place in places.values())
    if not said and not named:
        return []
    check = _Check(plan, places)
    return [
        *check.routers(),
        *check.numbers(),
        *check.hosts(),
        *check.links(),
        *check.peers(),
        *option_faults(plan.routing.sessions, "routing.sessions", plan.routing.protocol),
        *check.originators(),
        *check.foreign(),
    ]


class _Check:
    """The rules, each as a generator of faults."""

    def __init__(self, plan: AddressPlan, places: Mapping[str, Place]) -> None:
        self.plan = plan
        self.routing = plan.routing
        self.places = places
        self.fabric = Fabric(plan)
        self.hosts_of = {
            host.name: (topology.name, host.group) for topology in plan.topologies for host in topology.hosts
        }

    def groups(self, path: str) -> Iterator[Group]:
        for topology in self.fabric.topologies:
            group = self.fabric.group(topology, path)
            if group is not None:
                yield group

    def each_router(self) -> Iterator[tuple[str, str, RouterDevice]]:
        """Path, place in the document and router."""
        for path, place in self.places.items():
            for index, router in enumerate(place.routers):
                yield path, f"{place.where}.routers[{index}]", router

    def routers(self) -> Iterator[Fault]:
        seen: dict[str, str] = {}
        for path, where, router in self.each_router():
            if not NAME.fullmatch(router.name):
                yield Fault(f"{where}.name", f"a router's name is {NAME_WORDS}, not {router.name[:60]!r}")
            elif router.name in seen:
                yield Fault(f"{where}.name", f"router {router.name!r} is at {seen[router.name]} already")
            elif router.name in self.hosts_of:
                yield Fault(f"{where}.name", f"{router.name!r} is a host's name; devices need names of their own")
            seen[router.name] = path
            yield from _address_faults(router.addresses, f"{where}.addresses")
            if router.listen and self.routing.protocol not in (Protocol.EBGP, Protocol.IBGP):
                yield Fault(f"{where}.listen", "is for BGP; give `routing.protocol`, or take it out")
        for path, place in self.places.items():
            if place.routers and path not in self.fabric.routers:
                yield Fault(f"{place.where}.routers", f"{path} {self.why_no_router(path)}")

    def why_no_router(self, path: str) -> str:
        for group in self.groups(path):
            if group.layer2 not in ("", path):
                return f"is a part of the layer 2 network of {group.layer2}; name its routers there"
            if group.sole_host:
                return f"is host {group.sole_host}'s alone; name routers at {parent(path)}"
        return "holds no hosts, so it needs no router"

    def numbers(self) -> Iterator[Fault]:
        """AS numbers and areas."""
        protocol = self.routing.protocol
        if protocol is Protocol.IBGP and not self.routing.asn:
            yield Fault("routing.asn", "is missing; with `ibgp` all devices have one AS number")
        elif self.routing.asn:
            if protocol is not Protocol.IBGP:
                yield Fault("routing.asn", "is for `ibgp`; with `ebgp` routers and groups have their own")
            yield from _number_faults(self.routing.asn, "routing.asn")
        for path, where, router in self.each_router():
            if protocol is Protocol.EBGP and not router.asn:
                yield Fault(f"{where}.asn", f"is missing; with `ebgp` router {router.name} of {path} needs one")
            elif router.asn and protocol is not Protocol.EBGP:
                yield Fault(f"{where}.asn", "is for `ebgp` alone")
            elif router.asn:
                yield from _number_faults(router.asn, f"{where}.asn")
        for place in self.places.values():
            if place.asn is not None:
                if protocol is not Protocol.EBGP:
                    yield Fault(f"{place.where}.asn", "is for `ebgp` alone")
                yield from _number_faults(place.asn, f"{place.where}.asn")
            if place.area is not None and not 0 <= place.area <= MOST_AREA:
                yield Fault(f"{place.where}.area", f"must be between 0 and {MOST_AREA}, got {place.area}")

    def hosts(self) -> Iterator[Fault]:
        """What hosts need for their sessions."""
        for path, place in self.places.items():
            router = self.fabric.routers.get(path)
            if router is None or path not in self.fabric.place_of.values():
                continue
            leaves = [group for group in self.groups(path) if group.is_leaf and not group.layer2]
            if self.routing.protocol is Protocol.EBGP and any(not group.asn for group in leaves):
                yield Fault(f"{place.where}.asn", f"is missing; with `ebgp` the hosts of {path} need an AS number")

    def links(self) -> Iterator[Fault]:
        if self.routing.links and self.routing.protocol is Protocol.NONE:
            yield Fault("routing.links", "say nothing without `routing.protocol`")
            return
        for index, link in enumerate(self.routing.links):
            where = f"routing.links[{index}]"
            yield from self.end_faults(link, where)
            yield from self.pair_faults(link, where)
            if not 1 <= link.cost <= MOST_COST:
                yield Fault(f"{where}.cost", f"must be between 1 and {MOST_COST}, got {link.cost}")
            yield from option_faults(link.options, f"{where}.session", self.routing.protocol)

    def end_faults(self, link: Link, where: str) -> Iterator[Fault]:
        """Ends that are no neighbours. A host that the plan does not list may be anywhere."""
        one, other = link.ends
        routers = [end for end in link.ends if end in self.fabric.place_of]
        if one == other:
            yield Fault(f"{where}.ends", f"are both {one!r}")
        elif not routers:
            known = ", ".join(sorted(self.fabric.place_of)) or "none"
            yield Fault(f"{where}.ends", f"neither {one!r} nor {other!r} is a router of this plan; there is {known}")
        elif len(routers) == 2:
            places = [self.fabric.place_of[end] for end in link.ends]
            if places[0] not in (places[1], parent(places[1])) and places[1] != parent(places[0]):
                sentence = f"{one} is at {places[0]} and {other} at {places[1]}; links go up or down one level"
                yield Fault(f"{where}.ends", f"{sentence}, or between the routers of one group")
        else:
            (host,) = set(link.ends) - set(routers)
            if host in self.hosts_of:
                group = self.fabric.group(*self.hosts_of[host])
                uplink = self.fabric.router_of(group) if group is not None else ""
                if uplink != self.fabric.place_of[routers[0]]:
                    sentence = f"host {host} is below {uplink or 'no router'}, and {routers[0]} is not there"
                    yield Fault(f"{where}.ends", sentence)

    def pair_faults(self, link: Link, where: str) -> Iterator[Fault]:
        """Addresses and interfaces of both ends."""
        families = [one.family for one, _ in link.addresses]
        if any(one.family is not other.family or one == other for one, other in link.addresses):
            yield Fault(f"{where}.addresses", "each pair is two addresses of one family, ours and theirs")
        elif len(set(families)) < len(families):
            yield Fault(f"{where}.addresses", "has two pairs of one family; give one for each family")
        yield from _interface_faults([name for name in link.interfaces if name], f"{where}.interfaces")
        if not all(link.interfaces):
            if self.routing.protocol is Protocol.OSPF:
                yield Fault(
                    f"{where}.interfaces", "is missing; OSPF needs the name of the link's interface at both ends"
                )
            elif not link.addresses:
                yield Fault(where, "needs `addresses`, or `interfaces` whose link-local addresses are found out")

    def peers(self) -> Iterator[Fault]:
        if self.routing.peers and self.routing.protocol not in (Protocol.EBGP, Protocol.IBGP):
            yield Fault("routing.peers", "speak BGP; give `routing.protocol` as `ebgp` or `ibgp`")
            return
        seen: set[str] = set()
        for index, peer in enumerate(self.routing.peers):
            where = f"routing.peers[{index}]"
            if not NAME.fullmatch(peer.name) or peer.name in seen:
                yield Fault(f"{where}.name", f"a peer's name is {NAME_WORDS}, and its own; this is {peer.name[:60]!r}")
            seen.add(peer.name)
            yield from self.peer_faults(peer, where)
            yield from option_faults(peer.options, f"{where}.session", self.routing.protocol)

    def peer_faults(self, peer: Peer, where: str) -> Iterator[Fault]:
        if not (peer.group or peer.selector or peer.routers):
            yield Fault(where, "says of nobody that it has this peer; give `group`, `selector` or `routers`")
        if peer.group and not any(self.groups(peer.group)):
            yield Fault(f"{where}.group", f"there is no group {peer.group!r}; groups are paths, such as /rack1")
        for name in peer.routers:
            if name not in self.fabric.place_of:
                known = ", ".join(sorted(self.fabric.place_of)) or "none"
                yield Fault(f"{where}.routers", f"{name!r} is no router of this plan; there is {known}")
        if bool(peer.addresses) == bool(peer.interface):
            yield Fault(where, "needs either `addresses` or an `interface` on which it answers")
        yield from _address_faults(peer.addresses, f"{where}.addresses")
        yield from _interface_faults([peer.interface] if peer.interface else [], f"{where}.interface")
        if peer.asn:
            yield from _number_faults(peer.asn, f"{where}.asn")
        elif self.routing.protocol is Protocol.EBGP:
            yield Fault(f"{where}.asn", "is missing; with `ebgp` it is the peer's AS number")
        if peer.multihop and (peer.interface or peer.options.ttl_security):
            yield Fault(f"{where}.multihop", "does not go with `interface` or `ttl_security`, which mean a direct link")

    def originators(self) -> Iterator[Fault]:
        """RFC 7938, section 8: a summary that several devices originate discards what one of them has lost."""
        for path, router in self.fabric.routers.items():
            members = ", ".join(router.members)
            where = f"{self.places[path].where}.routers" if path in self.places else path
            if self.fabric.cut_off(path):
                yield Fault(
                    where,
                    f"{members} all originate the aggregate of {path}: one that loses a link downward discards what "
                    "the others still reach. List a link between every two of them in `routing.links`, over which "
                    "each learns what is below the others, or name one router",
                )
            elif path == ROOT and router.specifics == () and len(router.members) > 1 and not self.fabric.exchange(path):
                yield Fault(
                    where, f"{members} have no routers below; list a link between every two, or name one router"
                )
            elif router.specifics and self.hosts_right_below(path):
                yield Fault(
                    where,
                    f"{members} have hosts right below them, which do not choose between them when one loses its link; "
                    "list a link between every two of them, or give the hosts a group with a router",
                )

    def hosts_right_below(self, path: str) -> bool:
        return any(group.is_leaf or any(child.sole_host for child in group.groups) for group in self.groups(path))

    def foreign(self) -> Iterator[Fault]:
        """What the plan would discard, although it is somebody else's: every network's CIDR is discarded somewhere."""
        networks = [(network.cidr, network.name) for network in self.plan.networks]
        for where, prefix, whose in self.others():
            for cidr, name in networks:
                if cidr.overlaps(prefix):
                    sentence = f"{prefix}, {whose}, lies in network {name} ({cidr}), which is discarded where nobody"
                    yield Fault(where, f"{sentence} announces a part of it; devices' addresses are elsewhere")

    def others(self) -> Iterator[tuple[str, Prefix, str]]:
        for _, where, router in self.each_router():
            yield from ((f"{where}.addresses", one, f"an address of {router.name}") for one in router.addresses)
        for path, place in self.places.items():
            yield from ((f"{place.where}.underlay", one, f"of the devices of {path}") for one in place.underlay)
        for index, link in enumerate(self.routing.links):
            where = f"routing.links[{index}].addresses"
            for pair in link.addresses:
                yield from ((where, one, f"an address of {end}") for one, end in zip(pair, link.ends, strict=True))
        for index, peer in enumerate(self.routing.peers):
            where = f"routing.peers[{index}].addresses"
            yield from ((where, one, f"an address of peer {peer.name}") for one in peer.addresses)
        for topology in self.plan.topologies:
            for host in topology.hosts:
                yield from ((f"hosts.{host.name}", one, f"an address of host {host.name}") for one in host.addresses)


def _address_faults(addresses: Iterable[Address], where: str) -> Iterator[Fault]:
    families = [one.family for one in addresses]
    if len(set(families)) < len(families):
        yield Fault(where, "has two addresses of one family; give one for each family")


def _number_faults(asn: int, where: str) -> Iterator[Fault]:
    if not 1 <= asn <= MOST_ASN:
        yield Fault(where, f"an AS number is between 1 and {MOST_ASN}, got {asn}")


def _interface_faults(names: Iterable[str], where: str) -> Iterator[Fault]:
    for name in names:
        if not INTERFACE.fullmatch(name):
            yield Fault(
                where, f"{name[:60]!r} is no interface's name: 1 to 15 characters, no spaces, slashes or quotes"
            )
