"""The part of our topology documents that says how devices are connected: routers, links, peers, sessions.

Owns the words of that part. Refuses to check what it asks for (`core.topology.fabric` does). Invariant: what it reads
is the neutral form of `model.fabric`, and every fault of the texts in it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from romana.codec.text import parse_pattern
from romana.model.address import Address, Prefix
from romana.model.errors import Fault
from romana.model.fabric import Link, Pattern, Peer, Protocol, RouterDevice, Routing, SessionOptions


class RouterDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A router of a group; a bare name is one, too."""

    name: str
    asn: int = 0
    addresses: tuple[Address, ...] = ()
    listen: tuple[Prefix, ...] = ()


class SessionDocument(msgspec.Struct, frozen=True, kw_only=True, rename={"accepts": "import", "announces": "export"}):
    """What sessions are like."""

    password_file: str | None = None
    ttl_security: bool | None = None
    graceful_restart: bool | None = None
    bfd: bool | None = None
    hold_seconds: int | None = None
    keepalive_seconds: int | None = None
    communities: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    announces: tuple[str, ...] = ()


class LinkDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A link between two devices; everything in pairs is in the order of its ends."""

    ends: tuple[str, str]
    addresses: tuple[tuple[Address, Address], ...] = ()
    interfaces: tuple[str, str] = ("", "")
    cost: int = 10
    session: SessionDocument = SessionDocument()


class PeerDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A BGP speaker that is no device of the plan."""

    name: str
    group: str = ""
    selector: dict[str, str] = {}
    routers: tuple[str, ...] = ()
    asn: int = 0
    addresses: tuple[Address, ...] = ()
    interface: str = ""
    multihop: bool = False
    session: SessionDocument = SessionDocument()


class RoutingDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The section `routing`."""

    protocol: Protocol = Protocol.NONE
    asn: int = 0
    sessions: SessionDocument = SessionDocument()
    links: tuple[LinkDocument, ...] = ()
    peers: tuple[PeerDocument, ...] = ()


def read_routers(routers: Iterable[str | RouterDocument]) -> tuple[RouterDevice, ...]:
    """The routers of a group."""
    return tuple(
        RouterDevice(name=one)
        if isinstance(one, str)
        else RouterDevice(name=one.name, asn=one.asn, addresses=one.addresses, listen=one.listen)
        for one in routers
    )


def read_routing(document: RoutingDocument, faults: list[Fault]) -> Routing:
    """The whole section without patterns that are none, each of which is appended to `faults`."""
    return Routing(
        protocol=document.protocol,
        asn=document.asn,
        sessions=_options(document.sessions, "routing.sessions", faults),
        links=tuple(_link(one, f"routing.links[{index}]", faults) for index, one in enumerate(document.links)),
        peers=tuple(_peer(one, f"routing.peers[{index}]", faults) for index, one in enumerate(document.peers)),
    )


def _link(link: LinkDocument, place: str, faults: list[Fault]) -> Link:
    return Link(
        ends=link.ends,
        addresses=link.addresses,
        interfaces=link.interfaces,
        cost=link.cost,
        options=_options(link.session, f"{place}.session", faults),
    )


def _peer(peer: PeerDocument, place: str, faults: list[Fault]) -> Peer:
    return Peer(
        name=peer.name,
        group=peer.group,
        selector=peer.selector,
        routers=peer.routers,
        asn=peer.asn,
        addresses=peer.addresses,
        interface=peer.interface,
        multihop=peer.multihop,
        options=_options(peer.session, f"{place}.session", faults),
    )


def _options(session: SessionDocument, place: str, faults: list[Fault]) -> SessionOptions:
    def patterns(texts: tuple[str, ...], key: str) -> tuple[Pattern, ...]:
        found = []
        for index, text in enumerate(texts):
            try:
                found.append(parse_pattern(text))
            except ValueError as error:
                faults.append(Fault(f"{place}.{key}[{index}]", str(error)))
        return tuple(found)

    return SessionOptions(
        password_file=session.password_file,
        ttl_security=session.ttl_security,
        graceful_restart=session.graceful_restart,
        bfd=session.bfd,
        hold_seconds=session.hold_seconds,
        keepalive_seconds=session.keepalive_seconds,
        communities=session.communities,
        accepts=patterns(session.accepts, "import"),
        announces=patterns(session.announces, "export"),
    )
