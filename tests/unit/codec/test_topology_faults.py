"""A topology document tells all its faults at once, and none that comes of a part that was not read alone."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from romana.codec.document import UNKNOWN
from romana.codec.document import faults as document_faults
from romana.codec.topology import PlanDocument, V2Document, carved
from romana.model.errors import Invalid

HOSTS = [{"name": "h1", "addresses": ["192.0.2.1"]}, {"name": "h2", "addresses": ["192.0.2.2"]}]
TOR = {"name": "tor", "asn": 65001, "addresses": ["192.0.2.254"]}


def ours(*, network: Any = None, rack: Any = None, topology: Any = None, routing: Any = None) -> dict[str, Any]:
    """A document without faults, but for what is said otherwise."""
    networks = [{"name": "a", "cidr": "10.0.0.0/16", **(network or {})}, {"name": "b", "cidr": "10.1.0.0/16"}]
    group = {"name": "r1", "hosts": HOSTS, "asn": 65011, "routers": [TOR], **(rack or {})}
    tree = {"name": "dc", "networks": ["a", "b"], "groups": [group, {"name": "r2"}], **(topology or {})}
    peer = {"name": "up", "routers": ["tor"], "asn": 64999, "addresses": ["192.0.2.250"]}
    said = {"protocol": "ebgp", "peers": [peer], **(routing or {})}
    return {"version": 1, "networks": networks, "topologies": [tree], "routing": said}


RICH = {
    "version": 1,
    "networks": [
        {"name": "a", "cidr": "10.0.0.0/16", "block_length": 28, "span_length": 24, "static": ["10.0.0.0/28"]},
        {"name": "b", "cidr": "fd00::/64", "reserved": ["fd00::/120"], "tenants": ["acme"], "stock": 1, "mixed": 0},
        {"name": "c", "cidr": "10.2.0.0/16", "placement": "bits",
         "bits": {"host": 4, "tenant": 4, "segment": 0, "endpoint": 4, "space": 4}},
    ],
    "topologies": [
        {"name": "one", "networks": ["a", "b"], "asn": 65010, "groups": [
            {"name": "r1", "asn": 65011, "hosts": HOSTS, "routers": [TOR], "cidrs": {"a": "10.0.0.0/18"},
             "layer2": True, "underlay": ["192.0.2.0/24"]},
            {"name": "r2", "cidrs": {"a": "10.0.64.0/18"}, "routers": [{"name": "tor2", "asn": 65002}],
             "groups": [{"name": "x", "cidrs": {"a": "10.0.64.0/19"}, "hosts": ["h3"]},
                        {"name": "y", "cidrs": {"a": "10.0.96.0/19"}}]},
        ], "routers": [{"name": "spine", "asn": 65000}]},
        {"name": "two", "networks": ["c"], "groups": [
            {"name": "r1", "weight": 2, "asn": 65011, "hosts": HOSTS, "layer2": True},
            {"name": "r3", "spare": 1, "groups": [{"name": "z"}]}]},
    ],
    "routing": {
        "protocol": "ebgp",
        "sessions": {"hold_seconds": 30, "keepalive_seconds": 10, "export": ["10.0.0.0/8 ge 16"]},
        "links": [{"ends": ["spine", "tor"], "addresses": [["192.0.2.0", "192.0.2.1"]], "cost": 5},
                  {"ends": ["spine", "tor2"], "interfaces": ["e1", "e2"]}],
        "peers": [{"name": "up", "group": "/r1", "asn": 64999, "addresses": ["192.0.2.250"]},
                  {"name": "over", "routers": ["spine"], "asn": 64998, "interface": "e9"}],
    },
}  # fmt: skip
"""Of everything one, without a fault."""
V2 = {
    "networks": [{"name": "a", "cidr": "10.0.0.0/16", "block_mask": 28, "tenants": ["acme"]},
                 {"name": "b", "cidr": "10.1.0.0/16"}],
    "topologies": [
        {"networks": ["a"], "map": [
            {"name": "r1", "routing": "x", "groups": [
                {"name": "h1", "ip": "192.0.2.1"}, {"name": "h2", "ip": "192.0.2.2"}]},
            {"name": "r2", "assignment": {"k": "v"}, "groups": [{"name": "z", "dummy": True}, {"name": "y"}]}]},
        {"networks": ["b"], "map": [{"name": "h1", "ip": "192.0.2.1"}, {"name": "h3", "ip": "192.0.2.3"}]},
    ],
}  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to everything in a document."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield (key,)
        if isinstance(one, dict | list):
            yield from ((key, *rest) for rest in places(one))


def broken(document: Any, keys: tuple[Any, ...], wrong: object) -> Any:
    copy = deepcopy(document)
    place = copy
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = wrong
    return copy


def faults(document: object) -> list[str]:
    with pytest.raises(Invalid) as caught:
        carved(document)
    return [fault.path for fault in caught.value.faults]


def test_the_document_they_are_made_from_has_none() -> None:
    assert carved(ours()).networks[0].name == "a"


@pytest.mark.parametrize("document", [pytest.param(RICH, id="ours"), pytest.param(V2, id="v2")])
@pytest.mark.parametrize("wrong", [5, "?", [], ["?"], {"?": 5}, True, None], ids=repr)
def test_whatever_has_no_form_is_told_alone(document: dict[str, Any], wrong: object) -> None:
    carved(document)
    kind = PlanDocument if "version" in document else V2Document
    tried = 0
    for keys in places(document):
        spoilt = broken(document, keys, wrong)
        found = document_faults(spoilt, kind)
        of_form = {fault.path for fault in found}
        if any(not fault.sentence.startswith(UNKNOWN) for fault in found) and keys != ("version",):
            tried += 1
            assert set(faults(spoilt)) == of_form, keys
    assert tried > 20


def test_faults_of_form_and_of_meaning_come_together() -> None:
    document = ours(
        network={"block_length": "x", "stock": -1, "tenants": [["t"], "b/c"]},
        rack={"weight": 0, "spare": "none", "hosts": [[], *HOSTS, {"name": "h/3"}]},
        topology={"networks": ["a", "b", "c"]},
        routing={"sessions": {"hold_seconds": "long", "import": ["10.0.0.0/33"]}, "peers": [{"name": "up", "asn": -1}]},
    )
    assert set(faults(document)) == {
        "networks[0].block_length",
        "networks[0].stock",
        "networks[0].tenants[0]",
        "networks[0].tenants[1]",
        "topologies[0].networks[2]",
        "topologies[0].groups[0].weight",
        "topologies[0].groups[0].spare",
        "topologies[0].groups[0].hosts[0]",
        "topologies[0].groups[0].hosts[3].name",
        "routing.sessions.hold_seconds",
        "routing.sessions.import[0]",
        "routing.peers[0]",
        "routing.peers[0].asn",
    }


def test_a_network_that_is_not_read_hides_no_fault_of_the_others() -> None:
    document = ours(network={"cidr": "10.0.0.0/99"}, topology={"networks": ["a", "b", "c"]}, rack={"weight": 0})
    assert set(faults(document)) == {
        "networks[0].cidr",
        "topologies[0].networks[2]",
        "topologies[0].groups[0].weight",
    }


def test_a_placement_without_its_widths_hides_nothing() -> None:
    document = ours(network={"placement": "bits"}, rack={"weight": 0}, routing={"sessions": {"export": ["x"]}})
    assert set(faults(document)) == {
        "networks[0].bits",
        "topologies[0].groups[0].weight",
        "routing.sessions.export[0]",
    }


@pytest.mark.parametrize(
    ("document", "path"),
    [
        pytest.param(ours(network={"cidr": 5}), "networks[0].cidr", id="network"),
        pytest.param({**ours(), "networks": 5}, "networks", id="networks"),
        pytest.param({**ours(), "topologies": 5}, "topologies", id="topologies"),
        pytest.param({**ours(), "routing": 5}, "routing", id="routing"),
        pytest.param(ours(network={"placement": "bit"}), "networks[0].placement", id="placement"),
        pytest.param(ours(topology={"networks": "a"}), "topologies[0].networks", id="names-of-networks"),
        pytest.param(ours(topology={"groups": "a"}), "topologies[0].groups", id="groups"),
        pytest.param(ours(rack={"name": ["r1"]}), "topologies[0].groups[0].name", id="name"),
        pytest.param(ours(rack={"hosts": "h1"}), "topologies[0].groups[0].hosts", id="hosts"),
        pytest.param(ours(rack={"asn": "x"}), "topologies[0].groups[0].asn", id="number-of-hosts"),
        pytest.param(ours(rack={"layer2": "x"}), "topologies[0].groups[0].layer2", id="layer2"),
        pytest.param(ours(rack={"routers": "tor"}), "topologies[0].groups[0].routers", id="routers"),
        pytest.param(
            ours(rack={"routers": [{**TOR, "asn": "x"}]}), "topologies[0].groups[0].routers[0].asn", id="number"
        ),
        pytest.param(ours(routing={"protocol": "ebpg"}), "routing.protocol", id="protocol"),
        pytest.param(ours(routing={"peers": [{"name": "up", "routers": 5, "asn": 1, "addresses": ["192.0.2.250"]}]}),
                     "routing.peers[0].routers", id="whose-peer"),
        pytest.param(ours(routing={"peers": [{"name": "up", "routers": ["tor"], "asn": 1, "addresses": "x"}]}),
                     "routing.peers[0].addresses", id="peer"),
        pytest.param(ours(routing={"links": [{"ends": ["tor"]}]}), "routing.links[0].ends", id="link"),
        pytest.param(
            {"networks": [{"name": "a", "cidr": "10.0.0.0/16"}],
             "topologies": [{"networks": ["a"], "map": [{"name": "h1", "ip": "192.0.2.1"}, {"name": "h", "ip": "x"}]}]},
            "topologies[0].map[1].ip",
            id="v2-host",
        ),
        pytest.param(
            {"networks": [{"name": "a", "cidr": "10.0.0.0/16"}], "topologies": [{"networks": 5, "map": []}]},
            "topologies[0].networks",
            id="v2-networks",
        ),
    ],
)  # fmt: skip
def test_a_fault_of_form_brings_no_other(document: object, path: str) -> None:
    assert faults(document) == [path]


def test_v2_faults_of_form_and_of_meaning_come_together() -> None:
    document = {
        "networks": [{"name": "a", "cidr": "10.0.0.0/16", "block_mask": "x"}, {"name": "b", "cidr": "10.0.0.0/24"}],
        "topologies": [
            {
                "networks": ["a", "c"],
                "map": [
                    {"name": "r", "groups": [{"name": "h", "ip": "192.0.2.1"}, {"name": "g"}]},
                    {"name": "h2", "routing": 5, "ip": "192.0.2.2", "groups": [{"name": "g"}]},
                ],
            }
        ],
    }
    assert set(faults(document)) == {
        "networks[0].block_mask",
        "networks[1].cidr",
        "topologies[0].networks[1]",
        "topologies[0].map[0]",
        "topologies[0].map[1].routing",
        "topologies[0].map[0].groups[1]",
        "topologies[0].map[1].groups",
    }
