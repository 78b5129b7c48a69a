"""Building a lab from its file, step by step, and taking it away.

Owns the order. Invariant: what was made is in the record before the next step begins, so `take_down` finds all of it,
whenever the building ended.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from romana.apps.lab import api, programs
from romana.apps.lab import record as records
from romana.apps.lab.file import LabTenant
from romana.apps.lab.nodes import end, link_nodes, release, start_nodes
from romana.apps.lab.pods import Pod, add_pods
from romana.apps.lab.reading import Lab
from romana.apps.lab.record import LabRecord, Process
from romana.apps.lab.wiring import Fabric
from romana.codec.json import decode
from romana.model.topology import AddressPlan

Report = Callable[[str], None]
"""Takes one line about what was done."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A lab without tenants: its record, its fabric, and the plans that romanad answered, by document."""

    record: LabRecord
    fabric: Fabric
    plans: dict[str, AddressPlan]


def build(lab: Lab, path: Path, report: Report) -> Built:
    """Nodes, links, daemons, romanad with its address plan, agents; everything but tenants and endpoints."""
    fabric = lab.fabric
    record = make_fabric(lab, fabric, path, report)
    record = programs.start_romanad(record, fabric)
    report(f"romanad with SQLite, at {record.api}")
    plans: dict[str, AddressPlan] = {}
    for name, document in lab.topologies:
        answer = api.put(record, "/v1/topology", document)
        plans[name] = decode(msgspec.json.encode(answer["plan"]), AddressPlan)
        report(f"address plan {name}")
    record = programs.start_agents(record, fabric)
    routers = len(fabric.roles("spine", "router"))
    report(f"{len(fabric.roles('host'))} agents on hosts, each with its view and its table in the kernel")
    if routers:
        report(f"{routers} agents on routers")
    return Built(record=record, fabric=fabric, plans=plans)


def make_fabric(lab: Lab, fabric: Fabric, path: Path, report: Report) -> LabRecord:
    """Nodes, links and routing daemons."""
    record = LabRecord(
        name=lab.file.name,
        file=str(path.resolve()),
        api=f"http://{fabric.api.text}:9600",
    )
    records.create(record)
    record = start_nodes_of(record, fabric)
    link_nodes(record, fabric)
    report(f"{len(fabric.nodes)} nodes in namespaces of their own, {len(fabric.links)} links")
    record = programs.start_birds(record, lab)
    daemons = sum(key.endswith("/bird") for key in record.programs)
    if daemons:
        report(f"BIRD on {daemons} nodes, all sessions established")
    return record


def start_nodes_of(record: LabRecord, fabric: Fabric) -> LabRecord:
    """Start the nodes of a fabric that do not run yet."""
    (control,) = fabric.roles("control")
    names = [name for name in fabric.nodes if name not in record.nodes]
    started = start_nodes(names, control.name, record.directory / "log")
    nodes = {**record.nodes, **{name: process for name, (_, process) in started.items()}}
    roles = {name: node.role for name, node in fabric.nodes.items()}
    record = msgspec.structs.replace(record, nodes=nodes, roles=roles)
    records.write(record)
    release(popen for popen, _ in started.values())
    return record


def make_tenants(record: LabRecord, tenants: tuple[LabTenant, ...], report: Report) -> None:
    """Tenants and their segments."""
    for tenant in tenants:
        body = {"isolation": tenant.isolation.value, "labels": tenant.labels, "own_host": tenant.own_host}
        api.put(record, f"/v1/tenants/{tenant.name}", body)
        for segment in tenant.segments:
            api.put(record, f"/v1/tenants/{tenant.name}/segments/{segment}", {})
    report(f"{len(tenants)} tenants with {sum(len(tenant.segments) for tenant in tenants)} segments")


def make_endpoints(record: LabRecord, lab: Lab, report: Report) -> list[Pod]:
    """The file's endpoints."""
    pods = add_pods(record, lab.file.endpoints)
    report(f"{len(pods)} endpoints by the CNI plugin")
    return pods


def make_policies(record: LabRecord, lab: Lab, report: Report) -> None:
    """The file's policies."""
    for name, document in lab.policies:
        api.post(record, "/v1/policies", document)
        report(f"policies of {name}")


def finish(record: LabRecord) -> LabRecord:
    """Note that everything is up."""
    record = msgspec.structs.replace(record, ready=True)
    records.write(record)
    return record


def take_down(record: LabRecord) -> None:
    """End every node, and with it everything in it; then forget the lab. What is gone already is fine."""
    processes: list[Process] = [process for process in record.nodes.values() if process.alive]
    end(processes)
    records.remove(record)
