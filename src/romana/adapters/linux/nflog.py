"""Packets that our table tells of, by nflog.

Owns nfnetlink_log's layout (include/uapi/linux/netfilter/nfnetlink_log.h) and one socket that is bound to our group.
Refuses to know what a packet means. Invariant: what cannot be read is left out; a listener that is too slow misses some
and is not stopped by it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

from romana.adapters.linux.netlink import NETLINK_NETFILTER, attribute, attributes, name_of
from romana.codec.nft_chains import LOG_BYTES, LOG_GROUP, LOG_PREFIX
from romana.codec.packets import read_packet
from romana.model.errors import RomanaError, Unavailable
from romana.model.flow import FlowReason, ToldPacket

_ULOG = 4 << 8
_PACKET, _CONFIGURE = _ULOG, _ULOG | 1
_COMMAND, _MODE, _TIMEOUT = 1, 2, 4
_BIND, _COPY_PACKET = 1, 2
_LINK_IN, _LINK_OUT, _PAYLOAD, _PREFIX = 4, 5, 9, 10
_HEADER = struct.Struct("=IHHII")
_GENERAL = struct.Struct("!BBH")
_ERROR = 2
_BUFFER = 1 << 20
_MOST = 1 << 16
_GET_NAME = 0x8910  # SIOCGIFNAME of linux/sockios.h
_REQUEST = struct.Struct("=16si20x")
_DELAY = 10
"""Hundredths of a second for which the kernel gathers packets."""


class ToldPackets:
    """A listener in the network namespace of the thread that makes it; `fileno` becomes readable when there is news.

    Unavailable when another program listens to our group there already.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((0, 0))
            self._configure(attribute(_COMMAND, bytes([_BIND])))
            self._configure(attribute(_MODE, struct.pack("!IBB", LOG_BYTES, _COPY_PACKET, 0)))
            self._configure(attribute(_TIMEOUT, struct.pack("!I", _DELAY)))
        except OSError as error:
            self._socket.close()
            words = "another program has it" if error.errno in (errno.EPERM, errno.EBUSY) else error.strerror
            raise Unavailable(f"cannot listen to nflog group {LOG_GROUP}: {words}") from error
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def read(self) -> list[ToldPacket]:
        """All that are there, without waiting."""
        found: list[ToldPacket] = []
        while True:
            try:
                text = self._socket.recv(_MOST)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            for kind, body in _messages(text):
                told = self._told(body) if kind == _PACKET else None
                if told is not None:
                    found.append(told)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _configure(self, command: bytes) -> None:
        body = _GENERAL.pack(0, 0, LOG_GROUP) + command
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), _CONFIGURE, 1 | 4, 1, 0) + body)
        answer = self._socket.recv(_MOST)
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code))

    def _told(self, body: bytes) -> ToldPacket | None:
        try:
            found = dict(attributes(body, _GENERAL.size))
        except RomanaError:
            return None
        prefix = name_of(found.get(_PREFIX, b""))
        packet = read_packet(found.get(_PAYLOAD, b""))
        word = prefix.removeprefix(LOG_PREFIX)
        if packet is None or word not in set(FlowReason):
            return None
        return ToldPacket(
            reason=FlowReason(word),
            packet=packet,
            link_in=self._link(found.get(_LINK_IN)),
            link_out=self._link(found.get(_LINK_OUT)),
        )

    def _link(self, value: bytes | None) -> str:
        """The name of an interface of the socket's namespace; one that is gone has none."""
        if value is None:
            return ""
        try:
            answer = fcntl.ioctl(self._socket, _GET_NAME, _REQUEST.pack(b"", int.from_bytes(value, "big")))
        except OSError:
            return ""
        name: bytes = _REQUEST.unpack(answer)[0]
        return name_of(name)


def _messages(text: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(text):
        length, kind, _, _, _ = _HEADER.unpack_from(text, offset)
        if length < _HEADER.size:
            return
        yield kind, text[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3
