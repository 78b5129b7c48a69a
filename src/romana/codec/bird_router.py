"""BIRD 2 configuration of a device: everything that its daemon is to do, as text.

Owns the text. Refuses to decide what goes where (`core.routing.speakers` does). Invariant: the same device gives the
same bytes, and BIRD 2.0.12 parses them.

A host originates what its agent announces, by static protocols whose names begin with `romana`; its kernel already has
the blackholes under them. A router has its aggregates, and their blackholes, here. What comes from another router of
the same group is used when nothing else leads there, and told to nobody (NO_ADVERTISE, RFC 1997).
Sources: BIRD 2.0 User's Guide, chapters 3 (configuration), 5 (filters) and 6 (protocols).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator

import msgspec

from romana.codec.bird import statics
from romana.model.address import Address, Family, Prefix
from romana.model.errors import Fault, Invalid
from romana.model.fabric import Pattern, Protocol, SessionOptions
from romana.model.speaker import STUB_COST, Ospf, OspfLink, Relation, Session, Speaker

LESS_PREFERRED = 50
"""LOCAL_PREF of what comes from another router of the group; everything else has BIRD's 100."""
RESTART_SECONDS = 120
GATHER_SECONDS = 15
"""How long a daemon that starts (BIRD with `-R`) waits at most for what its neighbours know before it tells them
anything: a session is there after 4 s at most, and what comes over it a second later (decisions 40 and 41).
"""
PULSE = """
# speaks to nobody: its clock wakes BIRD 2.0.12 each second, which else sends a neighbour's first routes up to 3 s late
protocol babel pulse { ipv4 { import none; export none; }; }"""
"""What OSPF's own clock does where OSPF is spoken (decision 41)."""
FALLBACK, LAST = "fallback", 1
"""The static protocols of discards that give way to whatever is learned, and their preference."""
METRIC = 512
"""Of the kernel's routes: larger than that of a network that the device has an address of, also with IPv6 (256)."""
BFD = (100, 3)
"""Milliseconds between BFD's packets, and how many may be missed."""
WELL_KNOWN = {"no-export": "65535,65281", "no-advertise": "65535,65282"}
SOMEBODY = Address(Family.V6, 0xFE80 << 112 | 1)
"""Stands for a link-local address that is not known."""
MOST_PASSWORD = 80
"""Bytes of a TCP MD5 key (Linux, TCP_MD5SIG_MAXKEYLEN)."""
NO_LENGTH = 1000
"""No prefix is so long."""
OSPF_SOURCES = "[ RTS_OSPF, RTS_OSPF_IA, RTS_OSPF_EXT1, RTS_OSPF_EXT2 ]"


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What only the device itself knows: neighbours' link-local addresses by interface, passwords by their file."""

    neighbors: dict[str, Address] = {}
    passwords: dict[str, str] = {}


def render(speaker: Speaker, prefixes: Collection[Prefix] = (), local: Local | None = None) -> str:
    """The whole configuration text of a device; `prefixes` are what a host announces.

    Sessions whose neighbour's address is not known yet are left out. Without `local` the text is for a person, who puts
    passwords and link-local addresses where it says. Invalid for a password that BIRD cannot read.
    """
    source = speaker.originates if not speaker.is_host else tuple(sorted(prefixes))
    parts = [
        _head(speaker),
        *(_kernel(speaker, family) for family in Family),
        *statics("romana" if speaker.is_host else "aggregates", source),
        *(statics(FALLBACK, speaker.fallbacks, LAST) if speaker.fallbacks else ()),
        *([_bfd()] if _wants_bfd(speaker) else []),
        *(text for session in speaker.sessions for text in _session(speaker, session, source, local)),
        *(_ospf(speaker, speaker.ospf, family, source, local) for family in Family if speaker.ospf is not None),
    ]
    return "\n\n".join(parts) + "\n"


def check_password(text: str, path: str) -> str:
    """A password as BIRD and the kernel take it; Invalid with what is wrong, which never says the password."""
    if not text or len(text.encode()) > MOST_PASSWORD:
        raise Invalid(Fault(path, f"a password has 1 to {MOST_PASSWORD} bytes, this has {len(text.encode())}"))
    if not text.isprintable() or '"' in text or "\\" in text:
        raise Invalid(Fault(path, "a password is printable text without double quotes and backslashes"))
    return text


def _head(speaker: Speaker) -> str:
    asn = f", AS {speaker.asn}" if speaker.asn else ""
    bgp = speaker.protocol is not Protocol.OSPF
    wait = f"\ngraceful restart wait {GATHER_SECONDS};" if bgp else ""
    return f"""\
# {speaker.name}{asn}; written by romana
log stderr {{ warning, error, fatal, bug, auth }};
router id {speaker.router_id};{wait}

protocol device {{ scan time 10; }}
protocol direct loopback {{ ipv4; ipv6; interface "lo"; }}{PULSE if bgp else ""}"""


def _kernel(speaker: Speaker, family: Family) -> str:
    source = [f"krt_prefsrc = {address}; " for address in speaker.loopbacks if address.family is family]
    # the agent owns a host's blackholes; a router's come from its aggregates
    own = "" if speaker.is_host else "if source = RTS_STATIC then accept; "
    learned = f"source ~ {OSPF_SOURCES}" if speaker.protocol is Protocol.OSPF else "source = RTS_BGP"
    accept = f"if {learned} then {{ {''.join(source)}accept; }} "
    return f"""\
protocol kernel kernel{int(family)} {{
    merge paths on;
    graceful restart on;
    metric {METRIC};
    {_channel(family)} {{
        import none;
        export filter {{ {own}{accept}reject; }};
    }};
}}"""


def _wants_bfd(speaker: Speaker) -> bool:
    links = speaker.ospf.links if speaker.ospf is not None else ()
    return any(one.options.bfd for one in speaker.sessions) or any(one.options.bfd for one in links)


def _bfd() -> str:
    milliseconds, missed = BFD
    return f"""\
# BFD in the same daemon ends graceful restart when the daemon is killed: its neighbours drop all routes at once.
protocol bfd {{
    interface "*" {{ interval {milliseconds} ms; multiplier {missed}; }};
    multihop {{ interval {milliseconds} ms; multiplier {missed}; }};
}}"""


def _session(speaker: Speaker, session: Session, source: Collection[Prefix], local: Local | None) -> Iterator[str]:
    remote = session.remote or (SOMEBODY if local is None else local.neighbors.get(session.interface))
    if remote is None and session.listen is None:
        yield f"# {session.name}: nobody was found on {session.interface} yet"
        return
    lines = [
        f"local {f'{session.local} ' if session.local is not None else ''}as {speaker.asn};",
        f"neighbor {_remote(session, remote)} as {session.asn};"
        + (
            " # put its own address there"
            if local is None and session.remote is None and session.listen is None
            else ""
        ),
        *([f'interface "{session.interface}";'] if session.is_found_out else []),
        "multihop;" if session.multihop else "direct;",
        *([f'dynamic name "{session.name}_";'] if session.listen is not None else []),
        *(["rr client;"] if session.reflects else []),
        # what lives in this host's own rack, away from it, comes back to its AS (RFC 7938, section 5.2.2)
        *(["allow local as 1;"] if speaker.is_host and session.asn != speaker.asn else []),
        *_option_lines(session.options, local),
        *(line for family in session.families for line in _bgp_channel(speaker, session, source, family)),
    ]
    yield "\n".join([f"protocol bgp '{session.name}' {{", *(f"    {line}" for line in lines), "}"])


def _remote(session: Session, remote: Address | None) -> str:
    if session.listen is not None:
        return f"range {session.listen}"
    return str(remote)


def _option_lines(options: SessionOptions, local: Local | None) -> Iterator[str]:
    yield "connect delay time 1;"
    yield "connect retry time 2;"
    yield "error wait time 1, 2;"
    yield f"hold time {options.hold_seconds};"
    yield f"keepalive time {options.keepalive_seconds};"
    yield f"graceful restart {'on' if options.graceful_restart else 'aware'};"
    if options.graceful_restart:
        yield f"graceful restart time {RESTART_SECONDS};"
    if options.password_file:
        yield f"password {_password(options.password_file, local)};"
    if options.ttl_security:
        yield "ttl security on;"
    if options.bfd:
        yield "bfd on;"


def _password(path: str, local: Local | None) -> str:
    return f'"the content of {path}"' if local is None else f'"{check_password(local.passwords[path], path)}"'


def _bgp_channel(speaker: Speaker, session: Session, source: Collection[Prefix], family: Family) -> Iterator[str]:
    inward = ""
    if session.relation is Relation.BESIDE:
        inward = f"bgp_local_pref = {LESS_PREFERRED}; bgp_community.add(({WELL_KNOWN['no-advertise']})); "
    outward = "".join(f"{_community(text)}; " for text in session.options.communities)
    ours = "" if speaker.is_host else f'if proto = "{FALLBACK}{int(family)}" then reject; '
    yield f"{_channel(family)} {{"
    yield f"    import filter {{ {_only(session.accepts, family, inward)}reject; }};"
    told = (
        _own(speaker, session, source, family, outward)
        if speaker.is_host
        else ours + _only(session.tells, family, outward)
    )
    yield f"    export filter {{ {told}reject; }};"
    if session.asn == speaker.asn:
        yield "    next hop self;"
    if family is Family.V4 and session.is_found_out:
        yield "    extended next hop on;"
    yield "};"


def _community(text: str) -> str:
    parts = WELL_KNOWN.get(text, text.replace(":", ",")).split(",")
    return f"bgp_{'large_' if len(parts) == 3 else ''}community.add(({','.join(parts)}))"


def _own(speaker: Speaker, session: Session, source: Iterable[Prefix], family: Family, first: str) -> str:
    """The statements that accept what a host originates, also what its agent announces before it has heard of romanad
    again, without what the plan tells other neighbours alone.

    They name where routes come from: with a set of them, each new one would be another filter, and BIRD tells all
    routes again when its filter is another one.
    """
    own = {Pattern.exactly(one) for one in source if one.family is family}
    untold = own.difference(session.tells)
    elsewhere = {one for other in speaker.sessions for one in other.tells} if untold else set()
    kept = _only(sorted(untold & elsewhere), family, verdict="reject")
    others = _only((one for one in session.tells if one not in own), family, first)
    return f'{kept}if proto = "romana{int(family)}" then {{ {first}accept; }} {others}'


def _only(patterns: Iterable[Pattern], family: Family, first: str = "", verdict: str = "accept") -> str:
    """The statements that accept what matches, or reject it.

    The second one never holds; its number tells the set from others. BIRD asks a session's routes again only when its
    filter is another one, and up to 2.0.12 takes two sets for one when they differ only in prefixes whose length is no
    multiple of 4.
    """
    listed = ", ".join(_pattern(one) for one in patterns if one.within.family is family)
    if not listed:
        return ""
    number = NO_LENGTH + zlib.crc32(listed.encode()) // 2
    return f"if net ~ [ {listed} ] then {{ {first}{verdict}; }} if net.len = {number} then reject; "


def _pattern(pattern: Pattern) -> str:
    if pattern.shortest == pattern.longest == pattern.within.length:
        return str(pattern.within)
    return f"{pattern.within}{{{pattern.shortest},{pattern.longest}}}"


def _ospf(speaker: Speaker, ospf: Ospf, family: Family, source: Collection[Prefix], local: Local | None) -> str:
    version = "v2" if family is Family.V4 else "v3"
    external = "none" if speaker.is_host else f'where proto = "aggregates{int(family)}"'
    accepts = _only(ospf.accepts, family)
    far = "".join(
        f"if net ~ [ {', '.join(map(str, nearest))} ] && ospf_metric1 > {cost} then reject; "
        for cost in sorted(set(ospf.nearest.values()))
        if (nearest := sorted(one for one, most in ospf.nearest.items() if most == cost and one.family is family))
    )
    lines = [
        "graceful restart on;",
        "ecmp on;",
        "merge external on;",  # what several routers of a group originate
        *(["stub router on;"] if speaker.is_host else []),  # nobody's way leads through a host
        f"{_channel(family)} {{",
        f"    import filter {{ {far}{accepts}reject; }};",
        f"    export {external};",
        "};",
    ]
    for area in sorted({ospf.area, *(link.area for link in ospf.links)}):
        lines += _area(speaker, ospf, area, family, source, local)
    return "\n".join([f"protocol ospf {version} ospf{int(family)} {{", *(f"    {line}" for line in lines), "}"])


def _area(
    speaker: Speaker, ospf: Ospf, area: int, family: Family, source: Collection[Prefix], local: Local | None
) -> Iterator[str]:
    yield f"area {area} {{"
    hidden = [str(one) for one in ospf.ranges.get(area, ()) if one.family is family]
    if hidden:
        yield f"    networks {{ {' '.join(f'{one} hidden;' for one in hidden)} }};"
    if speaker.is_host and area == ospf.area:
        yield from (
            f"    stubnet {one.supernet(one.length)} {{ cost {STUB_COST}; }};" for one in source if one.family is family
        )
    if area == ospf.area:
        yield '    interface "lo" { stub; };'
    for link in ospf.links:
        if link.area == area:
            yield from (f"    {line}" for line in _ospf_link(link, family, local))
    yield "};"


def _ospf_link(link: OspfLink, family: Family, local: Local | None) -> Iterator[str]:
    options = link.options
    yield f'interface "{link.interface}" {{'
    yield f"    type ptp; cost {link.cost}; hello {options.keepalive_seconds}; dead {options.hold_seconds};"
    yield "    check link yes;"
    if options.password_file:
        # FRR 8.4 knows no other algorithm for OSPFv2
        algorithm = "keyed md5" if family is Family.V4 else "hmac sha256"
        yield f"    authentication cryptographic; password {_password(options.password_file, local)} {{"
        yield f"        id 1; algorithm {algorithm};"
        yield "    };"
    if options.ttl_security:
        yield "    ttl security on;"
    if options.bfd:
        yield "    bfd on;"
    yield "};"


def _channel(family: Family) -> str:
    return f"ipv{int(family)}"
