"""A lab's topology documents with the lab's devices in them, as a person would write them for a real site.

Owns the AS numbers and areas. Invariant: a document of romana's own form gets what the lab file says of routers, links
and protocol, and nothing else in it changes; one of Romana v2, which cannot say it, stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from romana.apps.lab.file import FabricKind, LabFile
from romana.apps.lab.wiring import Fabric, Link, Node

SPINE_AS = 4_200_000_000
"""Private 32-bit AS numbers (RFC 6996): the spines', then one a rack for its routers ..."""
HOSTS_AS = 4_200_100_000
"""... and one a rack for its hosts."""


def equipped(document: object, file: LabFile, fabric: Fabric) -> object:
    """A topology document with the lab's devices."""
    if not isinstance(document, dict) or "version" not in document:
        return document
    found: dict[str, Any] = copy.deepcopy(document)
    for topology in found.get("topologies", ()):
        _equip(topology, file, fabric)
    if not file.is_flat:
        found["routing"] = _routing(file, fabric)
    return found


def _equip(topology: dict[str, Any], file: LabFile, fabric: Fabric) -> None:
    ebgp = file.fabric is FabricKind.EBGP
    if file.is_flat:
        topology["layer2"] = True
    else:
        topology["underlay"] = [str(one) for one in sorted(file.underlay)]
        topology["routers"] = [_router(fabric.nodes[name], SPINE_AS if ebgp else 0) for name in file.all_spines]
    for index, rack in enumerate(file.racks, 1):
        for group in _groups_at(topology, rack.path):
            _list_hosts(group, fabric)
            if not {"groups", "hosts"} & group.keys():  # neighbours are known before the hosts announce themselves
                group["hosts"] = [_host(name, fabric) for name in rack.hosts]
            if file.is_flat:
                continue
            group["underlay"] = [str(one) for one in fabric.parts[index]]
            group["routers"] = [
                _router(fabric.nodes[name], SPINE_AS + index if ebgp else 0) for name in rack.all_routers
            ]
            if ebgp:
                group["asn"] = HOSTS_AS + index
            if file.fabric is FabricKind.OSPF:
                group["area"] = index
            if rack.layer2:
                group["layer2"] = True


def _groups_at(topology: dict[str, Any], path: str) -> Iterator[dict[str, Any]]:
    group: dict[str, Any] | None = topology
    for name in path.strip("/").split("/") if path != "/" else []:
        if group is not None:
            group = next((one for one in group.get("groups", ()) if one.get("name") == name), None)
    if group is not None:
        yield group


def _list_hosts(group: dict[str, Any], fabric: Fabric) -> None:
    """Hosts that the document lists get their addresses, also those in groups below."""
    for child in group.get("groups", ()):
        _list_hosts(child, fabric)
    if "hosts" in group:
        group["hosts"] = [_host(one, fabric) for one in group["hosts"]]


def _host(listed: Any, fabric: Fabric) -> Any:
    node = fabric.nodes.get(listed) if isinstance(listed, str) else None
    return listed if node is None else {"name": listed, "addresses": _texts(node)}


def _router(node: Node, asn: int) -> dict[str, Any]:
    return {"name": node.name, "addresses": _texts(node), **({"asn": asn} if asn else {})}


def _routing(file: LabFile, fabric: Fabric) -> dict[str, Any]:
    return {
        "protocol": file.fabric.value,
        **({"asn": SPINE_AS} if file.fabric is FabricKind.IBGP else {}),
        **({"sessions": file.sessions} if file.sessions else {}),
        "links": [_link(link) for link in fabric.links_between("spine", "router", "host")],
    }


def _link(link: Link) -> dict[str, Any]:
    pairs = zip(link.above.addresses, link.below.addresses, strict=True)
    return {
        "ends": [end.node for end in link.ends],
        "addresses": [[one.text, other.text] for one, other in pairs],
        "interfaces": [end.name for end in link.ends],
    }


def _texts(node: Node) -> list[str]:
    return [address.text for address in node.loopbacks]
