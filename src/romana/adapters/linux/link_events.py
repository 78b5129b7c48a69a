"""Notices of the kernel: that an interface which is not ours came, went or changed, or an address on one.

Owns what of rtnetlink(7) is news; changes nothing.
"""

from __future__ import annotations

from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.events import KernelEvents, Notice
from romana.adapters.linux.names import is_ours
from romana.adapters.linux.netlink import NETLINK_ROUTE, Reply

_GROUPS = (1, 5, 9)
"""RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR."""
_NEW_ADDRESS, _DELETED_ADDRESS = 20, 21


class LinkEvents(KernelEvents):
    """News of links and addresses, those of our own links aside."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE, *_GROUPS)
        self._ours: set[int] = set()  # indexes of links of ours, whose addresses are no news either

    def _is_news(self, notice: Notice) -> bool:
        reply = Reply(notice.kind, notice.payload)
        if reply.kind in (_NEW_ADDRESS, _DELETED_ADDRESS):
            return rtnl.read_address(reply).index not in self._ours
        link = rtnl.read_link(reply)
        if is_ours(link.name):
            self._ours.add(link.index)
            return False
        return True
