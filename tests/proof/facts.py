"""What the naive evaluator knows: endpoints, tenants, hosts, traffic, and a question about them.

Shares no code with romana.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

INGRESS = "ingress"
WITH_PORTS = ("tcp", "udp", "sctp")
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """An endpoint; `ports` are its named ones, as (name, protocol, number)."""

    tenant: str
    segment: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class Peer:
    """The other end: its address, and who it is when that is known."""

    address: IPv4Address | IPv6Address
    pod: Pod | None = None


@dataclass(frozen=True)
class Tenant:
    """A tenant, or a namespace; by default its endpoints are open to it alone. With `own_host` they and the host they
    are on reach each other whatever the policies tier leaves out.
    """

    isolation: str = "tenant"
    labels: Mapping[str, str] = field(default_factory=dict)
    own_host: bool = False


@dataclass(frozen=True)
class Host:
    """A host, by its name and labels, at its own addresses; its endpoints live in the CIDRs that are `local`."""

    name: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    local: tuple[str, ...] = ()


@dataclass(frozen=True)
class Traffic:
    """The first packet of a connection: `tcp`, `udp` and `sctp` with a port, `icmp` and `icmpv6` with type and code,
    or another protocol.
    """

    protocol: str
    port: int = 0
    kind: int = 0
    code: int = 0


class Labels:
    """How label selectors are read: Kubernetes' way (apimachinery's labels and LabelSelector)."""

    def match(self, selector: Document | None, labels: Mapping[str, str]) -> bool:
        """All conditions hold; no selector and an empty one match everything."""
        wanted = (selector or {}).get("matchLabels") or {}
        expressions = (selector or {}).get("matchExpressions") or []
        return all(self.has(labels, key, value) for key, value in wanted.items()) and all(
            self.holds(one, labels) for one in expressions
        )

    def has(self, labels: Mapping[str, str], key: str, value: str) -> bool:
        """A condition of `matchLabels`."""
        return key in labels and labels[key] == value

    def holds(self, expression: Document, labels: Mapping[str, str]) -> bool:
        """An element of `matchExpressions`; NotIn is also true where the label is absent."""
        key: str = expression["key"]
        operator: str = expression["operator"]
        values: Sequence[str] = expression.get("values") or []
        if operator == "In":
            return key in labels and labels[key] in values
        if operator == "NotIn":
            return key not in labels or labels[key] not in values
        return (key in labels) == (operator == "Exists")


@dataclass(frozen=True)
class Question:
    """What an endpoint or a host is asked about a peer, and all that an answer may depend on."""

    direction: str
    own: Pod | Host
    peer: Peer
    traffic: Traffic
    tenants: Mapping[str, Tenant]
    hosts: Sequence[Host]
    labels: Labels

    @property
    def receiver(self) -> Pod | None:
        """Whose named ports count; hosts have none."""
        one = self.own if self.direction == INGRESS else self.peer.pod
        return one if isinstance(one, Pod) else None

    def is_at_host(self, selects: Callable[[Host], bool]) -> bool:
        """Whether the peer's address is one of a host that is meant."""
        return any(str(self.peer.address) in host.addresses and selects(host) for host in self.hosts)

    def tenant_labels(self, pod: Pod) -> dict[str, str]:
        """Those of a pod's tenant; one of them is always its name."""
        given = self.tenants.get(pod.tenant, Tenant()).labels
        return {**given, "kubernetes.io/metadata.name": pod.tenant}

    def is_pod(self, pod: Pod | None, namespaces: Document | None, pods: Document | None) -> bool:
        """Whether label selectors of namespaces and of pods match an endpoint."""
        return (
            pod is not None
            and self.labels.match(namespaces, self.tenant_labels(pod))
            and self.labels.match(pods, pod.labels)
        )

    def is_named(self, name: str, protocols: Iterable[str]) -> bool:
        """Whether the traffic goes to the port that the receiver gives that name, in one of these protocols."""
        wanted = (name, self.traffic.protocol, self.traffic.port)
        return self.traffic.protocol in protocols and self.receiver is not None and wanted in self.receiver.ports

    def is_inside(self, cidr: str, excluded: Iterable[str] = ()) -> bool:
        """Whether the peer's address is in a CIDR and in none of the excluded ones."""
        address = self.peer.address
        return address in _network(cidr) and not any(address in _network(one) for one in excluded)


@functools.cache
def _network(text: str) -> IPv4Network | IPv6Network:
    """A CIDR; Kubernetes takes those with bits set after their length."""
    return ip_network(text, strict=False)


def address(text: str) -> IPv4Address | IPv6Address:
    """An address."""
    return ip_address(text)
