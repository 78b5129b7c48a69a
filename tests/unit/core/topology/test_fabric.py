"""What can be wrong with the devices of a plan, each with its sentence."""

from __future__ import annotations

from typing import Any

import pytest

from romana.codec.topology import carved
from romana.core.topology import PlanChange, plan_change
from romana.model.errors import Invalid
from romana.model.topology import AddressPlan

NETWORKS = [{"name": "v4", "cidr": "10.112.0.0/12"}, {"name": "v6", "cidr": "fd00:10:112::/48"}]


def router(name: str, asn: int = 65000, **more: Any) -> dict[str, Any]:
    return {"name": name, "asn": asn, **more}


def document(routing: dict[str, Any] | None = None, **root: Any) -> dict[str, Any]:
    groups = [
        {"name": "rack1", "asn": 65011, "routers": [router("tor1", 65001)], "hosts": ["h11", "h12"]},
        {"name": "rack2", "asn": 65012, "routers": [router("tor2", 65002)], "hosts": ["h21", "h22"]},
    ]
    topology = {"name": "dc", "networks": ["v4", "v6"], "routers": [router("spine")], "groups": groups, **root}
    return {"version": 1, "networks": NETWORKS, "topologies": [topology], "routing": routing or {"protocol": "ebgp"}}


def faults(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        carved(document)
    return {fault.path: fault.sentence for fault in caught.value.faults}


def racks(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = document()["topologies"][0]["groups"]
    return [{**group, **change} for group, change in zip(groups, (*changes, {}, {}), strict=False)]


def linked(*pairs: tuple[str, str], protocol: str = "ebgp") -> dict[str, Any]:
    return {"protocol": protocol, "links": [{"ends": list(pair), "interfaces": ["a", "b"]} for pair in pairs]}


def test_a_plan_without_faults_has_its_routers_and_numbers() -> None:
    plan = carved(document(linked(("spine", "tor1"), ("tor1", "h11"))))
    rack1 = plan.topologies[0].root.groups[0]
    assert [one.name for one in rack1.routers] == ["tor1"]
    assert (rack1.asn, rack1.layer2, plan.routing.links[1].ends) == (65011, "", ("tor1", "h11"))


def test_several_originators_of_one_aggregate_need_a_link_between_them() -> None:
    two = [router("tor1a", 65001), router("tor1b", 65001)]
    found = faults(document(linked(("spine", "tor1a"), ("spine", "tor1b")), groups=racks({"routers": two})))
    assert list(found) == ["topologies[0].groups[0].routers"]
    assert "tor1a, tor1b all originate the aggregate of /rack1" in found["topologies[0].groups[0].routers"]
    assert "list a link between every two" in found["topologies[0].groups[0].routers"].lower()
    plan = carved(document(linked(("tor1a", "tor1b")), groups=racks({"routers": two})))
    assert len(plan.topologies[0].root.groups[0].routers) == 2


def test_spines_may_do_without_unless_hosts_are_right_below_them() -> None:
    spines = [router("s1"), router("s2")]
    carved(document(routers=spines))
    groups = [*racks(), {"name": "lone", "hosts": ["h31"]}]
    found = faults(document(routers=spines, groups=groups))
    assert "have hosts right below them" in found["topologies[0].routers"]
    carved(document(linked(("s1", "s2")), routers=spines, groups=groups))


def test_names_are_one_devices_own() -> None:
    found = faults(document(groups=racks({"routers": [router("spine"), router("a b")]}, {"routers": [router("h11")]})))
    assert "is at / already" in found["topologies[0].groups[0].routers[0].name"]
    assert "a router's name is" in found["topologies[0].groups[0].routers[1].name"]
    assert "is a host's name" in found["topologies[0].groups[1].routers[0].name"]


def test_routers_serve_groups_that_have_some() -> None:
    inner = [{"name": "x", "routers": [router("rx")], "hosts": ["h1", "h2"]}, {"name": "y", "hosts": ["h3", "h4"]}]
    found = faults(document(groups=[{"name": "rack1", "layer2": True, "groups": inner}, {"name": "rack2"}]))
    assert (
        "is a part of the layer 2 network of /rack1; name its routers there"
        in found["topologies[0].groups[0].groups[0].routers"]
    )


@pytest.mark.parametrize(
    ("routing", "place", "sentence"),
    [
        ({"protocol": "ibgp"}, "routing.asn", "is missing"),
        ({"protocol": "ebgp", "asn": 65000}, "routing.asn", "is for `ibgp`"),
        ({"protocol": "ospf"}, "topologies[0].routers[0].asn", "is for `ebgp` alone"),
        ({"links": [{"ends": ["spine", "tor1"]}]}, "routing.links", "say nothing without"),
        (linked(("spine", "h11")), "routing.links[0].ends", "host h11 is below /rack1, and spine is not there"),
        (linked(("tor1", "tor2")), "routing.links[0].ends", "links go up or down one level"),
        (linked(("h11", "h12")), "routing.links[0].ends", "is a router of this plan; there is spine, tor1, tor2"),
        (linked(("tor1", "tor1")), "routing.links[0].ends", "are both 'tor1'"),
        ({"protocol": "ebgp", "links": [{"ends": ["spine", "tor1"]}]}, "routing.links[0]", "needs `addresses`, or"),
        (
            {"protocol": "ebgp", "links": [{"ends": ["spine", "tor1"], "interfaces": ["a b", "c"]}]},
            "routing.links[0].interfaces",
            "is no interface's name",
        ),
        (
            {"protocol": "ebgp", "links": [{"ends": ["spine", "tor1"], "addresses": [["192.0.2.1", "fd00::1"]]}]},
            "routing.links[0].addresses",
            "two addresses of one family",
        ),
        (
            {"protocol": "ebgp", "peers": [{"name": "p", "interface": "eth0", "asn": 1}]},
            "routing.peers[0]",
            "of nobody",
        ),
        (
            {"protocol": "ebgp", "peers": [{"name": "p", "group": "/rack9", "interface": "eth0", "asn": 1}]},
            "routing.peers[0].group",
            "there is no group '/rack9'",
        ),
        (
            {"protocol": "ebgp", "peers": [{"name": "p", "group": "/", "interface": "eth0"}]},
            "routing.peers[0].asn",
            "is missing",
        ),
        ({"protocol": "ebgp", "peers": [{"name": "p", "group": "/", "asn": 1}]}, "routing.peers[0]", "needs either"),
        ({"protocol": "ebgp", "sessions": {"hold_seconds": 2}}, "routing.sessions.hold_seconds", "between 3 and"),
        (
            {"protocol": "ebgp", "sessions": {"keepalive_seconds": 40, "hold_seconds": 60}},
            "routing.sessions.keepalive_seconds",
            "a third",
        ),
        (
            {"protocol": "ebgp", "sessions": {"communities": ["65001:70000"]}},
            "routing.sessions.communities[0]",
            "no community",
        ),
        (
            {"protocol": "ebgp", "sessions": {"password_file": "secret"}},
            "routing.sessions.password_file",
            "is the path",
        ),
        (
            {"protocol": "ebgp", "sessions": {"import": ["10.0.0.0/8 ge 4"]}},
            "routing.sessions.import[0]",
            "matches nothing",
        ),
        ({"protocol": "ebgp", "sessions": {"export": ["everything"]}}, "routing.sessions.export[0]", "is not a CIDR"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_routing_says_wrongly(routing: dict[str, Any], place: str, sentence: str) -> None:
    found = faults(document(routing))
    assert sentence in found[place], found


def test_numbers_that_ebgp_needs() -> None:
    found = faults(document(routers=["spine"], groups=racks({"asn": None})))
    assert "is missing; with `ebgp` router spine of / needs one" in found["topologies[0].routers[0].asn"]
    assert "the hosts of /rack1 need an AS number" in found["topologies[0].groups[0].asn"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"routers": [router("spine", addresses=["10.112.9.9"])]}, "topologies[0].routers[0].addresses"),
        ({"underlay": ["10.0.0.0/8"]}, "topologies[0].underlay"),
        ({"groups": racks({"hosts": [{"name": "h11", "addresses": ["10.113.0.1"]}, "h12"]})}, "hosts.h11"),
    ],
)
def test_an_aggregate_never_covers_foreign_space(change: dict[str, Any], place: str) -> None:
    found = faults(document(**change))
    assert "lies in network v4 (10.112.0.0/12), which is discarded where nobody" in found[place]


def test_two_groups_with_one_cidr() -> None:
    cidrs = {"cidrs": {"v4": "10.112.0.0/13", "v6": "fd00:10:112::/49"}}
    found = faults(document(groups=racks(cidrs, cidrs)))
    assert found["topologies[0].groups[1].cidrs.v4"] == "10.112.0.0/13 overlaps 10.112.0.0/13 of group 'rack1'"


def test_topologies_agree_about_a_path() -> None:
    here = document()
    here["networks"] = [*NETWORKS, {"name": "more", "cidr": "10.64.0.0/12"}]
    other = {"name": "other", "networks": ["more"], "layer2": True, "groups": [{"name": "rack1", "asn": 65099}]}
    here["topologies"].append(other)
    found = faults(here)
    assert "say `layer2` in both, or none" in found["topologies[1].layer2"]
    assert "a path is the same devices in every topology" in found["topologies[1].groups[0].asn"]


def layers(plan: AddressPlan) -> dict[str, str]:
    root = plan.topologies[0].root
    return {group.path: group.layer2 for group in (root, *root.groups)}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["block-on-host", "block-on-host"], {"/": "/", "/a": "/", "/b": "/"}),
        (["prefix-on-host", ""], {"/": "", "/a": "/a", "/b": ""}),
        (["block-on-host,prefix-announce-bgp", "block-on-host"], {"/": "", "/a": "/a", "/b": "/b"}),
        (["prefix-announce-vpc", "block-announce-bgp:peer"], {"/": "", "/a": "", "/b": ""}),
    ],
    ids=["all", "one", "announced", "none"],
)
def test_romana_v2_says_by_routing_who_is_on_one_network(words: list[str], found: dict[str, str]) -> None:
    groups = [{"name": name, "routing": word, "groups": []} for name, word in zip("ab", words, strict=True)]
    v2 = {"networks": [{"name": "net", "cidr": "10.0.0.0/16"}], "topologies": [{"networks": ["net"], "map": groups}]}
    assert layers(carved(v2)) == found


def test_what_a_new_plan_changes_about_connections_is_told() -> None:
    links = [
        {"ends": ["spine", "tor1"], "interfaces": ["a", "b"]},
        {"ends": ["spine", "tor2"], "interfaces": ["c", "d"]},
    ]
    peer = {"name": "wan", "routers": ["spine"], "asn": 65100, "addresses": ["203.0.113.9"]}
    old = carved(document({"protocol": "ebgp", "links": links}))
    assert plan_change(old, old, {}, {}) == PlanChange()
    secured = {"ends": ["spine", "tor1"], "interfaces": ["a", "b"], "session": {"password_file": "/key", "bfd": True}}
    routing = {"protocol": "ebgp", "sessions": {"hold_seconds": 30}, "links": [secured], "peers": [peer]}
    listed = [{"name": "h11", "addresses": ["192.0.2.11"]}, "h12"]
    new = carved(document(routing, groups=racks({"asn": 65019, "hosts": listed})))
    told = {
        (one.what, one.name, one.field): (one.before, one.after) for one in plan_change(old, new, {}, {}).connections
    }
    assert told["link", "spine - tor2", ""] == ("there", "")
    assert told["peer", "wan", ""] == ("", "203.0.113.9")
    assert told["group", "dc:/rack1", "asn"] == ("65011", "65019")
    assert told["host", "h11", "addresses"] == ("", "192.0.2.11")
    assert "password_file=/key" in told["link", "spine - tor1", "options"][1]
    assert "hold_seconds=30" in told["routing", "", "sessions"][1]
    assert len(told) == 6
