"""Which leaf group a host joins, and which CIDRs it draws from.

Owns Romana v2's rule: the eligible leaf with the fewest hosts, the first of equals. Refuses to know spans. Invariant: a
host that has a place keeps it as long as that place exists and is open, whatever happens to its labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from romana.model.address import Prefix
from romana.model.errors import Fault, Invalid
from romana.model.topology import AddressPlan, Group, Host, PlannedHost, Topology


def place_host(plan: AddressPlan, hosts: Mapping[str, Host], host: Host) -> Host:
    """The host with its leaf group in every topology that takes it; `hosts` are all hosts, by name.

    A host that the plan names goes where the plan says, any other by its labels. Invalid when no topology takes it, or
    when another host has one of its addresses.
    """
    faults = _address_faults(plan, hosts, host)
    groups: dict[str, str] = {}
    refusals: list[Fault] = []
    for topology in plan.topologies:
        found = _leaf_for(topology, hosts, host)
        if isinstance(found, Fault):
            refusals.append(found)
        else:
            groups[topology.name] = found
    if not groups and not refusals:
        refusals.append(Fault(f"hosts.{host.name}", "the address plan has no topology yet; load one first"))
    if faults or not groups:
        raise Invalid(*faults, *(() if groups else refusals))
    return msgspec.structs.replace(host, groups=groups)


def group_cidrs(plan: AddressPlan, host: Host) -> dict[str, Prefix]:
    """The CIDR of the host's leaf group in each network it has one in, by network name."""
    return {network: group.cidrs[network] for network, group in leaf_groups(plan, host).items()}


def leaf_groups(plan: AddressPlan, host: Host) -> dict[str, Group]:
    """The host's leaf group by network name; networks of topologies it is not in are absent."""
    found: dict[str, Group] = {}
    for topology in plan.topologies:
        leaf = find_group(topology.root, host.groups.get(topology.name, ""))
        if leaf is not None and leaf.is_leaf:
            found.update(dict.fromkeys(leaf.cidrs, leaf))
    return found


def misfits(plan: AddressPlan, host: Host) -> list[Fault]:
    """Assignments on the way to the host's groups that its labels do not meet (the plan's own hosts are exempt)."""
    faults: list[Fault] = []
    for topology in plan.topologies:
        path = host.groups.get(topology.name)
        if path is None or any(planned.name == host.name for planned in topology.hosts):
            continue
        for group in _way(topology.root, path):
            faults += [
                Fault(f"hosts.{host.name}.labels", f"group {group.path} takes only hosts with {key}={value}")
                for key, value in sorted(group.assignment.items())
                if host.labels.get(key) != value
            ]
    return faults


def find_group(root: Group, path: str) -> Group | None:
    """The group at a path, or None."""
    way = list(_way(root, path))
    return way[-1] if way and way[-1].path == path else None


def leaves(root: Group) -> Iterator[Group]:
    """All leaves below (or at) a group, in order, closed ones too."""
    if root.is_leaf:
        yield root
    for child in root.groups:
        yield from leaves(child)


def _way(root: Group, path: str) -> Iterator[Group]:
    """The groups from the root to a path, as far as they exist."""
    group: Group | None = root
    while group is not None and (path == group.path or path.startswith(group.path.rstrip("/") + "/")):
        yield group
        group = next((child for child in group.groups if path == child.path or path.startswith(f"{child.path}/")), None)


def _leaf_for(topology: Topology, hosts: Mapping[str, Host], host: Host) -> str | Fault:
    present = find_group(topology.root, host.groups.get(topology.name, ""))
    if present is not None and _open_to(present, host):
        return present.path
    planned = _planned(topology, host)
    if planned is not None:
        return planned.group
    counts = Counter(other.groups.get(topology.name) for name, other in hosts.items() if name != host.name)
    eligible = list(_eligible(topology.root, host))
    if eligible:
        return min(eligible, key=lambda leaf: counts[leaf.path]).path
    return Fault(f"hosts.{host.name}", _refusal(topology, host))


def _planned(topology: Topology, host: Host) -> PlannedHost | None:
    return next((planned for planned in topology.hosts if planned.name == host.name), None)


def _open_to(leaf: Group, host: Host) -> bool:
    return leaf.is_leaf and not leaf.closed and bool(leaf.cidrs) and leaf.sole_host in ("", host.name)


def _eligible(group: Group, host: Host) -> Iterator[Group]:
    if group.closed or any(host.labels.get(key) != value for key, value in group.assignment.items()):
        return
    if _open_to(group, host):
        yield group
    for child in group.groups:
        yield from _eligible(child, host)


def _refusal(topology: Topology, host: Host) -> str:
    open_leaves = [leaf for leaf in leaves(topology.root) if _open_to(leaf, host)]
    if not open_leaves:
        return f"topology {topology.name} has no group that hosts may join; add one, or list the host in its group"
    wanted = sorted({f"{k}={v}" for leaf in open_leaves for k, v in leaf.assignment.items()})
    labels = ", ".join(f"{key}={value}" for key, value in sorted(host.labels.items())) or "none"
    return (
        f"no group of topology {topology.name} takes a host with the labels {labels}; "
        f"groups there ask for {', '.join(wanted) or 'labels on the way to them'}; "
        "label the host, or list it in its group"
    )


def _address_faults(plan: AddressPlan, hosts: Mapping[str, Host], host: Host) -> list[Fault]:
    faults: list[Fault] = []
    own = set(host.addresses)
    for name, other in sorted(hosts.items()):
        if name != host.name:
            faults += [
                Fault(f"hosts.{host.name}.addresses", f"{address} is also an address of host {name}")
                for address in sorted(own & set(other.addresses))
            ]
    for topology in plan.topologies:
        planned = _planned(topology, host)
        if own and planned is not None and planned.addresses and not own & set(planned.addresses):
            listed = ", ".join(map(str, planned.addresses))
            faults.append(Fault(f"hosts.{host.name}.addresses", f"topology {topology.name} knows it by {listed}"))
    return faults
