from __future__ import annotations

from pathlib import Path

from romana.apps.lab.file import read_lab
from romana.apps.lab.picture import draw
from romana.apps.lab.wiring import Fabric, wire

LAB = read_lab(Path(__file__).parents[4] / "examples/demo/lab.yaml")
FABRIC: Fabric = wire(LAB.file, LAB.plan)


def test_every_address_is_used_once() -> None:
    own = [address for node in FABRIC.nodes.values() for address in node.loopbacks]
    linked = [address for link in FABRIC.links for end in (link.above, link.below) for address in end.addresses]
    assert len(set(own + linked)) == len(own + linked) == 2 * (7 + 2 * 7)


def test_both_ends_of_a_link_are_in_one_pair() -> None:
    for link in FABRIC.links:
        for above, below in zip(link.above.addresses, link.below.addresses, strict=True):
            assert above.supernet(above.length - 1) == below.supernet(below.length - 1)


def test_addresses_of_a_node_are_in_the_part_of_its_rack() -> None:
    assert [address.text for address in FABRIC.nodes["h21"].loopbacks] == ["192.168.2.2", "fd00:192:168:2::2"]
    assert FABRIC.api.text == "192.168.0.129"


def test_sessions_name_each_other() -> None:
    for name, node in FABRIC.nodes.items():
        for neighbor in node.device.neighbors if node.device else ():
            other = FABRIC.nodes[neighbor.name].device
            assert other is not None
            (back,) = [one for one in other.neighbors if one.name == name]
            assert neighbor.asn == other.asn
            assert back.addresses == tuple((theirs, ours) for ours, theirs in neighbor.addresses)
            assert back.above is not neighbor.above


def test_what_a_router_originates_is_accepted_above_and_below() -> None:
    for name, node in FABRIC.nodes.items():
        assert node.device or name == "ctl"
        for neighbor in node.device.neighbors if node.device else ():
            other = FABRIC.nodes[neighbor.name].device
            assert other is not None
            accepted = next(one.accepted for one in other.neighbors if one.name == name)
            exact = {one.within for one in accepted if one.shortest == one.within.length}
            assert node.device is not None
            assert set(node.device.originates) <= exact


def test_the_picture_has_every_node_once_and_fits_a_terminal() -> None:
    picture = draw(FABRIC)
    for name in FABRIC.nodes:
        assert picture.split().count(name) + picture.split().count(f"{name}:") == 1
    assert max(map(len, picture.splitlines())) <= 80
