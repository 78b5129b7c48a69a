"""Which leaf group a host joins, and which CIDRs it draws from.

Owns Romana v2's rule: the eligible leaf with the fewest hosts, the first of equals. Refuses to know spans. Invariant: a
host that has a place keeps it as long as that place exists and is open, whatever happens to its labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from romana.model.address import Address, Prefix
from romana.model.errors import Fault, Invalid
from romana.model.topology import AddressPlan, Group, Host, Topology


def place_host(plan: AddressPlan, hosts: Mapping[str, Host], host: Host, blackouts: Iterable[Prefix] = ()) -> Host:
    """The host with its leaf group in every topology that takes it; `hosts` are all hosts, by name.

    A host that the plan names goes where the plan says, any other by its labels. Invalid when no topology takes it, or
    when one of its addresses is another host's, or may be an endpoint's.
    """
    return Places(plan, (other for name, other in hosts.items() if name != host.name), blackouts).place(host)


class Places:
    """A plan with the hosts that have a place in it, for placing many hosts one after the other."""

    def __init__(self, plan: AddressPlan, hosts: Iterable[Host] = (), blackouts: Iterable[Prefix] = ()) -> None:
        self.plan = plan
        self._kept = (*blackouts, *(cidr for network in plan.networks for cidr in network.reserved))
        self._groups = {topology.name: _by_path(topology.root) for topology in plan.topologies}
        self._planned = {topology.name: {one.name: one for one in topology.hosts} for topology in plan.topologies}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._holders: dict[Address, str] = {}
        for host in hosts:
            self.add(host)

    def add(self, host: Host) -> None:
        """Count a host that has its place."""
        self._counts.update(host.groups.items())
        self._holders.update(dict.fromkeys(host.addresses, host.name))

    def group(self, topology: str, path: str) -> Group | None:
        """The group at a path of a topology, or None."""
        return self._groups[topology].get(path)

    def place(self, host: Host) -> Host:
        """A host that is not among them yet, with its groups; Invalid as `place_host`."""
        faults = self._address_faults(host)
        groups: dict[str, str] = {}
        refusals: list[Fault] = []
        for topology in self.plan.topologies:
            found = self._leaf_for(topology, host)
            if isinstance(found, Fault):
                refusals.append(found)
            else:
                groups[topology.name] = found
        if not groups and not refusals:
            refusals.append(Fault(f"hosts.{host.name}", "the address plan has no topology yet; load one first"))
        if faults or not groups:
            raise Invalid(*faults, *(() if groups else refusals))
        return msgspec.structs.replace(host, groups=groups)

    def _leaf_for(self, topology: Topology, host: Host) -> str | Fault:
        present = self.group(topology.name, host.groups.get(topology.name, ""))
        if present is not None and is_open_to(present, host):
            return present.path
        planned = self._planned[topology.name].get(host.name)
        if planned is not None:
            return planned.group
        eligible = list(_eligible(topology.root, host))
        if eligible:
            return min(eligible, key=lambda leaf: self._counts[topology.name, leaf.path]).path
        return Fault(f"hosts.{host.name}", _refusal(topology, host))

    def _address_faults(self, host: Host) -> list[Fault]:
        place = f"hosts.{host.name}.addresses"
        faults = [
            Fault(place, f"{address} is also an address of host {self._holders[address]}")
            for address in sorted(host.addresses)
            if address in self._holders
        ]
        faults += [
            Fault(
                place,
                f"{address} lies in network {network.name} ({network.cidr}), whose addresses are for endpoints and are "
                "discarded where nobody has them; give the host another one, or `romana network blackout add` this one",
            )
            for address in sorted(host.addresses)
            for network in self.plan.networks
            if network.cidr.contains(address) and not any(one.contains(address) for one in self._kept)
        ]
        for name, planned in self._planned.items():
            known = planned.get(host.name)
            if known is None or not known.addresses or not host.addresses:
                continue
            if not set(host.addresses) & set(known.addresses):
                listed = ", ".join(map(str, known.addresses))
                faults.append(Fault(place, f"topology {name} knows it by {listed}"))
        return faults


def listed_hosts(plan: AddressPlan) -> list[Host]:
    """The hosts that a plan lists, where it lists them."""
    found: dict[str, Host] = {}
    for topology in plan.topologies:
        for one in topology.hosts:
            known = found.get(one.name, Host(name=one.name, addresses=one.addresses))
            found[one.name] = msgspec.structs.replace(known, groups={**known.groups, topology.name: one.group})
    return list(found.values())


def listed_addresses(plan: AddressPlan, host: str) -> tuple[Address, ...]:
    """The addresses that a plan lists for a host, in order; none when it lists none."""
    listed = (one for topology in plan.topologies for one in topology.hosts if one.name == host)
    return tuple(sorted({address for one in listed for address in one.addresses}))


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


def is_open_to(leaf: Group, host: Host) -> bool:
    """Whether a group is a leaf that this host may be in, its labels aside."""
    return leaf.is_leaf and not leaf.closed and bool(leaf.cidrs) and leaf.sole_host in ("", host.name)


def _way(root: Group, path: str) -> Iterator[Group]:
    """The groups from the root to a path, as far as they exist."""
    group: Group | None = root
    while group is not None and (path == group.path or path.startswith(group.path.rstrip("/") + "/")):
        yield group
        group = next((child for child in group.groups if path == child.path or path.startswith(f"{child.path}/")), None)


def _by_path(root: Group) -> dict[str, Group]:
    found = {root.path: root}
    for child in root.groups:
        found |= _by_path(child)
    return found


def _eligible(group: Group, host: Host) -> Iterator[Group]:
    if group.closed or any(host.labels.get(key) != value for key, value in group.assignment.items()):
        return
    if is_open_to(group, host):
        yield group
    for child in group.groups:
        yield from _eligible(child, host)


def _refusal(topology: Topology, host: Host) -> str:
    open_leaves = [leaf for leaf in leaves(topology.root) if is_open_to(leaf, host)]
    if not open_leaves:
        return f"topology {topology.name} has no group that hosts may join; add one, or list the host in its group"
    wanted = sorted({f"{k}={v}" for leaf in open_leaves for k, v in leaf.assignment.items()})
    labels = ", ".join(f"{key}={value}" for key, value in sorted(host.labels.items())) or "none"
    return (
        f"no group of topology {topology.name} takes a host with the labels {labels}; "
        f"groups there ask for {', '.join(wanted) or 'labels on the way to them'}; "
        "label the host, or list it in its group"
    )
