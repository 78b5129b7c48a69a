"""Facts about the machine that the agent asks once: its uplink's MTU, its families, and which machine it is.

Looks at interfaces that are not ours alone. Changes nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.names import is_ours
from romana.adapters.linux.netlink import Netlink
from romana.adapters.linux.routes import read_routes
from romana.model.address import Address, Family, Prefix

_ETHERNET_MTU = 1500
_LOOPBACK = "lo"
_MACHINE = ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")


class KernelHost:
    """The network namespace of the calling thread."""

    def uplink_mtu(self) -> int:
        """The smallest MTU of the interfaces that hold the preferred default route of either family, else 1500."""
        with Netlink() as netlink:
            links = {link.index: link for link in map(rtnl.read_link, netlink.dump(rtnl.get_links()))}
            mtus = [
                links[hop.index].mtu
                for family in Family
                for route in _preferred(netlink, family)
                for hop in route.hops
                if hop.index in links and not is_ours(links[hop.index].name)
            ]
        return min(mtus, default=_ETHERNET_MTU)

    def uplink_addresses(self) -> tuple[Address, ...]:
        """The global addresses of the interfaces that hold the preferred default route of either family, in order; in a
        fabric without default routes, those of the loopback interface, where a routed host has its own.
        """
        with Netlink() as netlink:
            links = {link.index: link for link in map(rtnl.read_link, netlink.dump(rtnl.get_links()))}
            uplinks = {hop.index for family in Family for route in _preferred(netlink, family) for hop in route.hops}
            found = [rtnl.read_address(reply) for reply in netlink.dump(rtnl.get_addresses())]
        usable = {index for index in uplinks if index in links and not is_ours(links[index].name)}
        if not usable:
            usable = {index for index, link in links.items() if link.name == _LOOPBACK}
        return tuple(sorted(one.address for one in found if one.index in usable and one.scope == rtnl.SCOPE_UNIVERSE))

    def networks(self) -> tuple[tuple[Address, Prefix], ...]:
        """Every global address of an interface that is not ours, with its network, in order."""
        with Netlink() as netlink:
            ours = {link.index for link in map(rtnl.read_link, netlink.dump(rtnl.get_links())) if is_ours(link.name)}
            found = [rtnl.read_address(reply) for reply in netlink.dump(rtnl.get_addresses())]
        return tuple(
            sorted(
                (one.address, one.address.supernet(one.length))
                for one in found
                if one.index not in ours and one.scope == rtnl.SCOPE_UNIVERSE
            )
        )

    def families(self) -> frozenset[Family]:
        """The families in which an interface that is not ours has a global address."""
        with Netlink() as netlink:
            ours = {link.index for link in map(rtnl.read_link, netlink.dump(rtnl.get_links())) if is_ours(link.name)}
            found = [rtnl.read_address(reply) for reply in netlink.dump(rtnl.get_addresses())]
        return frozenset(
            entry.address.family for entry in found if entry.scope == rtnl.SCOPE_UNIVERSE and entry.index not in ours
        )

    def addresses(self) -> frozenset[Address]:
        """The addresses of the host itself, on whatever interface."""
        with Netlink() as netlink:
            return frozenset(rtnl.read_address(reply).address for reply in netlink.dump(rtnl.get_addresses()))

    def machine(self) -> str:
        """A digest of the machine's id and, because a copy of the disk has the same one, of the firmware's number."""
        found = [_text(path) for path in _MACHINE]
        if not any(found):
            return ""
        return hashlib.sha256("\0".join(("romana", *found)).encode()).hexdigest()[:32]


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _preferred(netlink: Netlink, family: Family) -> list[rtnl.KernelRoute]:
    default = [route for route in read_routes(netlink, family) if not route.prefix.length and route.hops]
    metric = min((route.metric for route in default), default=0)
    return [route for route in default if route.metric == metric]
