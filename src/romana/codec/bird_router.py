"""BIRD 2 configuration of a device in a routed fabric: spine, rack router or host.

Owns the text, and the level rule said in filters: upward goes only what the device itself originates, downward that
and what came from above; from each neighbour comes only what it may originate. Refuses to decide what that is
(`core.routing` does). Invariant: the same device gives the same bytes, and BIRD 2.0.12 parses them.

A host originates what the agent's include file announces, by static protocols whose names begin with `romana`; its
kernel already has the blackholes under them. A router has its aggregates, and their blackholes, here.
Sources: BIRD 2.0 User's Guide, chapters 3 (configuration), 5 (filters) and 6 (protocols).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from romana.model.address import Address, Family, Prefix


class Accepted(msgspec.Struct, frozen=True):
    """Prefixes that a neighbour may announce: all inside `within` whose length is between `shortest` and `longest`."""

    within: Prefix
    shortest: int
    longest: int

    @classmethod
    def exactly(cls, prefix: Prefix) -> Accepted:
        """That prefix alone."""
        return cls(prefix, prefix.length, prefix.length)

    @classmethod
    def specifics(cls, prefix: Prefix) -> Accepted:
        """All parts of a prefix, without itself."""
        return cls(prefix, prefix.length + 1, prefix.family.bits)

    def __str__(self) -> str:
        if self.shortest == self.longest == self.within.length:
            return _cidr(self.within)
        return f"{_cidr(self.within)}{{{self.shortest},{self.longest}}}"


class Neighbor(msgspec.Struct, frozen=True, kw_only=True):
    """A BGP neighbour on a direct link, one session for each pair of addresses.

    `above` tells whether it is nearer to the spine. `addresses` has (ours, theirs), one pair a family.
    """

    name: str
    asn: int
    above: bool
    addresses: tuple[tuple[Address, Address], ...]
    accepted: tuple[Accepted, ...] = ()


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """BGP times in seconds."""

    connect_delay: int = 1
    connect_retry: int = 2
    hold: int = 9
    keepalive: int = 3
    restart: int = 120


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device that runs BIRD.

    `loopbacks` are its own addresses, on `lo`; the IPv4 one is its router id. A router lists what it `originates`; a
    host names the pattern of the agent's `include` file instead, and announces its loopbacks.
    """

    name: str
    asn: int
    loopbacks: tuple[Address, ...]
    neighbors: tuple[Neighbor, ...]
    originates: tuple[Prefix, ...] = ()
    include: str = ""
    timers: Timers = Timers()


def render(device: Device) -> str:
    """The whole configuration text of a device."""
    parts = [
        _head(device),
        *(_kernel(device, family) for family in Family),
        *(_aggregates(device, family) for family in Family if not device.include),
        *(f'include "{device.include}";' for _ in [0] if device.include),
        _filters(device),
        *(text for neighbor in device.neighbors for text in _sessions(device, neighbor)),
    ]
    return "\n\n".join(parts) + "\n"


def session_name(neighbor: str, family: Family, *, above: bool) -> str:
    """The name of the BGP protocol towards a neighbour."""
    return f"{'up' if above else 'down'}_{re.sub(r'[^A-Za-z0-9_]', '_', neighbor)}_{int(family)}"


def _head(device: Device) -> str:
    return f"""\
# {device.name}, AS {device.asn}; written by romana
log stderr {{ warning, error, fatal, bug, auth }};
router id {_router_id(device)};

protocol device {{ scan time 10; }}
protocol direct loopback {{ ipv4; ipv6; interface "lo"; }}"""


def _router_id(device: Device) -> str:
    return next(address.text for address in device.loopbacks if address.family is Family.V4)


def _kernel(device: Device, family: Family) -> str:
    source = [f"krt_prefsrc = {address.text}; " for address in device.loopbacks if address.family is family]
    # the agent owns a host's blackholes; a router's come from its aggregates
    own = "" if device.include else "if source = RTS_STATIC then accept; "
    accept = f"if source = RTS_BGP then {{ {''.join(source)}accept; }} "
    return f"""\
protocol kernel kernel{int(family)} {{
    merge paths on;
    {_channel(family)} {{
        import none;
        export filter {{ {own}{accept}reject; }};
    }};
}}"""


def _aggregates(device: Device, family: Family) -> str:
    routes = [f"    route {_cidr(prefix)} blackhole;\n" for prefix in device.originates if prefix.family is family]
    return f"protocol static aggregates{int(family)} {{\n    {_channel(family)};\n{''.join(routes)}}}"


def _filters(device: Device) -> str:
    own = 'proto ~ "romana*" || proto = "loopback"' if device.include else "source = RTS_STATIC"
    return f"""\
filter to_above {{ if {own} then accept; reject; }}
filter to_below {{ if {own} || proto ~ "up_*" then accept; reject; }}"""


def _sessions(device: Device, neighbor: Neighbor) -> Iterator[str]:
    timers = device.timers
    for ours, theirs in neighbor.addresses:
        family = ours.family
        yield f"""\
protocol bgp {session_name(neighbor.name, family, above=neighbor.above)} {{
    local {ours.text} as {device.asn};
    neighbor {theirs.text} as {neighbor.asn};
    direct;
    connect delay time {timers.connect_delay};
    connect retry time {timers.connect_retry};
    error wait time {timers.connect_delay}, {timers.connect_retry};
    hold time {timers.hold};
    keepalive time {timers.keepalive};
    graceful restart on;
    graceful restart time {timers.restart};
    {_channel(family)} {{
        import filter {{ {_import(neighbor.accepted, family)}reject; }};
        export filter {"to_above" if neighbor.above else "to_below"};
    }};
}}"""


def _import(accepted: Iterable[Accepted], family: Family) -> str:
    patterns = ", ".join(str(one) for one in accepted if one.within.family is family)
    return f"if net ~ [ {patterns} ] then accept; " if patterns else ""


def _channel(family: Family) -> str:
    return f"ipv{int(family)}"


def _cidr(prefix: Prefix) -> str:
    return f"{prefix.text}/{prefix.length}"
