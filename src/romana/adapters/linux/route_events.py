"""Notices of the kernel: that somebody else took away, replaced or added a route of our protocol.

Owns what of rtnetlink(7) is news; changes nothing. What the kernel does by itself, as when a link goes, is none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.events import KernelEvents, Notice
from romana.adapters.linux.netlink import NETLINK_ROUTE

_GROUPS = (7, 11)
"""RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE."""
_PROTOCOL = 5
"""Where rtm_protocol is in struct rtmsg."""
_THE_KERNEL = 0


class RouteEvents(KernelEvents):
    """News of our routes that are not of our own making."""

    def __init__(self, ports: Callable[[], Collection[int]]) -> None:
        """`ports` answers the netlink ports of our own changes."""
        super().__init__(NETLINK_ROUTE, *_GROUPS)
        self._ports = ports

    def _is_news(self, notice: Notice) -> bool:
        return (
            notice.kind in (rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE)
            and notice.payload[_PROTOCOL] == rtnl.ROUTE_PROTOCOL
            and notice.port != _THE_KERNEL
            and notice.port not in self._ports()
        )
