"""What single policy documents say: whom they are about, and which of their rules match; one class for each kind.

Written from the API references of Kubernetes' NetworkPolicy v1 and the Network Policy API's ClusterNetworkPolicy
v1alpha2, from Romana v2's policy schema, and from `docs/design/policy.md`. Only valid documents are read. A new kind of
document is one more class, and one more word in `reading`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.proof.facts import INGRESS, WITH_PORTS, Document, Host, Pod, Question, Traffic


class Reading:
    """What one document says. `tier` is admin, policies or baseline; one that is `staged` decides nothing yet."""

    tier = "policies"
    priority = 0
    staged = False

    def __init__(self, document: Document) -> None:
        self.document = document
        self.id = ""

    def governs(self, direction: str) -> bool:
        """Whether it says anything about a direction."""
        raise NotImplementedError

    def selects(self, question: Question) -> bool:
        """Whether it is about the endpoint or host that is asked."""
        raise NotImplementedError

    def actions(self, question: Question) -> Iterator[str]:
        """The actions of its rules that match, in their order: accept, deny, pass."""
        raise NotImplementedError


class NetworkPolicy(Reading):
    """networking.k8s.io/v1."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.spec: Document = document.get("spec") or {}
        self.namespace: str = document["metadata"]["namespace"]
        self.staged = _is_staged(document)
        self.id = f"kube.{self.namespace}.{document['metadata']['name']}"

    def governs(self, direction: str) -> bool:
        # "If this field is not specified, it will default based on the existence of ingress or egress rules"
        types = self.spec.get("policyTypes") or ["Ingress", *(["Egress"] if self.spec.get("egress") else [])]
        return direction.capitalize() in types

    def selects(self, question: Question) -> bool:
        own, selector = question.own, self.spec.get("podSelector")
        return isinstance(own, Pod) and own.tenant == self.namespace and question.labels.match(selector, own.labels)

    def actions(self, question: Question) -> Iterator[str]:
        for rule in self.spec.get(question.direction) or []:
            peers = rule.get("from" if question.direction == INGRESS else "to") or []
            ports = rule.get("ports") or []
            if (not peers or any(self.is_peer(one, question) for one in peers)) and (
                not ports or any(self.is_port(one, question) for one in ports)
            ):
                yield "accept"

    def is_peer(self, peer: Document, question: Question) -> bool:
        """An ipBlock; or pods, of this namespace when no namespaceSelector is set."""
        if peer.get("ipBlock") is not None:
            return question.is_inside(peer["ipBlock"]["cidr"], peer["ipBlock"].get("except") or [])
        pod, namespaces = question.peer.pod, peer.get("namespaceSelector")
        is_here = namespaces is not None or (pod is not None and pod.tenant == self.namespace)
        return is_here and question.is_pod(pod, namespaces, peer.get("podSelector"))

    def is_port(self, port: Document, question: Question) -> bool:
        """TCP where no protocol is written; all of its ports where no port is; endPort belongs to the range."""
        protocol = (port.get("protocol") or "TCP").lower()
        first = port.get("port")
        if isinstance(first, str):
            return question.is_named(first, (protocol,))
        if question.traffic.protocol != protocol:
            return False
        return first is None or first <= question.traffic.port <= (port.get("endPort") or first)


class ClusterNetworkPolicy(Reading):
    """policy.networking.k8s.io/v1alpha2."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.spec: Document = document["spec"]
        self.tier = self.spec["tier"].lower()
        self.priority = self.spec["priority"]
        self.staged = _is_staged(document)
        self.id = f"kube-cluster.{document['metadata']['name']}"

    def governs(self, direction: str) -> bool:
        return bool(self.spec.get(direction))

    def selects(self, question: Question) -> bool:
        return isinstance(question.own, Pod) and self.is_peer(self.spec["subject"], question, question.own)

    def actions(self, question: Question) -> Iterator[str]:
        for rule in self.spec.get(question.direction) or []:
            peers = rule["from" if question.direction == INGRESS else "to"]
            protocols = rule.get("protocols")
            if any(self.is_peer(one, question, question.peer.pod) for one in peers) and (
                protocols is None or any(self.is_protocol(one, question) for one in protocols)
            ):
                yield rule["action"].lower()

    def is_peer(self, peer: Document, question: Question, pod: Pod | None) -> bool:
        if "namespaces" in peer:
            return question.is_pod(pod, peer["namespaces"], None)
        if "pods" in peer:
            return question.is_pod(pod, peer["pods"].get("namespaceSelector"), peer["pods"]["podSelector"])
        if "networks" in peer:
            return any(question.is_inside(cidr) for cidr in peer["networks"])
        return question.is_at_host(lambda host: question.labels.match(peer["nodes"], host.labels))

    def is_protocol(self, protocol: Document, question: Question) -> bool:
        ((name, value),) = protocol.items()
        if name == "destinationNamedPort":
            return question.is_named(value, WITH_PORTS)
        if question.traffic.protocol != name:
            return False
        port = (value or {}).get("destinationPort")
        if port is None:
            return True
        if "number" in port:
            return bool(port["number"] == question.traffic.port)
        return bool(port["range"]["start"] <= question.traffic.port <= port["range"]["end"])


class NativePolicy(Reading):
    """Romana's own (`version: 1`, `kind: policy`)."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.id = document["id"]
        self.staged = document.get("staged") is True

    def governs(self, direction: str) -> bool:
        return self.document.get(direction) is not None

    def selects(self, question: Question) -> bool:
        own = question.own
        if isinstance(own, Host):
            return any("host" in one and self.is_host(one, own) for one in self.document["applies_to"])
        return any("host" not in one and self.is_pod(one, own) for one in self.document["applies_to"])

    def actions(self, question: Question) -> Iterator[str]:
        for rule in self.document[question.direction]:
            written = rule["from" if question.direction == INGRESS else "to"]
            peers = [written] if isinstance(written, str) else written
            ports = rule.get("ports")
            if any(self.is_peer(one, question) for one in peers) and (
                ports is None or any(self.is_traffic(text, question) for text in ports)
            ):
                yield "accept"

    def is_peer(self, peer: Document | str, question: Question) -> bool:
        if isinstance(peer, str):
            return peer == "any"
        if "cidr" in peer:
            return question.is_inside(peer["cidr"], peer.get("except") or [])
        if "host" in peer:
            return question.is_at_host(lambda host: self.is_host(peer, host))
        return question.peer.pod is not None and self.is_pod(peer, question.peer.pod)

    def is_host(self, selector: Document, host: Host) -> bool:
        """`any`, a name or several; and labels."""
        named = selector["host"] == "any" or _is_one_of(selector["host"], host.name)
        return named and self.has_labels(selector, host)

    def is_pod(self, selector: Document, pod: Pod) -> bool:
        """Everything that is written holds; a list means any of its values."""
        return (
            _is_one_of(selector.get("tenant"), pod.tenant)
            and _is_one_of(selector.get("segment"), pod.segment)
            and self.has_labels(selector, pod)
        )

    def has_labels(self, selector: Document, one: Pod | Host) -> bool:
        labels = (selector.get("labels") or {}).items()
        return all(key in one.labels and _is_one_of(values, one.labels[key]) for key, values in labels)

    def is_traffic(self, text: str, question: Question) -> bool:
        """`any`, `tcp`, `tcp/80`, `udp/53-60`, `tcp/http`, `icmp`, `icmp/8`, `icmp/3/4`."""
        protocol, _, rest = text.partition("/")
        traffic = question.traffic
        if protocol == "any" or not rest:
            return protocol in ("any", traffic.protocol)
        if protocol in WITH_PORTS and any(letter.isalpha() for letter in rest):
            return question.is_named(rest, (protocol,))
        if traffic.protocol != protocol:
            return False
        if protocol in WITH_PORTS:
            first, _, last = rest.partition("-")
            return int(first) <= traffic.port <= int(last or first)
        kind, _, code = rest.partition("/")
        return traffic.kind == int(kind) and (not code or traffic.code == int(code))


class V2Policy(Reading):
    """Romana v2's: an ingress policy says what its targets accept, an egress policy what they may not send, which is
    decided after all policies of others in the admin tier.
    """

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.id = document["id"]
        self.denies = document["direction"] == "egress"
        if self.denies:
            self.tier, self.priority = "admin", 1001  # those of others have at most 1000

    def governs(self, direction: str) -> bool:
        return bool(self.document["direction"] == direction)

    def selects(self, question: Question) -> bool:
        own, targets = question.own, self.document["applied_to"]
        if isinstance(own, Host):
            return any(one.get("dest") == "host" for one in targets)
        return any(not one.get("dest") and self.is_pod(one, own) for one in targets)

    def actions(self, question: Question) -> Iterator[str]:
        for entry in self.document["ingress"]:
            if any(self.is_peer(one, question) for one in entry["peers"]) and any(
                self.is_traffic(one, question.traffic) for one in entry["rules"]
            ):
                yield "deny" if self.denies else "accept"

    def is_peer(self, peer: Document, question: Question) -> bool:
        if peer.get("peer") == "any":
            return True
        if peer.get("peer") == "host":
            return question.is_at_host(lambda _: True)
        if peer.get("peer") == "local":
            return isinstance(question.own, Host) and any(question.is_inside(one) for one in question.own.local)
        if peer.get("cidr"):
            return question.is_inside(peer["cidr"])
        return question.peer.pod is not None and self.is_pod(peer, question.peer.pod)

    def is_pod(self, end: Document, pod: Pod) -> bool:
        return bool(end["tenant_id"] == pod.tenant) and end.get("segment_id") in (None, "", pod.segment)

    def is_traffic(self, rule: Document, traffic: Traffic) -> bool:
        """Ports of `any` protocol are those of the protocols that have ports."""
        protocol = rule["protocol"].lower()
        if protocol not in ("any", traffic.protocol):
            return False
        if protocol == "icmp":
            return rule.get("icmp_type") in (None, traffic.kind) and rule.get("icmp_code") in (None, traffic.code)
        ports = [(port, port) for port in rule.get("ports") or []] + [
            tuple(one) for one in rule.get("port_ranges") or []
        ]
        return not ports or (
            traffic.protocol in WITH_PORTS and any(first <= traffic.port <= last for first, last in ports)
        )


def reading(document: Document) -> Reading:
    """What a document is."""
    kinds = {"NetworkPolicy": NetworkPolicy, "ClusterNetworkPolicy": ClusterNetworkPolicy, "policy": NativePolicy}
    kind: type[Reading] = kinds[document["kind"]] if "kind" in document else V2Policy
    return kind(document)


def _is_staged(document: Document) -> bool:
    """By Romana's annotation of Kubernetes' objects."""
    annotations = document["metadata"].get("annotations")
    return isinstance(annotations, dict) and annotations.get("romana.io/staged") == "true"


def _is_one_of(written: str | Sequence[str] | None, value: str) -> bool:
    return written is None or value == written or (not isinstance(written, str) and value in written)
