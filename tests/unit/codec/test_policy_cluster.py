"""ClusterNetworkPolicy documents: what they mean, and every way they can be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from romana.codec.policy import read_policies
from romana.codec.policy_cluster import read
from romana.codec.text import parse_prefix
from romana.model.errors import Invalid
from romana.model.policy import (
    SCTP,
    TCP,
    UDP,
    Action,
    CidrPeer,
    HostPeer,
    Operator,
    PolicyTier,
    Requirement,
    Rule,
    Selector,
    Traffic,
)

ALL: dict[str, Any] = {"action": "Deny", "from": [{"namespaces": {}}]}
BLUE = {"matchLabels": {"team": "blue"}}
IS_BLUE = (Requirement("team", Operator.IN, ("blue",)),)


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "walls"},
        "spec": {"tier": "Admin", "priority": 10, "subject": {"namespaces": {}}, **spec},
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


def test_a_fault_of_form_hides_none_of_meaning() -> None:
    assert set(faults(document(tier="Root", priority=1001))) == {"spec.tier", "spec.priority"}


def test_tier_priority_and_subject() -> None:
    policy = read(document(tier="Baseline", subject={"pods": {"namespaceSelector": BLUE, "podSelector": BLUE}}))
    assert (policy.id, policy.tier, policy.priority) == ("kube-cluster.walls", PolicyTier.BASELINE, 10)
    assert policy.subjects == (Selector(tenant_labels=IS_BLUE, labels=IS_BLUE),)
    assert policy.ingress is None
    assert policy.egress is None


def test_rules_with_every_kind_of_peer_and_protocol() -> None:
    policy = read(
        document(
            ingress=[
                {"action": "Pass", "name": "blue", "from": [{"namespaces": BLUE}, {"pods": {"podSelector": BLUE}}]}
            ],
            egress=[
                {
                    "action": "Accept",
                    "to": [{"nodes": BLUE}, {"networks": ["10.0.0.0/8", "fd00::/8"]}],
                    "protocols": [
                        {"tcp": {"destinationPort": {"number": 443}}},
                        {"udp": {"destinationPort": {"range": {"start": 53, "end": 60}}}},
                        {"sctp": {}},
                    ],
                },
                {"action": "Deny", "to": [{"namespaces": {}}], "protocols": [{"destinationNamedPort": "http"}]},
            ],
        )
    )
    assert policy.ingress == (
        Rule(peers=(Selector(tenant_labels=IS_BLUE), Selector(labels=IS_BLUE)), action=Action.PASS, name="blue"),
    )
    assert policy.egress == (
        Rule(
            peers=(
                HostPeer(labels=IS_BLUE),
                CidrPeer(cidr=parse_prefix("10.0.0.0/8")),
                CidrPeer(cidr=parse_prefix("fd00::/8")),
            ),
            traffic=(Traffic(TCP, 443, 443), Traffic(UDP, 53, 60), Traffic(SCTP)),
        ),
        Rule(peers=(Selector(),), traffic=(Traffic(name="http"),), action=Action.DENY),
    )


def test_a_namespace_of_that_name_has_other_ids() -> None:
    namespaced = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "walls", "namespace": "cluster"},
        "spec": {"podSelector": {}},
    }
    assert len(read_policies([document(), namespaced])) == 2


def test_lists_and_the_other_kinds_are_told_apart() -> None:
    found = read_policies({"kind": "ClusterNetworkPolicyList", "items": [document(ingress=[ALL])]})
    assert [one.kind for one in found] == ["kubernetes-cluster"]


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        ({"tier": "NetworkPolicy"}, "spec.tier", "Admin"),
        ({"priority": 1001}, "spec.priority", "between 0 and 1000"),
        ({"subject": {}}, "spec.subject", "exactly one"),
        ({"subject": {"namespaces": None}}, "spec.subject.namespaces", "no value"),
        ({"subject": {"pods": {"podSelector": None}}}, "spec.subject.pods.podSelector", "nothing"),
        (
            {"ingress": [{"action": "Accept", "from": [{"namespaces": None}]}]},
            "spec.ingress[0].from[0].namespaces",
            "no value",
        ),
        ({"egress": [{"action": "Accept", "to": [{"nodes": None}]}]}, "spec.egress[0].to[0].nodes", "no value"),
        ({"subject": {"namespaces": {}, "pods": {"podSelector": {}}}}, "spec.subject", "exactly one"),
        ({"subject": {"nodes": {}}}, "spec.subject.nodes", "not known"),
        ({"ingress": [{"action": "Allow", "from": [{"namespaces": {}}]}]}, "spec.ingress[0].action", "Accept"),
        ({"ingress": [{"action": "Deny", "from": []}]}, "spec.ingress[0].from", "at least one"),
        ({"ingress": [{"action": "Deny"}]}, "spec.ingress[0].from", "at least one"),
        ({"ingress": [{**ALL, "to": [{"namespaces": {}}]}]}, "spec.ingress[0].to", "other direction"),
        (
            {"ingress": [{"action": "Deny", "from": [{"networks": ["10.0.0.0/8"]}]}]},
            "spec.ingress[0].from[0].networks",
            "",
        ),
        ({"ingress": [{**ALL, "protocols": []}]}, "spec.ingress[0].protocols", "empty"),
        ({"ingress": [{**ALL, "protocols": [{"icmp": {}}]}]}, "spec.ingress[0].protocols[0].icmp", "not known"),
        ({"ingress": [ALL] * 26}, "spec.ingress", "at most 25"),
        (
            {"ingress": [{**ALL, "protocols": [{"tcp": {"destinationPort": {"number": 0}}}]}]},
            "spec.ingress[0].protocols[0].tcp.destinationPort.number",
            "no port",
        ),
        (
            {"ingress": [{**ALL, "protocols": [{"tcp": {"destinationPort": {"range": {"start": 9, "end": 9}}}}]}]},
            "spec.ingress[0].protocols[0].tcp.destinationPort.range.end",
            "not greater",
        ),
        (
            {"egress": [{"action": "Accept", "to": [{"domainNames": ["a.b"]}]}]},
            "spec.egress[0].to[0].domainNames",
            "CIDRs",
        ),
        (
            {"egress": [{"action": "Accept", "to": [{"networks": ["10.0.0.0"]}]}]},
            "spec.egress[0].to[0].networks[0]",
            "CIDR",
        ),
        (
            {
                "egress": [
                    {
                        "action": "Accept",
                        "to": [{"nodes": {}}],
                        "protocols": [{"destinationNamedPort": "http"}],
                    }
                ]
            },
            "spec.egress[0].protocols",
            "named ports",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(spec: dict[str, Any], path: str, words: str) -> None:
    assert words in faults(document(**spec))[path]
