"""Notices of nftables: that somebody else changed our table.

Owns what of group NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h) is news; knows nothing of what the table should be.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection

from romana.adapters.linux.events import KernelEvents, Notice
from romana.codec.nft import TABLE

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
_MESSAGE_NEW_GENERATION = 15
_FAMILY_INET = 1


class TableEvents(KernelEvents):
    """News of our table that are not of our own making."""

    def __init__(self, ports: Callable[[], Collection[int]]) -> None:
        """`ports` answers the netlink ports of our own changes (`NftTable.ports`)."""
        super().__init__(_NETLINK_NETFILTER, _GROUP_NFTABLES)
        self._ports = ports
        self._name = TABLE.split()[1].encode() + b"\0"

    def _is_news(self, notice: Notice) -> bool:
        subsystem, message = notice.kind >> 8, notice.kind & 0xFF
        if subsystem != _SUBSYSTEM_NFTABLES or message == _MESSAGE_NEW_GENERATION or notice.port in self._ports():
            return False
        return self._is_ours(notice.payload)

    def _is_ours(self, body: bytes) -> bool:
        """Whether a message is about our table: in all of them attribute 1 is the table's name."""
        if len(body) < 4 or body[0] != _FAMILY_INET:
            return False
        offset = 4
        while offset + 4 <= len(body):
            length, kind = struct.unpack_from("=HH", body, offset)
            if kind & 0x3FFF == 1:
                return body[offset + 4 : offset + length] == self._name
            offset += max(4, (length + 3) & ~3)
        return False
