"""The algebra of profiles: which (protocol, port) pairs are accepted.

Owns the canonical form: equal functions are equal values, so profiles can be shared and compared. Knows no peers.
A port is a destination port for TCP, UDP and SCTP, type * 256 + code for ICMP and ICMPv6, and 0 for all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from romana.model.policy import ICMP_PROTOCOLS, PORT_PROTOCOLS, Traffic
from romana.model.program import ACCEPT, DROP, Intervals, Profile
from romana.model.tenancy import NamedPort

LAST_PORT = 65535
ALL: Intervals = ((0, LAST_PORT),)
_TOLD_APART = PORT_PROTOCOLS | ICMP_PROTOCOLS


def profile_from(traffic: Iterable[Traffic], ports: Iterable[NamedPort] = ()) -> Profile:
    """What a rule's traffic accepts; no traffic at all is everything.

    A named port is the one of `ports`, the receiver's; a name that is not among them accepts nothing.

    Any protocol with a narrower range than 0..65535 means these ports of TCP, UDP and SCTP.
    """
    listed = list(traffic)
    if not listed:
        return ACCEPT
    known = list(ports)
    return union(*(_single(plain) for one in listed for plain in (_numbered(one, known) if one.name else (one,))))


def minus(profile: Profile, other: Profile) -> Profile:
    """What the first accepts and the other does not."""
    if other == DROP:
        return profile
    return intersection(profile, complement(other))


def union(*profiles: Profile) -> Profile:
    """What any of them accepts; of none: nothing."""
    result = DROP
    for profile in profiles:
        if not profile.protocols:
            result = ACCEPT if profile.default else result
        elif result != profile:
            result = _pointwise_union(result, profile)
    return result


def intersection(*profiles: Profile) -> Profile:
    """What all of them accept; of none: everything."""
    profiles = tuple(profile for profile in profiles if profile != ACCEPT)
    if DROP in profiles:
        return DROP
    if len(profiles) < 2:
        return profiles[0] if profiles else ACCEPT
    return complement(union(*(complement(profile) for profile in profiles)))


def complement(profile: Profile) -> Profile:
    """What it does not accept."""
    return _canonical(not profile.default, {protocol: _invert(intervals) for protocol, intervals in profile.protocols})


def allows(profile: Profile, protocol: int, port: int = 0) -> bool:
    """Whether it accepts that port (or ICMP type * 256 + code) of that protocol."""
    return any(first <= port <= last for first, last in _intervals(profile, protocol))


def covers(profile: Profile, traffic: Traffic) -> bool:
    """Whether it accepts all of that traffic."""
    return union(profile, _single(traffic)) == profile


def meets(profile: Profile, traffic: Traffic) -> bool:
    """Whether it accepts some of that traffic."""
    return intersection(profile, _single(traffic)) != DROP


def profile_words(profile: Profile) -> str:
    """What it accepts, for people: `accept`, `drop`, `tcp/80, udp/53-60`, `all but tcp/25`."""
    if not profile.protocols:
        return profile.id
    listed = complement(profile) if profile.default else profile
    words = ", ".join(
        str(Traffic(protocol, first, last)) for protocol, intervals in listed.protocols for first, last in intervals
    )
    return f"all but {words}" if profile.default else words


def _numbered(traffic: Traffic, ports: Iterable[NamedPort]) -> Iterator[Traffic]:
    for port in ports:
        if port.name == traffic.name and traffic.protocol in (None, port.protocol):
            yield Traffic(port.protocol, port.port, port.port)


def _single(traffic: Traffic) -> Profile:
    if traffic.protocol is None and (traffic.first > 0 or traffic.last < LAST_PORT):
        protocols: Iterable[int] = PORT_PROTOCOLS
    elif traffic.protocol is None:
        return ACCEPT
    else:
        protocols = (traffic.protocol,)
    intervals = ((max(0, traffic.first), min(LAST_PORT, traffic.last)),) if traffic.first <= traffic.last else ()
    return _canonical(False, dict.fromkeys(protocols, intervals))


def _pointwise_union(one: Profile, other: Profile) -> Profile:
    protocols = {protocol for profile in (one, other) for protocol, _ in profile.protocols}
    return _canonical(
        one.default or other.default,
        {protocol: _merge(_intervals(one, protocol) + _intervals(other, protocol)) for protocol in protocols},
    )


def _canonical(default: bool, protocols: dict[int, Intervals]) -> Profile:
    kept = []
    for protocol, intervals in sorted(protocols.items()):
        whole = intervals
        if protocol not in _TOLD_APART:  # their port is always 0, so they are accepted or not
            whole = ALL if any(first == 0 for first, _ in intervals) else ()
        if whole != (ALL if default else ()):
            kept.append((protocol, whole))
    return Profile(default, tuple(kept))


def _intervals(profile: Profile, protocol: int) -> Intervals:
    for listed, intervals in profile.protocols:
        if listed == protocol:
            return intervals
    return ALL if profile.default else ()


def _merge(intervals: Intervals) -> Intervals:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _invert(intervals: Intervals) -> Intervals:
    gaps = []
    start = 0
    for first, last in intervals:
        if start < first:
            gaps.append((start, first - 1))
        start = last + 1
    if start <= LAST_PORT:
        gaps.append((start, LAST_PORT))
    return tuple(gaps)
