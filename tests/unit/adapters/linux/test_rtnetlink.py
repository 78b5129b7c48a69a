"""Our bytes as pyroute2 reads them, and pyroute2's as we read them; and what is refused when the kernel's are odd."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.netlink import Reply, Request, attribute, attributes, encode, nested, text, u32
from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Address, Family, Prefix
from romana.model.errors import RomanaError

MAC = "02:00:00:00:00:07"


def decoded(request: Request, kind: type[nlmsg]) -> Any:
    """What pyroute2 makes of a request."""
    message = kind(encode(request, 1))
    message.decode()
    return message


def encoded(message: nlmsg, attrs: list[tuple[str, object]], **fields: int) -> Reply:
    """What we would get from the kernel, had it sent what pyroute2 packs."""
    message.update(fields)
    message["attrs"] = attrs
    message.encode()
    return Reply(0, bytes(message.data[16:]))


def test_a_new_veth_names_both_ends() -> None:
    peer = rtnl.veth_peer("eth0", "0a:00:00:00:00:08", 1400, 77, 5)
    read = decoded(rtnl.new_veth("rom0", MAC, 1400, 77, peer), ifinfmsg)
    assert (read["header"]["type"], read["header"]["flags"], read["index"]) == (16, 0x601, 77)
    assert (read.get_attr("IFLA_IFNAME"), read.get_attr("IFLA_ADDRESS"), read.get_attr("IFLA_MTU")) == (
        "rom0",
        MAC,
        1400,
    )
    info = read.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    other = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert (other["index"], other["flags"], other["change"]) == (77, 0, 0)
    assert (other.get_attr("IFLA_IFNAME"), other.get_attr("IFLA_NET_NS_FD")) == ("eth0", 5)


def test_settings_of_a_link_go_by_family() -> None:
    request = rtnl.set_link(9, inet={8: 1, 4: 0}, addresses_by_hand=True)
    read = decoded(request, ifinfmsg)
    assert (read["header"]["type"], read["index"], read["flags"], read["change"]) == (19, 9, 1, 1)
    families = dict(attributes(dict(attributes(request.payload, 16))[26]))
    inet = dict(attributes(dict(attributes(families[2]))[1]))
    assert {key: struct.unpack("=I", value)[0] for key, value in inet.items()} == {4: 0, 8: 1}
    assert dict(attributes(families[10])) == {8: b"\x01"}


@pytest.mark.parametrize(("address", "family", "flags"), [("10.0.0.9", 2, 0), ("fd00::9", 10, 2)], ids=["v4", "v6"])
def test_an_address_and_a_neighbour_carry_family_and_length(address: str, family: int, flags: int) -> None:
    read = decoded(rtnl.new_address(3, parse_address(address)), ifaddrmsg)
    assert (read["family"], read["prefixlen"], read["index"], read["flags"]) == (
        family,
        32 if family == 2 else 128,
        3,
        flags,
    )
    assert read.get_attr("IFA_ADDRESS") == read.get_attr("IFA_LOCAL") == address
    read = decoded(rtnl.new_neighbour(3, parse_address(address), MAC), ndmsg)
    assert (read["family"], read["ifindex"], read["state"]) == (family, 3, 0x80)
    assert (read.get_attr("NDA_DST"), read.get_attr("NDA_LLADDR")) == (address, MAC)


def test_routes_carry_protocol_hops_and_source() -> None:
    hops = tuple(rtnl.NextHop(gateway=parse_address(address)) for address in ("192.0.2.1", "192.0.2.2"))
    route = rtnl.KernelRoute(prefix=parse_prefix("10.0.0.0/9"), hops=hops, source=parse_address("192.0.2.9"))
    read = decoded(rtnl.new_route(route, replace=True), rtmsg)
    assert (read["header"]["flags"], read["proto"], read["table"], read["dst_len"], read["type"]) == (
        0x501,
        146,
        254,
        9,
        1,
    )
    assert (read.get_attr("RTA_DST"), read.get_attr("RTA_PREFSRC")) == ("10.0.0.0", "192.0.2.9")
    gateways = [hop.get_attr("RTA_GATEWAY") for hop in read.get_attr("RTA_MULTIPATH")]
    assert gateways == ["192.0.2.1", "192.0.2.2"]


def test_a_next_hop_of_the_other_family_is_a_via() -> None:
    hop = rtnl.NextHop(index=4, gateway=parse_address("fe80::2"))
    route = rtnl.KernelRoute(prefix=parse_prefix("10.0.0.0/8"), hops=(hop,))
    request = rtnl.new_route(route)
    read = decoded(request, rtmsg)
    assert read.get_attr("RTA_VIA") == {"family": 10, "addr": "fe80::2"}
    assert rtnl.read_route(Reply(24, request.payload)).hops == (hop,)


prefixes = st.one_of(
    st.integers(0, 32).flatmap(
        lambda length: st.integers(0, (1 << length) - 1).map(
            lambda bits: Prefix(Family.V4, bits << (32 - length), length)
        )
    ),
    st.integers(0, 128).flatmap(
        lambda length: st.integers(0, (1 << length) - 1).map(
            lambda bits: Prefix(Family.V6, bits << (128 - length), length)
        )
    ),
)


@st.composite
def kernel_routes(draw: st.DrawFn) -> rtnl.KernelRoute:
    prefix = draw(prefixes)
    if draw(st.booleans()):
        return rtnl.KernelRoute(prefix=prefix, kind=rtnl.RTN_BLACKHOLE)
    gateway = st.integers(1, (1 << prefix.family.bits) - 1).map(lambda value: Address(prefix.family, value))
    hop = st.builds(rtnl.NextHop, index=st.integers(1, 1 << 30), gateway=st.none() | gateway)
    hops = draw(st.lists(hop, min_size=1, max_size=4))
    return rtnl.KernelRoute(prefix=prefix, hops=tuple(hops), source=draw(st.none() | gateway), metric=draw(metrics))


metrics = st.integers(0, 1 << 31)


@given(kernel_routes())
def test_what_is_written_reads_back_the_same(route: rtnl.KernelRoute) -> None:
    assert rtnl.read_route(Reply(24, rtnl.new_route(route).payload)) == route


def test_links_addresses_and_neighbours_of_another_encoder_are_read() -> None:
    attrs: list[tuple[str, object]] = [("IFLA_IFNAME", "rom1"), ("IFLA_MTU", 1300), ("IFLA_ADDRESS", MAC)]
    info = ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]})
    link = rtnl.Link(index=5, name="rom1", kind="veth", up=True, mtu=1300, mac=MAC)
    assert rtnl.read_link(encoded(ifinfmsg(), [*attrs, info], index=5, flags=1)) == link

    reply = encoded(ifaddrmsg(), [("IFA_ADDRESS", "fe80::7")], family=10, prefixlen=64, index=5, scope=253)
    address = rtnl.InterfaceAddress(index=5, address=parse_address("fe80::7"), length=64, scope=253)
    assert rtnl.read_address(reply) == address

    attrs = [("NDA_DST", "10.0.0.1"), ("NDA_LLADDR", MAC)]
    reply = encoded(ndmsg(), attrs, family=2, ifindex=5, state=0x80)
    neighbour = rtnl.Neighbour(index=5, address=parse_address("10.0.0.1"), mac=MAC, state=0x80)
    bridged = Reply(28, struct.pack("=BxxxiHBB", 7, 5, 0x80, 0, 0))
    assert rtnl.read_neighbours([reply, bridged]) == [neighbour]


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=9))))
def test_attributes_read_back_as_packed(pairs: list[tuple[int, bytes]]) -> None:
    packed = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(packed) % 4 == 0
    assert list(attributes(packed)) == pairs


def test_strings_numbers_and_nesting_have_their_form() -> None:
    assert text(3, "lo") == b"\x07\0\x03\0lo\0\0"
    assert u32(4, 7) == struct.pack("=HHI", 8, 4, 7)
    assert nested(18, text(1, "veth"))[2:4] == struct.pack("=H", 18 | 0x8000)


@pytest.mark.parametrize("odd", [b"\x03\0\x01\0", b"\x09\0\x01\0abcd"], ids=["too short", "too long"])
def test_an_attribute_with_an_impossible_length_is_refused(odd: bytes) -> None:
    with pytest.raises(RomanaError, match="netlink attribute"):
        list(attributes(odd))
