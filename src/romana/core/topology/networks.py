"""What can be wrong with the networks of a plan, apart from its trees.

Owns the rules for one network and between networks. Invariant: the networks it answers do not overlap and have all
lengths but the span's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from romana.model.address import Family
from romana.model.errors import Fault
from romana.model.topology import NetworkRequest

BLOCK_LENGTHS = {Family.V4: 29, Family.V6: 122}
"""The length of a block where a network does not say (or the network's own, when that is longer)."""
MOST_BLOCK_LENGTHS = 3
"""Distinct block lengths a family: each is one more lookup for every packet."""
TENANT_NAME = re.compile(r"[a-zA-Z0-9_-]+")


def read_networks(requests: Iterable[NetworkRequest], faults: list[Fault]) -> dict[str, NetworkRequest]:
    """By name, in order, with their block lengths; what is wrong is appended to `faults`."""
    networks: dict[str, NetworkRequest] = {}
    for request in requests:
        if not request.name:
            faults.append(Fault(f"{request.place}.name", "a network needs a name"))
        if request.name in networks:
            faults.append(Fault(f"{request.place}.name", f"two networks are named {request.name!r}"))
            continue
        default = max(BLOCK_LENGTHS[request.cidr.family], request.cidr.length)
        block = default if request.block_length is None else request.block_length
        networks[request.name] = msgspec.structs.replace(request, block_length=block)
        _check_lengths(request, block, faults)
        _check_tenants(request, faults)
        _check_reserved(request, faults)
    _check_overlaps(networks.values(), faults)
    _check_variety(networks.values(), faults)
    return networks


def _check_lengths(request: NetworkRequest, block: int, faults: list[Fault]) -> None:
    cidr, bits = request.cidr, request.cidr.family.bits
    if not cidr.length <= block <= bits:
        sentence = f"a block of network {request.name} must be between /{cidr.length}, all of {cidr}, and /{bits}"
        faults.append(Fault(request.place, f"{sentence}; got /{block}"))
    elif request.span_length is not None and not cidr.length <= request.span_length <= block:
        sentence = f"a span of network {request.name} must be between /{cidr.length}, all of {cidr}, and /{block}"
        faults.append(Fault(request.place, f"{sentence}, one block; got /{request.span_length}"))


def _check_tenants(request: NetworkRequest, faults: list[Fault]) -> None:
    for index, tenant in enumerate(request.tenants):
        place = f"{request.place}.tenants[{index}]"
        if not TENANT_NAME.fullmatch(tenant):
            faults.append(Fault(place, f"bad tenant name {tenant!r}; letters, digits, - and _ are allowed"))
        elif tenant in request.tenants[:index]:
            faults.append(Fault(place, f"tenant {tenant!r} is listed twice"))


def _check_reserved(request: NetworkRequest, faults: list[Fault]) -> None:
    for index, reserved in enumerate(request.reserved):
        place = f"{request.place}.reserved[{index}]"
        if reserved.contains(request.cidr):
            faults.append(Fault(place, f"{reserved} leaves nothing of {request.cidr}"))
        elif not request.cidr.contains(reserved):
            faults.append(Fault(place, f"{reserved} is not inside {request.cidr}"))


def _check_overlaps(networks: Iterable[NetworkRequest], faults: list[Fault]) -> None:
    widest: NetworkRequest | None = None  # in sorted order, only the last one that contains what follows can overlap
    for network in sorted(networks, key=lambda network: network.cidr):
        if widest is not None and widest.cidr.overlaps(network.cidr):
            sentence = f"{network.cidr} overlaps {widest.cidr} of network {widest.name!r}; networks must be apart"
            faults.append(Fault(f"{network.place}.cidr", sentence))
        else:
            widest = network


def _check_variety(networks: Iterable[NetworkRequest], faults: list[Fault]) -> None:
    lengths: dict[Family, list[int]] = {}
    for network in networks:
        seen = lengths.setdefault(network.cidr.family, [])
        if network.block_length is None or network.block_length in seen:
            continue
        seen.append(network.block_length)
        if len(seen) > MOST_BLOCK_LENGTHS:
            sentence = f"at most {MOST_BLOCK_LENGTHS} different block lengths a family; there are already "
            listed = ", ".join(f"/{length}" for length in seen[:-1])
            faults.append(Fault(network.place, sentence + listed))
