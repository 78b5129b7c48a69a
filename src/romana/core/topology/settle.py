"""The places of all hosts in a new plan: a host follows its spans, unless it moves with them.

Owns the order in which hosts are settled: those that keep a place first, then the others, so that they spread over what
is left. Invariant: a host with spans is in the leaf that contains all of them, but for those that are away from their
group, or there is a fault.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping

import msgspec

from romana.core.topology.place import Places, is_open_to, leaves, listed_hosts
from romana.model.address import Prefix
from romana.model.errors import Fault, Invalid
from romana.model.ipam import Span
from romana.model.topology import AddressPlan, Group, Host, Topology


class Leaves:
    """The leaves of a plan by path and by address."""

    def __init__(self, plan: AddressPlan) -> None:
        self._topology = {network: topology.name for topology in plan.topologies for network in topology.networks}
        self._by_path: dict[tuple[str, str], Group] = {}
        ranges: dict[str, list[tuple[Prefix, Group]]] = {}
        for topology in plan.topologies:
            for leaf in leaves(topology.root):
                self._by_path[topology.name, leaf.path] = leaf
                for network, cidr in leaf.cidrs.items():
                    ranges.setdefault(network, []).append((cidr, leaf))
        self._ranges = {network: sorted(found, key=lambda one: one[0]) for network, found in ranges.items()}
        self._starts = {network: [cidr for cidr, _ in found] for network, found in self._ranges.items()}

    def of(self, host: Host, network: str) -> Group | None:
        """The leaf from which a host draws in a network."""
        topology = self._topology.get(network, "")
        leaf = self._by_path.get((topology, host.groups.get(topology, "")))
        return leaf if leaf is not None and network in leaf.cidrs else None

    def over(self, network: str, cidr: Prefix) -> Group | None:
        """The leaf that contains a CIDR of a network."""
        index = bisect_right(self._starts.get(network, []), cidr) - 1
        found = self._ranges[network][index] if index >= 0 else None
        return found[1] if found is not None and found[0].contains(cidr) else None

    def words(self, network: str, cidr: Prefix) -> str:
        """Whose a CIDR is to be, for a sentence."""
        leaf = self.over(network, cidr)
        if leaf is None:
            return f"{cidr} is to be divided, or in no group"
        if leaf.sole_host:
            return f"host {leaf.sole_host} is to have all of {leaf.cidrs[network]}, group {leaf.path}"
        return f"{cidr} is to be in {leaf.path}, {'which is closed' if leaf.closed else 'another group'}"


def settle_hosts(
    plan: AddressPlan,
    hosts: Mapping[str, Host],
    spans: Iterable[Span],
    blackouts: Iterable[Prefix] = (),
    moving: Collection[str] = (),
) -> tuple[dict[str, Host], list[Fault]]:
    """All hosts with their groups in a plan, and what is wrong with those that are missing.

    `spans` are those that hosts follow. Hosts that are `moving` forget where they were: they go where the plan lists
    them, with the addresses that it gives them there, or by their labels.
    """
    settler = _Settler(plan, spans, blackouts, moving)
    wanted = [settler.wish(host) for _, host in sorted(hosts.items())]
    settled: dict[str, Host] = {}
    faults = settler.faults
    for host in sorted(wanted, key=settler.is_loose):  # those that keep a place first
        try:
            placed = settler.places.place(host)
        except Invalid as error:
            faults += error.faults
            continue
        settler.places.add(placed)
        settled[host.name] = hosts[host.name] if placed == hosts[host.name] else placed
    return settled, faults


class _Settler:
    """Finds out which leaf each host needs."""

    def __init__(
        self, plan: AddressPlan, spans: Iterable[Span], blackouts: Iterable[Prefix], moving: Collection[str]
    ) -> None:
        self.plan = plan
        self.listed = {one.name: one for one in listed_hosts(plan)}
        self.moving = moving
        self.places = Places(plan, (), blackouts)
        self.leaves = Leaves(plan)
        self.faults: list[Fault] = []
        self.planned = {topology.name: {one.name: one.group for one in topology.hosts} for topology in plan.topologies}
        self.held: dict[str, list[Span]] = {}
        for span in spans:
            self.held.setdefault(span.host, []).append(span)

    def wish(self, host: Host) -> Host:
        """The host with the groups that it needs because of its spans, and those that it may keep."""
        if host.name in self.moving:
            listed = self.listed.get(host.name, Host(name=host.name))
            return msgspec.structs.replace(host, groups=listed.groups, addresses=listed.addresses or host.addresses)
        groups: dict[str, str] = {}
        for topology in self.plan.topologies:
            mine = [span for span in self.held.get(host.name, ()) if span.network in topology.networks]
            planned = self.planned[topology.name].get(host.name)
            if not mine:
                path = planned if planned is not None else host.groups.get(topology.name)
            else:
                path = self.around(topology, host, mine)
                if planned is not None and path not in (None, planned):
                    sentence = f"is listed in group {planned} of topology {topology.name}, but holds {mine[0].cidr}"
                    advice = f"list it in {path}, where that is, {move_words(host.name)}, or empty it first"
                    self.faults.append(Fault(f"hosts.{host.name}", f"{sentence}; {advice}"))
            if path is not None:
                groups[topology.name] = path
        return msgspec.structs.replace(host, groups=groups)

    def around(self, topology: Topology, host: Host, spans: list[Span]) -> str | None:
        """The leaf that holds a host's spans: its present one where that does, else whichever does."""
        present = self.places.group(topology.name, host.groups.get(topology.name, ""))
        for leaf in (present, self.leaves.over(spans[0].network, spans[0].cidr)):
            if leaf is not None and is_open_to(leaf, host) and _holds(leaf, spans):
                return leaf.path
        return None

    def is_loose(self, host: Host) -> bool:
        """Whether the host has to find a place in some topology."""
        found = (self.places.group(name, host.groups.get(name, "")) for name in self.planned)
        return not all(leaf is not None and is_open_to(leaf, host) for leaf in found)


def move_words(host: str) -> str:
    """How to say that a host takes its spans along."""
    return f"or move it with what it holds (`romana topology apply --move {host}`)"


def _holds(leaf: Group, spans: Iterable[Span]) -> bool:
    return all(span.network in leaf.cidrs and leaf.cidrs[span.network].contains(span.cidr) for span in spans)
