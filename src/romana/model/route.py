"""Routes, and the devices that hold them."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.model.address import Address, Prefix


class RouteKind(StrEnum):
    """What the kernel does with a packet that the route matches."""

    UNICAST = "unicast"
    BLACKHOLE = "blackhole"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Prefix -> next hop or link, in a host's main table, always with romana's protocol number.

    An endpoint's route has a `link` (an interface name) and no next hop; a span's blackhole has neither.
    """

    prefix: Prefix
    kind: RouteKind = RouteKind.UNICAST
    link: str = ""
    next_hops: tuple[Address, ...] = ()
    source: Address | None = None
