"""Notices of the kernel through a netlink socket that only listens.

Owns the socket and its messages; what counts as news is its heirs' to say. Invariant: a change that it may have missed
(the socket overflowed) counts as one.
"""

from __future__ import annotations

import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

_BUFFER = 1 << 20
_HEADER = struct.Struct("=IHHII")
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


class Notice(NamedTuple):
    """One message: its type, the netlink port of who made the change, and what follows the header."""

    kind: int
    port: int
    payload: bytes


class KernelEvents(ABC):
    """A listener in the network namespace of the thread that makes it; `fileno` becomes readable when there is news.

    With asyncio: `loop.add_reader(events.fileno(), ...)`, and then ask `changed()`.
    """

    def __init__(self, protocol: int, *groups: int) -> None:
        """Groups by number, as in setsockopt NETLINK_ADD_MEMBERSHIP (netlink(7))."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def changed(self) -> bool:
        """Read all that is there, without waiting: whether there is news."""
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
            for notice in _notices(text):
                found = self._is_news(notice) or found

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    @abstractmethod
    def _is_news(self, notice: Notice) -> bool: ...


def _notices(text: bytes) -> Iterator[Notice]:
    offset = 0
    while offset + _HEADER.size <= len(text):
        length, kind, _, _, port = _HEADER.unpack_from(text, offset)
        if length < _HEADER.size:
            return
        yield Notice(kind, port, text[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3
