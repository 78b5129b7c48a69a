"""Exceptions: what lives away from its aggregates, and the way of devices that has to know it.

Owns the way. A packet to such a prefix ends without it at one device, which would discard it: the host whose span it is
in, or the router of its group. Every device on the way from that one to the host that really has the prefix holds a
route to the next, and nobody else does: whoever sends follows the aggregates until the first of them. Refuses to know
who asks for exceptions. Invariant: the exceptions depend on what is there, not on the order in which it came.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from romana.core.routing.fabric import parent
from romana.model.address import Family, Prefix
from romana.model.route import DeviceRoute, Reach, RouteException

BESIDE = -1
"""The place on its way of a device that reaches the host directly ..."""
FLOODED = -2
"""... and of a router that is not on it, but has the route all the same."""


class Lengths:
    """Prefixes with the host of each, found by what they contain."""

    def __init__(self) -> None:
        self._tables: dict[Family, dict[int, dict[int, str]]] = {family: {} for family in Family}

    def put(self, prefix: Prefix, host: str) -> None:
        """Such a prefix is on a host."""
        self._table(prefix)[_number(prefix, prefix.length)] = host

    def drop(self, prefix: Prefix) -> None:
        """It is nowhere."""
        table = self._table(prefix)
        table.pop(_number(prefix, prefix.length), None)
        if not table:
            del self._tables[prefix.family][prefix.length]

    def around(self, prefix: Prefix, longest: int) -> tuple[int, str] | None:
        """Length and host of the longest one around a prefix, of at most `longest` bits."""
        tables = self._tables[prefix.family]
        for length in sorted(tables, reverse=True):
            if length <= longest:
                host = tables[length].get(_number(prefix, length))
                if host is not None:
                    return length, host
        return None

    def _table(self, prefix: Prefix) -> dict[int, str]:
        return self._tables[prefix.family].setdefault(prefix.length, {})


class Exceptions:
    """Exceptions by prefix, host, and the devices that hold them; also what would be one, but has no way yet."""

    def __init__(self) -> None:
        self.placed: dict[Prefix, RouteException] = {}
        self._order: list[Prefix] = []
        self._of: dict[str, dict[Prefix, None]] = {}
        self._through: dict[str, dict[Prefix, int]] = {}  # device -> prefix -> its place on the way
        self._uplinks: dict[Prefix, str] = {}  # of those that are flooded

    def put(self, one: RouteException) -> None:
        """Place an exception that is not there."""
        self._put(one, range(len(one.devices)))

    def put_beside(self, one: RouteException) -> None:
        """Place one that all its devices reach directly."""
        self._put(one, (0, *[BESIDE] * (len(one.devices) - 1)) if one.devices else ())

    def put_flooded(self, one: RouteException, way: int, uplink: str) -> None:
        """Place one whose first `way` devices are its way, and whose others are routers that have it, too; its host is
        below the router at `uplink`.
        """
        self._put(one, (*range(way), *[FLOODED] * (len(one.devices) - way)))
        self._uplinks[one.prefix] = uplink

    def _put(self, one: RouteException, places: Iterable[int]) -> None:
        self.placed[one.prefix] = one
        insort(self._order, one.prefix)
        self._of.setdefault(one.host, {})[one.prefix] = None
        for place, device in zip(places, one.devices, strict=True):
            self._through.setdefault(device, {})[one.prefix] = place

    def drop(self, prefix: Prefix) -> RouteException | None:
        """Take one away; which it was."""
        one = self.placed.pop(prefix, None)
        if one is None:
            return None
        del self._order[bisect_left(self._order, prefix)]
        _take(self._of, one.host, prefix)
        for device in one.devices:
            _take(self._through, device, prefix)
        self._uplinks.pop(prefix, None)
        return one

    def inside(self, prefix: Prefix) -> list[Prefix]:
        """Those that lie in a prefix, itself included."""
        found = []
        for place in range(bisect_left(self._order, prefix), len(self._order)):
            if not prefix.contains(self._order[place]):
                break
            found.append(self._order[place])
        return found

    def about(self, host: str) -> list[Prefix]:
        """Those of a host, and those whose packets it would discard."""
        return [*{**self._of.get(host, {}), **dict.fromkeys(self._through.get(host, ()))}]

    def of(self, host: str) -> tuple[Prefix, ...]:
        """Those that a host announces, in order."""
        held = self._through.get(host, {})
        return tuple(sorted(prefix for prefix, place in held.items() if not place))

    def all(self) -> Iterator[RouteException]:
        """Those that have a way, by prefix."""
        return (self.placed[prefix] for prefix in self._order if self.placed[prefix].devices)

    def routes(self, device: str) -> Iterator[DeviceRoute]:
        """The routes to exceptions that a device holds."""
        for prefix, place in self._through.get(device, {}).items():
            if place == FLOODED:
                yield _down_or_up(prefix, device, self._uplinks[prefix])
            else:
                yield step(prefix, self._way(prefix), place)

    def _way(self, prefix: Prefix) -> tuple[str, ...]:
        devices = self.placed[prefix].devices
        if prefix not in self._uplinks:
            return devices
        return tuple(one for one in devices if self._through[one][prefix] != FLOODED)


def _take(table: dict[str, Any], key: str, prefix: Prefix) -> None:
    del table[key][prefix]
    if not table[key]:
        del table[key]


def step(prefix: Prefix, way: Sequence[str], place: int) -> DeviceRoute:
    """The route of the device at a place of the way, which begins at the host that has the prefix."""
    if place == BESIDE:
        return DeviceRoute(prefix=prefix, reach=Reach.BESIDE, toward=way[0], exception=True)
    onward = way[place + 1] if place + 1 < len(way) else ""
    if not place:
        return DeviceRoute(prefix=prefix, reach=Reach.DISCARD, exception=True, onward=onward)
    nearer, device = way[place - 1], way[place]
    from_below = device.startswith("/") and (place == 1 or len(nearer) > len(device))
    reach = Reach.BELOW if from_below else Reach.ABOVE
    return DeviceRoute(prefix=prefix, reach=reach, toward=nearer, exception=True, onward=onward)


def _down_or_up(prefix: Prefix, device: str, uplink: str) -> DeviceRoute:
    """The route of a router that is not on the way to a host below `uplink`: down where that is below it, else up."""
    base = device.rstrip("/") + "/"
    if not uplink.startswith(base):
        return DeviceRoute(prefix=prefix, reach=Reach.ABOVE, toward=parent(device), exception=True)
    toward = base + uplink[len(base) :].partition("/")[0]
    return DeviceRoute(prefix=prefix, reach=Reach.BELOW, toward=toward, exception=True)


def way_between(there: Sequence[str], home: Sequence[str]) -> tuple[str, ...]:
    """The way from a host to where its packets would end, from the ways that both have up to the root."""
    over = set(home)
    up = next((place for place, device in enumerate(there) if device in over), None)
    if up is None:
        return tuple(there)
    return (*there[: up + 1], *reversed(home[: home.index(there[up])]))


def _number(prefix: Prefix, length: int) -> int:
    return prefix.value >> (prefix.family.bits - length)
