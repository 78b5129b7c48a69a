"""Which faults of a plan may come of nothing but a part of its document that was not read.

Owns what hangs on what in a topology document, of either format. Refuses to read it and to carve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from romana.model.errors import Fault, Invalid
from romana.model.fabric import Protocol
from romana.model.topology import AddressPlan, PlanRequest

_SHAPE = r"(.*\.)?(networks|topologies|map|groups|hosts|routers|links|ends|name|layer2|cidrs|routing)(\[\d+\])*"
"""Places of what other parts of a document refer to."""
_SIZES = (
    r"networks\[\d+\]\.(block_length|block_mask|span_length|placement|bits|static|reserved)\b.*"
    r"|topologies.*\.(weight|spare|cidrs\b.*)"
)

HANGS_ON = (
    (r"networks\[\d+\]\.(placement|bits): .* go together.*", r"networks\[\d+\]\.(placement|bits)\b.*"),
    (r"networks\[\d+\]\.\w+: .* beside `bits`.*", r"networks\[\d+\]\.(placement|bits)\b.*"),
    (r"networks\[\d+\]\.static.*: .* smaller than one .*", _SIZES),
    (r"topologies\[\d+\]\.name: a topology needs .*", r"topologies\[\d+\]\.networks\b.*"),
    (r"[^:]*: (lists|is open|group) .* in network .*", rf"{_SHAPE}|{_SIZES}"),
    (r"[^:]*\.groups: \d+ groups need .*", rf"{_SHAPE}|{_SIZES}"),
    (r"[^:]*\.cidrs\b.*", rf"{_SHAPE}|.*\.cidrs\b.*"),
    (r"[^:]*: is host .* own, but .*", rf"{_SHAPE}|{_SIZES}"),
    (r"[^:]*: host .* has other addresses .*", r".*\.(addresses|ip)\b.*"),
    (r"[^:]*: .* (says otherwise of|is one layer 2 network at) .*", r"topologies.*"),
    (r"[^:]*\.asn: is missing.*", rf".*\.asn|{_SHAPE}"),
    (r"[^:]*\.(routers|ends|group): .*", _SHAPE),
)
"""Patterns of a fault, and of the places that it hangs on (`Salvaged.told`)."""


def carve_faults(
    request: PlanRequest, carve: Callable[[PlanRequest], AddressPlan], *, any_protocol: bool
) -> list[Fault]:
    """What is wrong with a request; with `any_protocol` what is wrong whichever protocol it has."""
    protocols = tuple(Protocol) if any_protocol else (request.routing.protocol,)
    routings = [msgspec.structs.replace(request.routing, protocol=protocol) for protocol in protocols]
    first, *others = [_faults(msgspec.structs.replace(request, routing=one), carve) for one in routings]
    return [fault for fault in first if all(fault in other for other in others)]


def _faults(request: PlanRequest, carve: Callable[[PlanRequest], AddressPlan]) -> tuple[Fault, ...]:
    try:
        carve(request)
    except Invalid as error:
        return error.faults
    return ()


def without_unread(meant: Iterable[Fault], document: object, request: PlanRequest) -> list[Fault]:
    """The faults but those that call a network missing that the document has, and that could not be read."""
    written = document.get("networks", []) if isinstance(document, dict) else None
    entries = written if isinstance(written, list) else [written]
    read = [one.name for one in request.networks]
    unread = [
        name for name in (one.get("name") if isinstance(one, dict) else None for one in entries) if name not in read
    ]
    nameless = any(not isinstance(name, str) for name in unread)
    calls = tuple("there is no network " + ("" if nameless else f"{name!r};") for name in unread)
    return [fault for fault in meant if not (calls and fault.sentence.startswith(calls))]
