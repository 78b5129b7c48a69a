"""A lab that is up becomes another one: a rack more, or a host in another rack, as people do it who stand there.

Owns the order of their steps. Invariant: what both labs have in common, nodes, addresses and links, is not touched; a
host that moves keeps its endpoints.
"""

from __future__ import annotations

import signal

import msgspec

from romana.apps.lab import api, programs
from romana.apps.lab import record as records
from romana.apps.lab.build import start_nodes_of
from romana.apps.lab.nodes import end, relink, run
from romana.apps.lab.reading import Lab
from romana.apps.lab.record import LabRecord
from romana.model.errors import NotFound


def grow(record: LabRecord, old: Lab, new: Lab) -> LabRecord:
    """Racks that only the new lab has: their nodes and cables, the topology document, their daemons and agents."""
    fresh = new.fabric.nodes.keys() - old.fabric.nodes.keys()
    record = start_nodes_of(record, new.fabric)
    relink(record, old.fabric, new.fabric)
    _put_topology(record, new)
    record = programs.start_birds(record, new, fresh)
    return programs.start_agents(record, new.fabric, fresh)


def move(record: LabRecord, old: Lab, new: Lab, host: str) -> LabRecord:
    """A host that is in another rack in the new lab: its programs are stopped, it is cabled there, the topology
    document says where it is, and it starts with the configuration that romanad prints. Its endpoints run on.
    """
    keys = [f"{host}/{program}" for program in (programs.AGENT, "bird")]
    end([record.programs[key] for key in keys if key in record.programs], signal.SIGTERM)
    kept = {key: process for key, process in record.programs.items() if key not in keys}
    record = msgspec.structs.replace(record, programs=kept)
    records.write(record)
    for family in ("-4", "-6"):  # its daemon left them, for its next start
        run(record.process(host), ["ip", family, "route", "flush", "proto", "bird"])
    relink(record, old.fabric, new.fabric)
    _put_topology(record, new, host)
    try:
        said = api.get(record, f"/v1/routes/configuration?device={host}&format=bird")
    except NotFound:  # on a layer 2 network it speaks to nobody
        pass
    else:
        record = programs.start_bird(record, new, host, said["text"])
    return programs.start_agents(record, new.fabric, (host,))


def _put_topology(record: LabRecord, lab: Lab, *moving: str) -> None:
    _, document = lab.topologies[-1]
    api.put(record, f"/v1/topology?moving={','.join(moving)}", document)
