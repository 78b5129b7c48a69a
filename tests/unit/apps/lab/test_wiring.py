from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from romana.apps.lab.equip import equipped
from romana.apps.lab.file import FabricKind, LabFile, Rack
from romana.apps.lab.picture import draw
from romana.apps.lab.programs import day_zero
from romana.apps.lab.reading import Lab, read_lab
from romana.apps.lab.wiring import Fabric, wire
from romana.codec.text import parse_prefix
from romana.codec.topology import carved
from romana.core.routing import RoutePlan

LAB = read_lab(Path(__file__).parents[4] / "examples/demo/lab.yaml")
FABRIC: Fabric = LAB.fabric
LARGE = LabFile(
    version=1,
    name="large",
    underlay=(parse_prefix("192.168.0.0/16"), parse_prefix("fd00:192:168::/48")),
    spines=("spine1", "spine2"),
    racks=(
        Rack(name="rack1", routers=("tor1a", "tor1b"), hosts=("h11", "h12")),
        Rack(name="rack2", router="tor2", hosts=("h21", "h22"), layer2=True),
    ),
    topology=("t",),
)
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "networks": [{"name": "v4", "cidr": "10.112.0.0/12"}, {"name": "v6", "cidr": "fd00:10:112::/48"}],
    "topologies": [
        {
            "name": "dc",
            "networks": ["v4", "v6"],
            "groups": [{"name": "rack1", "hosts": ["h11", "h12"]}, {"name": "rack2", "hosts": ["h21", "h22"]}],
        }
    ],
}


def lab_of(file: LabFile) -> Lab:
    fabric = wire(file)
    document = equipped(DOCUMENT, file, fabric)
    return Lab(file=file, topologies=(("t", document),), policies=(), plan=carved(document), fabric=fabric)


@pytest.mark.parametrize("fabric", [FABRIC, wire(LARGE)], ids=["small", "large"])
def test_every_address_is_used_once(fabric: Fabric) -> None:
    own = [address for node in fabric.nodes.values() for address in node.loopbacks]
    switched = {node.name for node in fabric.nodes.values() if node.is_switched}
    linked = [
        address
        for link in fabric.links
        for end in link.ends
        if not (end.node in switched and end.shared != (1, 1))
        for address in end.addresses
    ]
    assert len(set(own + linked)) == len(own + linked)


def test_both_ends_of_a_link_are_in_one_pair() -> None:
    for link in FABRIC.links:
        for above, below in zip(link.above.addresses, link.below.addresses, strict=True):
            assert above.supernet(above.length - 1) == below.supernet(below.length - 1)


def test_addresses_of_a_node_are_in_the_part_of_its_rack() -> None:
    assert [address.text for address in FABRIC.nodes["h21"].loopbacks] == ["192.168.2.2", "fd00:192:168:2::2"]
    assert FABRIC.api.text == "192.168.0.2"


def test_every_router_has_a_link_to_every_spine_host_and_sister() -> None:
    fabric = wire(LARGE)
    linked = {frozenset(end.node for end in link.ends) for link in fabric.links}
    for router in ("tor1a", "tor1b"):
        for other in ("spine1", "spine2", "h11", "h12"):
            assert {router, other} in linked
    assert {"tor1a", "tor1b"} in linked
    assert {frozenset({"switch2", other}) for other in ("tor2", "h21", "h22")} <= linked


def test_the_documents_carve_with_every_fabric() -> None:
    for kind in FabricKind:
        flat = kind is FabricKind.LAYER2
        racks = (Rack(name="rack1", hosts=("h11", "h12")),) if flat else LARGE.racks
        spines = () if flat else LARGE.spines
        lab = lab_of(msgspec.structs.replace(LARGE, fabric=kind, racks=racks, spines=spines))
        speaking = set() if flat else {"spine1", "spine2", "tor1a", "tor1b", "tor2", "h11", "h12"}
        assert set(day_zero(lab)) == speaking
        assert set(RoutePlan(lab.plan).fabric.devices) == speaking - {"h11", "h12"}


def test_a_group_that_lists_no_hosts_has_its_racks() -> None:
    group: dict[str, Any] = {"name": "rack1"}
    document = {**DOCUMENT, "topologies": [{"name": "dc", "networks": ["v4", "v6"], "groups": [group]}]}
    file = msgspec.structs.replace(LARGE, racks=LARGE.racks[:1])
    plan = carved(equipped(document, file, wire(file)))
    assert [host.name for host in plan.topologies[0].hosts] == ["h11", "h12"]
    assert group == {"name": "rack1"}


def test_sessions_name_each_other() -> None:
    speakers = day_zero(lab_of(LARGE))
    for name, speaker in speakers.items():
        for session in speaker.sessions:
            other = speakers[session.neighbor]
            (back,) = [one for one in other.sessions if one.neighbor == name and one.families == session.families]
            assert session.asn == other.asn
            assert (back.local, back.remote) == (session.remote, session.local)


def test_the_picture_has_every_node_once_and_fits_a_terminal() -> None:
    numbers = {name: one.asn for name, one in RoutePlan(LAB.plan).fabric.devices.items()}
    picture = draw(FABRIC, numbers)
    for name in FABRIC.nodes:
        assert picture.split().count(name) + picture.split().count(f"{name}:") == 1
    assert max(map(len, picture.splitlines())) <= 80
