"""Netlink by hand: packing messages, sending several in one system call, reading acknowledgements and dumps.

Owns the wire format that is common to all netlink families (RFC 3549; include/uapi/linux/netlink.h) and the translation
of the kernel's refusals. Knows no message of any family. Invariant: a socket is in step after each call, also after an
error, because everything the kernel answered to that call has been read.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn, Self

from romana.model.errors import AlreadyExists, Exhausted, NotFound, RomanaError, Unavailable

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x001
NLM_F_MULTI = 0x002
NLM_F_ACK = 0x004
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x010
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_NLMSGERR_ATTR_MSG = 1
_BATCH = 128
_DUMP_ATTEMPTS = 5
_RECEIVE_SIZE = 1 << 18
_MOST_DRAINED = 100_000

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SO_SNDBUFFORCE = 32
_ROOM = 128 << 10
"""Bytes that a socket takes in one send without being asked (half of net.core.wmem_default, which is 208 KiB)."""

_HEADER = struct.Struct("=IHHII")
_NFNETLINK = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_NUMBER = struct.Struct("=I")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Request(NamedTuple):
    """One message to the kernel, without its header's length, sequence and port."""

    kind: int
    flags: int
    payload: bytes


class Reply(NamedTuple):
    """One message from the kernel, without its header."""

    kind: int
    payload: bytes


class Refusal(NamedTuple):
    """Why the kernel did not do a request: its errno, and its own words where it has some."""

    errno: int
    words: str

    def __str__(self) -> str:
        text = os.strerror(self.errno)
        return f"{text} ({self.words})" if self.words else text


def attribute(kind: int, payload: bytes) -> bytes:
    """A netlink attribute: length, type, payload, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + _PADDING[len(payload) & 3]


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds an unsigned 32-bit number in the machine's byte order."""
    return attribute(kind, _NUMBER.pack(value))


def attributes(payload: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes of a payload from `offset` on, as (type without flags, value)."""
    end = len(payload)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < 4 or offset + length > end:
            raise RomanaError(f"the kernel sent a netlink attribute of {length} bytes where {end - offset} are left")
        yield kind & NLA_TYPE_MASK, payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def name_of(value: bytes) -> str:
    """The text of a NUL-terminated attribute."""
    return value.rstrip(b"\0").decode(errors="replace")


def encode(request: Request, sequence: int, flags: int = 0) -> bytes:
    """The bytes of one message, header included."""
    return (
        _HEADER.pack(16 + len(request.payload), request.kind, request.flags | flags | NLM_F_REQUEST, sequence, 0)
        + request.payload
    )


class Netlink:
    """One netlink socket; calls are serialised, so threads may share it.

    It belongs to the network namespace in which the calling thread was when it was made.
    """

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise Unavailable(f"cannot open a netlink socket: {error.strerror}") from error
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._lock = threading.Lock()
        self._sequence = 0
        self._room = _ROOM
        self._stale = False

    @property
    def port(self) -> int:
        """The netlink port of the socket."""
        return int(self._socket.getsockname()[0])

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, requests: Sequence[Request]) -> dict[int, Refusal]:
        """Send all in order and answer the refused ones by position; the kernel carries on behind a refused one.

        Only the last message of a send asks for an acknowledgement: the kernel reports errors without being asked.
        """
        refused: dict[int, Refusal] = {}
        with self._lock:
            for start in range(0, len(requests), _BATCH):
                self._execute(requests[start : start + _BATCH], start, refused)
        return refused

    def transact(self, subsystem: int, requests: Sequence[Request]) -> dict[int, Refusal]:
        """Send all as one transaction of nfnetlink and answer the refused ones by position: with any, nothing is done.

        Not for requests that the kernel answers.
        """
        end = (_BATCH_BEGIN, _BATCH_END)
        begin, finish = (Request(kind, 0, _NFNETLINK.pack(0, 0, socket.htons(subsystem))) for kind in end)
        refused: dict[int, Refusal] = {}
        with self._lock:
            first = self._sequence + 1
            last = self._sequence = self._sequence + len(requests)
            messages = [encode(begin, 0)]
            messages += [encode(request, first + place) for place, request in enumerate(requests[:-1])]
            messages += [encode(requests[-1], last, NLM_F_ACK), encode(finish, 0)]
            data = b"".join(messages)
            self._make_room(len(data))
            self._send(data)
            self._collect(first, last, 0, refused)
        return refused

    def require(self, requests: Sequence[Request], doing: str) -> None:
        """Execute all; raises the first refusal as an error of ours, with `doing` as the sentence's subject."""
        refused = self.execute(requests)
        if refused:
            fail(refused[min(refused)], doing)

    def dump(self, request: Request) -> list[Reply]:
        """All objects that answer a dump request, from one consistent pass over the kernel's table.

        Raises Unavailable when the table changed during each of several attempts.
        """
        for _ in range(_DUMP_ATTEMPTS):
            with self._lock:
                replies = self._dump(request)
            if replies is not None:
                return replies
        raise Unavailable(f"the kernel's table changed during each of {_DUMP_ATTEMPTS} reads")

    def get(self, request: Request) -> Reply | Refusal:
        """The one object that a request names."""
        with self._lock:
            self._sequence += 1
            self._send(encode(request, self._sequence))
            for kind, _, payload in self._receive(self._sequence):
                if kind == NLMSG_ERROR:
                    return _refusal(payload) or Refusal(errno.ENODATA, "")
                return Reply(kind, payload)
        raise Unavailable("the kernel did not answer")

    def _execute(self, requests: Sequence[Request], start: int, refused: dict[int, Refusal]) -> None:
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(requests)
        messages = [encode(request, first + place) for place, request in enumerate(requests[:-1])]
        messages.append(encode(requests[-1], last, NLM_F_ACK))
        self._send(b"".join(messages))
        self._collect(first, last, start, refused)

    def _collect(self, first: int, last: int, start: int, refused: dict[int, Refusal]) -> None:
        """Read what the kernel says of requests, up to the last one's acknowledgement."""
        while True:
            for kind, sequence, payload in _messages(self._take()):
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                refusal = _refusal(payload)
                if refusal is not None:
                    refused[start + sequence - first] = refusal
                if sequence == last:
                    return

    def _dump(self, request: Request) -> list[Reply] | None:
        self._sequence += 1
        self._send(encode(request, self._sequence, NLM_F_DUMP))
        replies: list[Reply] = []
        changed = False
        while True:
            for kind, sequence, payload, flags in _flagged(self._take()):
                if sequence != self._sequence:
                    continue
                changed = changed or bool(flags & NLM_F_DUMP_INTR)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    refusal = _refusal(payload[:4])
                    if refusal is not None:
                        fail(refusal, "reading from the kernel")
                    return None if changed else replies
                replies.append(Reply(kind, payload))

    def _receive(self, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        for message in _messages(self._take()):
            if message[1] == sequence:
                yield message

    def _make_room(self, size: int) -> None:
        if size > self._room:
            self._room = 2 * size
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, self._room)

    def _send(self, message: bytes) -> None:
        if self._socket.fileno() < 0:
            raise Unavailable("the netlink socket is closed")
        if self._stale:
            self._drain()
        try:
            self._socket.send(message)
        except OSError as error:
            fail(Refusal(error.errno or errno.EIO, ""), "sending to the kernel")

    def _drain(self) -> None:
        """After ENOBUFS answers are missing, and what is left of them is nobody's any more."""
        for _ in range(_MOST_DRAINED):
            try:
                self._socket.recv(_RECEIVE_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._stale = False
                return
            except OSError:
                continue
        raise Unavailable("a netlink socket is out of step")

    def _take(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_SIZE)
        except OSError as error:
            self._stale = True
            fail(Refusal(error.errno or errno.EIO, ""), "reading the kernel's answer")


def fail(refusal: Refusal, doing: str) -> NoReturn:
    """Raise a refusal as one of our errors: `<doing>: <the kernel's words>`."""
    sentence = f"{doing}: {refusal}"
    if refusal.errno == errno.EPERM:
        sentence += "; this needs CAP_NET_ADMIN in the network namespace"
    raise _ERRORS.get(refusal.errno, RomanaError)(sentence)


_ERRORS: dict[int, type[RomanaError]] = {
    errno.ENODEV: NotFound,
    errno.ENOENT: NotFound,
    errno.ESRCH: NotFound,
    errno.EADDRNOTAVAIL: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.ENOSPC: Exhausted,
    errno.ENFILE: Exhausted,
    errno.EMFILE: Exhausted,
    errno.EAGAIN: Unavailable,
    errno.EBUSY: Unavailable,
    errno.EINTR: Unavailable,
    errno.ENOBUFS: Unavailable,
    errno.ENOMEM: Unavailable,
}


def _flagged(data: bytes) -> Iterable[tuple[int, int, bytes, int]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16:
            raise RomanaError(f"the kernel sent a netlink message of {length} bytes")
        yield kind, sequence, data[offset + 16 : offset + length], flags
        offset += (length + 3) & ~3


def _messages(data: bytes) -> Iterable[tuple[int, int, bytes]]:
    for kind, sequence, payload, flags in _flagged(data):
        # The words of an error stand behind its copy of our header, which is all that a capped error repeats.
        if kind == NLMSG_ERROR and not flags & NLM_F_ACK_TLVS:
            yield kind, sequence, payload[:4]
        else:
            yield kind, sequence, payload


def _refusal(payload: bytes) -> Refusal | None:
    (code,) = _ERROR.unpack_from(payload) if len(payload) >= 4 else (0,)
    if code >= 0:
        return None
    words = ""
    if len(payload) > 20:
        words = next((name_of(value) for kind, value in attributes(payload, 20) if kind == _NLMSGERR_ATTR_MSG), "")
    return Refusal(-code, words)
