from __future__ import annotations

from typing import Any

import pytest

from romana.codec.document import load
from romana.codec.topology import carved, read_plan
from romana.core.topology import carve, leaves
from romana.model.errors import Invalid
from romana.model.topology import AddressPlan


def host(name: str, ip: str) -> dict[str, Any]:
    return {"name": name, "ip": ip}


def v2(
    elements: list[dict[str, Any]] | None, cidr: str = "10.0.0.0/16", networks: Any = None, **network: Any
) -> dict[str, Any]:
    return {
        "networks": networks or [{"name": "net", "cidr": cidr} | network],
        "topologies": [{"networks": ["net"], "map": elements}],
    }


def cidrs(plan: AddressPlan, network: str = "net") -> dict[str, str]:
    return {leaf.path: str(leaf.cidrs[network]) for leaf in leaves(plan.topologies[0].root) if not leaf.closed}


def refused(document: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        carve(read_plan(document))
    return {fault.path: fault.sentence for fault in caught.value.faults}


def test_romana_v2_host_groups() -> None:
    document = load(
        """
        {"networks": [{"name": "romana", "cidr": "10.112.0.0/12", "block_mask": 29}],
         "topologies": [{"networks": ["romana"], "map": [
            {"name": "host-group-01", "groups": []}, {"name": "host-group-02", "groups": []},
            {"name": "host-group-03", "groups": []}, {"name": "host-group-04", "groups": []},
            {"name": "host-group-05", "groups": []}, {"name": "host-group-06", "groups": []},
            {"name": "host-group-07", "groups": []}, {"name": "host-group-08", "groups": []}]}]}
        """
    )
    found = cidrs(carve(read_plan(document)), "romana")
    assert list(found.items())[:2] == [("/host-group-01", "10.112.0.0/15"), ("/host-group-02", "10.114.0.0/15")]
    assert len(found) == 8


def test_one_element_of_the_map_becomes_the_root() -> None:
    plan = carve(read_plan(v2([{"name": "rack", "groups": [host("h1", "192.0.2.1"), host("h2", "192.0.2.2")]}])))
    root = plan.topologies[0].root
    assert (root.name, root.path, root.is_leaf) == ("rack", "/", True)
    assert cidrs(plan) == {"/": "10.0.0.0/16"}
    assert [(one.name, str(one.addresses[0]), one.group) for one in plan.topologies[0].hosts] == [
        ("h1", "192.0.2.1", "/"),
        ("h2", "192.0.2.2", "/"),
    ]


def test_nested_groups_keep_names_and_get_some_where_there_are_none() -> None:
    plan = carve(
        read_plan(
            v2(
                [
                    {"name": "a"},
                    {"name": "b", "groups": [{"groups": []}, {"name": "y", "cidr": "1.2.3.4", "routing": "r"}]},
                ]
            )
        )
    )
    assert cidrs(plan) == {"/a": "10.0.0.0/17", "/b/group-1": "10.0.128.0/18", "/b/y": "10.0.192.0/18"}
    assert plan.topologies[0].root.groups[1].groups[1].routing == "r"


def test_groups_of_one_name_are_told_apart() -> None:
    assert list(cidrs(carve(read_plan(v2([{"name": "a"}, {"name": "a"}, {"name": "a"}]))))) == ["/a", "/a-2", "/a-3"]


def test_an_empty_map_has_no_place_for_hosts() -> None:
    assert cidrs(carve(read_plan(v2([])))) == {}
    assert cidrs(carve(read_plan(v2(None)))) == {}


def test_hosts_at_the_level_of_the_map_share_the_network() -> None:
    plan = carve(read_plan(v2([host("h1", "192.0.2.1"), host("h2", "192.0.2.2")])))
    assert [one.group for one in plan.topologies[0].hosts] == ["/", "/"]


def test_assignment_and_dummy() -> None:
    plan = carve(read_plan(v2([{"name": "a", "assignment": {"rack": "1"}}, {"name": "b", "dummy": True}])))
    first, second = plan.topologies[0].root.groups
    assert first.assignment == {"rack": "1"}
    assert second.closed


@pytest.mark.parametrize(
    ("cidr", "given", "expected"),
    [
        pytest.param("10.0.0.0/16", {}, 29, id="absent"),
        pytest.param("10.0.0.0/16", {"block_mask": 0}, 29, id="zero"),
        pytest.param("10.0.0.0/31", {}, 31, id="network-is-longer"),
        pytest.param("10.0.0.0/16", {"block_mask": 32}, 32, id="explicit"),
    ],
)
def test_block_mask(cidr: str, given: dict[str, int], expected: int) -> None:
    plan = carve(read_plan(v2([{"name": "all"}], cidr, **given)))
    assert plan.networks[0].block_length == expected


def test_a_network_without_topology_and_tenants() -> None:
    networks = [
        {"name": "net", "cidr": "10.0.0.0/16", "tenants": ["acme", "beta"]},
        {"name": "alone", "cidr": "10.1.0.0/16", "tenants": ["*"]},
        {"name": "open", "cidr": "10.2.0.0/16", "tenants": []},
    ]
    plan = carve(read_plan(v2([{"name": "all"}], networks=networks)))
    assert [network.tenants for network in plan.networks] == [("acme", "beta"), (), ()]


def test_v2_refuses_all_faults_at_once() -> None:
    assert refused(
        {
            "networks": [{"name": 1, "cidr": "10.0.0.0/33", "block_mask": "x", "tenant": []}],
            "topologies": [{"networks": "net", "map": [{"ip": "here"}, {"grups": []}]}],
            "hosts": [],
        }
    ) == {
        "hosts": "unknown field; known here: networks, topologies",
        "networks[0].name": "expected text, got int 1",
        "networks[0].cidr": "'10.0.0.0/33' is not a CIDR, such as 10.0.0.0/8 or 2001:db8::/48",
        "networks[0].block_mask": "expected a whole number or nothing (null), got the text 'x'",
        "networks[0].tenant": "unknown field; did you mean `tenants`?",
        "topologies[0].networks": "expected a list, got the text 'net'",
        "topologies[0].map[0].ip": "'here' is not an IP address, such as 10.0.0.1 or 2001:db8::1",
        "topologies[0].map[1].grups": "unknown field; did you mean `groups`?",
    }


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        pytest.param(
            v2([{"name": "a", "groups": [host("h", "192.0.2.1"), {"name": "g"}]}]),
            "topologies[0].map[0].groups[1]",
            "do not mix them",
            id="hosts-beside-groups",
        ),
        pytest.param(
            v2([{"ip": "192.0.2.1", "name": "h", "groups": [{"name": "g"}]}]),
            "topologies[0].map[0].groups",
            "holds no groups",
            id="groups-in-a-host",
        ),
        pytest.param(
            v2([{"name": "a", "groups": [{"ip": "192.0.2.1"}]}]),
            "topologies[0].map[0].groups[0].name",
            "a host needs a name",
            id="host-without-a-name",
        ),
        pytest.param(v2([], block_mask=33), "networks[0]", "got /33", id="block-mask"),
        pytest.param(v2([], block_mask=8), "networks[0]", "got /8", id="block-larger-than-network"),
        pytest.param(v2([], tenants=["a", "*"]), "networks[0].tenants[1]", "bad tenant name", id="tenant-name"),
        pytest.param(v2([], cidr="10.0.0.5/24"), "networks[0].cidr", "did you mean 10.0.0.0/24", id="literal-start"),
        pytest.param({"networks": [{"nam": "a"}]}, "version", "is missing", id="neither-format"),
        pytest.param({"version": 2}, "version", "expected one of 1", id="other-version"),
        pytest.param([], "version", "is missing", id="no-mapping"),
    ],
)
def test_refused(document: object, path: str, words: str) -> None:
    assert words in refused(document)[path]


def test_ours_in_yaml() -> None:
    plan = carve(
        read_plan(
            load(
                """
version: 1
networks:
  - {name: pods4, cidr: 10.112.0.0/12, span_length: 24, tenants: [acme], reserved: [10.112.0.0/30]}
  - {name: pods6, cidr: "fd00:112::/48"}
topologies:
  - name: racks
    networks: [pods4, pods6]
    assignment: {site: one}
    groups:
      - name: rack-1
        hosts: [h1, {name: h2, addresses: [192.0.2.2, "2001:db8::2"]}]
      - name: rack-2
        assignment: {rack: two}
"""
            )
        )
    )
    pods4, pods6 = plan.networks
    assert (pods4.tenants, str(pods4.reserved[0]), pods4.block_length, pods4.span_length) == (
        ("acme",),
        "10.112.0.0/30",
        29,
        24,
    )
    assert (pods6.block_length, pods6.span_length) == (122, 116)
    racks = plan.topologies[0]
    assert racks.root.assignment == {"site": "one"}
    assert [(leaf.path, str(leaf.cidrs["pods6"])) for leaf in leaves(racks.root)] == [
        ("/rack-1", "fd00:112::/49"),
        ("/rack-2", "fd00:112:0:8000::/49"),
    ]


def test_ours_refuses_all_faults_at_once() -> None:
    assert refused(
        {
            "version": 1,
            "networks": [{"name": "a", "cidr": "10.0.0.0/8", "block_mask": 29}],
            "topologies": [{"networks": ["a"], "groups": [{"name": 1, "hosts": [2, {"nme": "h"}]}]}],
        }
    ).keys() == {
        "networks[0].block_mask",
        "topologies[0].name",
        "topologies[0].groups[0].name",
        "topologies[0].groups[0].hosts[0]",
        "topologies[0].groups[0].hosts[1].nme",
        "topologies[0].groups[0].hosts[1].name",
    }


def test_faults_of_form_do_not_hide_those_of_meaning() -> None:
    document = {
        "version": 1,
        "networks": [{"name": "a", "cidr": "10.0.0.0/16", "blok_length": 29, "stock": -1}],
        "topologies": [{"name": "t", "networks": ["a", "b"], "groups": [{"name": "r", "hosts": []}]}],
    }
    with pytest.raises(Invalid) as caught:
        carved(document)
    places = [fault.path for fault in caught.value.faults]
    assert "networks[0].blok_length" in places
    assert "networks[0].stock" in places
    assert "topologies[0].networks[1]" in places
    network = {"name": "a", "cidr": "10.0.0.0/16", "block_mask": 29, "colour": "red"}
    v2 = {"networks": [network], "topologies": [{"networks": ["b"], "map": []}]}
    with pytest.raises(Invalid) as caught:
        carved(v2)
    assert {"networks[0].colour", "topologies[0].networks[0]"} <= {fault.path for fault in caught.value.faults}


def test_an_unknown_key_alone_is_refused() -> None:
    document = {"version": 1, "networks": [{"name": "a", "cidr": "10.0.0.0/16", "blok_length": 29}]}
    for take in (read_plan, carved):
        with pytest.raises(Invalid, match="blok_length"):
            take(document)
