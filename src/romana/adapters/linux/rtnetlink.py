"""rtnetlink: the messages for links, addresses, routes and neighbours, as requests and as what the kernel answers.

Owns the constants and layouts of include/uapi/linux/{rtnetlink,if_link,neighbour,if_addr}.h that we use. Sends nothing.
Every function that names an interface names it by its index, but for links, which are found by name.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable

import msgspec

from romana.adapters.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Reply,
    Request,
    attribute,
    attributes,
    name_of,
    nested,
    text,
    u32,
)
from romana.model.address import Address, Family, Prefix
from romana.model.errors import RomanaError

ROUTE_PROTOCOL = 146
MAIN_TABLE = 254

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30

IFF_UP = 1
RTN_UNICAST, RTN_BLACKHOLE = 1, 6
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
ANY_KIND, SCOPE_ANY = 0, 255  # of a route to remove
NUD_PERMANENT = 0x80
IFA_F_NODAD = 0x02
RTNH_F_ONLINK = 4

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_IFLA_GROUP = 27
_IFLA_AF_SPEC, _IFLA_EXT_MASK, _IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 26, 29, 31, 32
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE = 1, 8
_SKIP_STATISTICS = 1 << 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 9, 15, 18

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_HOP = struct.Struct("=HBBi")
_KERNEL_FAMILY = {Family.V4: int(socket.AF_INET), Family.V6: int(socket.AF_INET6)}
_FAMILY = {value: family for family, value in _KERNEL_FAMILY.items()}


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface as the kernel reports it."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    group: int = 0


class InterfaceAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address on an interface, with its prefix length on the link and its scope."""

    index: int
    address: Address
    length: int
    scope: int


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the neighbour table; `state` holds the NUD_* bits."""

    index: int
    address: Address
    mac: str
    state: int


class NextHop(msgspec.Struct, frozen=True, kw_only=True):
    """One way out: an interface index, 0 when the kernel may choose, and a gateway."""

    index: int = 0
    gateway: Address | None = None


class KernelRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route with interface indexes; no hop for a blackhole."""

    prefix: Prefix
    kind: int = RTN_UNICAST
    scope: int = SCOPE_UNIVERSE
    protocol: int = ROUTE_PROTOCOL
    table: int = MAIN_TABLE
    hops: tuple[NextHop, ...] = ()
    source: Address | None = None
    metric: int = 0
    onlink: bool = False


def packed(address: Prefix) -> bytes:
    """The first address of a prefix in network byte order."""
    return address.value.to_bytes(address.family.bits // 8, "big")


def unpacked(value: bytes) -> Address:
    """The address in network byte order."""
    return Address(Family.V4 if len(value) == 4 else Family.V6, int.from_bytes(value, "big"))


def mac_bytes(mac: str) -> bytes:
    """The six bytes of `02:00:00:00:00:01`."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(value: bytes) -> str:
    """The text of a hardware address."""
    return value.hex(":") if value else ""


def new_veth(name: str, mac: str, mtu: int, index: int, peer: bytes, *, group: int = 0) -> Request:
    """Create a veth in an interface group, with its other end as `veth_peer` says.

    A fixed index makes further requests possible before the answer. One queue a direction: the kernel makes one per
    processor otherwise, each with its own objects in sysfs, and a veth transmits without a queue lock anyway.
    """
    return Request(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _LINK.pack(0, 0, index, 0, 0)
        + _end(name, mac, mtu)
        + u32(_IFLA_GROUP, group)
        + nested(
            _IFLA_LINKINFO, text(_IFLA_INFO_KIND, "veth"), nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
        ),
    )


def veth_peer(name: str, mac: str, mtu: int, index: int, namespace: int) -> bytes:
    """The other end of a veth, made directly in the namespace with that descriptor.

    It cannot be up here: the kernel answers ENOTCONN, because the pair is not joined yet.
    """
    return _LINK.pack(0, 0, index, 0, 0) + _end(name, mac, mtu) + u32(_IFLA_NET_NS_FD, namespace)


def _end(name: str, mac: str, mtu: int) -> bytes:
    return (
        text(_IFLA_IFNAME, name)
        + attribute(_IFLA_ADDRESS, mac_bytes(mac))
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_NUM_TX_QUEUES, 1)
        + u32(_IFLA_NUM_RX_QUEUES, 1)
    )


def set_link(index: int, *, inet: dict[int, int] | None = None, addresses_by_hand: bool = False) -> Request:
    """Set an interface up; `inet` maps IPV4_DEVCONF_* to values (the per-interface sysctls of IPv4).

    With `addresses_by_hand` the kernel makes no IPv6 link-local address on it (addr_gen_mode none).
    """
    payload = _LINK.pack(0, 0, index, IFF_UP, IFF_UP)
    families = []
    if inet:
        families.append(nested(socket.AF_INET, nested(_IFLA_INET_CONF, *(u32(key, inet[key]) for key in sorted(inet)))))
    if addresses_by_hand:
        families.append(nested(socket.AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, b"\x01")))
    if families:
        payload += nested(_IFLA_AF_SPEC, *families)
    return Request(RTM_SETLINK, 0, payload)


def delete_link(name: str) -> Request:
    """Remove an interface; a veth's other end goes with it."""
    return Request(RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name))


def set_group(name: str, group: int) -> Request:
    """Put an interface into a group."""
    return Request(RTM_SETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name) + u32(_IFLA_GROUP, group))


def delete_group(group: int) -> Request:
    """Remove every interface of a group at once."""
    return Request(RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + u32(_IFLA_GROUP, group))


def get_link(name: str) -> Request:
    """Ask for one interface by name."""
    return Request(
        RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name) + u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)
    )


def get_links(kind: str = "") -> Request:
    """Ask for all interfaces, or those of one kind."""
    only = nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind)) if kind else b""
    return Request(RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _SKIP_STATISTICS) + only)


def new_address(index: int, address: Address) -> Request:
    """Put an address on an interface, alone in its prefix and without duplicate address detection."""
    flags = 0 if address.family is Family.V4 else IFA_F_NODAD
    value = packed(address)
    return Request(
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_EXCL,
        _ADDRESS.pack(_KERNEL_FAMILY[address.family], address.family.bits, flags, SCOPE_UNIVERSE, index)
        + attribute(_IFA_LOCAL, value)
        + attribute(_IFA_ADDRESS, value),
    )


def get_addresses(index: int = 0) -> Request:
    """Ask for the addresses on an interface, 0 for all."""
    return Request(RTM_GETADDR, 0, _ADDRESS.pack(0, 0, 0, 0, index))


def new_neighbour(index: int, address: Address, mac: str) -> Request:
    """A permanent neighbour: nothing ever asks the link for it."""
    return Request(
        RTM_NEWNEIGH,
        NLM_F_CREATE | NLM_F_REPLACE,
        _NEIGHBOUR.pack(_KERNEL_FAMILY[address.family], index, NUD_PERMANENT, 0, RTN_UNICAST)
        + attribute(_NDA_DST, packed(address))
        + attribute(_NDA_LLADDR, mac_bytes(mac)),
    )


def get_neighbours(index: int = 0) -> Request:
    """Ask for the neighbours on an interface, 0 for all."""
    only = u32(_NDA_IFINDEX, index) if index else b""
    return Request(RTM_GETNEIGH, 0, _NEIGHBOUR.pack(0, 0, 0, 0, 0) + only)


def new_route(route: KernelRoute, *, replace: bool = False) -> Request:
    """Add a route; without `replace` the kernel refuses (EEXIST) when the prefix has one with the same metric."""
    flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
    return Request(RTM_NEWROUTE, flags, _route(route))


def delete_route(route: KernelRoute) -> Request:
    """Remove a route of that prefix, kind, table and protocol; other protocols' routes are never matched."""
    return Request(RTM_DELROUTE, 0, _route(route))


def get_routes(family: Family, *, protocol: int = 0, index: int = 0, table: int = MAIN_TABLE) -> Request:
    """Ask for the routes of one table, filtered by the kernel."""
    payload = _ROUTE.pack(_KERNEL_FAMILY[family], 0, 0, 0, table & 0xFF, protocol, 0, 0, 0) + u32(_RTA_TABLE, table)
    return Request(RTM_GETROUTE, 0, payload + (u32(_RTA_OIF, index) if index else b""))


def _route(route: KernelRoute) -> bytes:
    flags = RTNH_F_ONLINK if route.onlink else 0
    parts = [
        _ROUTE.pack(
            _KERNEL_FAMILY[route.prefix.family],
            route.prefix.length,
            0,
            0,
            route.table,
            route.protocol,
            route.scope,
            route.kind,
            flags if len(route.hops) < 2 else 0,
        )
    ]
    if route.prefix.length:
        parts.append(attribute(_RTA_DST, packed(route.prefix)))
    if len(route.hops) == 1:
        parts.append(_hop(route.prefix.family, route.hops[0]))
        if route.hops[0].index:
            parts.append(u32(_RTA_OIF, route.hops[0].index))
    elif route.hops:
        hops = []
        for hop in route.hops:
            gateway = _hop(route.prefix.family, hop)
            hops.append(_HOP.pack(_HOP.size + len(gateway), flags, 0, hop.index) + gateway)
        parts.append(attribute(_RTA_MULTIPATH, b"".join(hops)))
    if route.source is not None:
        parts.append(attribute(_RTA_PREFSRC, packed(route.source)))
    if route.metric:
        parts.append(u32(_RTA_PRIORITY, route.metric))
    return b"".join(parts)


def _hop(family: Family, hop: NextHop) -> bytes:
    if hop.gateway is None:
        return b""
    if hop.gateway.family is family:
        return attribute(_RTA_GATEWAY, packed(hop.gateway))
    return attribute(_RTA_VIA, struct.pack("=H", _KERNEL_FAMILY[hop.gateway.family]) + packed(hop.gateway))


def read_link(reply: Reply) -> Link:
    """The interface that a RTM_NEWLINK message tells of."""
    _, _, index, flags, _ = _LINK.unpack_from(reply.payload)
    found = dict(attributes(reply.payload, _LINK.size))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=name_of(found.get(_IFLA_IFNAME, b"")),
        kind=name_of(info.get(_IFLA_INFO_KIND, b"")),
        up=bool(flags & IFF_UP),
        mtu=_number(found.get(_IFLA_MTU)),
        mac=mac_text(found.get(_IFLA_ADDRESS, b"")),
        group=_number(found.get(_IFLA_GROUP)),
    )


def read_address(reply: Reply) -> InterfaceAddress:
    """The address that a RTM_NEWADDR message tells of."""
    _, length, _, scope, index = _ADDRESS.unpack_from(reply.payload)
    found = dict(attributes(reply.payload, _ADDRESS.size))
    return InterfaceAddress(
        index=index, address=unpacked(found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]), length=length, scope=scope
    )


def read_neighbours(replies: Iterable[Reply]) -> list[Neighbour]:
    """The IP neighbours that RTM_NEWNEIGH messages tell of; other families' entries are left out."""
    neighbours = []
    for reply in replies:
        family, index, state, _, _ = _NEIGHBOUR.unpack_from(reply.payload)
        if family in _FAMILY:
            found = dict(attributes(reply.payload, _NEIGHBOUR.size))
            if _NDA_DST in found:
                mac = mac_text(found.get(_NDA_LLADDR, b""))
                neighbours.append(Neighbour(index=index, address=unpacked(found[_NDA_DST]), mac=mac, state=state))
    return neighbours


def read_route(reply: Reply) -> KernelRoute:
    """The route that a RTM_NEWROUTE message tells of."""
    number, length, _, _, table, protocol, scope, kind, flags = _ROUTE.unpack_from(reply.payload)
    family = _FAMILY[number]
    found = dict(attributes(reply.payload, _ROUTE.size))
    prefix = Prefix(family, int.from_bytes(found.get(_RTA_DST, b""), "big"), length)
    return KernelRoute(
        prefix=prefix,
        kind=kind,
        scope=scope,
        protocol=protocol,
        table=_number(found[_RTA_TABLE]) if _RTA_TABLE in found else table,
        hops=() if kind != RTN_UNICAST else _hops(found),
        source=unpacked(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None,
        metric=_number(found.get(_RTA_PRIORITY)),
        onlink=bool(flags & RTNH_F_ONLINK),
    )


def _hops(found: dict[int, bytes]) -> tuple[NextHop, ...]:
    if _RTA_MULTIPATH not in found:
        return (NextHop(index=_number(found.get(_RTA_OIF)), gateway=_gateway(found)),)
    hops, value, offset = [], found[_RTA_MULTIPATH], 0
    while offset + _HOP.size <= len(value):
        size, _, _, index = _HOP.unpack_from(value, offset)
        if size < _HOP.size:
            raise RomanaError(f"the kernel sent a next hop of {size} bytes")
        gateway = _gateway(dict(attributes(value[offset + _HOP.size : offset + size])))
        hops.append(NextHop(index=index, gateway=gateway))
        offset += (size + 3) & ~3
    return tuple(hops)


def _gateway(found: dict[int, bytes]) -> Address | None:
    if _RTA_GATEWAY in found:
        return unpacked(found[_RTA_GATEWAY])
    return unpacked(found[_RTA_VIA][2:]) if _RTA_VIA in found else None


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", sys.byteorder)
