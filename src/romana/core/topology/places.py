"""What a request says of the devices at each path: a path that several topologies have is one place for all of them.

Owns that agreement. Refuses to know CIDRs. Invariant: of one place every topology has the same routers, hosts' AS
number, area and layer 2 network, because they are the same machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from romana.model.address import Prefix
from romana.model.errors import Fault
from romana.model.fabric import RouterDevice
from romana.model.topology import Group, GroupRequest, TopologyRequest

MOST_ROUTERS = 16
"""Routers of one group."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the devices at a path; `where` is the place of its group in the document."""

    layer2: bool = False
    routers: tuple[RouterDevice, ...] = ()
    underlay: tuple[Prefix, ...] = ()
    asn: int | None = None
    area: int | None = None
    where: str = ""


FIELDS = ("routers", "asn", "area")


def read_places(topologies: Iterable[TopologyRequest], faults: list[Fault]) -> dict[str, Place]:
    """Every path with what is said of it; disagreements are appended to `faults`."""
    places: dict[str, Place] = {}
    for topology in topologies:
        for path, group in _walk(topology.root, "/"):
            said = Place(
                layer2=group.layer2,
                routers=group.routers,
                underlay=group.underlay,
                asn=group.asn,
                area=group.area,
                where=group.place,
            )
            known = places.get(path)
            places[path] = said if known is None else _agreed(path, known, said, faults)
    for path, place in places.items():
        if len(place.routers) > MOST_ROUTERS:
            sentence = f"a group has at most {MOST_ROUTERS} routers, {path} has {len(place.routers)}"
            faults.append(Fault(f"{place.where}.routers", sentence))
    return places


def _agreed(path: str, known: Place, said: Place, faults: list[Fault]) -> Place:
    merged: dict[str, Any] = {}
    for field in FIELDS:
        one, other = getattr(known, field), getattr(said, field)
        if one and other and one != other:
            sentence = f"{known.where} says otherwise of {path}; a path is the same devices in every topology"
            faults.append(Fault(f"{said.where}.{field}", sentence))
        merged[field] = one or other
    if known.layer2 != said.layer2:
        sentence = f"is one layer 2 network at {(known if known.layer2 else said).where}; say `layer2` in both, or none"
        faults.append(Fault(f"{said.where}.layer2", f"{path} {sentence}"))
    underlay = tuple(dict.fromkeys((*known.underlay, *said.underlay)))
    return msgspec.structs.replace(known, underlay=underlay, **merged)


class Inherited(msgspec.Struct, frozen=True):
    """What a group has from those around it."""

    layer2: str = ""
    asn: int = 0
    area: int = 0

    def at(self, path: str, place: Place) -> Inherited:
        """The same for a group, and for what is in it."""
        return Inherited(
            layer2=self.layer2 or (path if place.layer2 else ""),
            asn=self.asn if place.asn is None else place.asn,
            area=self.area if place.area is None else place.area,
        )


def equipped(group: Group, place: Place, inherited: Inherited) -> Group:
    """A carved group with its devices."""
    return msgspec.structs.replace(
        group,
        layer2=inherited.layer2,
        routers=place.routers,
        underlay=place.underlay,
        asn=inherited.asn,
        area=inherited.area,
    )


def _walk(group: GroupRequest, path: str) -> Iterator[tuple[str, GroupRequest]]:
    yield path, group
    base = path.rstrip("/")
    for child in group.groups:
        yield from _walk(child, f"{base}/{child.name}")
