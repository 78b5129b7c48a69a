"""What can be wrong with the networks of a plan, apart from its trees.

Owns the rules for one network and between networks, and every default that a network has. Invariant: the networks it
answers do not overlap, and have all their numbers but, under topology placement, the length of a span.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from romana.model.address import Family, Prefix
from romana.model.errors import Fault
from romana.model.topology import BitPlan, NetworkRequest

BLOCK_LENGTHS = {Family.V4: 29, Family.V6: 122}
"""The length of a block where a network does not say (or the network's own, when that is longer)."""
DEFAULT_STOCK = 2
"""Ownerless blocks that a host keeps in a network that does not say."""
DEFAULT_MIXED = {Family.V4: 2, Family.V6: 0}
"""The number of an owner's first endpoints on a host that share a mixed block, where a network does not say."""
MOST_COUNT = 64
"""What `stock` and `mixed` may be at most."""
MOST_BLOCK_LENGTHS = 3
"""Distinct block lengths a family: each is one more lookup for every packet."""
NAME = re.compile(r"[a-zA-Z0-9._-]{1,63}")
NAME_WORDS = "1 to 63 letters, digits, dots, hyphens or underscores"
TENANT_NAME = re.compile(r"[a-zA-Z0-9_-]{1,63}")


def read_networks(requests: Iterable[NetworkRequest], faults: list[Fault]) -> dict[str, NetworkRequest]:
    """By name, in order, with their numbers; what is wrong is appended to `faults`."""
    networks: dict[str, NetworkRequest] = {}
    for request in requests:
        if not NAME.fullmatch(request.name):
            faults.append(Fault(f"{request.place}.name", f"{_short(request.name)} is not {NAME_WORDS}"))
        if request.name in networks:
            faults.append(Fault(f"{request.place}.name", f"two networks are named {request.name!r}"))
            continue
        networks[request.name] = (
            _topology(request, faults) if request.bits is None else _bits(request, request.bits, faults)
        )
        _check_tenants(request, faults)
        _check_reserved(request, faults)
        _check_static(networks[request.name], faults)
    _check_overlaps(networks.values(), faults)
    _check_variety(networks.values(), faults)
    return networks


def _topology(request: NetworkRequest, faults: list[Fault]) -> NetworkRequest:
    """A network with topology placement, with its defaults; a length that cannot be is as if it were not given."""
    cidr, bits = request.cidr, request.cidr.family.bits
    default = max(BLOCK_LENGTHS[request.cidr.family], request.cidr.length)
    block, span = default if request.block_length is None else request.block_length, request.span_length
    if not cidr.length <= block <= bits:
        sentence = f"a block of network {request.name} must be between /{cidr.length}, all of {cidr}, and /{bits}"
        faults.append(Fault(request.place, f"{sentence}; got /{block}"))
        block, span = default, None
    elif span is not None and not cidr.length <= span <= block:
        sentence = f"a span of network {request.name} must be between /{cidr.length}, all of {cidr}, and /{block}"
        faults.append(Fault(request.place, f"{sentence}, one block; got /{span}"))
        span = None
    for key, count in (("stock", request.stock), ("mixed", request.mixed)):
        if count is not None and not 0 <= count <= MOST_COUNT:
            faults.append(Fault(f"{request.place}.{key}", f"must be between 0 and {MOST_COUNT}, got {count}"))
    return msgspec.structs.replace(
        request,
        block_length=block,
        span_length=span,
        stock=DEFAULT_STOCK if request.stock is None else request.stock,
        mixed=DEFAULT_MIXED[cidr.family] if request.mixed is None else request.mixed,
    )


def _bits(request: NetworkRequest, plan: BitPlan, faults: list[Fault]) -> NetworkRequest:
    """A network with bits placement: its lengths follow from the widths, and all its blocks from ids."""
    for key in ("block_length", "span_length", "stock", "mixed"):
        if getattr(request, key) is not None:
            sentence = "says nothing beside `bits`, which fix every block; take it out"
            faults.append(Fault(f"{request.place}.{key}", sentence))
    cidr = request.cidr
    wrong = list(_width_faults(request, plan))
    faults += wrong
    return msgspec.structs.replace(
        request,
        span_length=cidr.length if wrong else cidr.length + plan.host,
        block_length=cidr.length if wrong else cidr.family.bits - plan.endpoint - plan.space,
        stock=0,
        mixed=0,
    )


def _width_faults(request: NetworkRequest, plan: BitPlan) -> Iterator[Fault]:
    place, cidr = f"{request.place}.bits", request.cidr
    widths = {key: getattr(plan, key) for key in ("host", "tenant", "segment", "endpoint", "space")}
    for key, width in widths.items():
        if width < 0:
            yield Fault(f"{place}.{key}", f"is a number of bits, got {width}")
    if plan.endpoint == 0:
        yield Fault(f"{place}.endpoint", "must be at least 1: an endpoint needs an address")
    total = cidr.length + sum(widths.values())
    if total != cidr.family.bits:
        listed = " + ".join(f"{width} {key}" for key, width in widths.items())
        sentence = f"the prefix and the widths must be {cidr.family.bits} bits, an address; /{cidr.length} + {listed}"
        yield Fault(place, f"{sentence} are {total}")


def _check_tenants(request: NetworkRequest, faults: list[Fault]) -> None:
    seen: set[str] = set()
    for index, tenant in enumerate(request.tenants):
        place = f"{request.place}.tenants[{index}]"
        if not TENANT_NAME.fullmatch(tenant):
            sentence = f"bad tenant name {_short(tenant)}; 1 to 63 letters, digits, - and _ are allowed"
            faults.append(Fault(place, sentence))
        elif tenant in seen:
            faults.append(Fault(place, f"tenant {tenant!r} is listed twice"))
        seen.add(tenant)


def _check_reserved(request: NetworkRequest, faults: list[Fault]) -> None:
    for index, reserved in enumerate(request.reserved):
        place = f"{request.place}.reserved[{index}]"
        if reserved.contains(request.cidr):
            faults.append(Fault(place, f"{reserved} leaves nothing of {request.cidr}"))
        elif not request.cidr.contains(reserved):
            faults.append(Fault(place, f"{reserved} is not inside {request.cidr}"))


def _check_static(request: NetworkRequest, faults: list[Fault]) -> None:
    """Static ranges hold whole blocks (with bits placement whole spans, since a host's blocks are all its own), apart
    from one another and from what is reserved.
    """
    least = request.span_length if request.bits else request.block_length
    unit = "host's span" if request.bits else "block"
    for index, static in enumerate(request.static):
        place = f"{request.place}.static[{index}]"
        if static.contains(request.cidr):
            faults.append(Fault(place, f"{static} leaves nothing of {request.cidr} for hosts"))
        elif not request.cidr.contains(static):
            faults.append(Fault(place, f"{static} is not inside {request.cidr}"))
        elif least is not None and static.length > least:
            faults.append(Fault(place, f"{static} is smaller than one {unit} (/{least}); use a larger range"))
    ranges = [(cidr, f"static[{index}]") for index, cidr in enumerate(request.static)]
    ranges += [(cidr, f"reserved[{index}]") for index, cidr in enumerate(request.reserved)] if ranges else []
    for (wide, wide_key), (cidr, key) in _nested(sorted(ranges)):
        if wide_key.startswith("static") or key.startswith("static"):
            sentence = f"{cidr} overlaps {wide}, which is {wide_key}; they must be apart"
            faults.append(Fault(f"{request.place}.{key}", sentence))


def _nested(ranges: Iterable[tuple[Prefix, str]]) -> Iterator[tuple[tuple[Prefix, str], tuple[Prefix, str]]]:
    """Each range that lies in another one, after the nearest of these. The ranges are in order."""
    around: list[tuple[Prefix, str]] = []
    for one in ranges:
        while around and not around[-1][0].contains(one[0]):
            around.pop()
        if around:
            yield around[-1], one
        around.append(one)


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


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
