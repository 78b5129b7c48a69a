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


class Around(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A neighbour of a router: over an `interface`, or at `addresses` in networks of the router's own; or whoever is in
    a `network`.
    """

    neighbor: str
    interface: str = ""
    addresses: tuple[Address, ...] = ()
    network: Prefix | None = None


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """What no packet to an address `inside` these CIDRs has to do on a router: leave by an interface that leads `back`
    to whoever sent it; those that lead to the same neighbour alone are together.
    """

    back: tuple[tuple[str, ...], ...] = ()
    inside: tuple[Prefix, ...] = ()


class Reach(StrEnum):
    """Why a device holds a route of the plan."""

    DISCARD = "discard"
    BELOW = "below"
    ABOVE = "above"
    BESIDE = "beside"


class DeviceRoute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One route that a device should hold: a discard under what it originates, or one that leads `toward` a device
    below, above, or beside it on a layer 2 network.

    Devices are named by host name, or by the path of the group that routers serve (`/` for spines). The route of an
    `exception` is told to the device `onward` alone (empty: to nobody). A `private` discard is told to nobody: it ends
    what has no other place to end on a layer 2 network without routers.
    """

    prefix: Prefix
    reach: Reach
    toward: str = ""
    exception: bool = False
    onward: str = ""
    private: bool = False


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


class DeviceRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """What a device originates, and how many routes it should hold: learned from above and below, beside it on a layer
    2 network, discards, and how many of these are exceptions.
    """

    device: str
    serves: str
    originates: tuple[Prefix, ...]
    above: int
    below: int
    discards: int
    exceptions: int
    total: int
    beside: int = 0


class Away(StrEnum):
    """Why something is routed by itself instead of with its group."""

    FIXED = "fixed-address"
    SPAN = "span-away"
    ENDPOINT = "endpoint-away"


class RouteException(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that lives on a `host` which its aggregates do not lead to, so that it has a route of its own.

    `home` is the path of the innermost group that has it (empty: none has), `name` what it belongs to. `devices` hold
    the route: from the host, which originates it, to the one that would discard its packets otherwise (where that is
    every host of a layer 2 network, all of them); then, with OSPF, all other routers that it is flooded to. Empty:
    there is no such host (any more).
    """

    prefix: Prefix
    host: str
    reason: Away
    name: str = ""
    home: str = ""
    devices: tuple[str, ...] = ()


class ObservedRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has beside its endpoints' routes: the blackholes in its kernel, and what its routing daemon
    originates, or will when it starts (`announced`; None: it does not have our file). `unrouted` are addresses of
    endpoints that the kernel has no route to, `via` the next hops of routes that the agent set itself, `learned` what
    others put into the kernel inside the host's networks (None: nobody looked).

    `revision` is that of the view that both are known to have, 0 for none. `daemon` tells whether there is to be one,
    `held` whether the host may use its addresses: it announces nothing else. `problem` is why the last round over
    kernel and daemon failed, empty when it worked.
    """

    blackholes: tuple[Prefix, ...] = ()
    unrouted: tuple[Address, ...] = ()
    announced: tuple[Prefix, ...] | None = None
    daemon: bool = True
    held: bool = True
    revision: int = 0
    problem: str = ""
    via: dict[Prefix, tuple[Address, ...]] = {}
    learned: tuple[Prefix, ...] | None = None


class Mismatch(StrEnum):
    """How plan, kernel and routing daemon of a device can differ."""

    SESSION_DOWN = "session-down"
    DAEMON_PROBLEM = "daemon-problem"
    NOT_LEARNED = "not-learned"
    NO_NEXT_HOP = "no-next-hop"
    STRAY_ROUTE = "stray-route"
    NO_BLACKHOLE = "no-blackhole"
    STRAY_BLACKHOLE = "stray-blackhole"
    NOT_ANNOUNCED = "not-announced"
    STRAY_ANNOUNCEMENT = "stray-announcement"
    NO_ENDPOINT_ROUTE = "no-endpoint-route"
    STRAY_ENDPOINT_ROUTE = "stray-endpoint-route"
    LED_ELSEWHERE = "led-elsewhere"


class RouteDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as planned on a device, a host or a router; the `sentence` says what it means and what
    becomes of it. One with a daemon or a session as a whole has no `prefix`.
    """

    host: str
    kind: Mismatch
    prefix: Prefix | None
    sentence: str


class RouteCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison of all hosts and routers showed. Nothing is known about `unreachable` ones, whose agents did
    not answer.
    """

    differences: tuple[RouteDifference, ...]
    observed: int
    unreachable: tuple[str, ...] = ()
