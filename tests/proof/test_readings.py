"""What documents mean, case by case, as a person reads the specifications."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.proof.facts import Host, Peer, Pod, Tenant, Traffic, address
from tests.proof.naive import Naive, Site

WEB = Peer(address("10.0.0.1"), Pod("shop", "web", {"app": "web"}, (("http", "tcp", 8080), ("dns", "udp", 53))))
DB = Peer(address("10.0.0.2"), Pod("shop", "db", {"app": "db"}, (("http", "tcp", 80),)))
BANK = Peer(address("10.0.1.1"), Pod("bank", "web", {}))
WORLD, NODE = Peer(address("192.0.2.9")), Peer(address("192.0.2.1"))
OPEN = {"shop": Tenant("none", {"env": "prod"}), "bank": Tenant("none")}
HOSTS = (Host("h1", {"role": "gateway"}, ("192.0.2.1",)),)
HTTP, ALT, DNS = Traffic("tcp", 80), Traffic("tcp", 8080), Traffic("udp", 53)
PING = Traffic("icmp", kind=8)


def kubernetes(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "shop"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def cluster(tier: str = "Admin", *, priority: int = 1, name: str = "c", **spec: Any) -> dict[str, Any]:
    api = {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy"}
    body = {"tier": tier, "priority": priority, "subject": {"namespaces": {}}, **spec}
    return {**api, "metadata": {"name": name}, "spec": body}


def native(**body: Any) -> dict[str, Any]:
    return {"version": 1, "kind": "policy", "id": "n", "applies_to": [{"tenant": "shop"}], **body}


def v2(direction: str, peer: dict[str, str], *rules: dict[str, Any]) -> dict[str, Any]:
    entry = {"peers": [peer], "rules": list(rules)}
    return {"id": "v", "direction": direction, "applied_to": [{"tenant_id": "shop"}], "ingress": [entry]}


def rule(action: str, key: str, peer: dict[str, Any], *protocols: dict[str, Any]) -> dict[str, Any]:
    return {"action": action, key: [peer], **({"protocols": list(protocols)} if protocols else {})}


ANYWHERE: dict[str, Any] = {"namespaces": {}}
DENY_ALL = rule("Deny", "from", ANYWHERE)
NOBODY = kubernetes(podSelector={}, policyTypes=["Ingress"])


@pytest.mark.parametrize(
    ("documents", "source", "destination", "traffic", "expected"),
    [
        pytest.param([], WORLD, DB, HTTP, True, id="no document, open tenant"),
        pytest.param([NOBODY], WEB, DB, HTTP, False, id="selected, no rule"),
        pytest.param([NOBODY], DB, DB, HTTP, True, id="an endpoint reaches itself"),
        pytest.param([NOBODY], DB, WORLD, HTTP, True, id="ingress alone is governed"),
        pytest.param([kubernetes(podSelector={}, egress=[])], DB, WORLD, HTTP, True, id="an empty egress is no egress"),
        pytest.param([kubernetes(podSelector={}, egress=[])], WEB, DB, HTTP, False, id="but ingress always is one"),
        pytest.param(
            [kubernetes(podSelector={}, egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])],
            *(DB, WORLD, HTTP, False),
            id="rules of egress make it governed",
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{}])], WORLD, DB, PING, True, id="an empty rule is everything"
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{"from": [], "ports": []}])],
            *(WORLD, DB, PING, True),
            id="empty lists are everything",
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{"ports": [{"port": 80}]}])],
            *(WORLD, DB, Traffic("udp", 80), False),
            id="TCP where none is written",
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{"ports": [{"port": 80, "endPort": 90}]}])],
            *(WORLD, DB, Traffic("tcp", 90), True),
            id="endPort belongs to the range",
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{"ports": [{"port": "http"}]}])],
            *(DB, WEB, HTTP, False),
            id="a named port is the receiver's",
        ),
        pytest.param(
            [kubernetes(podSelector={}, policyTypes=["Egress"], egress=[{"ports": [{"port": "http"}]}])],
            *(DB, WEB, ALT, True),
            id="also in egress",
        ),
        pytest.param(
            [kubernetes(podSelector={}, policyTypes=["Egress"], egress=[{"ports": [{"port": "http"}]}])],
            *(DB, WORLD, HTTP, False),
            id="who has no names has no such port",
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{"from": [{"podSelector": {}}]}])],
            *(BANK, DB, HTTP, False),
            id="a podSelector alone is of the namespace",
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{"from": [{"namespaceSelector": {}}]}])],
            *(BANK, DB, HTTP, True),
            id="an empty namespaceSelector is all of them",
        ),
        pytest.param(
            [kubernetes(podSelector={}, ingress=[{"from": [{"namespaceSelector": {}}]}])],
            *(WORLD, DB, HTTP, False),
            id="which the world outside is not",
        ),
        pytest.param(
            [
                kubernetes(
                    podSelector={},
                    ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/31"]}}]}],
                )
            ],
            *(WEB, DB, HTTP, False),
            id="except, of endpoints, too",
        ),
        pytest.param(
            [
                kubernetes(
                    podSelector={"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]},
                    policyTypes=["Ingress"],
                )
            ],
            *(WEB, DB, HTTP, False),
            id="NotIn is true of an absent label",
        ),
        pytest.param([cluster(ingress=[DENY_ALL])], WEB, DB, PING, False, id="admin denies"),
        pytest.param([cluster(ingress=[DENY_ALL])], WORLD, DB, HTTP, True, id="and pods are not the world outside"),
        pytest.param(
            [cluster(ingress=[rule("Accept", "from", ANYWHERE)]), NOBODY], WEB, DB, HTTP, True, id="admin comes first"
        ),
        pytest.param(
            [cluster(ingress=[rule("Pass", "from", ANYWHERE), DENY_ALL]), kubernetes(podSelector={}, ingress=[{}])],
            *(WEB, DB, HTTP, True),
            id="Pass leaves the tier",
        ),
        pytest.param(
            [
                cluster(priority=5, name="a", ingress=[DENY_ALL]),
                cluster(priority=4, name="b", ingress=[rule("Accept", "from", ANYWHERE)]),
            ],
            *(WEB, DB, HTTP, True),
            id="the lower priority first",
        ),
        pytest.param(
            [cluster("Baseline", ingress=[DENY_ALL]), kubernetes(podSelector={}, ingress=[{}])],
            *(WEB, DB, HTTP, True),
            id="baseline comes after policies",
        ),
        pytest.param([cluster("Baseline", ingress=[DENY_ALL])], WEB, DB, HTTP, False, id="and before the default"),
        pytest.param(
            [cluster(egress=[rule("Deny", "to", {"nodes": {"matchLabels": {"role": "gateway"}}})])],
            *(DB, NODE, HTTP, False),
            id="nodes at their addresses",
        ),
        pytest.param(
            [cluster(egress=[rule("Deny", "to", {"networks": ["192.0.2.0/24"]}, {"udp": {}})])],
            *(DB, WORLD, HTTP, True),
            id="protocols narrow a rule",
        ),
        pytest.param(
            [cluster(ingress=[rule("Deny", "from", ANYWHERE, {"destinationNamedPort": "dns"})])],
            *(DB, WEB, DNS, False),
            id="a name in whatever protocol the receiver has it",
        ),
        pytest.param(
            [native(ingress=[{"from": [{"segment": "web"}], "ports": ["tcp/80"]}])], BANK, DB, HTTP, True, id="native"
        ),
        pytest.param([native(ingress=[])], WEB, DB, HTTP, False, id="a native policy that accepts nothing"),
        pytest.param(
            [native(ingress=[{"from": "any", "ports": ["icmp/8"]}])], WORLD, DB, PING, True, id="a type of ICMP"
        ),
        pytest.param(
            [native(ingress=[{"from": "any", "ports": ["icmp/8/1"]}])], WORLD, DB, PING, False, id="and another code"
        ),
        pytest.param(
            [v2("ingress", {"peer": "any"}, {"protocol": "TCP", "ports": [80]})], WORLD, DB, HTTP, True, id="v2 ingress"
        ),
        pytest.param(
            [
                v2("egress", {"cidr": "192.0.2.0/24"}, {"protocol": "any", "ports": [80]}),
                native(egress=[{"to": "any"}]),
            ],
            *(DB, WORLD, HTTP, False),
            id="v2 egress says what may not be sent",
        ),
        pytest.param(
            [
                {**v2("egress", {"peer": "any"}, {"protocol": "any"}), "id": "a"},
                cluster(priority=1000, egress=[rule("Accept", "to", {"networks": ["0.0.0.0/0"]})]),
            ],
            *(DB, WORLD, HTTP, True),
            id="after the admin policies of others",
        ),
    ],
)
def test_documents_mean(
    documents: list[dict[str, Any]], source: Peer, destination: Peer, traffic: Traffic, expected: bool
) -> None:
    assert Naive(Site(documents, OPEN, HOSTS)).allows(source, destination, traffic) is expected


@pytest.mark.parametrize(
    ("isolation", "sources"), [("none", [WEB, BANK, WORLD]), ("tenant", [WEB]), ("segment", [])], ids=str
)
def test_without_policy_isolation_decides(isolation: str, sources: list[Peer]) -> None:
    evaluator = Naive(Site([], {"shop": Tenant(isolation)}))
    assert [one for one in (WEB, BANK, WORLD) if evaluator.allows(one, DB, HTTP)] == sources
    assert evaluator.sends(DB, WORLD, HTTP)


ABOUT_HOSTS = {
    "version": 1,
    "kind": "policy",
    "id": "h",
    "ingress": [{"from": [{"segment": "web"}], "ports": ["tcp/80"]}],
}


@pytest.mark.parametrize(
    ("subject", "source", "expected"),
    [
        ({"host": "any"}, WEB, True),
        ({"host": "any"}, DB, False),
        ({"host": ["h1", "h2"], "labels": {"role": "gateway"}}, DB, False),
        ({"host": "h2"}, DB, True),
        ({"host": "any", "labels": {"role": ["store"]}}, DB, True),
    ],
    ids=str,
)
def test_policies_about_hosts(subject: dict[str, Any], source: Peer, expected: bool) -> None:
    evaluator = Naive(Site([{**ABOUT_HOSTS, "applies_to": [subject]}], OPEN, HOSTS))
    assert evaluator.host_decides("ingress", HOSTS[0], source, HTTP) is expected
    assert evaluator.host_decides("egress", HOSTS[0], source, HTTP)
    assert evaluator.accepts(DB, WEB, HTTP)


def test_hosts_are_peers_at_their_addresses() -> None:
    native_peer = native(ingress=[{"from": [{"host": "h1"}]}])
    v2_peer = v2("ingress", {"peer": "host"}, {"protocol": "any"})
    for document in (native_peer, v2_peer):
        evaluator = Naive(Site([document], OPEN, HOSTS))
        assert [one for one in (NODE, WORLD) if evaluator.accepts(one, DB, HTTP)] == [NODE]


def test_the_endpoints_of_a_host_itself_are_its_peers() -> None:
    document = {**v2("ingress", {"peer": "local"}, {"protocol": "any"}), "applied_to": [{"dest": "host"}]}
    here = replace(HOSTS[0], local=(f"{DB.address}/32",))
    evaluator = Naive(Site([document], OPEN, HOSTS))
    assert [one for one in (DB, WEB) if evaluator.host_decides("ingress", here, one, HTTP)] == [DB]
    assert not evaluator.host_decides("ingress", HOSTS[0], DB, HTTP)


@pytest.mark.parametrize("own_host", [True, False])
def test_an_endpoint_and_its_own_host(own_host: bool) -> None:
    assert DB.pod is not None
    for documents, expected in (
        ([], own_host),
        ([NOBODY], own_host),
        ([cluster(egress=[rule("Deny", "to", {"nodes": {}})])], own_host),
        ([kubernetes(podSelector={}, ingress=[{}])], True),
    ):
        evaluator = Naive(Site(documents, {"shop": Tenant("none", own_host=own_host)}, HOSTS))
        assert evaluator.decides("ingress", DB.pod, NODE, HTTP, own_host=True) is expected
    denied = Naive(Site([cluster(egress=[rule("Deny", "to", {"nodes": {}})])], OPEN, HOSTS))
    assert not denied.decides("egress", DB.pod, NODE, HTTP, own_host=True)


def test_what_is_staged_decides_nothing_yet() -> None:
    annotated = {**NOBODY, "metadata": {**NOBODY["metadata"], "annotations": {"romana.io/staged": "true"}}}
    for document in (annotated, native(ingress=[], staged=True)):
        assert Naive(Site([document], OPEN)).accepts(WEB, DB, HTTP)
        assert not Naive(Site([document], OPEN), staged=True).accepts(WEB, DB, HTTP)
