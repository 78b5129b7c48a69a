"""Kubernetes' ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2), read into the neutral form.

Owns the translation: a policy of the Admin or Baseline tier whose rules accept, deny or pass. Knows no cluster.
Invariant: a document gives a policy that means what the API says, or Invalid with every fault.

Source: Network Policy API, ClusterNetworkPolicy v1alpha2 and its validation.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from romana.codec.kubernetes_parts import (
    CLUSTER_ID,
    PolicyObject,
    check_port,
    check_port_name,
    elements,
    mapping,
    read_cidr,
    read_names,
    read_selector,
    read_staged,
)
from romana.codec.parts import Parts
from romana.model.policy import (
    SCTP,
    TCP,
    UDP,
    Action,
    CidrPeer,
    HostPeer,
    Peer,
    Policy,
    PolicyTier,
    Rule,
    Selector,
    Traffic,
)

KIND = "kubernetes-cluster"
API_VERSION = "policy.networking.k8s.io/v1alpha2"
MOST = 25
"""Rules of a direction, peers and protocols of a rule, and CIDRs of a peer, at most."""
_ACTIONS = {"Accept": Action.ACCEPT, "Deny": Action.DENY, "Pass": Action.PASS}
_TIERS = {"Admin": PolicyTier.ADMIN, "Baseline": PolicyTier.BASELINE}
_PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
_MOST_PRIORITY = 1000
_MOST_NAME = 100


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The specification; subject and rules are read one by one."""

    tier: Literal["Admin", "Baseline"]
    priority: int
    subject: dict[str, Any]
    ingress: list[Any] | None = None
    egress: list[Any] | None = None


class PodsPeer(msgspec.Struct, frozen=True, kw_only=True):
    """Pods by the labels of their namespace and their own."""

    pod_selector: dict[str, Any] = msgspec.field(name="podSelector")
    namespace_selector: Any = msgspec.field(default=None, name="namespaceSelector")


class ClusterRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule; `from` is for ingress, `to` for egress."""

    action: Literal["Accept", "Deny", "Pass"]
    sources: list[Any] | None = msgspec.field(default=None, name="from")
    destinations: list[Any] | None = msgspec.field(default=None, name="to")
    protocols: list[Any] | None = None
    name: str = ""


class PortRange(msgspec.Struct, frozen=True, kw_only=True):
    """From one port to a greater one."""

    start: int
    end: int


class PortMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A number or a range."""

    number: int | None = None
    range: PortRange | None = None


class ProtocolMatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at in one protocol."""

    destination_port: PortMatch | None = msgspec.field(default=None, name="destinationPort")


def read(document: object) -> Policy:
    """The policy of a loaded object; Invalid with every fault. Its id is `kube-cluster.<name>`."""
    return _Reader().policy(document)


class _Reader:
    """Reads one object, part by part."""

    def __init__(self) -> None:
        self.parts = Parts()

    def policy(self, document: object) -> Policy:
        top = self.parts.read(document, PolicyObject, "")
        body = mapping(document)
        (name,) = read_names(top.metadata if top else body.get("metadata"), ("name",), self.parts)
        written = mapping(body.get("spec"))
        spec = self.parts.read(written, ClusterSpec, "spec")
        priority = written.get("priority")
        if type(priority) is int and not 0 <= priority <= _MOST_PRIORITY:
            self.parts.fault("spec.priority", f"{priority} is not between 0 and {_MOST_PRIORITY}")
        staged = read_staged(body.get("metadata"), self.parts)
        subject = self.subject(written.get("subject"))
        ingress = self.rules(written.get("ingress"), "spec.ingress", "from")
        egress = self.rules(written.get("egress"), "spec.egress", "to")
        self.parts.finish()
        assert spec is not None  # noqa: S101 - without faults it was read
        return Policy(
            id=f"{CLUSTER_ID}{name}",
            kind=KIND,
            subjects=(subject,),
            ingress=ingress or None,
            egress=egress or None,
            tier=_TIERS[spec.tier],
            priority=spec.priority,
            document=msgspec.json.encode(document).decode(),
            staged=staged,
        )

    def subject(self, written: object) -> Selector:
        key, value = self.only(written, ("namespaces", "pods"), "spec.subject")
        found = self.pods(key, value, f"spec.subject.{key}")
        return Selector() if found is None else found

    def only(self, written: object, keys: tuple[str, ...], path: str) -> tuple[str, object]:
        """The one field that is set; a fault when it is none or several."""
        found = mapping(written)
        for unknown in sorted(found.keys() - set(keys)):
            self.parts.fault(f"{path}.{unknown}", f"is not known here; expected one of {', '.join(keys)}")
        for key in keys:
            if key in found and found[key] is None:
                self.parts.fault(f"{path}.{key}", "has no value; write {} to mean all, or leave it out")
        known = [key for key in keys if key in found]
        if len(known) != 1:
            self.parts.fault(path, f"needs exactly one of {', '.join(keys)}, has {', '.join(known) or 'none'}")
            return "", None
        return known[0], found[known[0]]

    def pods(self, key: str, value: object, path: str) -> Selector | None:
        if key == "namespaces":
            return Selector(tenant_labels=read_selector(value, path, self.parts))
        if key != "pods":
            return None
        peer = self.parts.read(value, PodsPeer, path)
        if peer is None:
            return None
        return Selector(
            tenant_labels=read_selector(peer.namespace_selector, f"{path}.namespaceSelector", self.parts),
            labels=read_selector(peer.pod_selector, f"{path}.podSelector", self.parts),
        )

    def rules(self, written: object, path: str, key: str) -> tuple[Rule, ...]:
        self.count(written, path, "rules")
        return tuple(self.rule(one, f"{path}[{index}]", key) for index, one in enumerate(elements(written)))

    def rule(self, written: object, path: str, key: str) -> Rule:
        rule = self.parts.read(written, ClusterRule, path)
        body = mapping(written)
        other = "to" if key == "from" else "from"
        if other in body:
            self.parts.fault(f"{path}.{other}", f"is of the other direction; write `{key}`")
        if not elements(body.get(key)):
            self.parts.fault(f"{path}.{key}", "names nobody; a rule needs at least one peer")
        if rule is not None and len(rule.name) > _MOST_NAME:
            self.parts.fault(f"{path}.name", f"has {len(rule.name)} characters; at most {_MOST_NAME}")
        self.count(body.get(key), f"{path}.{key}", "peers")
        self.count(body.get("protocols"), f"{path}.protocols", "protocols")
        peers: list[Peer] = []
        for index, one in enumerate(elements(body.get(key))):
            peers += self.peer(one, f"{path}.{key}[{index}]", key)
        traffic = [
            self.traffic(one, f"{path}.protocols[{index}]") for index, one in enumerate(elements(body.get("protocols")))
        ]
        if body.get("protocols") == []:
            self.parts.fault(f"{path}.protocols", "is empty; leave it out for all traffic")
        if any(one is not None and one.name for one in traffic) and not all(isinstance(p, Selector) for p in peers):
            self.parts.fault(f"{path}.protocols", "names a port, but nodes and networks have no named ports")
        return Rule(
            peers=tuple(peers),
            traffic=tuple(one for one in traffic if one is not None),
            action=_ACTIONS[rule.action] if rule is not None else Action.DENY,
            name=rule.name if rule is not None else "",
        )

    def peer(self, written: object, path: str, key: str) -> list[Peer]:
        keys = ("namespaces", "pods") if key == "from" else ("namespaces", "pods", "nodes", "networks", "domainNames")
        field, value = self.only(written, keys, path)
        place = f"{path}.{field}"
        if field == "domainNames":
            self.parts.fault(place, "names of domains are not enforced here; write `networks` with their CIDRs")
        elif field == "nodes":
            return [HostPeer(labels=read_selector(value, place, self.parts))]
        elif field == "networks":
            self.count(value, place, "CIDRs")
            texts = self.parts.read(value, list[str], place) or []
            if not texts:
                self.parts.fault(place, "names no CIDR")
            cidrs = [read_cidr(text, f"{place}[{index}]", self.parts) for index, text in enumerate(texts)]
            return [CidrPeer(cidr=cidr) for cidr in cidrs if cidr is not None]
        found = self.pods(field, value, place)
        return [] if found is None else [found]

    def traffic(self, written: object, path: str) -> Traffic | None:
        field, value = self.only(written, (*_PROTOCOLS, "destinationNamedPort"), path)
        place = f"{path}.{field}"
        if field == "destinationNamedPort":
            name = self.parts.read(value, str, place)
            return Traffic(name=name) if name is not None and check_port_name(name, place, self.parts) else None
        if not field:
            return None
        match = self.parts.read(value, ProtocolMatch, place)
        if match is None:
            return None
        if match.destination_port is None:
            return Traffic(_PROTOCOLS[field])
        return self.ports(match.destination_port, _PROTOCOLS[field], f"{place}.destinationPort")

    def ports(self, port: PortMatch, protocol: int, path: str) -> Traffic | None:
        if (port.number is None) == (port.range is None):
            self.parts.fault(path, "needs exactly one of number, range")
            return None
        if port.number is not None:
            known = check_port(port.number, f"{path}.number", self.parts)
            return Traffic(protocol, port.number, port.number) if known else None
        assert port.range is not None  # noqa: S101 - one of both is set
        bounds = {"start": port.range.start, "end": port.range.end}
        if not all(check_port(number, f"{path}.range.{key}", self.parts) for key, number in bounds.items()):
            return None
        if port.range.start >= port.range.end:
            self.parts.fault(f"{path}.range.end", f"{port.range.end} is not greater than start {port.range.start}")
            return None
        return Traffic(protocol, port.range.start, port.range.end)

    def count(self, written: object, path: str, noun: str) -> None:
        if len(elements(written)) > MOST:
            self.parts.fault(path, f"has {len(elements(written))} {noun}; at most {MOST} are allowed")
