"""The links of workloads: a veth with its addresses, routes and neighbours on both sides.

Owns every interface whose name is `rom` and twelve hexadecimal digits. Knows nothing of policy, and does not allocate
addresses. Invariant: `create` makes all of a link or nothing; when it answers, the first packet passes in either
direction, because no side has to ask for the other's hardware address.

The workload's gateway is the host's end under a link-local address that the host itself never holds: the workload has
it as a permanent neighbour, so packets carry the right hardware address, and the host forwards them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import secrets
import socket
import struct
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Self

from romana.adapters.linux import netns
from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.names import is_ours
from romana.adapters.linux.netlink import Netlink, Refusal, Request, fail
from romana.adapters.linux.routes import read_routes
from romana.adapters.linux.sysctls import read_sysctl, write_sysctl
from romana.model.address import Address, Family, Prefix
from romana.model.errors import AlreadyExists, NotFound, RomanaError, Unavailable
from romana.ports import LinkPlan, LinkState

HOST_MAC = "02:72:6f:6d:00:01"
GATEWAYS = {
    Family.V4: Address(Family.V4, 0xA9FE0101),  # 169.254.1.1
    Family.V6: Address(Family.V6, 0xFE80 << 112 | 1),  # fe80::1
}
_DEFAULT = {Family.V4: Prefix(Family.V4, 0, 0), Family.V6: Prefix(Family.V6, 0, 0)}

# IPV4_DEVCONF_* (include/uapi/linux/ip.h): forwarding, proxy_arp, accept_redirects, send_redirects, rp_filter.
_HOST_INET = {1: 1, 3: 0, 4: 0, 6: 0, 8: 1}
_HOST_INET6 = {"accept_ra": "0", "accept_redirects": "0"}
_INDEXES = range(1 << 16, 1 << 30)
_ATTEMPTS = 8
_LOOPBACK = 1
_DOOMED = 0x726F6D00
_UNFINISHED = 0x726F6D01
"""The interface group of a host's side until its pair is as planned: whoever makes it may be killed in the middle."""
_TOGETHER = 32

_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0000000A


def workload_mac(link: str) -> str:
    """The hardware address of the workload's side: locally administered, derived from the link's name."""
    return "0a:" + hashlib.sha256(link.encode()).digest()[:5].hex(":")


class KernelLinks:
    """Links of the network namespace in which it was made. Threads may share it."""

    def __init__(self) -> None:
        self._host = Netlink()
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._next = _INDEXES.start + secrets.randbelow(len(_INDEXES) // 2)
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The netlink port that changes of the host's side come from (see `route_events`)."""
        return self._host.port

    def close(self) -> None:
        """Release the sockets; links stay."""
        self._host.close()
        self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create(self, plan: LinkPlan) -> LinkState:
        """Make the pair as planned. NotFound without such a namespace; AlreadyExists when either name is taken, or the
        workload has a default route, or another program has a route to one of the addresses.
        """
        with _workload(plan.netns) as (namespace, workload), ExitStack() as undo:
            index = self._join(plan, namespace)
            undo.callback(self.delete, plan.link)
            _write_inet6(plan)
            self._host.require(_host_side(plan, index), f"setting up link {plan.link}")
            _equip(workload, namespace, plan, index)
            self._settle(plan.link)
            self._host.require([rtnl.set_group(plan.link, 0)], f"finishing link {plan.link}")
            undo.pop_all()
        return LinkState(
            link=plan.link, index=index, up=True, mtu=plan.mtu, mac=HOST_MAC, peer_mac=workload_mac(plan.link)
        )

    def check(self, plan: LinkPlan) -> list[str]:
        """What of the plan the kernel does not have, each as a sentence."""
        found = self._host.get(rtnl.get_link(plan.link))
        if isinstance(found, Refusal):
            return [f"the host has no link {plan.link}"]
        link = rtnl.read_link(found)
        missing = list(_link_faults("the host's link", link, HOST_MAC, plan))
        missing += _route_faults(self._host, "the host", _host_routes(plan, link.index), link.index)
        mac = workload_mac(plan.link)
        missing += _neighbour_faults(self._host, "the host", dict.fromkeys(plan.addresses, mac), link.index)
        try:
            with _workload(plan.netns) as (_, workload):
                missing += _workload_faults(workload, plan)
        except NotFound as error:
            missing.append(str(error))
        return missing

    def delete(self, *links: str) -> None:
        """Remove the host's sides, and so the pairs; gone already is success.

        Removing one takes the kernel some 20 ms, and each more in the same request half a millisecond: so they are put
        into a group of ours, which is removed at once. A part at a time, because nobody else gets at links meanwhile.
        """
        for start in range(0, len(links), _TOGETHER):
            part = links[start : start + _TOGETHER]
            requests = [rtnl.delete_link(part[0])]
            if len(part) > 1:
                requests = [rtnl.set_group(link, _DOOMED) for link in part] + [rtnl.delete_group(_DOOMED)]
            refused = [one for one in self._host.execute(requests).values() if one.errno != errno.ENODEV]
            if refused:
                fail(refused[0], f"removing link {', '.join(part)}")

    def read(self) -> Mapping[str, LinkState]:
        """Our links, by name; the workload's hardware address is the one that the host sends to."""
        links = [rtnl.read_link(reply) for reply in self._host.dump(rtnl.get_links())]
        ours = {link.index: link for link in links if is_ours(link.name)}
        if not ours:
            return {}
        neighbours = rtnl.read_neighbours(self._host.dump(rtnl.get_neighbours()))
        peers = {found.index: found.mac for found in neighbours if found.state & rtnl.NUD_PERMANENT}
        return {
            link.name: LinkState(
                link=link.name,
                index=index,
                up=link.up,
                mtu=link.mtu,
                mac=link.mac,
                peer_mac=peers.get(index, ""),
                finished=link.group != _UNFINISHED,
            )
            for index, link in ours.items()
        }

    def _join(self, plan: LinkPlan, namespace: int) -> int:
        """Create the pair, both ends with one fixed index; answers it."""
        mac = workload_mac(plan.link)
        for _ in range(_ATTEMPTS):
            with self._lock:
                index = self._next
                self._next = index + 1 if index + 1 in _INDEXES else _INDEXES.start
            peer = rtnl.veth_peer(plan.interface, mac, plan.mtu, index, namespace)
            refused = self._host.execute([rtnl.new_veth(plan.link, HOST_MAC, plan.mtu, index, peer, group=_UNFINISHED)])
            if not refused:
                return index
            if refused[0].errno == errno.EEXIST:
                if not isinstance(self._host.get(rtnl.get_link(plan.link)), Refusal):
                    raise AlreadyExists(f"link {plan.link} exists on this host already")
                raise AlreadyExists(f"network namespace {plan.netns!r} has an interface {plan.interface!r} already")
            if refused[0].errno != errno.EBUSY:
                fail(refused[0], f"creating link {plan.link} with {plan.interface!r} in {plan.netns!r}")
        raise Unavailable(f"creating link {plan.link}: {_ATTEMPTS} interface indexes from {index} down are taken")

    def _settle(self, link: str) -> None:
        """Have the kernel take in now that the link has a carrier.

        The end that came up first has a queue that drops everything until the kernel's link watcher ran, which it does
        when it finds the time. Asking for the link state by ethtool runs it for that interface.
        """
        answer = array("I", (_ETHTOOL_GLINK, 0))
        request = struct.pack("16sP", link.encode(), answer.buffer_info()[0])
        try:
            fcntl.ioctl(self._control, _SIOCETHTOOL, request)
        except OSError as error:
            raise RomanaError(f"link {link}: asking for its carrier: {error.strerror}") from error
        if not answer[1]:
            raise RomanaError(f"link {link} has no carrier, so one of its ends is not up")


@contextmanager
def _workload(path: str) -> Iterator[tuple[int, Netlink]]:
    """The descriptor of a workload's namespace, and a socket inside it."""
    with netns.opened(path) as namespace:
        with netns.inside(namespace):
            workload = Netlink()
        with workload:
            yield namespace, workload


def _host_routes(plan: LinkPlan, index: int) -> list[rtnl.KernelRoute]:
    return [
        rtnl.KernelRoute(prefix=address, scope=rtnl.SCOPE_LINK, hops=(rtnl.NextHop(index=index),))
        for address in plan.addresses
    ]


def _workload_routes(families: Iterable[Family], index: int) -> list[rtnl.KernelRoute]:
    return [
        rtnl.KernelRoute(
            prefix=_DEFAULT[family], hops=(rtnl.NextHop(index=index, gateway=GATEWAYS[family]),), onlink=True
        )
        for family in families
    ]


def _host_side(plan: LinkPlan, index: int) -> list[Request]:
    mac = workload_mac(plan.link)
    return [
        rtnl.set_link(index, inet=_HOST_INET, addresses_by_hand=True),
        *(rtnl.new_neighbour(index, address, mac) for address in plan.addresses),
        *(rtnl.new_route(route) for route in _host_routes(plan, index)),
    ]


def _equip(workload: Netlink, namespace: int, plan: LinkPlan, index: int) -> None:
    """Make the workload's side. IPv6 comes last, and again when the namespace had it turned off for new interfaces."""
    doing = f"setting up {plan.interface!r} in {plan.netns!r}"
    workload.require([rtnl.set_link(_LOOPBACK), rtnl.set_link(index), *_workload_side(plan, index, Family.V4)], doing)
    inet6 = _workload_side(plan, index, Family.V6)
    if not inet6:
        return
    refused = workload.execute(inet6)
    if refused and refused[min(refused)].errno == errno.EACCES:
        with netns.inside(namespace):
            write_sysctl(f"net/ipv6/conf/{plan.interface}/disable_ipv6", "0")
        refused = workload.execute(inet6)
    if refused:
        fail(refused[min(refused)], doing)


def _workload_side(plan: LinkPlan, index: int, family: Family) -> list[Request]:
    addresses = [address for address in plan.addresses if address.family is family]
    if not addresses:
        return []
    return [
        *(rtnl.new_address(index, address) for address in addresses),
        rtnl.new_neighbour(index, GATEWAYS[family], HOST_MAC),
        *(rtnl.new_route(route) for route in _workload_routes([family], index)),
    ]


def _write_inet6(plan: LinkPlan) -> None:
    """The IPv6 sysctls of the host's side, which netlink has no message for. Off where the workload has no IPv6."""
    off = "1" if all(address.family is Family.V4 for address in plan.addresses) else "0"
    if read_sysctl(f"net/ipv6/conf/{plan.link}/disable_ipv6") != off:
        write_sysctl(f"net/ipv6/conf/{plan.link}/disable_ipv6", off)
    if off == "0":
        for name, value in _HOST_INET6.items():
            write_sysctl(f"net/ipv6/conf/{plan.link}/{name}", value)


def _link_faults(side: str, link: rtnl.Link, mac: str, plan: LinkPlan) -> Iterator[str]:
    if not link.up:
        yield f"{side} {link.name} is down"
    if link.mtu != plan.mtu:
        yield f"{side} {link.name} has MTU {link.mtu} instead of {plan.mtu}"
    if link.mac != mac:
        yield f"{side} {link.name} has hardware address {link.mac} instead of {mac}"


def _route_faults(netlink: Netlink, side: str, wanted: Iterable[rtnl.KernelRoute], index: int) -> Iterator[str]:
    for route in wanted:
        found = read_routes(netlink, route.prefix.family, index=index)
        if not any(other.prefix == route.prefix and other.hops == route.hops for other in found):
            yield f"{side} has no route to {route.prefix} on that link"


def _neighbour_faults(netlink: Netlink, side: str, wanted: Mapping[Address, str], index: int) -> Iterator[str]:
    found = rtnl.read_neighbours(netlink.dump(rtnl.get_neighbours(index)))
    permanent = {(entry.address, entry.mac) for entry in found if entry.state & rtnl.NUD_PERMANENT}
    for address, mac in wanted.items():
        if (address, mac) not in permanent:
            yield f"{side} has no permanent neighbour {address} with hardware address {mac} on that link"


def _workload_faults(workload: Netlink, plan: LinkPlan) -> Iterator[str]:
    side = f"network namespace {plan.netns!r}"
    found = workload.get(rtnl.get_link(plan.interface))
    if isinstance(found, Refusal):
        yield f"{side} has no interface {plan.interface!r}"
        return
    link = rtnl.read_link(found)
    yield from _link_faults(f"in {side}", link, workload_mac(plan.link), plan)
    present = {rtnl.read_address(reply).address for reply in workload.dump(rtnl.get_addresses(link.index))}
    for address in plan.addresses:
        if address not in present:
            yield f"{side} does not have the address {address} on {plan.interface!r}"
    families = sorted({address.family for address in plan.addresses})
    yield from _route_faults(workload, side, _workload_routes(families, link.index), link.index)
    gateways = {GATEWAYS[family]: HOST_MAC for family in families}
    yield from _neighbour_faults(workload, side, gateways, link.index)
