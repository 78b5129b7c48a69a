"""Native policy documents: what they mean, and every way they can be wrong."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from romana.codec import policy
from romana.codec.document import load
from romana.codec.policy import read_policies
from romana.codec.policy_native import read
from romana.codec.text import parse_prefix
from romana.codec.traffic import parse_traffic
from romana.model.errors import MOST_FAULTS, Invalid
from romana.model.policy import (
    ICMP,
    TCP,
    UDP,
    CidrPeer,
    HostPeer,
    LocalPeer,
    Operator,
    Requirement,
    Rule,
    Selector,
    Traffic,
)

TEXT = """
version: 1
kind: policy
id: db-from-api
description: only the API talks to the database
applies_to:
  - {tenant: shop, segment: db}
ingress:
  - from:
      - {tenant: shop, segment: [api, jobs], labels: {tier: back, env: [test, live]}}
      - {cidr: 10.0.0.0/8, except: [10.9.0.0/16]}
    ports: [tcp/5432, udp/53-60, icmp/8]
  - from: any
    ports: [icmp]
egress: []
"""


def document(**fields: Any) -> dict[str, Any]:
    return {"version": 1, "kind": "policy", "id": "p", "applies_to": [{"tenant": "a"}], "ingress": [], **fields}


def faults(value: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read(value)
    return {fault.path: fault.sentence for fault in caught.value.faults}


def test_a_whole_document() -> None:
    (policy,) = read_policies(load(TEXT))
    assert policy.id == "db-from-api"
    assert policy.kind == "native"
    assert policy.subjects == (Selector(tenants=("shop",), segments=("db",)),)
    selector = Selector(
        tenants=("shop",),
        segments=("api", "jobs"),
        labels=(Requirement("env", Operator.IN, ("test", "live")), Requirement("tier", Operator.IN, ("back",))),
    )
    cidr = CidrPeer(cidr=parse_prefix("10.0.0.0/8"), excluded=(parse_prefix("10.9.0.0/16"),))
    assert policy.ingress == (
        Rule(
            peers=(selector, cidr),
            traffic=(Traffic(TCP, 5432, 5432), Traffic(UDP, 53, 60), Traffic(ICMP, 2048, 2303)),
        ),
        Rule(traffic=(Traffic(ICMP),)),
    )
    assert policy.egress == ()


def test_hosts_are_selected_and_peers() -> None:
    policy = read(
        document(
            applies_to=[{"host": "any"}, {"host": ["h1", "h2"], "labels": {"rack": "r1"}}, {"tenant": "a"}],
            egress=[{"to": [{"host": "h3"}, {"segment": "db"}], "ports": ["tcp/22"]}],
        )
    )
    rack = (Requirement("rack", Operator.IN, ("r1",)),)
    assert policy.hosts == (HostPeer(), HostPeer(names=("h1", "h2"), labels=rack))
    assert policy.subjects == (Selector(tenants=("a",)),)
    assert policy.egress == (
        Rule(peers=(HostPeer(names=("h3",)), Selector(segments=("db",))), traffic=(Traffic(TCP, 22, 22),)),
    )


def test_the_endpoints_of_the_very_host_are_peers_of_hosts_alone() -> None:
    read_ = read(
        document(applies_to=[{"host": "any"}], ingress=[{"from": "local"}, {"from": ["local", {"host": "h1"}]}])
    )
    assert read_.ingress == (
        Rule(peers=(LocalPeer(),)),
        Rule(peers=(LocalPeer(), HostPeer(names=("h1",)))),
    )
    assert read_.names_local
    wrong = document(applies_to=[{"host": "any"}, {"tenant": "a"}], ingress=[], egress=[{"to": ["local"]}])
    assert faults(wrong) == {
        "egress": "`local` is for policies that apply to hosts alone; write the tenant of those endpoints"
    }


def test_a_policy_may_be_staged() -> None:
    assert read(document(staged=True)).staged
    assert not read(document()).staged


def test_hosts_have_no_named_ports() -> None:
    wrong = document(applies_to=[{"host": "any"}], ingress=[{"from": "any", "ports": ["tcp/http"]}])
    assert faults(wrong) == {"ingress": "names a port, but hosts have no named ports; write its number"}


def test_a_direction_left_out_is_not_governed() -> None:
    policy = read(document(egress=[{"to": ["any"]}]))
    assert policy.egress == (Rule(),)
    assert read(document()).egress is None


def test_any_beside_others_is_anyone() -> None:
    assert read(document(ingress=[{"from": [{"tenant": "b"}, "any"]}])).ingress == (Rule(),)


def test_all_faults_at_once() -> None:
    wrong = document(
        id="kube.a.b",
        applies_to=[{}, {"tennant": "a"}, {"tenant": []}],
        ingress=[
            {"ports": ["tcp/80"]},
            {"from": [], "ports": []},
            {"from": "everyone", "ports": ["tcp/0", "http", "icmp/256", "udp/9-8"]},
            {
                "from": [
                    {"cidr": "10.0.0.1/8"},
                    {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]},
                    {"labels": {"a/b": []}},
                ]
            },
            {"from": [{}], "to": "any"},
        ],
    )
    assert set(faults(wrong)) == {
        "id",
        "applies_to[0]",
        "applies_to[1].tennant",
        "applies_to[2].tenant",
        "ingress[0].from",
        "ingress[1].from",
        "ingress[1].ports",
        "ingress[2].from",
        "ingress[2].ports[0]",
        "ingress[2].ports[1]",
        "ingress[2].ports[2]",
        "ingress[2].ports[3]",
        "ingress[3].from[0].cidr",
        "ingress[3].from[1].except[0]",
        'ingress[3].from[2].labels["a/b"]',
        "ingress[4].from[0]",
        "ingress[4].to",
    }


def test_names_without_a_letter_are_slips() -> None:
    wrong = document(applies_to=[{"tenant": ""}, {"segment": ["web", ""]}, {"labels": {"": "x"}}, {"host": ""}])
    assert set(faults(wrong)) == {
        "applies_to[0].tenant",
        "applies_to[1].segment[1]",
        'applies_to[2].labels[""]',
        "applies_to[3].host",
    }
    (subject,) = read(document(applies_to=[{"labels": {"a": ""}}])).subjects
    assert subject.labels == (Requirement("a", Operator.IN, ("",)),)


def test_many_policies_cost_no_more_than_their_number() -> None:
    def lines(number: int) -> int:
        found = 0

        def counted(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal found
            found += event == "line"
            return counted if frame.f_code.co_filename == policy.__file__ else None

        documents = [document(id=f"p{index}") for index in range(number)]
        before = sys.gettrace()
        sys.settrace(counted)
        try:
            read_policies(documents)
        finally:
            sys.settrace(before)
        return found

    assert lines(400) < 5 * lines(100)


def test_a_fault_of_form_hides_none_of_meaning() -> None:
    wrong = document(id="bad id", staged="maybe", applies_to=[], ingress=[{"from": 5, "ports": [80, "tcp/99999"]}])
    assert set(faults(wrong)) == {
        "staged",
        "id",
        "applies_to",
        "ingress[0].from",
        "ingress[0].ports[0]",
        "ingress[0].ports[1]",
    }


def test_only_the_first_faults_of_many_are_told() -> None:
    with pytest.raises(Invalid) as caught:
        read_policies([document(id="kube.a")] * 1000)
    assert len(caught.value.faults) == MOST_FAULTS + 1
    assert "perhaps more" in caught.value.faults[-1].sentence


def test_a_long_value_is_not_repeated_whole() -> None:
    long = "x" * 100_000
    found = faults(document(id=long, ingress=[{"from": [{"cidr": long}]}]))
    assert all(len(sentence) < 500 for sentence in found.values())


def test_an_address_has_no_interface() -> None:
    rule = {"from": [{"cidr": "fe80::%eth0/64"}]}
    assert "is not a CIDR" in faults(document(ingress=[rule]))["ingress[0].from[0].cidr"]


def test_a_policy_about_nobody_or_nothing_is_refused() -> None:
    found = faults({"version": 1, "kind": "policy", "id": "p", "applies_to": []})
    assert set(found) == {"", "applies_to"}


@pytest.mark.parametrize("value", [3, "text", {}, {"kind": "Pod"}, {"id": "x", "rules": []}])
def test_what_is_no_policy_is_refused(value: object) -> None:
    with pytest.raises(Invalid, match=r"expected a mapping|is no policy"):
        read_policies(value)


def test_a_named_port_is_the_receivers() -> None:
    rules = read(document(ingress=[{"from": "any", "ports": ["tcp/http", "udp/53"]}])).ingress
    assert rules is not None
    assert rules[0].traffic == (Traffic(6, name="http"), Traffic(17, 53, 53))


@pytest.mark.parametrize(
    "text", ["any", "tcp", "tcp/80", "udp/53-60", "sctp/1", "icmp", "icmp/8", "icmp/3/4", "icmpv6/135/0"]
)
def test_traffic_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_traffic(text)) == text


@pytest.mark.parametrize("text", ["", "any/80", "tcp/", "tcp/0", "tcp/65536", "tcp/9-1", "gre", "icmp/8/256", "tcp/٣"])
def test_what_is_no_traffic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write any|ports are|types and codes"):
        parse_traffic(text)
