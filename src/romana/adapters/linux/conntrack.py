"""The kernel's connection tracking: forgetting what an address took part in.

Owns ctnetlink's layout (include/uapi/linux/netfilter/nfnetlink_conntrack.h). Reads and deletes entries of the network
namespace in which it was made, no others. Invariant: nothing is deleted that none of the addresses took part in.

From 6.11 on the kernel deletes by IPv4 address itself (a flush with CTA_FILTER), in half a millisecond for each of the
four places where an address may stand. Its comparison of IPv6 addresses in that filter is the wrong way round (it
selects those that differ), and before 6.11 it refuses; then entries are read, which means a walk over the whole table
of all namespaces (10 ms with its usual size), and deleted one by one, each by its own tuple and id.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Collection, Iterable
from typing import Self

from romana.adapters.linux.netlink import (
    NETLINK_NETFILTER,
    Netlink,
    Refusal,
    Reply,
    Request,
    attribute,
    attributes,
    fail,
    nested,
    u32,
)
from romana.adapters.linux.rtnetlink import packed
from romana.model.address import Address, Family, Prefix
from romana.model.errors import Unavailable
from romana.ports import Connection

_CONNTRACK = 1 << 8
_GET, _DELETE, _STATISTICS = _CONNTRACK | 1, _CONNTRACK | 2, _CONNTRACK | 5
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_UPDATE = _CONNTRACK | 0  # without NLM_F_CREATE
_STATUS, _TIMEOUT = 3, 7
_SEEN_REPLY, _ASSURED, _FIXED_TIMEOUT = 1 << 1, 1 << 2, 1 << 10
_CONDEMNED = _FIXED_TIMEOUT | _ASSURED | _SEEN_REPLY
"""What a condemned entry has of a status: the bit that our table drops by, whose meaning to the kernel is that packets
no longer prolong the entry; and what the kernel may set at any moment, and refuses to take back. It makes room for new
connections by dropping others first.
"""
_REMEMBERED = 86_400
"""Seconds for which an entry is condemned: then what is still sent is judged like a new connection."""
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ICMP_TYPE, _ICMP_CODE, _ICMPV6_TYPE, _ICMPV6_CODE = 5, 6, 8, 9
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_ENTRIES = 1
_HEADER = struct.Struct("=BBH")
_HAS_FAMILY = 1  # the header's version, from which on a flush looks at the family
_KERNEL_FAMILY = {Family.V4: 2, Family.V6: 10}
_ANY_FAMILY = 0
# CTA_IP_V4_SRC and CTA_IP_V4_DST, and the CTA_FILTER_F_* bits that say that the filter looks at them.
_FIELDS = ((1, 1), (2, 2))
_MOST_FLUSHED = 5  # addresses; reading the table is quicker for more


class KernelConnections:
    """Connection tracking of the network namespace in which it was made. Threads may share it."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)
        self._flushes = True  # until the kernel refuses

    def close(self) -> None:
        """Release the socket."""
        self._netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def forget(self, prefixes: Iterable[Prefix], but: Collection[Address] = ()) -> int:
        """Delete every entry that has an address of these prefixes, one that is not in `but`, as source or destination
        in either direction; how many (on a busy host about how many).

        Raises Unavailable when the kernel cannot be asked. Safe to repeat.
        """
        wanted = set(prefixes)
        present = self._count() if wanted else 0
        if not present:
            return 0
        flushed = {one for one in wanted if one.family is Family.V4 and one.is_address}
        if but or len(flushed) > _MOST_FLUSHED or not self._flush(flushed):
            flushed = set()
        left = wanted - flushed
        if left:
            families = {prefix.family for prefix in left}
            family = _KERNEL_FAMILY[families.pop()] if len(families) == 1 else _ANY_FAMILY
            replies = self._netlink.dump(Request(_GET, 0, _HEADER.pack(family, 0, 0)))
            self._delete(replies, _Places(left, but))
        return max(0, present - self._count())

    def read(self, addresses: Collection[Address]) -> list[Connection]:
        """The connections that one of these addresses is an end of, as policy sees it."""
        if not addresses or not self._count():
            return []
        wanted = {packed(address) for address in addresses}
        families = {_KERNEL_FAMILY[address.family] for address in addresses}
        family = families.pop() if len(families) == 1 else _ANY_FAMILY
        replies = self._netlink.dump(Request(_GET, 0, _HEADER.pack(family, 0, 0)))
        return [_connection(reply.payload) for reply in replies if not wanted.isdisjoint(_ends(reply.payload))]

    def condemn(self, connections: Iterable[Connection]) -> int:
        """Set the bit of the status that our table drops by."""
        kept = attribute(_TIMEOUT, _REMEMBERED.to_bytes(4, "big"))
        requests = [
            Request(_UPDATE, 0, one.key + kept + attribute(_STATUS, (one.status | _CONDEMNED).to_bytes(4, "big")))
            for one in connections
        ]
        refused = self._netlink.execute(requests)
        for refusal in refused.values():
            if refusal.errno not in (errno.ENOENT, errno.EPERM):  # gone, or condemned already
                fail(refusal, "condemning tracked connections")
        return len(requests) - len(refused)

    def pardon(self, connections: Iterable[Connection]) -> int:
        """Delete entries."""
        requests = [Request(_DELETE, 0, one.key) for one in connections]
        refused = self._netlink.execute(requests)
        for refusal in refused.values():
            if refusal.errno != errno.ENOENT:
                fail(refusal, "forgetting tracked connections")
        return len(requests) - len(refused)

    def _flush(self, addresses: Iterable[Prefix]) -> bool:
        """Have the kernel delete by IPv4 address; whether it did."""
        if self._flushes:
            places = [place for address in sorted(addresses) for place in _places(address)]
            header = _HEADER.pack(_KERNEL_FAMILY[Family.V4], _HAS_FAMILY, 0)
            self._flushes = not self._netlink.execute([Request(_DELETE, 0, header + place) for place in places])
        return self._flushes

    def _count(self) -> int:
        reply = self._netlink.get(Request(_STATISTICS, 0, _HEADER.pack(0, 0, 0)))
        if isinstance(reply, Refusal):
            raise Unavailable(f"counting tracked connections: {reply}")
        found = dict(attributes(reply.payload, _HEADER.size))
        return int.from_bytes(found.get(_ENTRIES, b""), "big")

    def _delete(self, replies: Iterable[Reply], places: _Places) -> None:
        requests = {}
        for reply in replies:
            found = dict(attributes(reply.payload, _HEADER.size))
            if any(place in places for place in _addresses(found)):
                named = [attribute(key, found[key]) for key in (_TUPLE_ORIGINAL, _ID, _ZONE) if key in found]
                message = reply.payload[:1] + b"\0\0\0" + b"".join(named)
                requests[message] = Request(_DELETE, 0, message)
        refused = self._netlink.execute(list(requests.values()))
        for refusal in refused.values():
            if refusal.errno != errno.ENOENT:
                fail(refusal, "forgetting tracked connections")


def _ends(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Who asked whom, and who answers, of an entry of the table.

    Most entries of a busy host are looked at no further, so they are not taken apart: the kernel begins each with its
    two tuples, and each of these with its addresses (ctnetlink_fill_info, ctnetlink_dump_tuples_ip).
    """
    size = 4 if payload[0] == _KERNEL_FAMILY[Family.V4] else 16
    source = _HEADER.size + 12
    asked = source + size + 4
    answering = source + ((int.from_bytes(payload[4:6], sys.byteorder) + 3) & ~3)
    return payload[source : source + size], payload[asked : asked + size], payload[answering : answering + size]


def _connection(payload: bytes) -> Connection:
    """An entry of the table."""
    family = Family.V4 if payload[0] == _KERNEL_FAMILY[Family.V4] else Family.V6
    found = dict(attributes(payload, _HEADER.size))
    original = dict(attributes(found.get(_TUPLE_ORIGINAL, b"")))
    reply = dict(attributes(found.get(_TUPLE_REPLY, b"")))
    source, asked, destination = _ends(payload)
    said = dict(attributes(original.get(_TUPLE_PROTOCOL, b"")))
    answered = dict(attributes(reply.get(_TUPLE_PROTOCOL, b"")))
    kind, code = (_ICMP_TYPE, _ICMP_CODE) if _ICMP_TYPE in said else (_ICMPV6_TYPE, _ICMPV6_CODE)
    if kind in said:
        port = said[kind][0] * 256 + said[code][0]
    else:
        port = int.from_bytes(answered.get(_SOURCE_PORT, b""), "big")
    asked_port = int.from_bytes(said.get(_DESTINATION_PORT, b""), "big")
    named = b"".join(attribute(key, found[key]) for key in (_TUPLE_ORIGINAL, _ZONE) if key in found)
    status = int.from_bytes(found.get(_STATUS, b""), "big")
    return Connection(
        source=_address(family, source),
        destination=_address(family, destination),
        protocol=said.get(_PROTOCOL_NUMBER, b"\0")[0],
        port=port,
        condemned=bool(status & _FIXED_TIMEOUT),
        key=payload[:1] + b"\0\0\0" + named,
        status=status,
        asked=None if asked == destination else (_address(family, asked), asked_port),
        source_port=int.from_bytes(said.get(_SOURCE_PORT, b""), "big"),
    )


def _address(family: Family, place: bytes) -> Address:
    return Address(family, int.from_bytes(place, "big"))


class _Places:
    """The packed addresses of some prefixes, but for some: what is in them, by family and length."""

    def __init__(self, prefixes: Iterable[Prefix], but: Iterable[Address]) -> None:
        self._but = {packed(address) for address in but}
        self._values: dict[tuple[int, int], set[int]] = {}
        for prefix in prefixes:
            rest = prefix.family.bits - prefix.length
            self._values.setdefault((prefix.family.bits // 8, rest), set()).add(prefix.value >> rest)

    def __contains__(self, place: bytes) -> bool:
        value = int.from_bytes(place, "big")
        return place not in self._but and any(
            size == len(place) and value >> rest in values for (size, rest), values in self._values.items()
        )


def _places(address: Prefix) -> Iterable[bytes]:
    """For each of the four places where an IPv4 address may stand, what selects it there."""
    for field, bit in _FIELDS:
        for direction, bits in ((_TUPLE_ORIGINAL, (bit, 0)), (_TUPLE_REPLY, (0, bit))):
            looked_at = nested(_FILTER, u32(_FILTER_ORIGINAL, bits[0]), u32(_FILTER_REPLY, bits[1]))
            yield nested(direction, nested(_TUPLE_IP, attribute(field, packed(address)))) + looked_at


def _addresses(found: dict[int, bytes]) -> set[bytes]:
    addresses: set[bytes] = set()
    for direction in (_TUPLE_ORIGINAL, _TUPLE_REPLY):
        parts = dict(attributes(found.get(direction, b"")))
        addresses.update(value for _, value in attributes(parts.get(_TUPLE_IP, b"")))
    return addresses
