"""The lab file: a data centre that a person describes, to be built in namespaces.

Owns the format and everything that can be wrong with it. Refuses to know namespaces and addresses. Invariant: a lab
file without faults names every node once, and every endpoint's host, tenant and segment exist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Literal

import msgspec

from romana.codec import document
from romana.codec.traffic import parse_named_port
from romana.model.address import Family, Prefix
from romana.model.errors import Fault
from romana.model.tenancy import Isolation

LAB_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,10}")
"""An interface is called `to-` and the name of the node at its other end, and has at most 15 characters."""
PART_BITS = {Family.V4: 8, Family.V6: 16}
"""The underlay is cut into 2 ** this parts: one for the spine, one for each rack."""
MOST_LINKS = 64
"""Links that have a pair of a rack's IPv4 part: from its routers to spines, hosts and each other."""
MOST_HOSTS = 60
"""Hosts in one rack: the addresses of an IPv4 part."""


class FabricKind(StrEnum):
    """How the devices of a lab tell each other their routes; `layer2`: they are all on one switch, and do not."""

    EBGP = "ebgp"
    IBGP = "ibgp"
    OSPF = "ospf"
    LAYER2 = "layer2"


class Rack(msgspec.Struct, frozen=True, kw_only=True):
    """A rack: its routers, its hosts, and the path of the group in the topology that they serve.

    With `layer2` routers and hosts are on a switch, and the hosts run no routing daemon.
    """

    name: str
    hosts: tuple[str, ...]
    router: str = ""
    routers: tuple[str, ...] = ()
    group: str = ""
    layer2: bool = False

    @property
    def path(self) -> str:
        """The path of its group, `/<name>` unless the file says otherwise."""
        return self.group or f"/{self.name}"

    @property
    def all_routers(self) -> tuple[str, ...]:
        """Its routers, one or several."""
        return self.routers or ((self.router,) if self.router else ())


class LabTenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant and its segments."""

    name: str
    segments: tuple[str, ...]
    isolation: Isolation = Isolation.TENANT
    labels: dict[str, str] = {}
    own_host: bool = False


class LabEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint: a pod namespace of that name on a host. `ports` are its named ones: `http: tcp/80`."""

    name: str
    host: str
    tenant: str
    segment: str
    labels: dict[str, str] = {}
    ports: dict[str, str] = {}


class LabFile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole lab. Paths are relative to the file; `topology` documents are loaded in order, the last one stays.

    `sessions` are the defaults of all sessions, as in `routing.sessions` of a topology document.
    """

    version: Literal[1]
    name: str
    underlay: tuple[Prefix, ...]
    racks: tuple[Rack, ...]
    topology: tuple[str, ...]
    fabric: FabricKind = FabricKind.EBGP
    spine: str = "spine"
    spines: tuple[str, ...] = ()
    control: str = "ctl"
    switch: str = "switch"
    sessions: dict[str, Any] = {}
    tenants: tuple[LabTenant, ...] = ()
    endpoints: tuple[LabEndpoint, ...] = ()
    policies: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, rack by rack."""
        return tuple(host for rack in self.racks for host in rack.hosts)

    @property
    def is_flat(self) -> bool:
        """Whether there are no routers."""
        return self.fabric is FabricKind.LAYER2

    @property
    def all_spines(self) -> tuple[str, ...]:
        """Its spines, one or several; none on a switch."""
        return () if self.is_flat else self.spines or (self.spine,)

    @property
    def switches(self) -> tuple[str, ...]:
        """The switch of all, or one for each rack that has one: the switch's name and the rack's number."""
        if self.is_flat:
            return (self.switch,)
        return tuple(f"{self.switch}{number}" for number, rack in enumerate(self.racks, 1) if rack.layer2)

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes: control, spines, switches, rack routers, hosts."""
        routers = (router for rack in self.racks for router in rack.all_routers)
        return (self.control, *self.all_spines, *self.switches, *routers, *self.hosts)


def file_faults(file: LabFile) -> Iterator[Fault]:
    """Everything that is wrong with a file by itself."""
    if not LAB_NAME.fullmatch(file.name):
        yield Fault("name", f"{file.name!r} must be 1 to 31 lower-case letters, digits and -, and begin with a letter")
    yield from _underlay_faults(file)
    if not file.racks:
        yield Fault("racks", "a lab needs at least one rack")
    if file.is_flat and file.spines:
        yield Fault("spines", "a layer 2 lab has a switch instead of spines and routers")
    if not file.topology:
        yield Fault("topology", "a lab needs at least one topology document")
    yield from _node_faults(file)
    yield from _tenant_faults(file)
    yield from _endpoint_faults(file)


def _underlay_faults(file: LabFile) -> Iterator[Fault]:
    families = sorted(prefix.family for prefix in file.underlay)
    if families != [Family.V4, Family.V6]:
        yield Fault("underlay", "give one IPv4 and one IPv6 prefix, such as 192.168.0.0/16 and fd00:192:168::/48")
    for index, prefix in enumerate(file.underlay):
        longest = prefix.family.bits - PART_BITS[prefix.family] - 8
        if prefix.length > longest:
            yield Fault(f"underlay[{index}]", f"{prefix} is too small; its length may be at most /{longest}")
        if len(file.racks) >= 1 << PART_BITS[Family.V4]:
            yield Fault("racks", f"{len(file.racks)} racks are more than the underlay has parts for")


def _node_faults(file: LabFile) -> Iterator[Fault]:
    places = [("control", file.control)]
    places += [(f"spines[{number}]" if file.spines else "spine", name) for number, name in enumerate(file.all_spines)]
    places += [("switch", name) for name in file.switches]
    for index, rack in enumerate(file.racks):
        yield from _rack_faults(file, rack, f"racks[{index}]")
        key = "routers" if rack.routers else "router"
        places += [(f"racks[{index}].{key}", router) for router in rack.all_routers]
        places += [(f"racks[{index}].hosts[{number}]", host) for number, host in enumerate(rack.hosts)]
    counts = Counter(name for _, name in places)
    for place, name in places:
        if not NODE_NAME.fullmatch(name):
            yield Fault(place, f"{name!r} must be 1 to 11 lower-case letters, digits and -, and begin with a letter")
        if counts[name] > 1:
            yield Fault(place, f"{name!r} names {counts[name]} nodes; every node needs a name of its own")


def _rack_faults(file: LabFile, rack: Rack, place: str) -> Iterator[Fault]:
    routers = len(rack.all_routers)
    if rack.router and rack.routers:
        yield Fault(f"{place}.router", "is given beside `routers`; give one of the two")
    elif file.is_flat and routers:
        yield Fault(f"{place}.router", "a layer 2 lab has a switch instead of spines and routers")
    elif not file.is_flat and not routers:
        yield Fault(f"{place}.router", "is missing; a rack has a router, or several `routers`")
    downlinks = 0 if rack.layer2 or file.is_flat else len(rack.hosts)
    links = routers * (len(file.all_spines) + downlinks) + routers * (routers - 1) // 2
    if len(rack.hosts) > MOST_HOSTS or links > MOST_LINKS:
        most = f"at most {MOST_HOSTS} and {MOST_LINKS} fit"
        yield Fault(f"{place}.hosts", f"has {len(rack.hosts)} hosts and takes {links} links; {most}")


def _tenant_faults(file: LabFile) -> Iterator[Fault]:
    counts = Counter(tenant.name for tenant in file.tenants)
    for index, tenant in enumerate(file.tenants):
        if counts[tenant.name] > 1:
            yield Fault(f"tenants[{index}].name", f"two tenants are named {tenant.name!r}")
        if len(set(tenant.segments)) < len(tenant.segments):
            yield Fault(f"tenants[{index}].segments", "a segment is listed twice")


def _endpoint_faults(file: LabFile) -> Iterator[Fault]:
    segments = {tenant.name: tenant.segments for tenant in file.tenants}
    counts = Counter(endpoint.name for endpoint in file.endpoints)
    for index, endpoint in enumerate(file.endpoints):
        place = f"endpoints[{index}]"
        if counts[endpoint.name] > 1:
            yield Fault(f"{place}.name", f"two endpoints are named {endpoint.name!r}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", endpoint.name):
            yield Fault(f"{place}.name", f"{endpoint.name!r} must be lower-case letters, digits, . and -")
        for port, text in endpoint.ports.items():
            try:
                parse_named_port(port, text)
            except ValueError as error:
                yield Fault(f"{place}.ports.{port}", str(error))
        if endpoint.host not in file.hosts:
            yield Fault(
                f"{place}.host", f"{endpoint.host!r} is no host; {document.suggestion(endpoint.host, file.hosts)}"
            )
        if endpoint.tenant not in segments:
            yield Fault(
                f"{place}.tenant", f"no tenant {endpoint.tenant!r}; {document.suggestion(endpoint.tenant, segments)}"
            )
        elif endpoint.segment not in segments[endpoint.tenant]:
            known = document.suggestion(endpoint.segment, segments[endpoint.tenant])
            yield Fault(f"{place}.segment", f"tenant {endpoint.tenant} has no segment {endpoint.segment!r}; {known}")
