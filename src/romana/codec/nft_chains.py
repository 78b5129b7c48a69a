"""The chains of our table as nft rules: the constant ones, one per row, one per profile.

Owns the words of the packet path; knows nothing of elements or of transactions. Invariant: a chain's rules depend on
nothing but the shape, a row's direction and a profile's content, so a chain that exists never changes; rows and
profiles only accept, and what they do not accept meets the end of the base chain that jumped to them, which tells of it
and drops.

Rules are written as nft 1.0.6 lists them, so that a listing can be compared with them.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from romana.core.ruleset import ACCEPT, DROP, Shape, lookups, row_direction
from romana.model.address import Family, Prefix
from romana.model.policy import ICMP, ICMPV6, SCTP, TCP, UDP, Direction
from romana.model.program import Intervals, Profile

LINKS = '"rom*"'
"""The links of endpoints, by the prefix of their names."""

PROTOCOLS = {TCP: "tcp", UDP: "udp", SCTP: "sctp", ICMP: "icmp", ICMPV6: "icmpv6"}
"""IP protocols whose traffic a profile tells apart, by their name in nft."""

LOG_GROUP = 146
"""The group of nflog whose listeners are told of what is denied."""
LOG_PREFIX = "romana "
"""What the prefix of such a message begins with; then comes the reason word."""
LOG_RATE = "100/second burst 200 packets"
"""How often, for each place where packets end."""
LOG_BYTES = 96
"""Bytes of the packet in a message: enough for its headers."""

ANY: Intervals = ((0, 65535),)
"""Everything of a protocol."""

_FROM_NEIGHBOURS = (
    "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, "
    "nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }"
)
"""Not nd-router-solicit: nobody answers it, and the kernel makes a neighbour of each source that it comes from."""
_TO_NEIGHBOURS = "icmpv6 type { mld-listener-query, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }"

NUMERIC = {
    "ct state vmap { invalid : drop, established : accept, related : jump related }": (
        "ct state vmap { 0x1 : drop, 0x2 : accept, 0x4 : jump related }"
    ),
    "ct status confirmed": "ct status 0x8",
    "priority raw;": "priority -300;",
    "priority filter - 10;": "priority -10;",
    "priority filter - 5;": "priority -5;",
    _FROM_NEIGHBOURS: "icmpv6 type { 130, 131, 132, 135, 136, 143 }",
    _TO_NEIGHBOURS: "icmpv6 type { 130, 134, 135, 136 }",
}
"""How a listing with all symbols as numbers, which no file of the host can change, spells our words."""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain: its hook when it is a base chain, its rules, and words for people (not part of its identity)."""

    rules: tuple[str, ...]
    hook: str = ""
    words: str = ""


def base_chains() -> dict[str, Chain]:
    """The constant chains, by name."""
    return {
        "link_source": Chain(
            words="sources an endpoint may use",
            rules=(
                *(f"iifname . {_ip(family)} saddr @sources{family:d} accept" for family in Family),
                "ip6 saddr { ::, fe80::/10 } ip6 daddr { fe80::/10, ff02::/16 } accept",
                *denied("spoofed"),
            ),
        ),
        "source": Chain(
            words="nobody sends with the address of somebody else",
            hook="type filter hook prerouting priority raw; policy accept;",
            rules=(
                f"iifname {LINKS} jump link_source",
                f"iifname {LINKS} drop",
                'iifname "lo" accept',
                *(f"{_ip(family)} saddr @spans{family:d} drop" for family in Family),
            ),
        ),
        "condemn": Chain(
            words="never asked: gives every tracked connection room for the label that condemns it",
            rules=("ct label set 127",),
        ),
        "condemned": Chain(words="packets of live connections that policy forbids now", rules=denied("condemned")),
        "related": Chain(
            words="errors about connections; endpoints report only those about their own", rules=tuple(_related())
        ),
        "tracked": Chain(
            words="what belongs to a connection that was judged already",
            rules=(
                "ct label 127 goto condemned",
                "ct state vmap { invalid : drop, established : accept, related : jump related }",
                "ct status confirmed accept",
            ),
        ),
        "egress": _base("forward", -10, "iifname", reason="egress", words="what endpoints may send"),
        "ingress": _base("forward", -5, "oifname", reason="ingress", words="what endpoints accept"),
        "input": _base("input", -10, "iifname", reason="egress", words="what endpoints may send to this host"),
        "output": _base("output", -10, "oifname", reason="ingress", words="what endpoints accept from this host"),
    }


def row_chain(row: str, shape: Shape, words: str = "") -> Chain:
    """The chain of a row: the peer's address, then its block, then its range; else back to the base chain."""
    side = "saddr" if row_direction(row) is Direction.INGRESS else "daddr"
    rules = []
    for name, lookup in lookups(shape, (row,), common=False).items():
        mask = f" & {_mask(lookup.family, lookup.length)}" if lookup.length else ""
        rules.append(f"{_ip(lookup.family)} {side}{mask} vmap @{name}")
    return Chain(rules=tuple(rules), words=words)


def profile_chain(profile: Profile) -> Chain:
    """The chain of a profile; for what it looks up, see `profile_sets`."""
    return Chain(rules=tuple(_profile_rules(profile)), words=profile_words(profile))


def profile_sets(profile: Profile) -> dict[str, tuple[int, Intervals]]:
    """The sets of a profile by name: their protocol, and the accepted ports (or ICMP type * 256 + code)."""
    return {
        f"{profile_name(profile.id)}_{PROTOCOLS[protocol]}": (protocol, intervals)
        for protocol, intervals in profile.protocols
        if protocol in PROTOCOLS and intervals not in ((), ANY)
    }


def profile_name(profile: str) -> str:
    """The name of a profile's chain."""
    return f"profile_{profile}"


def profile_words(profile: Profile) -> str:
    """What a profile accepts, for people."""
    parts = []
    for protocol, intervals in profile.protocols:
        ranges = ["all"] if intervals == ANY else [_interval_words(protocol, *interval) for interval in intervals]
        parts.append(f"{PROTOCOLS.get(protocol, f'protocol {protocol}')} {', '.join(ranges) or 'none'}")
    return f"accepts {'; '.join(parts)}; other protocols: {'all' if profile.default else 'none'}"


def _interval_words(protocol: int, first: int, last: int) -> str:
    if protocol not in (ICMP, ICMPV6):
        return f"{first}" if first == last else f"{first}-{last}"
    if first == last:
        return f"{first >> 8}/{first & 255}"
    if not first & 255 and last & 255 == 255:
        return f"{first >> 8}" if first >> 8 == last >> 8 else f"{first >> 8}-{last >> 8}"
    return f"{first >> 8}/{first & 255}-{last >> 8}/{last & 255}"


def denied(reason: str) -> tuple[str, str]:
    """Tell of a packet, not of too many, and drop it."""
    return f'limit rate {LOG_RATE} log prefix "{LOG_PREFIX}{reason}" group {LOG_GROUP} snaplen {LOG_BYTES}', DROP


def _base(hook: str, priority: int, side: str, *, reason: str, words: str) -> Chain:
    """A base chain for packets that come from (iifname) or leave through (oifname) a link of ours.

    A packet from a link of ours that leaves through the link its source belongs to goes back to its sender, through a
    service.
    """
    rules = [f"{side} != {LINKS} accept", "jump tracked"]
    if hook == "forward":
        from_us = f"iifname {LINKS} " if side == "oifname" else ""
        rules += [f"{from_us}oifname . {_ip(family)} saddr @sources{family:d} accept" for family in Family]
    else:
        rules.append(f"{_FROM_NEIGHBOURS if hook == 'input' else _TO_NEIGHBOURS} accept")
    address, endpoints = ("saddr", "endpoints_out") if side == "iifname" else ("daddr", "endpoints_in")
    rules += [f"{_ip(family)} {address} vmap @{endpoints}{family:d}" for family in Family]
    return Chain(
        rules=(*rules, *denied(reason)),
        hook=f"type filter hook {hook} priority filter - {-priority}; policy accept;",
        words=words,
    )


def _related() -> Iterator[str]:
    """To conntrack an error is related whoever sends it. An endpoint is no router: it has no errors to report about a
    connection of which neither end is on its link, whoever's that is.
    """
    yield f"iifname != {LINKS} accept"
    for family in Family:
        for direction in ("original", "reply"):
            yield f"iifname . ct {direction} {_ip(family)} saddr @sources{family:d} accept"
    yield DROP


def _profile_rules(profile: Profile) -> Iterator[str]:
    sets = {protocol: name for name, (protocol, _) in profile_sets(profile).items()}
    for protocol, intervals in profile.protocols:
        name = PROTOCOLS.get(protocol, "")
        if intervals == ANY:
            yield f"meta l4proto {protocol} accept"
        elif protocol in (ICMP, ICMPV6) and protocol in sets:
            yield f"{name} type . {name} code @{sets[protocol]} accept"
        elif protocol in sets:
            yield f"{name} dport @{sets[protocol]} accept"
        if profile.default and intervals != ANY:
            yield f"meta l4proto {protocol} return"
    if profile.default:
        yield ACCEPT


def _ip(family: Family) -> str:
    return "ip" if family is Family.V4 else "ip6"


def _mask(family: Family, length: int) -> str:
    return Prefix(family, ((1 << length) - 1) << (family.bits - length), family.bits).text
