from __future__ import annotations

from typing import Any

import pytest

from romana.codec.text import parse_address, parse_prefix
from romana.codec.topology import read_plan
from romana.core.topology import carve, check_change, group_cidrs, leaf_groups, misfits, place_host, settle_host
from romana.model.endpoint import Endpoint
from romana.model.errors import Invalid
from romana.model.ipam import Allocation, Block, Span
from romana.model.tenancy import Identity, Owner
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


OWNER = Owner("acme", "web")
IDENTITY = Identity(owner=OWNER)
RACKS = ({"name": "a"}, {"name": "b"})


class Live:
    """Host h in rack /b with a span, a block and an endpoint in it."""

    def __init__(self) -> None:
        self.plan = plan(*RACKS)
        host = place_host(self.plan, {"g": Host(name="g", groups={"t": "/a"})}, Host(name="h"))
        self.hosts = {"h": host}
        span, cidr = parse_prefix("10.0.128.0/24"), parse_prefix("10.0.128.0/29")
        address = cidr.address(0)
        self.spans = {span: Span(cidr=span, network="n", host="h")}
        self.blocks = {
            cidr: Block(cidr=cidr, span=span, network="n", host="h", allocator="h", owner=OWNER, identities=("i",))
        }
        self.endpoints = {
            "c/eth0": Endpoint(
                id="c/eth0",
                name="pod",
                host="h",
                identity=IDENTITY,
                link="rom1",
                allocations=(Allocation(address=address, block=cidr, endpoint="c/eth0", sequence=1),),
            )
        }

    def change(self, new: AddressPlan) -> list[str]:
        faults = check_change(
            self.plan, new, self.hosts, spans=self.spans, blocks=self.blocks, endpoints=self.endpoints
        )
        return [str(fault) for fault in faults]


def test_the_same_plan_and_a_deeper_one_change_nothing() -> None:
    live = Live()
    assert live.change(live.plan) == []
    nested = plan({"name": "a", "groups": [{"name": "1"}]}, {"name": "b", "groups": [{"name": "1"}]})
    assert live.change(nested) == []
    assert settle_host(nested, {}, live.hosts["h"], spans=live.spans.values()).groups == {"t": "/b/1"}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        pytest.param(plan(*RACKS, cidr="10.1.0.0/16"), "outside the group", id="other-cidr"),
        pytest.param(
            plan(*RACKS, root={"networks": ["m"]}, name="m"),
            "networks.n: is not in the new plan, but 10.0.128.0/24 of it are in use",
            id="network-gone",
        ),
        pytest.param(plan(*RACKS, block_length=28), "they cannot become", id="other-blocks"),
        pytest.param(plan(*RACKS, tenants=["beta"]), "tenant acme is not listed, but owns 10.0.128.0/29", id="tenants"),
        pytest.param(plan(*RACKS, reserved=["10.0.128.0/30"]), "10.0.128.0 of pod", id="reserved"),
        pytest.param(
            plan({"name": "a"}, {"name": "b", "hosts": ["z"]}),
            "is to have all of 10.0.128.0/17, but host h holds 10.0.128.0/24",
            id="sole-host",
        ),
        pytest.param(plan(*RACKS, root={"spare": 6}), "outside the group the new plan gives it", id="smaller-racks"),
    ],
)
def test_a_change_that_would_orphan_something_says_what(new: AddressPlan, words: str) -> None:
    found = Live().change(new)
    assert any(words in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("new", "group"),
    [
        pytest.param(plan({"name": "a"}), "/a", id="one-rack-has-all"),
        pytest.param(plan(*({"name": name} for name in "abcde")), "/e", id="smaller-rack-that-contains-it"),
        pytest.param(plan({"name": "y"}, {"name": "z"}), "/z", id="other-names"),
    ],
)
def test_a_host_follows_its_spans(new: AddressPlan, group: str) -> None:
    live = Live()
    assert live.change(new) == []
    assert settle_host(new, {}, live.hosts["h"], spans=live.spans.values()).groups == {"t": group}
