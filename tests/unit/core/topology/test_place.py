from __future__ import annotations

from typing import Any

import pytest

from romana.codec.text import parse_address, parse_prefix
from romana.codec.topology import read_plan
from romana.core.topology import carve, group_cidrs, leaf_groups, misfits, place_host
from romana.model.errors import Invalid
from romana.model.topology import AddressPlan, Host


def plan(*groups: dict[str, Any], root: dict[str, Any] | None = None, **network: Any) -> AddressPlan:
    return carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n", "cidr": "10.0.0.0/16"} | network],
                "topologies": [{"name": "t", "networks": ["n"], "groups": list(groups)} | (root or {})],
            }
        )
    )


def joined(address_plan: AddressPlan, *hosts: Host) -> dict[str, Host]:
    found: dict[str, Host] = {}
    for host in hosts:
        found[host.name] = place_host(address_plan, found, host)
    return found


def names(prefix: str, count: int, **labels: str) -> list[Host]:
    return [Host(name=f"{prefix}{index}", labels=labels) for index in range(count)]


def groups_of(hosts: dict[str, Host]) -> dict[str, str]:
    return {name: host.groups["t"] for name, host in hosts.items()}


def test_hosts_go_round_the_groups() -> None:
    hosts = joined(plan({"name": "a"}, {"name": "b"}, {"name": "c"}), *names("h", 4))
    assert groups_of(hosts) == {"h0": "/a", "h1": "/b", "h2": "/c", "h3": "/a"}


def test_labels_decide_at_every_level() -> None:
    tree = plan(
        {
            "name": "x",
            "assignment": {"zone": "x"},
            "groups": [{"name": "1", "assignment": {"rack": "1"}}, {"name": "2"}],
        },
        {"name": "y", "assignment": {"zone": "y"}},
    )
    hosts = joined(
        tree,
        Host(name="a", labels={"zone": "x", "rack": "1"}),
        Host(name="b", labels={"zone": "x", "rack": "1"}),
        Host(name="c", labels={"zone": "x", "rack": "7"}),
        Host(name="d", labels={"zone": "y", "rack": "1"}),
    )
    assert groups_of(hosts) == {"a": "/x/1", "b": "/x/2", "c": "/x/2", "d": "/y"}


def test_a_host_in_no_group_is_refused_with_what_would_help() -> None:
    tree = plan({"name": "a", "assignment": {"rack": "1"}}, {"name": "b", "assignment": {"rack": "2"}})
    with pytest.raises(Invalid) as caught:
        place_host(tree, {}, Host(name="h", labels={"rack": "3"}))
    assert str(caught.value) == (
        "hosts.h: no group of topology t takes a host with the labels rack=3; groups there ask for rack=1, rack=2; "
        "label the host, or list it in its group"
    )


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        pytest.param(AddressPlan(networks=(), topologies=()), "no topology yet", id="no-topology"),
        pytest.param(
            plan({"name": "a", "hosts": ["x"]}, {"name": "b", "hosts": ["y"]}), "no group that hosts", id="sole"
        ),
    ],
)
def test_a_plan_without_room_for_hosts(tree: AddressPlan, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        place_host(tree, {}, Host(name="h"))


def test_padding_takes_no_host() -> None:
    hosts = joined(plan({"name": "a"}, {"name": "b"}, {"name": "c"}), *names("h", 9))
    assert set(groups_of(hosts).values()) == {"/a", "/b", "/c"}


def test_the_plans_own_hosts_go_where_it_says() -> None:
    tree = plan({"name": "a"}, {"name": "b", "assignment": {"rack": "b"}, "hosts": ["h1", "h2"]})
    placed = place_host(tree, {}, Host(name="h1"))
    assert placed.groups == {"t": "/b"}
    assert group_cidrs(tree, placed) == {"n": parse_prefix("10.0.128.0/17")}
    assert leaf_groups(tree, placed)["n"].path == "/b"
    assert misfits(tree, placed) == []


def test_a_placed_host_stays_and_its_labels_are_reported() -> None:
    tree = plan({"name": "a", "assignment": {"rack": "a"}}, {"name": "b"})
    hosts = joined(tree, Host(name="h", labels={"rack": "a"}))
    again = place_host(tree, hosts, Host(name="h", labels={"rack": "z"}, groups={"t": "/a"}))
    assert again.groups == {"t": "/a"}
    assert [str(fault) for fault in misfits(tree, again)] == ["hosts.h.labels: group /a takes only hosts with rack=a"]


def test_an_address_belongs_to_one_host() -> None:
    tree = plan({"name": "a", "hosts": [{"name": "x", "addresses": ["192.0.2.9"]}, "y"]})
    address = (parse_address("192.0.2.1"),)
    hosts = joined(tree, Host(name="h1", addresses=address))
    with pytest.raises(Invalid, match=r"192\.0\.2\.1 is also an address of host h1"):
        place_host(tree, hosts, Host(name="h2", addresses=address))
    with pytest.raises(Invalid, match=r"topology t knows it by 192\.0\.2\.9"):
        place_host(tree, {}, Host(name="x", addresses=address))


def test_a_host_has_no_address_that_an_endpoint_may_get() -> None:
    tree = plan({"name": "a"}, reserved=["10.0.7.0/24"])
    own = Host(name="h", addresses=(parse_address("10.0.8.1"),))
    with pytest.raises(
        Invalid, match=r"10\.0\.8\.1 lies in network n \(10\.0\.0\.0/16\), whose addresses are for endpoi"
    ):
        place_host(tree, {}, own)
    for apart in ("10.0.7.1", "10.1.0.1", "fd00::1"):
        assert place_host(tree, {}, Host(name="h", addresses=(parse_address(apart),))).groups == {"t": "/a"}
    assert place_host(tree, {}, own, [parse_prefix("10.0.8.0/24")]).groups == {"t": "/a"}
