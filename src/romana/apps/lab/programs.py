"""The programs of a lab: BIRD on spines, routers and hosts, an agent on each of them, romanad on the control node.

Owns their configuration files, starting, restarting, and waiting until they do their work. Refuses to know what they
are asked to do. Invariant: every program that was started is in the record.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from romana.apps.lab import api
from romana.apps.lab import record as records
from romana.apps.lab.file import FabricKind
from romana.apps.lab.nodes import end, run, start
from romana.apps.lab.pods import plugin_status
from romana.apps.lab.reading import Lab
from romana.apps.lab.record import LabRecord
from romana.apps.lab.waiting import wait
from romana.apps.lab.wiring import Fabric, Node
from romana.codec.bird_router import render
from romana.core.routing import RoutePlan
from romana.core.routing.speakers import speaker
from romana.core.topology import listed_hosts
from romana.model.errors import RomanaError, Unavailable
from romana.model.speaker import Speaker

BIRD_SOCKET = "/run/bird/bird.ctl"
BIRD = ("bird", "-f", "-c", "/etc/bird/bird.conf", "-s", BIRD_SOCKET)
ROMANAD = "romanad"
AGENT = "romana-agent"
BIRD_INCLUDE = "/etc/bird/romana.conf"
UP = {"BGP": "Established", "OSPF": "Running"}
"""What a protocol of BIRD says when it has somebody to speak to."""
SECONDS = 30
"""How long programs may take until they do their work."""


def start_birds(record: LabRecord, lab: Lab, nodes: Collection[str] | None = None) -> LabRecord:
    """Start the routing daemons of some nodes or all, as a person would before there is a control plane, and wait for
    their sessions.

    The agents write the same configuration again, and keep it up.
    """
    speakers = {name: one for name, one in day_zero(lab).items() if nodes is None or name in nodes}
    for name, one in speakers.items():
        record = start_bird(record, lab, name, render(one))
    wait("sessions", lambda: sessions_missing(record, list(speakers)), seconds=SECONDS)
    return record


def start_bird(record: LabRecord, lab: Lab, node: str, text: str) -> LabRecord:
    """Start a node's BIRD with this configuration."""
    _write(record, node, BIRD_INCLUDE, text)
    _write(record, node, "/etc/bird/bird.conf", f'include "{BIRD_INCLUDE}";\n')
    return restart_bird(record, node, gather=gathers(lab, node))


def gathers(lab: Lab, node: str) -> bool:
    """Whether a node's BIRD is to hear its neighbours first when the node starts: routers that speak BGP."""
    return lab.file.fabric is not FabricKind.OSPF and lab.fabric.nodes[node].role != "host"


def day_zero(lab: Lab) -> dict[str, Speaker]:
    """What each routing daemon is to do when nothing runs yet, by node."""
    routes = RoutePlan(lab.plan, listed_hosts(lab.plan))
    known = set(routes.devices())
    found = {name: speaker(routes, name) for name in lab.fabric.nodes if name in known}
    return {name: one for name, one in found.items() if one is not None}


def restart_bird(record: LabRecord, node: str, *, gather: bool = True) -> LabRecord:
    """Start a node's BIRD, again where it ended. Where it is to `gather`, it tells nobody anything before it has heard
    its neighbours; after a crash it always is.
    """
    return _start(record, node, "bird", (*BIRD, "-R") if gather else BIRD)


def start_romanad(record: LabRecord, fabric: Fabric) -> LabRecord:
    """Start romanad on the control node, on its own address there, and wait until it answers."""
    (control,) = fabric.roles("control")
    listen = f"--insecure-listen={fabric.api.text}:9600"
    # romanad refuses to listen without authentication unless it knows that it is elsewhere
    elsewhere = {"ROMANA_LAB_MACHINE_NETWORK": str(Path("/proc/self/ns/net").readlink())}
    record = _start(record, control.name, ROMANAD, [_installed(ROMANAD), listen], elsewhere)
    wait("romanad", lambda: _romanad_missing(record), seconds=SECONDS)
    return record


def start_agents(record: LabRecord, fabric: Fabric, nodes: Collection[str] | None = None) -> LabRecord:
    """Start an agent on some hosts and routers or all, and wait until each has its view and its kernel is as it should
    be.
    """
    chosen = [node for node in fabric.roles("host", "spine", "router") if nodes is None or node.name in nodes]
    for node in chosen:
        daemon = f"{node.name}/bird" in record.programs
        text = _agent_configuration(node, record.api, daemon=daemon)
        _write(record, node.name, "/etc/romana/agent.toml", text)
        record = _start(record, node.name, AGENT, [_installed(AGENT)])
    wait_for_agents(record, *(node.name for node in chosen))
    return record


def restart_agent(record: LabRecord, host: str, number: int = signal.SIGTERM) -> LabRecord:
    """End a host's agent and start it again; answers when it is in sync."""
    end([record.programs[f"{host}/{AGENT}"]], number)
    record = start_agent(record, host)
    wait_for_agents(record, host)
    return record


def start_agent(record: LabRecord, node: str) -> LabRecord:
    """Start a node's agent, which has its configuration; nothing is waited for."""
    return _start(record, node, AGENT, [_installed(AGENT)])


def wait_for_agents(record: LabRecord, *nodes: str) -> None:
    """Wait until agents say that they are ready: hosts' through the plugin's STATUS, routers' by their status."""
    names = nodes or tuple(name for name, role in record.roles.items() if role in ("host", "spine", "router"))

    def status(name: str) -> str:
        return plugin_status(record, name) if record.roles[name] == "host" else _router_status(record, name)

    def missing() -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            said = dict(zip(names, pool.map(status, names), strict=True))
        waiting = {name: words for name, words in said.items() if words}
        for name in waiting:
            _check_alive(record, name, AGENT)
        return [f"{name}: {words}" for name, words in waiting.items()]

    wait("agents", missing, seconds=SECONDS)


def _router_status(record: LabRecord, name: str) -> str:
    """Why a router's agent is not ready, empty when it is."""
    try:
        run(record.process(name), [_installed(AGENT), "status", "-o", "json"])
    except RomanaError as error:
        return str(error)
    return ""


def _agent_configuration(node: Node, url: str, *, daemon: bool) -> str:
    bird = f"""
[bird]
include = "{BIRD_INCLUDE}"
socket = "{BIRD_SOCKET}"
write = "everything"
"""
    return f"""\
[agent]
mode = "{"host" if node.role == "host" else "router"}"
host = "{node.name}"

[romanad]
url = "{url}"

[cni]
identity_from_args = true
{bird if daemon else ""}"""


def _installed(program: str) -> str:
    return str(Path(sys.executable).parent / program)


def _start(
    record: LabRecord, node: str, program: str, command: Sequence[str], more: Mapping[str, str] | None = None
) -> LabRecord:
    process = start(record.process(node), command, log_path(record, node, program), more)
    record = msgspec.structs.replace(record, programs={**record.programs, f"{node}/{program}": process})
    records.write(record)
    return record


def log_path(record: LabRecord, node: str, program: str) -> Path:
    """Where a program's output goes."""
    return record.directory / "log" / f"{node}-{program}.log"


def _write(record: LabRecord, node: str, path: str, text: str) -> None:
    Path(f"/proc/{record.process(node).pid}/root{path}").write_text(text)


def sessions_missing(record: LabRecord, names: list[str]) -> list[str]:
    """What the BIRDs of these nodes have no session with, a sentence each."""
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda name: _sessions_of(record, name), names)
    return [sentence for sentences in found for sentence in sentences]


def _sessions_of(record: LabRecord, name: str) -> list[str]:
    try:
        shown = run(record.process(name), ["birdc", "-s", BIRD_SOCKET, "show", "protocols"])
    except RomanaError as error:
        _check_alive(record, name, "bird")
        return [f"{name}: {error}"]
    fields = [line.split() for line in shown.splitlines()]
    return [
        f"{name}: {one[0]} is {' '.join(one[5:]) or one[3]}"
        for one in fields
        if len(one) > 3 and one[1] in UP and one[-1] != UP[one[1]]
    ]


def _romanad_missing(record: LabRecord) -> list[str]:
    try:
        api.get(record, "/readyz")
    except RomanaError as error:
        (control,) = [name for name, role in record.roles.items() if role == "control"]
        _check_alive(record, control, ROMANAD)
        return [str(error)]
    return []


def _check_alive(record: LabRecord, node: str, program: str) -> None:
    """Unavailable with the end of its log when a program has ended: there is nothing to wait for."""
    if not record.programs[f"{node}/{program}"].alive:
        said = log_path(record, node, program).read_text()[-1500:].strip() or "its log is empty"
        raise Unavailable(f"{program} on {node} has ended: {said}")
