"""The kernel's connection tracking: forgetting what an address took part in.

Owns ctnetlink's layout (include/uapi/linux/netfilter/nfnetlink_conntrack.h). Reads and deletes entries of the network
namespace in which it was made, no others. Invariant: an entry is deleted by its own tuple and id, so one that took its
place in between stays.

A flush with CTA_FILTER would do it in fewer steps, but kernels before 6.11 refuse it, and it does not say how many.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
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
from romana.model.address import Address, Family
from romana.model.errors import Unavailable

_CONNTRACK = 1 << 8
_GET, _DELETE, _STATISTICS = _CONNTRACK | 1, _CONNTRACK | 2, _CONNTRACK | 5
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP = 1
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_ENTRIES = 1
_HEADER = struct.Struct("=BBH")
_KERNEL_FAMILY = {Family.V4: 2, Family.V6: 10}
# CTA_IP_*: source and destination; and the CTA_FILTER_F_* bits that say that the filter looks at them.
_FIELDS = {Family.V4: ((1, 1), (2, 2)), Family.V6: ((3, 1), (4, 2))}

# Walking the table costs about as much as handing over this many entries; one address takes four filtered walks.
_ENTRIES_PER_WALK = 2500


class KernelConnections:
    """Connection tracking of the network namespace in which it was made. Threads may share it."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)

    def close(self) -> None:
        """Release the socket."""
        self._netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def forget(self, addresses: Iterable[Address]) -> int:
        """Delete every entry that has one of the addresses as source or destination in either direction; how many.

        Raises Unavailable when the kernel cannot be asked. Safe to repeat.
        """
        wanted = set(addresses)
        present = self._count() if wanted else 0
        if not present:
            return 0
        walks = 4 * len(wanted)
        if present <= walks * _ENTRIES_PER_WALK:
            replies = self._netlink.dump(Request(_GET, 0, _HEADER.pack(0, 0, 0)))
        else:
            replies = [reply for address in sorted(wanted) for reply in self._filtered(address)]
        return self._delete(replies, {packed(address) for address in wanted})

    def _count(self) -> int:
        reply = self._netlink.get(Request(_STATISTICS, 0, _HEADER.pack(0, 0, 0)))
        if isinstance(reply, Refusal):
            raise Unavailable(f"counting tracked connections: {reply}")
        found = dict(attributes(reply.payload, _HEADER.size))
        return int.from_bytes(found.get(_ENTRIES, b""), "big")

    def _filtered(self, address: Address) -> Iterable[Reply]:
        header = _HEADER.pack(_KERNEL_FAMILY[address.family], 0, 0)
        for field, bit in _FIELDS[address.family]:
            for direction, bits in ((_TUPLE_ORIGINAL, (bit, 0)), (_TUPLE_REPLY, (0, bit))):
                looked_at = nested(_FILTER, u32(_FILTER_ORIGINAL, bits[0]), u32(_FILTER_REPLY, bits[1]))
                value = nested(direction, nested(_TUPLE_IP, attribute(field, packed(address))))
                yield from self._netlink.dump(Request(_GET, 0, header + value + looked_at))

    def _delete(self, replies: Iterable[Reply], wanted: set[bytes]) -> int:
        requests = {}
        for reply in replies:
            # Most entries of a busy host are others'; looking for the bytes first spares taking them apart.
            if any(address in reply.payload for address in wanted):
                found = dict(attributes(reply.payload, _HEADER.size))
                if _addresses(found) & wanted:
                    named = [attribute(key, found[key]) for key in (_TUPLE_ORIGINAL, _ID, _ZONE) if key in found]
                    message = reply.payload[:1] + b"\0\0\0" + b"".join(named)
                    requests[message] = Request(_DELETE, 0, message)
        refused = self._netlink.execute(list(requests.values()))
        for refusal in refused.values():
            if refusal.errno != errno.ENOENT:
                fail(refusal, "forgetting tracked connections")
        return len(requests) - len(refused)


def _addresses(found: dict[int, bytes]) -> set[bytes]:
    addresses: set[bytes] = set()
    for direction in (_TUPLE_ORIGINAL, _TUPLE_REPLY):
        parts = dict(attributes(found.get(direction, b"")))
        addresses.update(value for _, value in attributes(parts.get(_TUPLE_IP, b"")))
    return addresses
