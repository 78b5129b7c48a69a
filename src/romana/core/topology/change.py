"""Changing a plan while endpoints live: what would be orphaned, said before anything is done.

Owns the comparison of a new plan with what is in use. Refuses to change anything. Invariant: after a change without
faults every span lies in its host's leaf group, every block in its span, every endpoint in its block, and none of them
in a reserved CIDR or in a network that its tenant may no longer use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from romana.core.topology.place import find_group, group_cidrs, leaves, place_host
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Fault, Invalid
from romana.model.ipam import Block, Span
from romana.model.topology import AddressPlan, Group, Host, Network

MOST_EXAMPLES = 5


def check_change(
    old: AddressPlan,
    new: AddressPlan,
    hosts: Mapping[str, Host],
    *,
    spans: Mapping[Prefix, Span],
    blocks: Mapping[Prefix, Block],
    endpoints: Mapping[str, Endpoint],
) -> list[Fault]:
    """Everything in use that the new plan has no place for; empty when it may be put in force as a whole.

    `hosts` and `endpoints` are by name and id, spans and blocks by CIDR.
    """
    faults = _network_faults(old, new, spans, blocks)
    settled: dict[str, Host] = {}
    for name, host in sorted(hosts.items()):
        try:
            settled[name] = settle_host(new, settled, host, spans=_spans_of(host, spans))
        except Invalid as error:
            faults += error.faults
    faults += _span_faults(new, settled, spans)
    faults += _endpoint_faults(new, endpoints, blocks)
    return faults


def settle_host(plan: AddressPlan, hosts: Mapping[str, Host], host: Host, *, spans: Iterable[Span] = ()) -> Host:
    """The host's place in a new plan: the leaf that contains its spans, where it has any, else as a new host's.

    `hosts` are those already settled. Invalid when the plan has no leaf that contains its spans.
    """
    held = list(spans)
    groups: dict[str, str] = {}
    for topology in plan.topologies:
        present = find_group(topology.root, host.groups.get(topology.name, ""))
        candidates = ([present] if present is not None else []) + list(leaves(topology.root))
        mine = [span for span in held if span.network in topology.networks]
        fitting = [leaf for leaf in candidates if _holds(leaf, mine, host)] if mine else []
        if fitting:
            groups[topology.name] = fitting[0].path
        elif present is not None and not mine:
            groups[topology.name] = present.path
    return place_host(plan, hosts, msgspec.structs.replace(host, groups=groups))


def _holds(leaf: Group, spans: Iterable[Span], host: Host) -> bool:
    if not leaf.is_leaf or leaf.closed or leaf.sole_host not in ("", host.name):
        return False
    return all(span.network in leaf.cidrs and leaf.cidrs[span.network].contains(span.cidr) for span in spans)


def _spans_of(host: Host, spans: Mapping[Prefix, Span]) -> list[Span]:
    return [span for span in spans.values() if span.host == host.name]


def _network_faults(
    old: AddressPlan, new: AddressPlan, spans: Mapping[Prefix, Span], blocks: Mapping[Prefix, Block]
) -> list[Fault]:
    faults: list[Fault] = []
    before, after = _by_name(old), _by_name(new)
    for name in sorted({span.network for span in spans.values()}):
        place = f"networks.{name}"
        held = [span.cidr for span in spans.values() if span.network == name]
        if name not in after:
            faults.append(Fault(place, f"is not in the new plan, but {_listed(held)} of it are in use"))
            continue
        was, now = before.get(name), after[name]
        if was is not None and (was.block_length, was.span_length) != (now.block_length, now.span_length):
            faults.append(
                Fault(
                    place,
                    f"has spans of /{was.span_length} with blocks of /{was.block_length} in use ({_listed(held)}); "
                    f"they cannot become /{now.span_length} and /{now.block_length}; add another network instead",
                )
            )
        faults += _tenant_faults(now, blocks.values())
    return faults


def _tenant_faults(network: Network, blocks: Iterable[Block]) -> list[Fault]:
    if not network.tenants:
        return []
    shut: dict[str, list[Prefix]] = {}
    for block in blocks:
        if block.network == network.name and block.owner and block.owner.tenant not in network.tenants:
            shut.setdefault(block.owner.tenant, []).append(block.cidr)
    return [
        Fault(f"networks.{network.name}.tenants", f"tenant {tenant} is not listed, but owns {_listed(held)}")
        for tenant, held in sorted(shut.items())
    ]


def _span_faults(new: AddressPlan, hosts: Mapping[str, Host], spans: Mapping[Prefix, Span]) -> list[Fault]:
    cidrs = {name: group_cidrs(new, host) for name, host in hosts.items()}
    networks = _by_name(new)
    lost: dict[tuple[str, str], list[Prefix]] = {}
    for span in spans.values():
        group = cidrs.get(span.host, {}).get(span.network)
        if span.network in networks and (group is None or not group.contains(span.cidr)):
            lost.setdefault((span.host, span.network), []).append(span.cidr)
    return [
        Fault(
            f"hosts.{host}",
            f"holds {_listed(held)} of network {network}, outside the group the new plan gives it "
            f"({cidrs.get(host, {}).get(network) or 'none'}); keep its group's CIDR, or empty the host first",
        )
        for (host, network), held in sorted(lost.items())
    ] + _shared_faults(new, spans)


def _shared_faults(new: AddressPlan, spans: Mapping[Prefix, Span]) -> list[Fault]:
    """A group that becomes one host's own must not hold another host's spans."""
    owned = [
        (cidr, leaf.sole_host)
        for topology in new.topologies
        for leaf in leaves(topology.root)
        if leaf.sole_host
        for cidr in leaf.cidrs.values()
    ]
    return [
        Fault(f"hosts.{host}", f"is to have all of {cidr}, but host {span.host} holds {span.cidr} in it")
        for cidr, host in owned
        for span in spans.values()
        if span.host != host and cidr.overlaps(span.cidr)
    ]


def _endpoint_faults(
    new: AddressPlan, endpoints: Mapping[str, Endpoint], blocks: Mapping[Prefix, Block]
) -> list[Fault]:
    networks = _by_name(new)
    caught: dict[Prefix, list[str]] = {}
    for endpoint in endpoints.values():
        for allocation in endpoint.allocations:
            block = blocks.get(allocation.block)
            network = networks.get(block.network) if block else None
            for reserved in network.reserved if network else ():
                if reserved.contains(allocation.address):
                    caught.setdefault(reserved, []).append(f"{allocation.address} of {endpoint.name}")
    return [
        Fault(f"reserved {reserved}", f"holds addresses in use: {_listed(held)}")
        for reserved, held in sorted(caught.items())
    ]


def _by_name(plan: AddressPlan) -> dict[str, Network]:
    return {network.name: network for network in plan.networks}


def _listed(held: Iterable[object]) -> str:
    words = sorted(map(str, held))
    rest = f" and {len(words) - MOST_EXAMPLES} more" if len(words) > MOST_EXAMPLES else ""
    return ", ".join(words[:MOST_EXAMPLES]) + rest
