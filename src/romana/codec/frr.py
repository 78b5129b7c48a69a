"""FRR configuration of a device, for a person to load with `vtysh -f`: the same as `codec.bird_router` says to BIRD.

Owns the text. Refuses to decide what goes where (`core.routing.speakers` does). Invariant: the same device gives the
same text, and FRR 8.4.4 loads it without a complaint.

Sources: FRR User Guide 8.4, chapters on BGP, OSPFv2, OSPFv3, filtering, route maps, static and zebra.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from romana.codec.bird_router import GATHER_SECONDS, LESS_PREFERRED, RESTART_SECONDS
from romana.model.address import Family, Prefix
from romana.model.errors import Fault, Invalid
from romana.model.fabric import Pattern, Protocol
from romana.model.speaker import Ospf, OspfLink, Relation, Session, Speaker

WORDS = {Family.V4: "ip", Family.V6: "ipv6"}
MOST_PATHS = 64
LAST = 250
"""The distance of a discard that gives way to whatever is learned."""


def render(speaker: Speaker, prefixes: Collection[Prefix] = ()) -> str:
    """The whole configuration; `prefixes` are what a host announces. Invalid for what FRR cannot do."""
    if speaker.is_host and speaker.ospf is not None:
        sentence = "FRR announces no prefix inside an OSPF area that none of its interfaces has; run BIRD on hosts"
        raise Invalid(Fault("format", sentence))
    parts = [
        _head(speaker),
        _statics(speaker),
        *(_filters(session) for session in speaker.sessions),
        *(_source(speaker, family) for family in Family if _loopback(speaker, family)),
        *([_bgp(speaker, prefixes)] if speaker.protocol is not Protocol.OSPF else []),
        *(_ospf_parts(speaker, speaker.ospf) if speaker.ospf is not None else ()),
    ]
    return "\n!\n".join(part for part in parts if part) + "\n!\nend\n"


def _head(speaker: Speaker) -> str:
    asn = f", AS {speaker.asn}" if speaker.asn else ""
    return f"""\
! {speaker.name}{asn}; written by romana for FRR 8.4
frr version 8.4
frr defaults datacenter
hostname {speaker.name}
service integrated-vtysh-config
ip forwarding
ipv6 forwarding"""


def _statics(speaker: Speaker) -> str:
    """A router's discard routes; a host's own are its agent's."""
    own = [] if speaker.is_host else sorted(speaker.originates)
    lines = [f"{WORDS[one.family]} route {_cidr(one)} blackhole" for one in own]
    lines += [f"{WORDS[one.family]} route {_cidr(one)} blackhole {LAST}" for one in speaker.fallbacks]
    return "\n".join(lines)


def _filters(session: Session) -> str:
    lines: list[str] = []
    for direction, patterns in (("in", session.accepts), ("out", session.tells)):
        name = f"{session.name}-{direction}"
        for family in session.families:
            lines += _prefix_list(name, patterns, family)
        for number, family in enumerate(session.families, 1):
            lines += [
                f"route-map {name} permit {number * 10}",
                f" match {WORDS[family]} address prefix-list {name}",
                *_sets(session, direction),
                "exit",
            ]
    return "\n".join(lines)


def _sets(session: Session, direction: str) -> Iterator[str]:
    if direction == "in" and session.relation is Relation.BESIDE:
        yield f" set local-preference {LESS_PREFERRED}"
        yield " set community no-advertise additive"
    if direction == "out":
        standard = [one for one in session.options.communities if one.count(":") < 2]
        large = [one for one in session.options.communities if one.count(":") == 2]
        if standard:
            yield f" set community {' '.join(standard)} additive"
        if large:
            yield f" set large-community {' '.join(large)} additive"


def _prefix_list(name: str, patterns: Iterable[Pattern], family: Family) -> Iterator[str]:
    word, number = WORDS[family], 0
    for one in patterns:
        if one.within.family is family:
            number += 5
            yield f"{word} prefix-list {name} seq {number} permit {_pattern(one)}"
    if not number:
        yield f"{word} prefix-list {name} seq 5 deny any"


def _pattern(pattern: Pattern) -> str:
    lengths = ""
    if pattern.shortest > pattern.within.length:
        lengths = f" ge {pattern.shortest}"
    if pattern.longest > pattern.within.length and (pattern.longest < pattern.within.family.bits or not lengths):
        lengths += f" le {pattern.longest}"
    return _cidr(pattern.within) + lengths


def _loopback(speaker: Speaker, family: Family) -> str:
    return next((str(one) for one in speaker.loopbacks if one.family is family), "")


def _source(speaker: Speaker, family: Family) -> str:
    """Packets of the device's own have its loopback as source; OSPF's filter is in the same map."""
    word, name = WORDS[family], f"learned{int(family)}"
    protocol = ("ospf" if family is Family.V4 else "ospf6") if speaker.protocol is Protocol.OSPF else "bgp"
    lines: list[str] = []
    match: list[str] = []
    if speaker.ospf is not None:
        lines = list(_prefix_list(name, speaker.ospf.accepts, family))
        match = [f" match {word} address prefix-list {name}"]
    lines += [f"route-map {name} permit 10", *match, f" set src {_loopback(speaker, family)}", "exit"]
    return "\n".join([*lines, f"{word} protocol {protocol} route-map {name}"])


def _bgp(speaker: Speaker, prefixes: Collection[Prefix]) -> str:
    lines = [
        f"router bgp {speaker.asn}",
        f" bgp router-id {speaker.router_id}",
        " no bgp default ipv4-unicast",
        " bgp bestpath as-path multipath-relax",
        *([f" update-delay {GATHER_SECONDS}"] if not speaker.is_host else []),
    ]
    if any(one.options.graceful_restart for one in speaker.sessions):
        lines += [" bgp graceful-restart", f" bgp graceful-restart restart-time {RESTART_SECONDS}"]
    for session in speaker.sessions:
        lines += _neighbor(session)
    own = [*(speaker.originates if not speaker.is_host else prefixes), *speaker.loopbacks]
    for family in Family:
        lines += _address_family(speaker, sorted(own), family)
    return "\n".join([*lines, "exit"])


def _name(session: Session) -> str:
    if session.listen is not None:
        return session.name
    return str(session.remote) if session.remote is not None else session.interface


def _neighbor(session: Session) -> Iterator[str]:
    name, options = _name(session), session.options
    if session.listen is not None:
        yield f" neighbor {name} peer-group"
    yield f" neighbor {name} {'interface ' if session.is_found_out else ''}remote-as {session.asn}"
    if session.listen is not None:
        yield f" bgp listen range {session.listen} peer-group {name}"
    else:
        yield f" neighbor {name} description {session.neighbor}"
    yield f" neighbor {name} timers {options.keepalive_seconds} {options.hold_seconds}"
    if session.listen is None:
        yield f" neighbor {name} timers connect 2"
    if session.local is not None:
        yield f" neighbor {name} update-source {session.local}"
    if session.multihop:
        yield f" neighbor {name} ebgp-multihop"
    if options.password_file:
        yield f" ! the next line wants the content of {options.password_file}"
        yield f" neighbor {name} password PASSWORD"
    if options.ttl_security:
        yield f" neighbor {name} ttl-security hops 1"
    if options.bfd:
        yield f" neighbor {name} bfd"


def _address_family(speaker: Speaker, own: Iterable[Prefix], family: Family) -> Iterator[str]:
    yield f" address-family ipv{int(family)} unicast"
    yield from (f"  network {_cidr(one)}" for one in own if one.family is family)
    for session in speaker.sessions:
        if family not in session.families:
            continue
        name = _name(session)
        yield f"  neighbor {name} activate"
        yield f"  neighbor {name} route-map {session.name}-in in"
        yield f"  neighbor {name} route-map {session.name}-out out"
        if session.reflects:
            yield f"  neighbor {name} route-reflector-client"
        if session.asn == speaker.asn:
            yield f"  neighbor {name} next-hop-self force"
        elif speaker.is_host:
            yield f"  neighbor {name} allowas-in 1"
    yield f"  maximum-paths {MOST_PATHS}"
    yield f"  maximum-paths ibgp {MOST_PATHS}"
    yield " exit-address-family"


def _ospf_parts(speaker: Speaker, ospf: Ospf) -> Iterator[str]:
    for link in ospf.links:
        yield "\n".join([f"interface {link.interface}", *_interface(link), "exit"])
    lines = [f" {word} area {ospf.area}" for word in ("ip ospf", "ipv6 ospf6")]
    yield "\n".join(["interface lo", *lines, " ip ospf passive", " ipv6 ospf6 passive", "exit"])
    for family in Family:
        version = "" if family is Family.V4 else "6"
        name = f"aggregates{int(family)}"
        own = [Pattern.exactly(one) for one in speaker.originates]
        yield "\n".join(
            [
                *_prefix_list(name, own, family),
                f"route-map {name} permit 10",
                f" match {WORDS[family]} address prefix-list {name}",
                "exit",
                f"router ospf{version}",
                f" ospf{version} router-id {speaker.router_id}",
                f" redistribute static route-map {name}",
                *(
                    f" area {area} range {one} not-advertise"
                    for area, ranges in sorted(ospf.ranges.items())
                    for one in ranges
                    if one.family is family
                ),
                " graceful-restart",
                "exit",
            ]
        )


def _interface(link: OspfLink) -> Iterator[str]:
    options = link.options
    for word in ("ip ospf", "ipv6 ospf6"):
        yield f" {word} area {link.area}"
        yield f" {word} network point-to-point"
        yield f" {word} cost {link.cost}"
        yield f" {word} hello-interval {options.keepalive_seconds}"
        yield f" {word} dead-interval {options.hold_seconds}"
        if options.bfd:
            yield f" {word} bfd"
    if options.password_file:
        yield f" ! the next lines want the content of {options.password_file}"
        yield " ip ospf authentication message-digest"
        yield " ip ospf message-digest-key 1 md5 PASSWORD"
        yield " ipv6 ospf6 authentication key-id 1 hash-algo hmac-sha-256 key PASSWORD"


def _cidr(prefix: Prefix) -> str:
    return f"{prefix.text}/{prefix.length}"
