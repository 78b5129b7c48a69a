"""Reading a lab: its file, the documents that it refers to, and the fabric that follows from it.

Owns what has to fit together between them. Invariant: every fault of all of them is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from romana.apps.lab.equip import equipped
from romana.apps.lab.file import LabFile, file_faults
from romana.apps.lab.wiring import Fabric, wire
from romana.codec import document
from romana.codec.topology import carved
from romana.core.routing.plan import RoutePlan
from romana.model.errors import Fault, Invalid
from romana.model.topology import AddressPlan


class Lab(msgspec.Struct, frozen=True, kw_only=True):
    """A lab file with what it refers to: topology and policy documents, the topologies with the lab's devices in them;
    the plan that stays in force, and the fabric.
    """

    file: LabFile
    topologies: tuple[tuple[str, object], ...]
    policies: tuple[tuple[str, object], ...]
    plan: AddressPlan
    fabric: Fabric


def read_lab(path: Path) -> Lab:
    """The lab that a file describes; Invalid with every fault, in it and in what it refers to."""
    file = document.convert(_load(path), LabFile)
    faults = list(file_faults(file))
    topologies = _documents(path, "topology", file.topology, faults)
    policies = _documents(path, "policies", file.policies, faults)
    plain = _carved(topologies, faults)
    if plain is not None and not faults:
        faults += _misplaced(file, plain)
    if faults:
        raise Invalid(*faults)
    fabric = wire(file)
    topologies = [(name, equipped(content, file, fabric)) for name, content in topologies]
    plan = _carved(topologies, faults)
    if plan is None or faults:
        raise Invalid(*faults)
    return Lab(file=file, topologies=tuple(topologies), policies=tuple(policies), plan=plan, fabric=fabric)


def _carved(topologies: Iterable[tuple[str, object]], faults: list[Fault]) -> AddressPlan | None:
    """The plan of the last document; the faults of all are appended."""
    plan = None
    for index, (name, content) in enumerate(topologies):
        try:
            plan = carved(content)
        except Invalid as error:
            place = f"topology[{index}] ({name})"
            faults += [Fault(f"{place}: {fault.path}", fault.sentence) for fault in error.faults]
    return plan


def _load(path: Path) -> object:
    try:
        return document.load(path.read_bytes())
    except OSError as error:
        raise Invalid(Fault(str(path), f"cannot be read: {error.strerror}")) from error


def _documents(path: Path, field: str, names: tuple[str, ...], faults: list[Fault]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for index, name in enumerate(names):
        try:
            loaded = document.load_all((path.parent / name).read_bytes())
        except OSError as error:
            faults.append(Fault(f"{field}[{index}]", f"{path.parent / name} cannot be read: {error.strerror}"))
        except Invalid as error:
            faults += [Fault(f"{field}[{index}] ({name}): {fault.path}", fault.sentence) for fault in error.faults]
        else:
            found += [(name, one) for one in loaded]
    return found


def _misplaced(file: LabFile, plan: AddressPlan) -> list[Fault]:
    """Racks that the topology has no group for; on one switch they need none."""
    known = RoutePlan(plan).fabric
    return [
        Fault(f"racks[{index}].group", f"the topology has no group {rack.path!r}; it has {', '.join(known.routers)}")
        for index, rack in enumerate(file.racks)
        if not any(known.group(topology, rack.path) for topology in known.topologies) and not file.is_flat
    ]
