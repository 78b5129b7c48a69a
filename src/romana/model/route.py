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


class Reach(StrEnum):
    """Why a device holds a route of the plan."""

    DISCARD = "discard"
    BELOW = "below"
    ABOVE = "above"


class DeviceRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One route that a device should hold: a discard under what it originates, or learned from the device `toward`.

    Devices are named by host name, or by the path of the group that a router serves (`/` for a spine).
    """

    prefix: Prefix
    reach: Reach
    toward: str = ""


class DevicePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one device originates (each with a discard route), and all routes of the plan that it holds, by prefix.

    `serves` is the path of its group; for a host, of its leaf.
    """

    device: str
    serves: str
    originates: tuple[Prefix, ...]
    routes: tuple[DeviceRoute, ...]

    @property
    def endpoint_routes(self) -> tuple[Prefix, ...]:
        """The routes to endpoints below it: what grows or does not grow with them."""
        return tuple(route.prefix for route in self.routes if route.reach is Reach.BELOW)
