"""Romana's own policy documents (`version: 1`, `kind: policy`).

Owns the format. Knows no world: tenants and segments are names here. Invariant: a document gives a policy, or Invalid
with every fault. Nothing is assumed where leaving something out could be a slip: who a rule is about is always written.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from romana.codec.document import field_path
from romana.codec.kubernetes_parts import CLUSTER_ID, NAMESPACED_ID
from romana.codec.parts import Parts
from romana.codec.traffic import parse_traffic
from romana.model.address import Prefix
from romana.model.policy import (
    CidrPeer,
    HostPeer,
    LocalPeer,
    Operator,
    Peer,
    Policy,
    Requirement,
    Rule,
    Selector,
    Traffic,
)

KIND = "native"
_ANY = "any"
_LOCAL = "local"
"""The endpoints of the very host that a policy is about."""
_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}"


class PolicyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The document; its parts are read one by one. A direction that is left out is not governed. A `staged` policy
    decides nothing yet; connections that it would decide about otherwise are told of.
    """

    version: Literal[1]
    kind: Literal["policy"]
    id: str
    applies_to: list[Any]
    description: str = ""
    staged: bool = False
    ingress: list[Any] | None = None
    egress: list[Any] | None = None


class SelectorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Endpoints: those for which everything that is written holds. A list means any of its values."""

    tenant: str | list[str] | None = None
    segment: str | list[str] | None = None
    labels: dict[str, str | list[str]] = {}


class HostDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts: `any`, a name or several, of those with these labels."""

    host: str | list[str]
    labels: dict[str, str | list[str]] = {}


class CidrDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses, whoever has them."""

    cidr: Prefix
    excluded: list[Prefix] = msgspec.field(default=[], name="except")


class IngressDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A rule about who may connect; without `ports`, all traffic."""

    peers: str | list[Any] = msgspec.field(name="from")
    ports: list[str] | None = None


class EgressDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A rule about where to; without `ports`, all traffic."""

    peers: str | list[Any] = msgspec.field(name="to")
    ports: list[str] | None = None


def read(document: object) -> Policy:
    """The policy of a loaded document; Invalid with every fault."""
    parts = Parts()
    policy = parts.read(document, PolicyDocument, "")
    body: dict[str, Any] = document if isinstance(document, dict) else {}
    _check(body, parts)
    subjects = [_who(one, f"applies_to[{index}]", parts) for index, one in enumerate(_list(body.get("applies_to")))]
    ingress = _rules(body.get("ingress"), "ingress", IngressDocument, parts)
    egress = _rules(body.get("egress"), "egress", EgressDocument, parts)
    if any(isinstance(one, HostPeer) for one in subjects) and any(one.name for one in _all_traffic(ingress)):
        parts.fault("ingress", "names a port, but hosts have no named ports; write its number")
    for path, rules in (("ingress", ingress), ("egress", egress)):
        if any(isinstance(one, Selector) for one in subjects) and _is_about_local(rules):
            sentence = f"`{_LOCAL}` is for policies that apply to hosts alone; write the tenant of those endpoints"
            parts.fault(path, sentence)
    parts.finish()
    assert policy is not None  # noqa: S101 - without faults it was read
    return Policy(
        id=policy.id,
        kind=KIND,
        subjects=tuple(one for one in subjects if isinstance(one, Selector)),
        hosts=tuple(one for one in subjects if isinstance(one, HostPeer)),
        staged=policy.staged,
        ingress=ingress,
        egress=egress,
        description=policy.description,
        document=msgspec.json.encode(document).decode(),
    )


def _check(body: dict[str, Any], parts: Parts) -> None:
    """What the form does not say, of a document that may have faults of form, too."""
    id_ = body.get("id")
    if isinstance(id_, str) and not re.fullmatch(_ID, id_):
        parts.fault("id", f"{id_!r} is no id: letters, digits, dots, dashes and underscores, at most 127")
    elif isinstance(id_, str) and id_.startswith((NAMESPACED_ID, CLUSTER_ID)):
        parts.fault("id", f"{id_!r} begins as the ids of Kubernetes policies do; choose another one")
    if body.get("applies_to") == []:
        parts.fault("applies_to", "is empty, so the policy would select nobody; name a tenant, a segment or labels")
    if body.get("ingress") is None and body.get("egress") is None:
        parts.fault("", "governs nothing; write `ingress`, `egress` or both (an empty list allows nothing)")


def _is_about_local(rules: tuple[Rule, ...] | None) -> bool:
    return any(isinstance(one, LocalPeer) for rule in rules or () for one in rule.peers or ())


def _rules(
    value: object, path: str, kind: type[IngressDocument] | type[EgressDocument], parts: Parts
) -> tuple[Rule, ...] | None:
    if value is None:
        return None
    found = []
    key = "from" if kind is IngressDocument else "to"
    for index, one in enumerate(_list(value)):
        place = f"{path}[{index}]"
        rule: IngressDocument | EgressDocument | None = parts.read(one, kind, place)
        if rule is not None:
            peers = _peers(rule.peers, f"{place}.{key}", parts)
            found.append(Rule(peers=peers, traffic=_traffic(rule.ports, f"{place}.ports", parts)))
        elif isinstance(one, dict):  # a rule with a fault of form: its parts are looked at as well
            if isinstance(one.get(key), list):
                _peers(one[key], f"{place}.{key}", parts)
            if isinstance(one.get("ports"), list):
                _traffic(one["ports"], f"{place}.ports", parts)
    return tuple(found)


def _peers(value: str | list[Any], path: str, parts: Parts) -> tuple[Peer, ...] | None:
    """The peers; None for anyone."""
    written = [value] if isinstance(value, str) else value
    if not written:
        parts.fault(path, f"is empty, so the rule would be about nobody; write `{_ANY}` for anyone")
    found: list[Peer | None] = []
    for index, one in enumerate(written):
        place = path if isinstance(value, str) else f"{path}[{index}]"
        if isinstance(one, str):
            if one == _LOCAL:
                found.append(LocalPeer())
            elif one != _ANY:
                parts.fault(
                    place,
                    f"{one!r} is no peer; write `{_ANY}`, a `tenant`, `segment` or `labels`, a `cidr`, a `host`, or "
                    f"`{_LOCAL}`",
                )
        elif isinstance(one, dict) and ("cidr" in one or "except" in one):
            found.append(_cidr(one, place, parts))
        else:
            found.append(_who(one, place, parts))
    return None if _ANY in written else tuple(one for one in found if one is not None)


def _cidr(value: object, path: str, parts: Parts) -> CidrPeer | None:
    peer = parts.read(value, CidrDocument, path)
    if peer is None:
        return None
    for index, excluded in enumerate(peer.excluded):
        if excluded == peer.cidr or not peer.cidr.contains(excluded):
            parts.fault(f"{path}.except[{index}]", f"{excluded} is not a smaller part of {peer.cidr}")
    return CidrPeer(cidr=peer.cidr, excluded=tuple(peer.excluded))


def _who(value: object, path: str, parts: Parts) -> Selector | HostPeer | None:
    return _hosts(value, path, parts) if isinstance(value, dict) and "host" in value else _selector(value, path, parts)


def _hosts(value: object, path: str, parts: Parts) -> HostPeer | None:
    one = parts.read(value, HostDocument, path)
    if one is None:
        return None
    names = None if one.host == _ANY else _named(one.host, f"{path}.host", parts)
    return HostPeer(names=names, labels=_labels(one.labels, path, parts))


def _selector(value: object, path: str, parts: Parts) -> Selector | None:
    one = parts.read(value, SelectorDocument, path)
    if one is None:
        return None
    if one == SelectorDocument():
        parts.fault(path, "names nobody; write a `tenant`, a `segment` or `labels`")
    return Selector(
        tenants=_named(one.tenant, f"{path}.tenant", parts),
        segments=_named(one.segment, f"{path}.segment", parts),
        labels=_labels(one.labels, path, parts),
    )


def _labels(labels: dict[str, str | list[str]], path: str, parts: Parts) -> tuple[Requirement, ...]:
    if "" in labels:
        parts.fault(field_path(f"{path}.labels", ""), "is a label without a name")
    return tuple(
        Requirement(key, Operator.IN, _names(wanted, field_path(f"{path}.labels", key), parts) or ())
        for key, wanted in sorted(labels.items())
    )


def _names(value: str | list[str] | None, path: str, parts: Parts) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else tuple(value)
    if not names:
        parts.fault(path, "is an empty list, which nobody matches; leave it out or name some")
    return names


def _named(value: str | list[str] | None, path: str, parts: Parts) -> tuple[str, ...] | None:
    """The same for what has a name of at least one letter."""
    names = _names(value, path, parts)
    for index, name in enumerate(names or ()):
        if not name:
            parts.fault(path if isinstance(value, str) else f"{path}[{index}]", "is empty, which nobody is called")
    return names


def _traffic(ports: list[Any] | None, path: str, parts: Parts) -> tuple[Traffic, ...]:
    found = []
    for index, text in enumerate(ports or ()):
        if not isinstance(text, str):
            continue  # told as a fault of form
        try:
            found.append(parse_traffic(text, names=True))
        except ValueError as error:
            parts.fault(f"{path}[{index}]", str(error))
    if ports is not None and not ports:
        parts.fault(path, "is empty; leave it out for all traffic")
    return tuple(found)


def _all_traffic(rules: tuple[Rule, ...] | None) -> list[Traffic]:
    return [one for rule in rules or () for one in rule.traffic]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
