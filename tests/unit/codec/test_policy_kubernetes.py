"""NetworkPolicy documents: what they mean, and every way they can be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from romana.codec.policy import read_policies
from romana.codec.policy_kubernetes import read
from romana.codec.text import parse_prefix
from romana.model.errors import Invalid
from romana.model.policy import SCTP, TCP, UDP, CidrPeer, Operator, Requirement, Rule, Selector, Traffic


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop", "uid": "1", "managedFields": [{"manager": "kubectl"}]},
        "spec": {"podSelector": {}, **spec},
    }


@pytest.mark.parametrize(("written", "staged"), [(None, False), ("false", False), ("true", True)])
def test_an_annotation_stages_a_policy(written: str | None, staged: bool) -> None:
    value = document()
    value["metadata"]["annotations"] = {} if written is None else {"romana.io/staged": written}
    assert read(value).staged is staged


def test_another_annotation_value_is_a_fault() -> None:
    value = document()
    value["metadata"]["annotations"] = {"romana.io/staged": "yes"}
    assert "neither" in faults(value)["metadata.annotations.romana.io/staged"]


def faults(value: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read(value)
    return {fault.path: fault.sentence for fault in caught.value.faults}


def peer_of(**peer: Any) -> object:
    rules = read(document(ingress=[{"from": [peer]}])).ingress
    assert rules is not None
    assert rules[0].peers is not None
    return rules[0].peers[0]


def traffic_of(*ports: dict[str, Any]) -> tuple[Traffic, ...]:
    rules = read(document(ingress=[{"ports": list(ports)}])).ingress
    assert rules is not None
    return rules[0].traffic


def test_names_and_subject() -> None:
    policy = read(document(podSelector={"matchLabels": {"app": "web"}}))
    assert policy.id == "kube.shop.web"
    assert policy.kind == "kubernetes"
    assert policy.subjects == (Selector(tenants=("shop",), labels=(Requirement("app", Operator.IN, ("web",)),)),)


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ({}, True, False),
        ({"egress": []}, True, False),
        ({"egress": [{}]}, True, True),
        ({"policyTypes": []}, True, False),
        ({"policyTypes": ["Egress"]}, False, True),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, False, True),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, True, False),
        ({"policyTypes": ["Ingress", "Egress"]}, True, True),
    ],
)
def test_policy_types_and_their_default(spec: dict[str, Any], ingress: bool, egress: bool) -> None:
    policy = read(document(**spec))
    assert (policy.ingress is not None, policy.egress is not None) == (ingress, egress)


@pytest.mark.parametrize("rule", [{}, {"from": []}, {"from": [], "ports": []}, {"from": None, "ports": None}])
def test_a_rule_without_peers_and_ports_is_about_everything(rule: dict[str, Any]) -> None:
    assert read(document(ingress=[rule])).ingress == (Rule(),)


def test_pod_selector_is_about_the_own_namespace() -> None:
    assert peer_of(podSelector={}) == Selector(tenants=("shop",))


def test_namespace_selector_is_about_whole_namespaces() -> None:
    expected = Selector(tenant_labels=(Requirement("team", Operator.IN, ("blue",)),))
    assert peer_of(namespaceSelector={"matchLabels": {"team": "blue"}}) == expected
    assert peer_of(namespaceSelector={}) == Selector()


def test_both_selectors_hold_together() -> None:
    expressions = [
        {"key": "app", "operator": "NotIn", "values": ["a", "b"]},
        {"key": "tier", "operator": "DoesNotExist"},
    ]
    assert peer_of(namespaceSelector={}, podSelector={"matchExpressions": expressions}) == Selector(
        labels=(
            Requirement("app", Operator.NOT_IN, ("a", "b")),
            Requirement("tier", Operator.DOES_NOT_EXIST),
        )
    )


def test_ip_block_with_exceptions_and_stray_bits() -> None:
    assert peer_of(ipBlock={"cidr": "10.1.2.3/8", "except": ["10.1.0.0/16"]}) == CidrPeer(
        cidr=parse_prefix("10.0.0.0/8"), excluded=(parse_prefix("10.1.0.0/16"),)
    )


def test_named_ports_keep_their_protocol() -> None:
    assert traffic_of({"port": "http"}, {"port": "dns", "protocol": "UDP"}) == (
        Traffic(TCP, name="http"),
        Traffic(UDP, name="dns"),
    )
    found = faults(document(ingress=[{"ports": [{"port": "http", "endPort": 90}]}]))
    assert "a range needs numbers" in found["spec.ingress[0].ports[0].endPort"]


def test_ports() -> None:
    assert traffic_of({"port": 80}, {"protocol": "UDP", "port": 53, "endPort": 60}, {"protocol": "SCTP"}, {}) == (
        Traffic(TCP, 80, 80),
        Traffic(UDP, 53, 60),
        Traffic(SCTP),
        Traffic(TCP),
    )


def test_all_faults_at_once() -> None:
    wrong = document(
        podSelector={"matchLabels": {"app": 1}, "matchLabel": {}},
        policyTypes=["ingress"],
        ingress=[
            {
                "from": [
                    {},
                    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "x"]}, "podSelector": {}},
                    {
                        "podSelector": {
                            "matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Like"}]
                        }
                    },
                    {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
                ],
                "ports": [
                    {"port": "no_name"},
                    {"port": 0},
                    {"port": 90, "endPort": 80},
                    {"endPort": 80},
                    {"protocol": "ICMP"},
                    {"port": True},
                ],
            }
        ],
        egress=[{"from": []}],
    )
    del wrong["metadata"]["namespace"]
    found = faults(wrong)
    assert set(found) == {
        "metadata.namespace",
        "spec.podSelector.matchLabel",
        "spec.podSelector.matchLabels.app",
        "spec.policyTypes[0]",
        "spec.ingress[0].from[0]",
        "spec.ingress[0].from[1]",
        "spec.ingress[0].from[1].ipBlock.except[0]",
        "spec.ingress[0].from[1].ipBlock.except[1]",
        "spec.ingress[0].from[2].podSelector.matchExpressions[0].values",
        "spec.ingress[0].from[2].podSelector.matchExpressions[1].operator",
        "spec.ingress[0].from[3].namespaceSelector.matchExpressions[0].values",
        "spec.ingress[0].ports[0].port",
        "spec.ingress[0].ports[1].port",
        "spec.ingress[0].ports[2].endPort",
        "spec.ingress[0].ports[3].endPort",
        "spec.ingress[0].ports[4].protocol",
        "spec.ingress[0].ports[5].port",
        "spec.egress[0].from",
    }
    assert "no name of a port" in found["spec.ingress[0].ports[0].port"]


def test_another_kind_is_refused_by_name() -> None:
    other = {**document(), "kind": "AdminNetworkPolicy", "apiVersion": "policy.networking.k8s.io/v1alpha1"}
    assert faults(other) == {
        "kind": "'AdminNetworkPolicy' of 'policy.networking.k8s.io/v1alpha1' is not read here; "
        "expected NetworkPolicy of networking.k8s.io/v1, or ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2"
    }


def test_lists_and_streams_keep_the_place_of_a_fault() -> None:
    good = document()
    bad = {**document(), "metadata": {"name": "b", "namespace": "Shop"}}
    assert [one.id for one in read_policies({"apiVersion": "v1", "kind": "List", "items": [good]})] == ["kube.shop.web"]
    with pytest.raises(Invalid) as caught:
        read_policies([good, {"apiVersion": "v1", "kind": "List", "items": [bad, bad, 7]}])
    assert [fault.path for fault in caught.value.faults] == [
        "[1]items[0].metadata.namespace",
        "[1]items[1].metadata.namespace",
        "[1]items[2]",
    ]


def test_lists_in_lists_without_end_are_refused() -> None:
    nested: object = document()
    for _ in range(900):
        nested = [nested]
    with pytest.raises(Invalid, match="nested too deeply"):
        read_policies(nested)


@pytest.mark.parametrize(
    ("selector", "path", "words"),
    [
        ({"matchLabels": {"app ": "web"}}, 'matchLabels["app "]', "label"),
        ({"matchLabels": {"": "web"}}, 'matchLabels[""]', "label"),
        ({"matchLabels": {"Example.org/app": "web"}}, 'matchLabels["Example.org/app"]', "label"),
        ({"matchLabels": {"app": "web shop"}}, "matchLabels.app", "value"),
        ({"matchLabels": {"app": "w" * 64}}, "matchLabels.app", "value"),
        ({"matchExpressions": [{"key": "a/b/c", "operator": "Exists"}]}, "matchExpressions[0].key", "label"),
        ({"matchExpressions": [{"key": "a\n", "operator": "DoesNotExist"}]}, "matchExpressions[0].key", "label"),
        (
            {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x", "-"]}]},
            "matchExpressions[0].values[1]",
            "value",
        ),
    ],
)
def test_labels_that_nothing_can_have_are_refused(selector: dict[str, Any], path: str, words: str) -> None:
    assert words in faults(document(podSelector=selector))[f"spec.podSelector.{path}"]


@pytest.mark.parametrize("key", ["app", "A_b.c-d", "app.kubernetes.io/name", "x" * 63])
@pytest.mark.parametrize("value", ["", "web", "A_b.c-d", "x" * 63])
def test_labels_as_kubernetes_has_them(key: str, value: str) -> None:
    (subject,) = read(document(podSelector={"matchLabels": {key: value}})).subjects
    assert subject.labels == (Requirement(key, Operator.IN, (value,)),)


@pytest.mark.parametrize("cidr", ["fe80::1%eth0/64", "::ffff:10.0.0.0/104"])
def test_addresses_that_no_packet_has_are_refused(cidr: str) -> None:
    rule = {"from": [{"ipBlock": {"cidr": cidr}}]}
    assert "is not a CIDR" in faults(document(ingress=[rule]))["spec.ingress[0].from[0].ipBlock.cidr"]


@pytest.mark.parametrize("name", ["a..b", "a.-b", "a-.b", "a\n", ".a", "a" * 254])
def test_names_that_kubernetes_has_not_are_refused(name: str) -> None:
    assert "not a name" in faults({**document(), "metadata": {"name": name, "namespace": "a"}})["metadata.name"]


def test_two_policies_of_one_name_are_refused() -> None:
    with pytest.raises(Invalid, match="is the second policy"):
        read_policies([document(), document()])
