"""Notices of nftables: that somebody else changed our table.

Owns one netlink socket of group NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h); knows nothing of what the table should
be. Invariant: a change that it may have missed (the socket overflowed) counts as one.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterator

from romana.codec.nft import TABLE

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
_MESSAGE_NEW_GENERATION = 15
_FAMILY_INET = 1
_BUFFER = 1 << 20
_HEADER = struct.Struct("=IHHII")


class TableEvents:
    """A listener in the network namespace of the thread that makes it; `fileno` becomes readable when there is news.

    With asyncio: `loop.add_reader(events.fileno(), ...)`, and then ask `changed()`.
    """

    def __init__(self, ports: Callable[[], Collection[int]]) -> None:
        """`ports` answers the netlink ports of our own changes (`NftTable.ports`)."""
        self._ports = ports
        self._name = TABLE.split()[1].encode() + b"\0"
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def changed(self) -> bool:
        """Read all that is there, without waiting: whether somebody else changed our table."""
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
            own = self._ports()
            found = any(port not in own and self._is_ours(body) for port, body in _messages(text)) or found

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _is_ours(self, body: bytes) -> bool:
        """Whether a message is about our table: in all of them attribute 1 is the table's name."""
        if body[0] != _FAMILY_INET:
            return False
        offset = 4
        while offset + 4 <= len(body):
            length, kind = struct.unpack_from("=HH", body, offset)
            if kind & 0x3FFF == 1:
                return body[offset + 4 : offset + length] == self._name
            offset += max(4, (length + 3) & ~3)
        return False


def _messages(text: bytes) -> Iterator[tuple[int, bytes]]:
    """The sender's port and the body of each message of nftables that is not a generation's end."""
    offset = 0
    while offset + _HEADER.size <= len(text):
        length, kind, _, _, port = _HEADER.unpack_from(text, offset)
        if length < _HEADER.size:
            return
        if kind >> 8 == _SUBSYSTEM_NFTABLES and kind & 0xFF != _MESSAGE_NEW_GENERATION and length >= _HEADER.size + 4:
            yield port, text[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3
