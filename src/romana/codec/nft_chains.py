"""The chains of our table as nft rules: the constant ones, one per row, one per profile (three where it is staged).

Owns the words of the packet path; knows nothing of elements or of transactions. Invariant: a chain's rules depend on
nothing but the shape, a row's direction and a profile's content, so a chain that exists never changes; rows and
profiles only accept, and what they do not accept meets the end of the base chain that jumped to them, which tells of it
and drops.

Rules are written as nft 1.0.6 lists them, so that a listing can be compared with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from romana.core.condemn import ALWAYS
from romana.core.policy.profile import minus
from romana.core.ruleset import ACCEPT, DROP, Kind, Shape, failsafe_name, lookups, row_direction
from romana.model.address import Family, Prefix
from romana.model.policy import ICMP, ICMPV6, SCTP, TCP, UDP, Direction
from romana.model.program import Intervals, Profile, Staged

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
"""Not nd-router-solicit, which is dropped without a word: nobody answers it, and the kernel makes a neighbour of each
source that it comes from.
"""
_TO_NEIGHBOURS = "icmpv6 type { mld-listener-query, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }"
_AMONG_NEIGHBOURS = (
    "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, nd-router-solicit, nd-router-advert, "
    "nd-neighbor-solicit, nd-neighbor-advert, nd-redirect, mld2-listener-report }"
)
"""What a host cannot do without, whatever policies say; as are IGMP and OSPF."""

_INTO_HOST = ('iifname "lo" accept', "fib daddr type != local accept")
_OUT_OF_HOST = ('oifname "lo" fib daddr type != unicast accept',)
"""What is not the host's own traffic with others. What it sends to a service has its way before it has its destination:
the interface says nothing of it.
"""

_KNOWN = "ct state established,new ct status & 0x408 == 0x8 accept"
"""What belongs to a connection that was judged already, and is not condemned (the status has fixed-timeout, 0x400)."""

NUMERIC = {
    _KNOWN: "ct state 0x2,0x8 ct status 0x8 / 0x8,0x400 accept",
    "ct state vmap { invalid : drop, related : jump related }": "ct state vmap { 0x1 : drop, 0x4 : jump related }",
    "ct status dnat": "ct status 0x20",
    "priority dstnat - 10;": "priority -110;",
    "fib daddr type != local": "fib daddr type != 2",
    "fib daddr type != unicast": "fib daddr type != 1",
    "icmpv6 type nd-router-solicit drop": "icmpv6 type 133 drop",
    "priority filter - 10;": "priority -10;",
    "priority filter - 5;": "priority -5;",
    _FROM_NEIGHBOURS: "icmpv6 type { 130, 131, 132, 135, 136, 143 }",
    _TO_NEIGHBOURS: "icmpv6 type { 130, 134, 135, 136 }",
    _AMONG_NEIGHBOURS: "icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 137, 143 }",
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
            hook="type filter hook prerouting priority -450; policy accept;",  # before fragments are joined, at -400
            rules=(
                f"iifname {LINKS} goto link_source",
                *(f'{_ip(family)} saddr @spans{family:d} iifname != "lo" drop' for family in Family),
            ),
        ),
        "related": Chain(
            words="errors about connections; endpoints report only those about their own", rules=tuple(_related())
        ),
        "tracked": Chain(
            words="what belongs to a connection that was condemned, to none, or is about one",
            rules=(
                "ct status 0x400 drop",
                "ct state vmap { invalid : drop, related : jump related }",
            ),
        ),
        "from_endpoints": _ours("iifname", reason="egress", words="rows of what endpoints may send"),
        "to_endpoints": _ours("oifname", reason="ingress", words="rows of what endpoints accept"),
        "egress": _hooked("forward", -10, "iifname", words="what endpoints may send"),
        "ingress": _hooked("forward", -5, "oifname", words="what endpoints accept"),
        "input": _hooked("input", -10, "iifname", words="what endpoints may send to this host"),
        "output": _hooked("output", -10, "oifname", words="what endpoints accept from this host"),
    }


def guard_chain(row: str) -> Chain:
    """The host's own traffic: what no policy can close, then the row, and the end. It is there only where a policy
    selects the host, so that packets of others meet no chain more.

    What comes is judged before a service's destination is put in; what is sent, after it.
    """
    ingress = row_direction(row) is Direction.INGRESS
    place = "prerouting priority dstnat - 10" if ingress else "output priority filter - 5"
    return Chain(
        words=f"what this host {'accepts' if ingress else 'may send'}: what no policy can close, then the row",
        hook=f"type filter hook {place}; policy accept;",
        rules=(
            _KNOWN,
            *(_INTO_HOST if ingress else _OUT_OF_HOST),
            "jump tracked",
            f"{_AMONG_NEIGHBOURS} accept",
            f"meta l4proto {{ {', '.join(map(str, sorted(ALWAYS)))} }} accept",
            f"meta l4proto . th dport @{failsafe_name(row_direction(row))} accept",
            f"jump {row}",
            *denied(f"host-{row_direction(row)}"),
        ),
    )


def row_chain(row: str, shape: Shape, words: str = "") -> Chain:
    """The chain of a row: the host itself, the peer's address, its block, its range; else back to the base chain."""
    ingress = row_direction(row) is Direction.INGRESS
    rules = []
    for name, lookup in lookups(shape, (row,), common=False).items():
        if lookup.kind is Kind.OWN:
            rules.append(f"{'iif' if ingress else 'oif'} vmap @{name}")
            continue
        mask = f" & {_mask(lookup.family, lookup.length)}" if lookup.length else ""
        rules.append(f"{_ip(lookup.family)} {'saddr' if ingress else 'daddr'}{mask} vmap @{name}")
    return Chain(rules=tuple(rules), words=words)


def profile_chains(profile: Profile | Staged) -> dict[str, Chain]:
    """The chains of a profile by name, those that others lead to first; for what they look up, see `profile_sets`.

    Where staged policies would say otherwise, that is told of, and the profile in force decides.
    """
    name = profile_name(profile.id)
    if isinstance(profile, Profile):
        return {name: Chain(rules=tuple(_rules(name, profile, ACCEPT)), words=profile_words(profile))}
    found = {
        part: Chain(rules=tuple(_rules(part, differs, told(f"would-{word}"))), words=f"staged policies would {word}")
        for part, (word, differs) in _differences(profile).items()
    }
    last = {ACCEPT: (ACCEPT,), DROP: ()}.get(profile.enforced.id, (f"goto {profile_name(profile.enforced.id)}",))
    found[name] = Chain(
        rules=(*(f"jump {part}" for part in found), *last),
        words=f"{profile_words(profile.enforced)}; staged policies would say otherwise",
    )
    return found


def profile_sets(profile: Profile | Staged) -> dict[str, tuple[int, Intervals]]:
    """The sets of a profile by name: their protocol, and the accepted ports (or ICMP type * 256 + code)."""
    name = profile_name(profile.id)
    if isinstance(profile, Profile):
        return _sets(name, profile)
    return {
        key: value
        for part, (_, differs) in _differences(profile).items()
        for key, value in _sets(part, differs).items()
    }


def _differences(staged: Staged) -> dict[str, tuple[str, Profile]]:
    """What staged policies would change: chain -> what they would do, and to which traffic."""
    name = profile_name(staged.id)
    return {
        f"{name}_denies": ("deny", minus(staged.enforced, staged.planned)),
        f"{name}_allows": ("allow", minus(staged.planned, staged.enforced)),
    }


def _sets(name: str, profile: Profile) -> dict[str, tuple[int, Intervals]]:
    return {
        f"{name}_{PROTOCOLS[protocol]}": (protocol, intervals)
        for protocol, intervals in profile.protocols
        if protocol in PROTOCOLS and intervals not in ((), ANY)
    }


def profile_name(profile: str) -> str:
    """The name of a profile's chain; that of a staged one, whose id is long, has a hash of it."""
    if "~" in profile:
        return f"staged_{hashlib.sha256(profile.encode()).hexdigest()[:12]}"
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


def told(reason: str) -> str:
    """Tell of a packet, not of too many."""
    return f'limit rate {LOG_RATE} log prefix "{LOG_PREFIX}{reason}" group {LOG_GROUP} snaplen {LOG_BYTES}'


def denied(reason: str) -> tuple[str, str]:
    """Tell of a packet, and drop it."""
    return told(reason), DROP


def _ours(side: str, *, reason: str, words: str) -> Chain:
    """What is decided about packets that come from (iifname) or leave through (oifname) a link of ours.

    A packet from a link of ours that leaves through the link its source belongs to goes back to its sender, through a
    service.
    """
    from_us = f"iifname {LINKS} " if side == "oifname" else ""
    address, endpoints = ("saddr", "endpoints_out") if side == "iifname" else ("daddr", "endpoints_in")
    return Chain(
        words=words,
        rules=(
            "jump tracked",
            *(f"{from_us}oifname . {_ip(family)} saddr @sources{family:d} accept" for family in Family),
            *(f"{_ip(family)} {address} vmap @{endpoints}{family:d}" for family in Family),
            *denied(reason),
        ),
    )


def _hooked(hook: str, priority: int, side: str, *, words: str) -> Chain:
    """A base chain: what belongs to a connection that was judged, or is no packet of our links, passes; neighbours are
    found; the rest is decided for good.

    What the host sends to a service has its way before it has its destination: the interface says nothing of it.
    """
    decided = "from_endpoints" if side == "iifname" else "to_endpoints"
    others = f"{side} != {LINKS} accept"
    before = {
        "input": (others, f"{_FROM_NEIGHBOURS} accept", "icmpv6 type nd-router-solicit drop"),
        "output": (
            f"{_TO_NEIGHBOURS} accept",
            *(f"ct status dnat {_ip(family)} daddr @spans{family:d} goto {decided}" for family in Family),
            others,
        ),
    }
    return Chain(
        words=words,
        hook=f"type filter hook {hook} priority filter - {-priority}; policy accept;",
        rules=(_KNOWN, *before.get(hook, (others,)), f"goto {decided}"),
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


def _rules(name: str, profile: Profile, verdict: str) -> Iterator[str]:
    """What a profile accepts gets the verdict; anything else comes back. Its sets' names begin with `name`."""
    sets = {protocol: key for key, (protocol, _) in _sets(name, profile).items()}
    for protocol, intervals in profile.protocols:
        word = PROTOCOLS.get(protocol, "")
        if intervals == ANY:
            yield f"meta l4proto {protocol} {verdict}"
        elif protocol in (ICMP, ICMPV6) and protocol in sets:
            yield f"{word} type . {word} code @{sets[protocol]} {verdict}"
        elif protocol in sets:
            yield f"{word} dport @{sets[protocol]} {verdict}"
        if profile.default and intervals != ANY:
            yield f"meta l4proto {protocol} return"
    if profile.default:
        yield verdict


def _ip(family: Family) -> str:
    return "ip" if family is Family.V4 else "ip6"


def _mask(family: Family, length: int) -> str:
    return Prefix(family, ((1 << length) - 1) << (family.bits - length), family.bits).text
