"""Romana v2's policy documents, read into the neutral form by their own rules.

Owns the format and its meaning: an ingress policy says what its targets accept; an egress policy is a list of what they
may not send, whatever else is allowed. Knows no world. Invariant: a document gives a policy, or Invalid with every
fault.

Source: Romana v2's policy schema and the rules its agent made of it. Here the entries of `ingress` stay apart; there
the peers of all met the rules of all.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from romana.codec.kubernetes_parts import CLUSTER_ID, NAMESPACED_ID
from romana.codec.parts import Parts
from romana.model.address import Prefix
from romana.model.policy import (
    ICMP,
    PORT_PROTOCOLS,
    TCP,
    UDP,
    Action,
    CidrPeer,
    HostPeer,
    LocalPeer,
    Peer,
    Policy,
    PolicyTier,
    Rule,
    Selector,
    Traffic,
)

KIND = "romana-v2"
PRIORITY = 1001
"""Of egress policies in the admin tier: after those of others, which say at most 1000 themselves."""
_ID = re.compile(r"(?!\.*\Z)[^/\x00-\x1f\x7f]{1,253}")
_LAST_PORT = 65535
_LAST_TYPE = 255
_CODES = {3: 15, 4: 0, 5: 3, 11: 1}
"""The largest code of an ICMP type; 0 for all others."""
_PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}


class EndDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A target or a peer."""

    peer: str = ""
    cidr: str = ""
    dest: str = ""
    tenant_id: str = ""
    segment_id: str = ""


class RuleDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic. `is_stateful` has no meaning: replies always belong to their connection."""

    protocol: str
    ports: list[int] | None = None
    port_ranges: list[tuple[int, int]] | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    is_stateful: bool = False


class EntryDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Peers and traffic; its parts are read one by one."""

    peers: list[Any]
    rules: list[Any]


class V2Document(msgspec.Struct, frozen=True, kw_only=True):
    """The document; the key of its entries is `ingress` in both directions."""

    id: str
    direction: Literal["ingress", "egress"]
    applied_to: list[Any]
    ingress: list[Any]
    description: str = ""


def read(document: object) -> Policy:
    """The policy of a loaded document; Invalid with every fault."""
    parts = Parts()
    top = parts.read(document, V2Document, "")
    body: dict[str, Any] = document if isinstance(document, dict) else {}
    for key in ("applied_to", "ingress"):
        if body.get(key) == []:
            parts.fault(key, "is empty; a policy names at least one target and one entry")
    targets = [_target(one, f"applied_to[{index}]", parts) for index, one in enumerate(_list(body.get("applied_to")))]
    if any(isinstance(one, Selector) for one in targets):
        _refuse_local(body, parts)
    egress = body.get("direction") == "egress"
    rules = tuple(
        _entry(one, f"ingress[{index}]", Action.DENY if egress else Action.ACCEPT, parts)
        for index, one in enumerate(_list(body.get("ingress")))
    )
    id_ = body.get("id")
    if isinstance(id_, str) and not _ID.fullmatch(id_):
        parts.fault("id", "needs 1 to 253 characters, without slashes and control characters, and not only dots")
    if isinstance(id_, str) and id_.startswith((NAMESPACED_ID, CLUSTER_ID)):
        parts.fault("id", f"begins with {NAMESPACED_ID} or {CLUSTER_ID}, as the ids of Kubernetes policies do")
    parts.finish()
    assert top is not None  # noqa: S101 - without faults it was read
    return Policy(
        id=top.id,
        kind=KIND,
        subjects=tuple(one for one in targets if isinstance(one, Selector)),
        hosts=tuple(one for one in targets if isinstance(one, HostPeer)),
        ingress=None if egress else rules,
        egress=rules if egress else None,
        description=top.description,
        document=msgspec.json.encode(document).decode(),
        tier=PolicyTier.ADMIN if egress else PolicyTier.POLICIES,
        priority=PRIORITY if egress else 0,
    )


def _refuse_local(body: dict[str, Any], parts: Parts) -> None:
    """The endpoints of the host itself are a host's peers only."""
    for index, entry in enumerate(_list(body.get("ingress"))):
        for number, peer in enumerate(_list(entry.get("peers")) if isinstance(entry, dict) else ()):
            if isinstance(peer, dict) and peer.get("peer") == _LOCAL:
                parts.fault(
                    f"ingress[{index}].peers[{number}].peer",
                    "'local' is for policies whose every target is dest: host; write the tenant_id of those endpoints",
                )


def _target(written: object, path: str, parts: Parts) -> Selector | HostPeer | None:
    end = parts.read(written, EndDocument, path)
    if end is None:
        return None
    if end == EndDocument(dest=_HOST):
        return HostPeer()
    if end.dest == _LOCAL:
        parts.fault(
            f"{path}.dest",
            "'local' had no effect in v2 and is not read; write a target for each tenant_id whose endpoints are meant, "
            "and peer: host for who may reach them",
        )
    elif end.dest:
        parts.fault(
            f"{path}.dest",
            f"policies for {end.dest!r} are not read; write host, or a tenant_id with a segment_id or not",
        )
    elif end.peer or end.cidr:
        parts.fault(path, "a target is a tenant_id, with a segment_id or not, or dest: host")
    return _selector(end, path, parts)


def _selector(end: EndDocument, path: str, parts: Parts) -> Selector | None:
    if not end.tenant_id:
        if not end.dest:
            parts.fault(path, "names no tenant_id")
        return None
    return Selector(tenants=(end.tenant_id,), segments=(end.segment_id,) if end.segment_id else None)


def _entry(written: object, path: str, action: Action, parts: Parts) -> Rule:
    parts.read(written, EntryDocument, path)
    body: dict[str, Any] = written if isinstance(written, dict) else {}
    for key in ("peers", "rules"):
        if body.get(key) == []:
            parts.fault(f"{path}.{key}", "is empty; an entry names at least one")
    peers = [_peer(one, f"{path}.peers[{index}]", parts) for index, one in enumerate(_list(body.get("peers")))]
    traffic: list[Traffic] = []
    for index, one in enumerate(_list(body.get("rules"))):
        traffic += _traffic(one, f"{path}.rules[{index}]", parts)
    anyone = any(peer == _ANYONE for peer in peers)
    known = tuple(peer for peer in peers if isinstance(peer, Peer))
    return Rule(peers=None if anyone else known, traffic=tuple(traffic), action=action)


_ANYONE, _HOST, _LOCAL = "any", "host", "local"


def _peer(written: object, path: str, parts: Parts) -> Peer | str | None:
    end = parts.read(written, EndDocument, path)
    if end is None:
        return None
    if end.peer == _ANYONE:
        return _ANYONE
    if end == EndDocument(peer=_HOST):
        return HostPeer()
    if end == EndDocument(peer=_LOCAL):
        return LocalPeer()
    if end.peer in (_HOST, _LOCAL):
        whom = "hosts" if end.peer == _HOST else "the endpoints of the host itself"
        parts.fault(path, f"names {whom} and somebody else; write them as two peers")
        return None
    if end.peer or end.dest:
        word = end.peer or end.dest
        parts.fault(
            f"{path}.{'peer' if end.peer else 'dest'}",
            f"{word!r} is not read; write any, host, local, a cidr or a tenant_id",
        )
        return None
    if end.cidr:
        cidr = parts.read(end.cidr, Prefix, f"{path}.cidr")
        return None if cidr is None else CidrPeer(cidr=cidr)
    return _selector(end, path, parts)


def _traffic(written: object, path: str, parts: Parts) -> list[Traffic]:
    rule = parts.read(written, RuleDocument, path)
    if rule is None:
        return []
    word = rule.protocol.lower()
    if word != _ANYONE and word not in _PROTOCOLS:
        parts.fault(f"{path}.protocol", f"{rule.protocol!r} is none of tcp, udp, icmp, any")
        return []
    ports = [(port, port) for port in rule.ports or ()] + list(rule.port_ranges or ())
    if word == "icmp":
        if ports:
            parts.fault(path, "has ports, but icmp has none")
        return [_icmp(rule, path, parts)]
    if rule.icmp_type is not None or rule.icmp_code is not None:
        parts.fault(path, f"has an icmp_type or icmp_code, but its protocol is {word}")
    protocols = sorted(PORT_PROTOCOLS) if word == _ANYONE else [_PROTOCOLS[word]]  # only these have ports
    for first, last in ports:
        if not 0 <= first <= last <= _LAST_PORT:
            parts.fault(path, f"{first}-{last} is no range of ports; they are 0 to {_LAST_PORT}, the lower one first")
    if not ports:
        return [Traffic(_PROTOCOLS.get(word))]
    return [Traffic(protocol, first, last) for first, last in ports for protocol in protocols]


def _icmp(rule: RuleDocument, path: str, parts: Parts) -> Traffic:
    if rule.icmp_type is None:
        if rule.icmp_code is not None:
            parts.fault(f"{path}.icmp_code", "needs an icmp_type beside it")
        return Traffic(ICMP)
    if not 0 <= rule.icmp_type <= _LAST_TYPE:
        parts.fault(f"{path}.icmp_type", f"{rule.icmp_type} is no ICMP type; they are 0 to {_LAST_TYPE}")
        return Traffic(ICMP)
    start = rule.icmp_type * 256
    if rule.icmp_code is None:
        return Traffic(ICMP, start, start + 255)
    most = _CODES.get(rule.icmp_type, 0)
    if not 0 <= rule.icmp_code <= most:
        parts.fault(f"{path}.icmp_code", f"{rule.icmp_code} is no code of ICMP type {rule.icmp_type}; 0 to {most} are")
    return Traffic(ICMP, start + rule.icmp_code, start + rule.icmp_code)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
