"""Kubernetes' NetworkPolicy (networking.k8s.io/v1), read into the neutral form.

Owns the translation: a namespace is a tenant, its labels are the tenant's. Knows no cluster. Invariant: a document
gives a policy that means what the Kubernetes API reference says, or Invalid with every fault.

Source: Kubernetes API reference, NetworkPolicy v1 and LabelSelector; its defaulting of `policyTypes`; the limits of
its validation.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from romana.codec.kubernetes_parts import (
    NAMESPACED_ID,
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
from romana.model.policy import SCTP, TCP, UDP, CidrPeer, Peer, Policy, Rule, Selector, Traffic

KIND = "kubernetes"
API_VERSION = "networking.k8s.io/v1"
_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}


class PolicySpec(msgspec.Struct, frozen=True, kw_only=True):
    """The specification; selectors and rules are read one by one."""

    pod_selector: Any = msgspec.field(default=None, name="podSelector")
    ingress: list[Any] | None = None
    egress: list[Any] | None = None
    policy_types: list[Literal["Ingress", "Egress"]] | None = msgspec.field(default=None, name="policyTypes")


class IpBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses; Kubernetes takes CIDRs with bits set after their length, so they are read as text."""

    cidr: str
    excluded: list[str] | None = msgspec.field(default=None, name="except")


class PolicyPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port, a range, or all ports of a protocol; `port` may be a name."""

    protocol: Literal["TCP", "UDP", "SCTP"] | None = None
    port: int | str | None = None
    end_port: int | None = msgspec.field(default=None, name="endPort")


class PolicyPeer(msgspec.Struct, frozen=True, kw_only=True):
    """One element of `from` or `to`."""

    pod_selector: Any = msgspec.field(default=None, name="podSelector")
    namespace_selector: Any = msgspec.field(default=None, name="namespaceSelector")
    ip_block: Any = msgspec.field(default=None, name="ipBlock")


class IngressRule(msgspec.Struct, frozen=True, kw_only=True):
    """No peers, or none listed: anyone. No ports: all traffic."""

    peers: list[Any] | None = msgspec.field(default=None, name="from")
    ports: list[Any] | None = None


class EgressRule(msgspec.Struct, frozen=True, kw_only=True):
    """The same about where to."""

    peers: list[Any] | None = msgspec.field(default=None, name="to")
    ports: list[Any] | None = None


def read(document: object) -> Policy:
    """The policy of a loaded object; Invalid with every fault. Its id is `kube.<namespace>.<name>`."""
    return _Reader().policy(document)


class _Reader:
    """Reads one object, part by part."""

    def __init__(self) -> None:
        self.parts = Parts()
        self.namespace = ""

    def policy(self, document: object) -> Policy:
        self.kind(document)
        top = self.parts.read(document, PolicyObject, "")
        body = mapping(document)
        name = self.metadata(top.metadata if top else body.get("metadata"))
        written = mapping(body.get("spec"))
        spec = self.parts.read(written, PolicySpec, "spec") or PolicySpec()
        subject = read_selector(written.get("podSelector"), "spec.podSelector", self.parts)
        ingress = self.rules(written.get("ingress"), "spec.ingress", IngressRule)
        egress = self.rules(written.get("egress"), "spec.egress", EgressRule)
        staged = read_staged(body.get("metadata"), self.parts)
        types = spec.policy_types or (["Ingress", "Egress"] if spec.egress else ["Ingress"])
        self.parts.finish()
        return Policy(
            id=f"{NAMESPACED_ID}{self.namespace}.{name}",
            kind=KIND,
            subjects=(Selector(tenants=(self.namespace,), labels=subject),),
            ingress=ingress if "Ingress" in types else None,
            egress=egress if "Egress" in types else None,
            document=msgspec.json.encode(document).decode(),
            staged=staged,
        )

    def kind(self, document: object) -> None:
        """Stop early on what is no NetworkPolicy at all."""
        if isinstance(document, dict) and (document.get("apiVersion"), document.get("kind")) != (
            API_VERSION,
            "NetworkPolicy",
        ):
            what = f"{str(document.get('kind'))[:80]!r} of {str(document.get('apiVersion'))[:80]!r}"
            self.parts.fault(
                "kind",
                f"{what} is not read here; expected NetworkPolicy of {API_VERSION}, or "
                "ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2",
            )
            self.parts.finish()

    def metadata(self, metadata: object) -> str:
        """The name; notes the namespace."""
        name, self.namespace = read_names(metadata, ("name", "namespace"), self.parts)
        return name

    def rules(self, written: object, path: str, kind: type[IngressRule] | type[EgressRule]) -> tuple[Rule, ...]:
        key = "from" if kind is IngressRule else "to"
        found = []
        for index, one in enumerate(elements(written)):
            place = f"{path}[{index}]"
            self.parts.read(one, kind, place)  # for its faults; the elements are read from what is written
            rule = mapping(one)
            peers = [self.peer(peer, f"{place}.{key}[{at}]") for at, peer in enumerate(elements(rule.get(key)))]
            traffic = [self.port(port, f"{place}.ports[{at}]") for at, port in enumerate(elements(rule.get("ports")))]
            found.append(
                Rule(
                    peers=tuple(peer for peer in peers if peer is not None) if peers else None,
                    traffic=tuple(one for one in traffic if one is not None),
                )
            )
        return tuple(found)

    def peer(self, written: object, path: str) -> Peer | None:
        peer = self.parts.read(written, PolicyPeer, path)
        if peer is None:
            return None
        selects = peer.pod_selector is not None or peer.namespace_selector is not None
        if peer.ip_block is not None:
            if selects:
                self.parts.fault(path, "has an ipBlock beside a selector; write them as two peers")
            return self.ip_block(peer.ip_block, f"{path}.ipBlock")
        if not selects:
            self.parts.fault(path, "is an empty peer; write a podSelector, a namespaceSelector or an ipBlock")
            return None
        return Selector(
            tenants=(self.namespace,) if peer.namespace_selector is None else None,
            tenant_labels=read_selector(peer.namespace_selector, f"{path}.namespaceSelector", self.parts),
            labels=read_selector(peer.pod_selector, f"{path}.podSelector", self.parts),
        )

    def ip_block(self, written: object, path: str) -> CidrPeer | None:
        block = self.parts.read(written, IpBlock, path)
        if block is None:
            return None
        cidr = read_cidr(block.cidr, f"{path}.cidr", self.parts)
        excluded = []
        for index, text in enumerate(block.excluded or ()):
            part = read_cidr(text, f"{path}.except[{index}]", self.parts)
            if part is not None and cidr is not None and (part == cidr or not cidr.contains(part)):
                self.parts.fault(f"{path}.except[{index}]", f"{part} is not a smaller part of {cidr}")
            if part is not None:
                excluded.append(part)
        return None if cidr is None else CidrPeer(cidr=cidr, excluded=tuple(excluded))

    def port(self, written: object, path: str) -> Traffic | None:
        port = self.parts.read(written, PolicyPort, path)
        if port is None:
            return None
        protocol = _PROTOCOLS[port.protocol or "TCP"]
        if isinstance(port.port, str):
            if port.end_port is not None:
                self.parts.fault(f"{path}.endPort", "cannot be beside a named port; a range needs numbers")
            known = check_port_name(port.port, f"{path}.port", self.parts)
            return Traffic(protocol, name=port.port) if known else None
        if port.port is None:
            if port.end_port is not None:
                self.parts.fault(f"{path}.endPort", "needs `port`, the first of the range, beside it")
            return Traffic(protocol)
        last = port.port if port.end_port is None else port.end_port
        numbers = {"port": port.port, "endPort": last}
        if not all(check_port(number, f"{path}.{key}", self.parts) for key, number in numbers.items()):
            return None
        if last < port.port:
            self.parts.fault(f"{path}.endPort", f"{last} is less than port {port.port}")
            return None
        return Traffic(protocol, port.port, last)
