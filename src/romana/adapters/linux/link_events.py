"""Notices of the kernel: that an interface which is not ours came, went or changed, or an address on one.

Owns one rtnetlink socket of the groups for links and addresses (rtnetlink(7)); changes nothing. Invariant: a change
that it may have missed (the socket overflowed) counts as one.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

from romana.adapters.linux import rtnetlink as rtnl
from romana.adapters.linux.names import is_ours
from romana.adapters.linux.netlink import NETLINK_ROUTE, Reply

_GROUPS = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""
_BUFFER = 1 << 18
_HEADER = struct.Struct("=IHHII")
_NEW_ADDRESS, _DELETED_ADDRESS = 20, 21


class LinkEvents:
    """A listener in the network namespace of the thread that makes it; `fileno` becomes readable when there is news.

    With asyncio: `loop.add_reader(events.fileno(), ...)`, and then ask `changed()`.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, _GROUPS))
        self._ours: set[int] = set()  # indexes of links of ours, whose addresses are no news either

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def changed(self) -> bool:
        """Read all that is there, without waiting: whether something changed that is not ours."""
        found = False
        while True:
            try:
                text = self._socket.recv(_BUFFER)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True
                continue
            for reply in _messages(text):
                found = self._is_news(reply) or found

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _is_news(self, reply: Reply) -> bool:
        if reply.kind in (_NEW_ADDRESS, _DELETED_ADDRESS):
            return rtnl.read_address(reply).index not in self._ours
        link = rtnl.read_link(reply)
        if is_ours(link.name):
            self._ours.add(link.index)
            return False
        return True


def _messages(text: bytes) -> Iterator[Reply]:
    offset = 0
    while offset + _HEADER.size <= len(text):
        length, kind, _, _, _ = _HEADER.unpack_from(text, offset)
        if length < _HEADER.size:
            return
        yield Reply(kind, text[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3
