"""Topology documents: romana's own (`version: 1`) and Romana v2's, read into one neutral request.

Owns both formats, by their own rules and words. Invariant: a document gives a request, or Invalid with every fault at
once: one of form hides none of meaning.

Source of the second format: Romana v2's topology JSON, as its documents and test data show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from romana.codec.salvage import Salvaged, salvage
from romana.codec.topology_doubts import HANGS_ON, carve_faults, without_unread
from romana.codec.topology_routing import RouterDocument, RoutingDocument, read_routers, read_routing
from romana.core.topology import carve
from romana.model.address import Address, Prefix
from romana.model.errors import Fault, Invalid, first_faults
from romana.model.topology import (
    AddressPlan,
    BitPlan,
    GroupRequest,
    HostRequest,
    NetworkRequest,
    Placement,
    PlanRequest,
    TopologyRequest,
)

VERSION = 1


def carved(document: object) -> AddressPlan:
    """The plan of a loaded document; Invalid with every fault, of its form and of what it asks for."""
    reading = _read(document)
    if reading.request is not None and not reading.faults():
        return carve(reading.request)
    raise Invalid(*first_faults(reading.faults(carving=True)))


def read_plan(document: object) -> PlanRequest:
    """The request of a loaded document: ours when it has a `version`, else Romana v2's; Invalid with every fault."""
    reading = _read(document)
    found = reading.faults()
    if reading.request is None or found:
        raise Invalid(*first_faults(found))
    return reading.request


class _Reading(msgspec.Struct):
    """A document as far as it is understood, and what the reader found wrong in that."""

    document: object
    rest: Salvaged[Any]
    request: PlanRequest | None = None
    meant: list[Fault] = []

    def faults(self, *, carving: bool = False) -> list[Fault]:
        """Every fault, on demand those of the plan, too."""
        meant = self.meant
        if carving and self.request is not None:
            any_protocol = any(fault.path in ("routing", "routing.protocol") for fault in self.rest.found)
            carving_faults = carve_faults(self.request, carve, any_protocol=any_protocol)
            meant = meant + without_unread(carving_faults, self.document, self.request)
        return self.rest.told(meant, HANGS_ON)


def _read(document: object) -> _Reading:
    if isinstance(document, dict) and "version" in document:
        ours = salvage(document, PlanDocument)
        if ours.value is None:
            return _Reading(document, ours)
        meant: list[Fault] = []
        return _Reading(document, ours, _read_ours(ours.value, meant), meant)
    theirs = salvage(document, V2Document)
    if theirs.found and not _looks_like_v2(document):
        hint = f"is missing; romana's own documents say `version: {VERSION}`, all others are read as Romana v2's"
        return _Reading(document, Salvaged(None, [Fault("version", hint), *theirs.found]))
    if theirs.value is None:
        return _Reading(document, theirs)
    reader = _V2Reader()
    return _Reading(document, theirs, reader.plan(theirs.value), reader.found)


class NetworkDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A network of our format; lengths are in bits."""

    name: str
    cidr: Prefix
    block_length: int | None = None
    span_length: int | None = None
    tenants: tuple[str, ...] = ()
    reserved: tuple[Prefix, ...] = ()
    static: tuple[Prefix, ...] = ()
    mixed: int | None = None
    stock: int | None = None
    placement: Placement = Placement.TOPOLOGY
    bits: BitPlan | None = None


class HostDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A host that our format places in a group; a bare name is one, too."""

    name: str
    addresses: tuple[Address, ...] = ()


class GroupDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A group of our format. `cidrs` are by network name; `weight` is its share beside its siblings; `spare` parts
    stay empty beside its groups. The last five say how its devices are connected.
    """

    name: str
    groups: tuple[GroupDocument, ...] = ()
    hosts: tuple[str | HostDocument, ...] = ()
    assignment: dict[str, str] = {}
    cidrs: dict[str, Prefix] = {}
    routing: str = ""
    weight: int = 1
    spare: int = 0
    layer2: bool = False
    routers: tuple[str | RouterDocument, ...] = ()
    underlay: tuple[Prefix, ...] = ()
    asn: int | None = None
    area: int | None = None


class TopologyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A tree of our format; what it has of a group's keys is that of the tree's root."""

    name: str
    networks: tuple[str, ...]
    groups: tuple[GroupDocument, ...] = ()
    hosts: tuple[str | HostDocument, ...] = ()
    assignment: dict[str, str] = {}
    spare: int = 0
    layer2: bool = False
    routers: tuple[str | RouterDocument, ...] = ()
    underlay: tuple[Prefix, ...] = ()
    asn: int | None = None
    area: int | None = None


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Our format."""

    version: Literal[1]
    networks: tuple[NetworkDocument, ...]
    topologies: tuple[TopologyDocument, ...] = ()
    routing: RoutingDocument = RoutingDocument()


def _read_ours(document: PlanDocument, faults: list[Fault]) -> PlanRequest:
    """The request without networks whose placement is not clear; what types cannot say is appended to `faults`."""
    networks = []
    for index, network in enumerate(document.networks):
        at = f"networks[{index}]"
        if (network.placement is Placement.BITS) == (network.bits is not None):
            networks.append(_our_network(network, at))
        else:
            place = f"{at}.{'placement' if network.bits else 'bits'}"
            faults.append(Fault(place, "`placement: bits` and `bits` go together; give both"))
    topologies = []
    for index, topology in enumerate(document.topologies):
        place = f"topologies[{index}]"
        root = GroupRequest(
            name=topology.name,
            groups=_our_groups(topology.groups, place),
            hosts=_our_hosts(topology.hosts, place),
            assignment=topology.assignment,
            spare=topology.spare,
            layer2=topology.layer2,
            routers=read_routers(topology.routers),
            underlay=topology.underlay,
            asn=topology.asn,
            area=topology.area,
            place=place,
        )
        topologies.append(TopologyRequest(name=topology.name, networks=topology.networks, root=root, place=place))
    routing = read_routing(document.routing, faults)
    return PlanRequest(networks=tuple(networks), topologies=tuple(topologies), routing=routing)


def _our_network(network: NetworkDocument, place: str) -> NetworkRequest:
    return NetworkRequest(
        name=network.name,
        cidr=network.cidr,
        block_length=network.block_length,
        span_length=network.span_length,
        tenants=network.tenants,
        reserved=network.reserved,
        static=network.static,
        mixed=network.mixed,
        stock=network.stock,
        bits=network.bits,
        place=place,
    )


def _our_groups(groups: Iterable[GroupDocument], place: str) -> tuple[GroupRequest, ...]:
    requests = []
    for index, group in enumerate(groups):
        at = f"{place}.groups[{index}]"
        requests.append(
            GroupRequest(
                name=group.name,
                groups=_our_groups(group.groups, at),
                hosts=_our_hosts(group.hosts, at),
                assignment=group.assignment,
                cidrs=group.cidrs,
                routing=group.routing,
                weight=group.weight,
                spare=group.spare,
                layer2=group.layer2,
                routers=read_routers(group.routers),
                underlay=group.underlay,
                asn=group.asn,
                area=group.area,
                place=at,
            )
        )
    return tuple(requests)


def _our_hosts(hosts: Iterable[str | HostDocument], place: str) -> tuple[HostRequest, ...]:
    return tuple(
        HostRequest(name=host, place=f"{place}.hosts[{index}]")
        if isinstance(host, str)
        else HostRequest(name=host.name, addresses=host.addresses, place=f"{place}.hosts[{index}]")
        for index, host in enumerate(hosts)
    )


class V2Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network of Romana v2; a block mask of 0 is none."""

    name: str
    cidr: Prefix
    block_mask: int | None = None
    tenants: tuple[str, ...] | None = None


class V2Element(msgspec.Struct, frozen=True, kw_only=True):
    """A host (it has an `ip`) or a group of Romana v2. A `cidr` is written by its export and ignored on input."""

    name: str = ""
    groups: tuple[V2Element, ...] | None = None
    assignment: dict[str, str] | None = None
    routing: str = ""
    ip: Address | None = None
    cidr: str = ""
    dummy: bool = False


class V2Topology(msgspec.Struct, frozen=True, kw_only=True):
    """A topology of Romana v2: network names, and the tree's first level."""

    networks: tuple[str, ...]
    map: tuple[V2Element, ...] | None = None


class V2Document(msgspec.Struct, frozen=True, kw_only=True):
    """Romana v2's format."""

    networks: tuple[V2Network, ...] | None = None
    topologies: tuple[V2Topology, ...] | None = None


def _looks_like_v2(document: object) -> bool:
    """Whether it has a word that only Romana v2's format has."""
    if not isinstance(document, dict):
        return False
    entries = [entry for key in ("networks", "topologies") for entry in _listed(document.get(key))]
    return any(isinstance(entry, dict) and ("map" in entry or "block_mask" in entry) for entry in entries)


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


class _V2Reader:
    """Reads a converted v2 document, collecting what its types cannot say."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def plan(self, document: V2Document) -> PlanRequest:
        networks = tuple(self.network(network, f"networks[{i}]") for i, network in enumerate(document.networks or ()))
        topologies = tuple(
            self.topology(topology, f"topologies[{i}]") for i, topology in enumerate(document.topologies or ())
        )
        return PlanRequest(networks=networks, topologies=topologies)

    def network(self, network: V2Network, place: str) -> NetworkRequest:
        tenants = network.tenants or ()
        return NetworkRequest(
            name=network.name,
            cidr=network.cidr,
            block_length=network.block_mask or None,
            tenants=() if tenants == ("*",) else tenants,  # how Romana v2's export writes "open to all"
            place=place,
        )

    def topology(self, topology: V2Topology, place: str) -> TopologyRequest:
        """Romana v2 names no topology; a network is in one only, so the first one's name serves."""
        elements = topology.map or ()
        if len(elements) == 1 and elements[0].ip is None:  # becomes the root
            root = self.group(elements[0], elements[0].name or "/", f"{place}.map[0]")
        else:
            root = self.group(V2Element(name="/", groups=elements), "/", place, key="map")
        if not elements:
            root = msgspec.structs.replace(root, closed=True)  # no place for hosts
        name = topology.networks[0] if topology.networks else ""
        return TopologyRequest(name=name, networks=topology.networks, root=root, place=place)

    def group(self, element: V2Element, name: str, place: str, *, key: str = "groups") -> GroupRequest:
        members = element.groups or ()
        places = [f"{place}.{key}[{index}]" for index in range(len(members))]
        hosts = [(member, at) for member, at in zip(members, places, strict=True) if member.ip is not None]
        groups = [(member, at) for member, at in zip(members, places, strict=True) if member.ip is None]
        if hosts and groups:
            sentence = f"is a group beside the host at {hosts[0][1]}; an element with `ip` is a host, do not mix them"
            self.found.append(Fault(groups[0][1], sentence))
        listed = tuple(self.host(member, at) for member, at in hosts)
        names = _distinct([member.name for member, _ in groups])
        return GroupRequest(
            name=name,
            groups=tuple(self.group(member, word, at) for (member, at), word in zip(groups, names, strict=True)),
            hosts=() if groups else listed,  # a mixture is told once
            assignment=element.assignment or {},
            routing=element.routing,
            closed=element.dummy,
            layer2=_on_host(element) or (bool(groups) and all(_nothing_but_on_host(one) for one, _ in groups)),
            place=place,
        )

    def host(self, element: V2Element, place: str) -> HostRequest:
        if element.groups:
            self.found.append(Fault(f"{place}.groups", "a host (it has an `ip`) holds no groups"))
        return HostRequest(name=element.name, addresses=(element.ip,) if element.ip else (), place=place)


def _on_host(element: V2Element) -> bool:
    """Whether hosts have routes to one another's blocks or prefixes, as only neighbours on one network can."""
    return any(word.strip().endswith("-on-host") for word in element.routing.split(","))


def _nothing_but_on_host(element: V2Element) -> bool:
    """Whether nothing else brings the group's addresses to the groups beside it."""
    return _on_host(element) and "announce" not in element.routing


def _distinct(names: Iterable[str]) -> list[str]:
    """Group names that can be part of a path: Romana v2 allows none, and the same one twice."""
    given: dict[str, None] = {}
    for number, name in enumerate(names, start=1):
        word = name.replace("/", "-") or f"group-{number}"
        while word in given:
            word = f"{word}-{number}"
        given[word] = None
    return list(given)
