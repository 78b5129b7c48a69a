"""Who is at the other end of a link: the link-local address of the router that answers there.

Owns one raw ICMPv6 socket for as long as it asks. Sends a router solicitation (RFC 4861, section 6.3.7) and an echo
request to all routers (ff02::2) on that one interface, and takes the source of what answers. Changes nothing.
Invariant: an answer is the only router there; where several answer there is none.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time

from romana.codec.text import parse_address
from romana.model.address import Address
from romana.model.errors import Unavailable

ALL_ROUTERS = "ff02::2"
SECONDS = 0.2
"""How long answers are waited for after the first one, and a third of how long for the first."""
ECHO_REQUEST, ECHO_REPLY, SOLICITATION, ADVERTISEMENT = 128, 129, 133, 134
_HOPS = socket.IPV6_UNICAST_HOPS


def find_router(interface: str) -> Address:
    """The link-local address of the router on an interface; Unavailable, with a sentence, when none or several
    answer.
    """
    try:
        index = socket.if_nametoindex(interface)
    except OSError:
        raise Unavailable(f"this device has no interface {interface}") from None
    try:
        found = _answers(index) - _own(index)
    except OSError as error:
        raise Unavailable(f"nobody can be asked on {interface}: {error.strerror}") from error
    if len(found) > 1:
        listed = ", ".join(sorted(found))
        raise Unavailable(
            f"{len(found)} routers answer on {interface} ({listed}); a link-local peer needs a link of its own"
        )
    if not found:
        raise Unavailable(f"no router answers on {interface}")
    return parse_address(found.pop())


def _answers(index: int) -> set[str]:
    found: set[str] = set()
    marker = os.urandom(4)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as asking:
        asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        to = (ALL_ROUTERS, 0, 0, index)
        asking.sendto(struct.pack("!BBHI", SOLICITATION, 0, 0, 0), to)
        asking.sendto(struct.pack("!BBH4s", ECHO_REQUEST, 0, 0, marker), to)
        until = time.monotonic() + 3 * SECONDS
        while (left := until - time.monotonic()) > 0:
            if not select.select([asking], [], [], left)[0]:
                break
            with contextlib.suppress(BlockingIOError):
                data, source = asking.recvfrom(1500)
                if source[3] != index or not source[0].startswith("fe80:"):
                    continue
                if data[0] == ADVERTISEMENT or (data[0] == ECHO_REPLY and data[4:8] == marker):
                    found.add(source[0].partition("%")[0])
                    until = min(until, time.monotonic() + SECONDS)
    return found


def _own(index: int) -> set[str]:
    """This device's own addresses on the interface (proc(5), /proc/net/if_inet6)."""
    with open("/proc/self/net/if_inet6") as file:  # noqa: PTH123 - a file of the kernel
        lines = [line.split() for line in file]
    return {str(parse_address(_colons(words[0]))) for words in lines if int(words[1], 16) == index}


def _colons(digits: str) -> str:
    return ":".join(digits[place : place + 4] for place in range(0, 32, 4))
