"""TCP connections that notice when the other end is gone.

A machine that loses its power or its cable says nothing. Whoever only reads would wait for ever, and a stream into
which nothing is written would count as followed.
"""

from __future__ import annotations

import socket
from typing import Any

SILENT = 30
"""Seconds after which a connection counts as broken when the other machine does not answer."""


def notice_silence(tcp: socket.socket, seconds: int = SILENT) -> None:
    """Have the kernel ask the other end when nothing else is said, and give the connection up after so many seconds
    (3 at least) without an answer. What a listening socket accepts is like itself (`man 7 tcp`).
    """
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds // 3)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 6))
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * seconds)


def new_socket(found: tuple[Any, ...]) -> socket.socket:
    """A socket for an address that `getaddrinfo` found."""
    family, kind, protocol, *_ = found
    tcp = socket.socket(family, kind, protocol)
    notice_silence(tcp)
    return tcp
