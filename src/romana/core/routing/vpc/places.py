"""Where hosts are in a VPC: the instance of each, and the interface by which its packets come and go.

Owns how a host's instance is found: by the label that names it, else by an address that only one instance has. Refuses
to guess: a host whose instance is not certain has none, and a sentence says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from romana.model.address import Address
from romana.model.vpc import Instance, Interface, VpcHost


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A host's instance, and the one of its interfaces that has the host's address (else the primary one)."""

    instance: Instance
    interface: Interface


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """By host; `problems` has a sentence for each host that has no place."""

    by_host: dict[str, Place]
    problems: dict[str, str]


def place_hosts(hosts: Iterable[VpcHost], instances: Mapping[str, Instance], label: str) -> Places:
    """The place of every host, among the instances of the VPCs that are looked at; `label` names an instance id."""
    owners: dict[Address, list[Instance]] = {}
    for instance in instances.values():
        for address in {address for one in instance.interfaces for address in one.addresses}:
            owners.setdefault(address, []).append(instance)
    by_host: dict[str, Place] = {}
    problems: dict[str, str] = {}
    for host in hosts:
        found = _instance(host, instances, owners, label)
        if isinstance(found, str):
            problems[host.name] = found
        elif not found.interfaces:
            problems[host.name] = f"instance {found.id} of host {host.name} is {found.state} and has no interface"
        else:
            by_host[host.name] = Place(instance=found, interface=_interface(host, found))
    return Places(by_host=by_host, problems=problems)


def _instance(
    host: VpcHost, instances: Mapping[str, Instance], owners: Mapping[Address, list[Instance]], label: str
) -> Instance | str:
    named = host.labels.get(label, "")
    if named:
        return instances.get(named) or (
            f"host {host.name} has the label {label}={named}, but the VPCs of the tables have no such instance"
        )
    ids = {one.id: one for address in host.addresses for one in owners.get(address, ())}
    if len(ids) == 1:
        return next(iter(ids.values()))
    addresses = ", ".join(map(str, host.addresses)) or "none"
    if ids:
        return f"the addresses of host {host.name} ({addresses}) are on {', '.join(sorted(ids))}; label it {label}=ID"
    return f"no instance of the tables' VPCs has an address of host {host.name} ({addresses}); label it {label}=ID"


def _interface(host: VpcHost, instance: Instance) -> Interface:
    ordered = sorted(instance.interfaces, key=lambda one: (one.index, one.id))
    return next((one for one in ordered if set(one.addresses) & set(host.addresses)), ordered[0])
