"""Romana v2's policy documents: what they mean here, and every way they can be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from romana.codec import policy_cluster
from romana.codec.policy import read_policies
from romana.codec.policy_v2 import read
from romana.codec.text import parse_prefix
from romana.core.policy.profile import allows, profile_from
from romana.model.errors import Invalid
from romana.model.policy import (
    ICMP,
    SCTP,
    TCP,
    UDP,
    Action,
    CidrPeer,
    Direction,
    HostPeer,
    LocalPeer,
    PolicyTier,
    Rule,
    Selector,
    Traffic,
)

ANY = {"peers": [{"peer": "any"}], "rules": [{"protocol": "any"}]}


def document(**more: Any) -> dict[str, Any]:
    return {"id": "p1", "direction": "ingress", "applied_to": [{"tenant_id": "shop"}], "ingress": [ANY], **more}


def faults(value: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read(value)
    return {fault.path: fault.sentence for fault in caught.value.faults}


def test_an_ingress_policy_says_what_is_accepted() -> None:
    policy = read(
        document(
            description="web from anywhere",
            applied_to=[{"tenant_id": "shop", "segment_id": "web"}, {"tenant_id": "bank"}],
            ingress=[
                {
                    "peers": [{"cidr": "10.0.0.0/8"}, {"tenant_id": "shop", "segment_id": "api"}],
                    "rules": [
                        {"protocol": "TCP", "ports": [80], "port_ranges": [[8000, 8080]], "is_stateful": True},
                        {"protocol": "icmp", "icmp_type": 8},
                        {"protocol": "icmp", "icmp_type": 3, "icmp_code": 4},
                    ],
                },
                {"peers": [{"peer": "any"}], "rules": [{"protocol": "udp"}]},
            ],
        )
    )
    assert policy.subjects == (Selector(tenants=("shop",), segments=("web",)), Selector(tenants=("bank",)))
    assert policy.egress is None
    assert policy.tier is PolicyTier.POLICIES
    assert policy.ingress == (
        Rule(
            peers=(CidrPeer(cidr=parse_prefix("10.0.0.0/8")), Selector(tenants=("shop",), segments=("api",))),
            traffic=(
                Traffic(TCP, 80, 80),
                Traffic(TCP, 8000, 8080),
                Traffic(ICMP, 8 * 256, 8 * 256 + 255),
                Traffic(ICMP, 3 * 256 + 4, 3 * 256 + 4),
            ),
        ),
        Rule(peers=None, traffic=(Traffic(UDP),)),
    )


def test_an_egress_policy_is_a_list_of_what_may_not_be_sent() -> None:
    policy = read(document(direction="egress", ingress=[{**ANY, "rules": [{"protocol": "tcp", "ports": [25]}]}]))
    assert policy.ingress is None
    assert policy.egress == (Rule(peers=None, traffic=(Traffic(TCP, 25, 25),), action=Action.DENY),)
    assert policy.tier is PolicyTier.ADMIN


def test_hosts_are_targets_and_peers() -> None:
    policy = read(
        document(
            applied_to=[{"dest": "host"}, {"tenant_id": "shop"}],
            ingress=[{"peers": [{"peer": "host"}, {"tenant_id": "ops"}], "rules": [{"protocol": "tcp"}]}],
        )
    )
    assert policy.hosts == (HostPeer(),)
    assert policy.subjects == (Selector(tenants=("shop",)),)
    assert policy.ingress == (Rule(peers=(HostPeer(), Selector(tenants=("ops",))), traffic=(Traffic(TCP),)),)


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_the_endpoints_of_a_host_itself_are_peers_of_hosts(direction: str) -> None:
    local = {"peers": [{"peer": "local"}], "rules": [{"protocol": "tcp", "ports": [22]}]}
    policy = read(document(direction=direction, applied_to=[{"dest": "host"}], ingress=[local]))
    assert policy.names_local
    (rule,) = policy.rules(Direction(direction)) or ()
    assert (rule.peers, rule.traffic) == ((LocalPeer(),), (Traffic(TCP, 22, 22),))


def test_it_is_recognised_among_others() -> None:
    assert [one.kind for one in read_policies([document()])] == ["romana-v2"]


@pytest.mark.parametrize(
    ("changed", "path", "words"),
    [
        ({"applied_to": []}, "applied_to", "empty"),
        ({"ingress": []}, "ingress", "empty"),
        ({"applied_to": [{"dest": "local"}]}, "applied_to[0].dest", "write a target for each tenant_id"),
        ({"applied_to": [{"dest": "router"}]}, "applied_to[0].dest", "not read"),
        ({"applied_to": [{"peer": "any"}]}, "applied_to[0]", "tenant_id"),
        ({"direction": "both"}, "direction", "ingress"),
        ({"id": "kube.a.b"}, "id", "kube."),
        ({"id": "kube-cluster.a"}, "id", "kube."),
        ({"id": ""}, "id", "characters"),
        ({"id": "a\0b"}, "id", "characters"),
        ({"id": "a/../b"}, "id", "characters"),
        ({"id": ".."}, "id", "characters"),
        ({"id": "a" * 254}, "id", "characters"),
        ({"ingress": [{"peers": [], "rules": ANY["rules"]}]}, "ingress[0].peers", "empty"),
        ({"ingress": [{"peers": [{"peer": "router"}], "rules": ANY["rules"]}]}, "ingress[0].peers[0].peer", "not read"),
        (
            {"ingress": [{"peers": [{"peer": "local"}], "rules": ANY["rules"]}]},
            "ingress[0].peers[0].peer",
            "every target is dest: host",
        ),
        ({"ingress": [{"peers": [{"cidr": "10/8"}], "rules": ANY["rules"]}]}, "ingress[0].peers[0].cidr", "10/8"),
        ({"ingress": [{**ANY, "rules": [{"protocol": "gre"}]}]}, "ingress[0].rules[0].protocol", "none of"),
        ({"ingress": [{**ANY, "rules": [{"protocol": "icmp", "ports": [1]}]}]}, "ingress[0].rules[0]", "has none"),
        ({"ingress": [{**ANY, "rules": [{"protocol": "tcp", "icmp_type": 8}]}]}, "ingress[0].rules[0]", "icmp_type"),
        ({"ingress": [{**ANY, "rules": [{"protocol": "tcp", "ports": [70000]}]}]}, "ingress[0].rules[0]", "70000"),
        (
            {"ingress": [{**ANY, "rules": [{"protocol": "icmp", "icmp_type": 8, "icmp_code": 1}]}]},
            "ingress[0].rules[0].icmp_code",
            "no code",
        ),
        ({"ingres": []}, "ingres", "ingress"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changed: dict[str, Any], path: str, words: str) -> None:
    assert words in faults(document(**changed))[path]


def test_what_may_not_be_sent_is_decided_after_all_policies_of_others() -> None:
    last = policy_cluster.read(
        {
            "apiVersion": policy_cluster.API_VERSION,
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "c"},
            "spec": {"tier": "Admin", "priority": 1000, "subject": {"namespaces": {}}},
        }
    )
    assert read(document(id="a", direction="egress")).priority > last.priority


def test_all_ports_of_any_protocol_are_ports() -> None:
    entry = {**ANY, "rules": [{"protocol": "any", "port_ranges": [[0, 65535]]}]}
    (rule,) = read(document(ingress=[entry])).ingress or ()
    accepted = profile_from(rule.traffic)
    assert [allows(accepted, protocol, 0) for protocol in (TCP, UDP, SCTP, ICMP)] == [True, True, True, False]


def test_a_fault_of_form_hides_none_of_meaning() -> None:
    with pytest.raises(Invalid) as caught:
        read(document(id="a/b", direction="sideways"))
    assert {fault.path for fault in caught.value.faults} == {"id", "direction"}


def test_a_peer_is_hosts_or_somebody_else() -> None:
    for word in ("host", "local"):
        mixed = {"peers": [{"peer": word, "tenant_id": "ops"}], "rules": [{"protocol": "tcp"}]}
        with pytest.raises(Invalid, match="write them as two peers"):
            read(document(applied_to=[{"dest": "host"}], ingress=[mixed]))
