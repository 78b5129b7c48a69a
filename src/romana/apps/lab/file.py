"""The lab file: a data centre that a person describes, to be built in namespaces.

Owns the format and everything that can be wrong with it. Refuses to know namespaces and addresses. Invariant: a lab
file without faults names every node once, and every endpoint's host, tenant and segment exist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from romana.codec import document
from romana.codec.topology import carved
from romana.codec.traffic import parse_named_port
from romana.core.routing.plan import devices
from romana.model.address import Family, Prefix
from romana.model.errors import Fault, Invalid
from romana.model.tenancy import Isolation
from romana.model.topology import AddressPlan, Host

LAB_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,10}")
"""An interface is called `to-` and the name of the node at its other end, and has at most 15 characters."""
PART_BITS = {Family.V4: 8, Family.V6: 16}
"""The underlay is cut into 2 ** this parts: one for the spine, one for each rack."""
MOST_HOSTS = 60
"""Hosts in one rack: the addresses of an IPv4 part."""


class Rack(msgspec.Struct, frozen=True, kw_only=True):
    """A rack: its router, its hosts, and the path of the group in the topology that the router serves."""

    name: str
    router: str
    hosts: tuple[str, ...]
    group: str = ""

    @property
    def path(self) -> str:
        """The path of its group, `/<name>` unless the file says otherwise."""
        return self.group or f"/{self.name}"


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
    """A whole lab. Paths are relative to the file; `topology` documents are loaded in order, the last one stays."""

    version: Literal[1]
    name: str
    underlay: tuple[Prefix, ...]
    racks: tuple[Rack, ...]
    topology: tuple[str, ...]
    spine: str = "spine"
    control: str = "ctl"
    tenants: tuple[LabTenant, ...] = ()
    endpoints: tuple[LabEndpoint, ...] = ()
    policies: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, rack by rack."""
        return tuple(host for rack in self.racks for host in rack.hosts)

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes: control, spine, rack routers, hosts."""
        return (self.control, self.spine, *(rack.router for rack in self.racks), *self.hosts)


class Lab(msgspec.Struct, frozen=True, kw_only=True):
    """A lab file with what it refers to: topology and policy documents as loaded, and the plan that stays in force."""

    file: LabFile
    topologies: tuple[tuple[str, object], ...]
    policies: tuple[tuple[str, object], ...]
    plan: AddressPlan


def read_lab(path: Path) -> Lab:
    """The lab that a file describes; Invalid with every fault, in it and in what it refers to."""
    file = document.convert(_load(path), LabFile)
    faults = list(_faults(file))
    topologies = _documents(path, "topology", file.topology, faults)
    policies = _documents(path, "policies", file.policies, faults)
    plan = None
    for index, (name, content) in enumerate(topologies):
        try:
            plan = carved(content)
        except Invalid as error:
            place = f"topology[{index}] ({name})"
            faults += [Fault(f"{place}: {fault.path}", fault.sentence) for fault in error.faults]
    if plan is not None and not faults:
        faults += _misplaced(file, plan)
    if plan is None or faults:
        raise Invalid(*faults)
    return Lab(file=file, topologies=tuple(topologies), policies=tuple(policies), plan=plan)


def _load(path: Path) -> object:
    try:
        return document.load(path.read_bytes())
    except OSError as error:
        raise Invalid(Fault(str(path), f"cannot be read: {error.strerror}")) from error


def _documents(path: Path, field: str, names: tuple[str, ...], faults: list[Fault]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for index, name in enumerate(names):
        try:
            loaded = document.load_all((path.parent / name).read_bytes())
        except OSError as error:
            faults.append(Fault(f"{field}[{index}]", f"{path.parent / name} cannot be read: {error.strerror}"))
        except Invalid as error:
            faults += [Fault(f"{field}[{index}] ({name}): {fault.path}", fault.sentence) for fault in error.faults]
        else:
            found += [(name, one) for one in loaded]
    return found


def _faults(file: LabFile) -> Iterator[Fault]:
    if not LAB_NAME.fullmatch(file.name):
        yield Fault("name", f"{file.name!r} must be 1 to 31 lower-case letters, digits and -, and begin with a letter")
    yield from _underlay_faults(file)
    if not file.racks:
        yield Fault("racks", "a lab needs at least one rack")
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
    places = [("control", file.control), ("spine", file.spine)]
    for index, rack in enumerate(file.racks):
        places.append((f"racks[{index}].router", rack.router))
        places += [(f"racks[{index}].hosts[{number}]", host) for number, host in enumerate(rack.hosts)]
        if len(rack.hosts) > MOST_HOSTS:
            yield Fault(f"racks[{index}].hosts", f"has {len(rack.hosts)} hosts; at most {MOST_HOSTS} fit")
    counts = Counter(name for _, name in places)
    for place, name in places:
        if not NODE_NAME.fullmatch(name):
            yield Fault(place, f"{name!r} must be 1 to 11 lower-case letters, digits and -, and begin with a letter")
        if counts[name] > 1:
            yield Fault(place, f"{name!r} names {counts[name]} nodes; every node needs a name of its own")


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


def _misplaced(file: LabFile, plan: AddressPlan) -> list[Fault]:
    nowhere: dict[str, Host] = {}
    routers = devices(plan, nowhere)
    return [
        Fault(f"racks[{index}].group", f"the topology has no group {rack.path!r}; it has {', '.join(routers)}")
        for index, rack in enumerate(file.racks)
        if rack.path not in routers
    ]
