"""Random policy documents of every kind, all of them valid, as JSON values; a function of the random source alone.

They are about the tenants, segments, labels and ports that `random_worlds` uses, and about the CIDRs they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from random import Random
from typing import Any

TENANTS = ("a", "b", "c")
SEGMENTS = ("web", "db")
LABELS = {"app": ("x", "y", ""), "tier": ("x", "y")}
PORTS = (53, 80, 81, 90, 443)
PORT_NAMES = ("http", "dns", "none")
NATIVE_TRAFFIC = (
    *("any", "tcp", "tcp/80", "tcp/443", "tcp/80-90", "tcp/http", "udp", "udp/53-60", "udp/dns", "sctp", "sctp/80"),
    *("sctp/http", "icmp", "icmp/8", "icmp/3/4", "icmpv6", "icmpv6/128", "icmpv6/1/0", "tcp/none"),
)
V2_TRAFFIC: tuple[dict[str, Any], ...] = (
    {"protocol": "any"},
    {"protocol": "tcp"},
    {"protocol": "TCP", "ports": [80, 443]},
    {"protocol": "tcp", "ports": [53], "port_ranges": [[80, 90]], "is_stateful": True},
    {"protocol": "udp", "port_ranges": [[53, 60]]},
    {"protocol": "any", "ports": [80]},
    {"protocol": "icmp"},
    {"protocol": "icmp", "icmp_type": 8},
    {"protocol": "icmp", "icmp_type": 3, "icmp_code": 4},
)
Document = dict[str, Any]


class Author:
    """Writes documents. `cidrs` are those that they may name."""

    def __init__(self, random: Random, cidrs: Sequence[str]) -> None:
        self.random = random
        self.cidrs = cidrs

    def document(self, number: int, kinds: Sequence[str]) -> Document:
        """The one with this number, of one of these kinds."""
        writers = {"kubernetes": self.network_policy, "cluster": self.cluster, "native": self.native, "v2": self.v2}
        return writers[self.random.choice(kinds)](number)

    def some(self, most: int) -> range:
        """From none to so many."""
        return range(self.random.randint(0, most))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # Kubernetes

    def network_policy(self, number: int) -> Document:
        spec: Document = {"podSelector": self.label_selector(0.4)}
        for direction, key in (("ingress", "from"), ("egress", "to")):
            if self.chance(0.65):
                spec[direction] = [self.rule(key) for _ in self.some(3)]
        if self.chance(0.6):
            spec["policyTypes"] = self.random.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"p{number}", "namespace": self.random.choice(TENANTS), **self.annotations()},
            "spec": spec,
        }

    def annotations(self) -> Document:
        return {"annotations": {"romana.io/staged": "true"}} if self.chance(0.15) else {}

    def rule(self, key: str) -> Document:
        rule: Document = {}
        if self.chance(0.85):
            rule[key] = [self.pod_peer() if self.chance(0.6) else self.ip_block() for _ in self.some(3)]
        if self.chance(0.7):
            rule["ports"] = [self.port() for _ in self.some(3)]
        return rule

    def pod_peer(self) -> Document:
        selectors = self.random.choice((("podSelector",), ("namespaceSelector",), ("podSelector", "namespaceSelector")))
        return {key: self.label_selector(0.25) for key in selectors}

    def ip_block(self) -> Document:
        cidr = self.random.choice(self.cidrs)
        block: Document = {"cidr": cidr}
        excluded = [self.part(cidr) for _ in self.some(2)]
        if any(excluded):
            block["except"] = [one for one in excluded if one]
        return {"ipBlock": block}

    def part(self, cidr: str) -> str:
        """A smaller part of a CIDR; nothing when there is none."""
        whole = ip_network(cidr)
        known = [ip_network(one) for one in self.cidrs]
        inside = [one for one in known if one.version == whole.version and one != whole and one.subnet_of(whole)]  # type: ignore[arg-type]
        if inside and self.chance(0.5):
            return str(self.random.choice(inside))
        length = min(whole.max_prefixlen, whole.prefixlen + self.random.randint(1, 5))
        step = 1 << (whole.max_prefixlen - length)
        first = int(whole.network_address) + step * self.random.randrange(1 << (length - whole.prefixlen))
        address = type(whole.network_address)(first)
        return f"{address}/{length}" if length > whole.prefixlen else ""

    def port(self) -> Document:
        port: Document = {}
        if self.chance(0.8):
            port["protocol"] = self.random.choice(("TCP", "TCP", "UDP", "SCTP"))
        if self.chance(0.3):
            port["port"] = self.random.choice(PORT_NAMES)
        elif self.chance(0.85):
            port["port"] = self.random.choice(PORTS)
            if self.chance(0.3):
                port["endPort"] = port["port"] + self.random.choice((0, 1, 10, 400))
        return port

    def label_selector(self, empty: float) -> Document:
        selector: Document = {}
        if self.chance(empty):
            return selector
        if self.chance(0.5):
            key = self.random.choice(sorted(LABELS))
            selector["matchLabels"] = {key: self.random.choice(LABELS[key])}
        if self.chance(0.6):
            selector["matchExpressions"] = [self.expression() for _ in range(self.random.choice((1, 1, 2)))]
        return selector

    def expression(self) -> Document:
        if self.chance(0.2):
            return {"key": "kubernetes.io/metadata.name", "operator": "In", "values": self.names(TENANTS)}
        key = self.random.choice(sorted(LABELS))
        operator = self.random.choice(("In", "NotIn", "NotIn", "Exists", "DoesNotExist"))
        values = {"values": self.names(("x", "y", "z"))} if operator in ("In", "NotIn") else {}
        return {"key": key, "operator": operator, **values}

    def names(self, known: Sequence[str]) -> list[str]:
        return self.random.sample(known, self.random.randint(1, 2))

    # ClusterNetworkPolicy

    def cluster(self, number: int) -> Document:
        subject = self.cluster_peer(("namespaces", "pods"))
        spec: Document = {
            "tier": self.random.choice(("Admin", "Baseline")),
            "priority": self.random.choice((0, 1, 2, 1000)),
            "subject": subject,
        }
        for direction, key in (("ingress", "from"), ("egress", "to")):
            if self.chance(0.7):
                spec[direction] = [self.cluster_rule(key) for _ in self.some(3)]
        return {
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": f"p{number}", **self.annotations()},
            "spec": spec,
        }

    def cluster_rule(self, key: str) -> Document:
        fields = ("namespaces", "pods") if key == "from" else ("namespaces", "pods", "pods", "nodes", "networks")
        peers = [self.cluster_peer(fields) for _ in range(self.random.randint(1, 2))]
        rule: Document = {"action": self.random.choice(("Accept", "Deny", "Pass")), key: peers}
        if self.chance(0.6):
            named = all("nodes" not in peer and "networks" not in peer for peer in peers)
            rule["protocols"] = [self.cluster_protocol(named=named) for _ in range(self.random.randint(1, 2))]
        return rule

    def cluster_peer(self, fields: Sequence[str]) -> Document:
        field = self.random.choice(fields)
        if field == "networks":
            return {field: [self.random.choice(self.cidrs) for _ in range(self.random.randint(1, 2))]}
        if field == "pods":
            pods: Document = {"podSelector": self.label_selector(0.25)}
            if self.chance(0.6):
                pods["namespaceSelector"] = self.label_selector(0.25)
            return {field: pods}
        return {field: self.label_selector(0.3)}

    def cluster_protocol(self, *, named: bool) -> Document:
        if named and self.chance(0.3):
            return {"destinationNamedPort": self.random.choice(PORT_NAMES)}
        name = self.random.choice(("tcp", "tcp", "udp", "sctp"))
        start = self.random.choice(PORTS)
        port = self.random.choice(
            (None, {"number": start}, {"range": {"start": start, "end": start + self.random.choice((1, 10, 400))}})
        )
        return {name: {} if port is None else {"destinationPort": port}}

    # Romana's own, and those of v2

    def native(self, number: int) -> Document:
        document: Document = {
            "version": 1,
            "kind": "policy",
            "id": self.random.choice("az") + str(number),
            "applies_to": [self.selector() for _ in range(self.random.randint(1, 2))],
        }
        about_hosts = self.chance(0.25)
        if about_hosts:
            document["applies_to"][0] = self.hosts()
        if self.chance(0.15):
            document["staged"] = True
        directions = self.random.choice((("ingress",), ("egress",), ("ingress", "egress")))
        for direction in directions:
            key = "from" if direction == "ingress" else "to"
            named = not (about_hosts and direction == "ingress")
            document[direction] = [self.native_rule(key, named=named) for _ in self.some(3)]
        return document

    def native_rule(self, key: str, *, named: bool) -> Document:
        """A rule; hosts have no named ports to accept."""
        peers = [self.native_peer() for _ in range(self.random.randint(1, 3))]
        rule: Document = {key: "any" if self.chance(0.1) else peers}
        if self.chance(0.8):
            known = [one for one in NATIVE_TRAFFIC if named or not one.endswith(PORT_NAMES)]
            rule["ports"] = self.random.sample(known, self.random.randint(1, 3))
        return rule

    def native_peer(self) -> Document:
        if self.chance(0.1):
            return self.hosts()
        return self.selector() if self.chance(0.6) else self.cidr()

    def hosts(self) -> Document:
        hosts: Document = {"host": self.random.choice(("any", "any", "h1", ["h1", "h2"], ["h3"]))}
        if self.chance(0.4):
            key = self.random.choice(sorted(LABELS))
            hosts["labels"] = {key: self.one_or_some(LABELS[key])}
        return hosts

    def cidr(self) -> Document:
        block: Document = self.ip_block()["ipBlock"]
        return block

    def selector(self) -> Document:
        selector: Document = {}
        if self.chance(0.6):
            selector["tenant"] = self.one_or_some(TENANTS)
        if self.chance(0.3):
            selector["segment"] = self.one_or_some(SEGMENTS)
        if not selector or self.chance(0.3):
            key = self.random.choice(sorted(LABELS))
            selector["labels"] = {key: self.one_or_some(LABELS[key])}
        return selector

    def one_or_some(self, known: Sequence[str]) -> str | list[str]:
        return self.random.choice(known) if self.chance(0.6) else self.names(known)

    def v2(self, number: int) -> Document:
        targets = [self.v2_target() for _ in range(self.random.randint(1, 2))]
        local = all(one == {"dest": "host"} for one in targets)
        return {
            "id": self.random.choice("az") + str(number),
            "direction": self.random.choice(("ingress", "ingress", "egress")),
            "applied_to": targets,
            "ingress": [
                {
                    "peers": [self.v2_peer(local=local) for _ in range(self.random.randint(1, 2))],
                    "rules": self.random.sample(V2_TRAFFIC, self.random.randint(1, 2)),
                }
                for _ in range(self.random.randint(1, 2))
            ],
        }

    def v2_target(self) -> Document:
        return {"dest": "host"} if self.chance(0.2) else self.v2_end()

    def v2_peer(self, *, local: bool) -> Document:
        """A peer; that of hosts alone may be their own endpoints."""
        if local and self.chance(0.5):
            return {"peer": "local"}
        if self.chance(0.25):
            return {"peer": self.random.choice(("any", "host"))}
        return {"cidr": self.random.choice(self.cidrs)} if self.chance(0.4) else self.v2_end()

    def v2_end(self) -> Document:
        end = {"tenant_id": self.random.choice(TENANTS)}
        return {**end, "segment_id": self.random.choice(SEGMENTS)} if self.chance(0.5) else end
