"""The programs of a lab: BIRD on spine, routers and hosts, romanad on the control node, an agent on every host.

Owns their configuration files, starting, restarting, and waiting until they do their work. Refuses to know what they
are asked to do. Invariant: every program that was started is in the record.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from romana.apps.lab import api
from romana.apps.lab import record as records
from romana.apps.lab.nodes import end, run, start
from romana.apps.lab.pods import plugin_status
from romana.apps.lab.record import LabRecord
from romana.apps.lab.waiting import wait
from romana.apps.lab.wiring import BIRD_INCLUDE, Fabric
from romana.codec.bird_router import render
from romana.model.errors import RomanaError, Unavailable

BIRD_SOCKET = "/run/bird/bird.ctl"
BIRD = ("bird", "-f", "-c", "/etc/bird/bird.conf", "-s", BIRD_SOCKET)
ROMANAD = "romanad"
AGENT = "romana-agent"
SECONDS = 30
"""How long programs may take until they do their work."""


def start_birds(record: LabRecord, fabric: Fabric) -> LabRecord:
    """Start the routing daemons, and wait until all their sessions are established."""
    devices = {name: node.device for name, node in fabric.nodes.items() if node.device is not None}
    for name, device in devices.items():
        _write(record, name, BIRD_INCLUDE, "")
        _write(record, name, "/etc/bird/bird.conf", render(device))
        record = _start(record, name, "bird", BIRD)
    wait("BGP sessions", lambda: _sessions_missing(record, list(devices)), seconds=SECONDS)
    return record


def start_romanad(record: LabRecord, fabric: Fabric) -> LabRecord:
    """Start romanad on the control node, on its own address there, and wait until it answers."""
    (control,) = fabric.roles("control")
    listen = f"--insecure-listen={fabric.api.text}:9600"
    # romanad refuses to listen without authentication unless it knows that it is elsewhere
    elsewhere = {"ROMANA_LAB_MACHINE_NETWORK": str(Path("/proc/self/ns/net").readlink())}
    record = _start(record, control.name, ROMANAD, [_installed(ROMANAD), listen], elsewhere)
    wait("romanad", lambda: _romanad_missing(record), seconds=SECONDS)
    return record


def start_agents(record: LabRecord, fabric: Fabric) -> LabRecord:
    """Start an agent on every host, and wait until each has its view and its kernel is as it should be."""
    for host in fabric.roles("host"):
        _write(record, host.name, "/etc/romana/agent.toml", _agent_configuration(host.name, record.api))
        record = _start(record, host.name, AGENT, [_installed(AGENT)])
    wait_for_agents(record)
    return record


def restart_agent(record: LabRecord, host: str, number: int = signal.SIGTERM) -> LabRecord:
    """End a host's agent and start it again; answers when it is in sync."""
    end([record.programs[f"{host}/{AGENT}"]], number)
    record = start_agent(record, host)
    wait_for_agents(record, host)
    return record


def start_agent(record: LabRecord, host: str) -> LabRecord:
    """Start a host's agent that has ended; nothing is waited for."""
    return _start(record, host, AGENT, [_installed(AGENT)])


def wait_for_agents(record: LabRecord, *hosts: str) -> None:
    """Wait until agents say, through the plugin's STATUS, that they are ready."""
    names = hosts or tuple(name for name, role in record.roles.items() if role == "host")

    def missing() -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            said = dict(zip(names, pool.map(lambda name: plugin_status(record, name), names), strict=True))
        waiting = {name: words for name, words in said.items() if words}
        for name in waiting:
            _check_alive(record, name, AGENT)
        return [f"{name}: {words}" for name, words in waiting.items()]

    wait("agents", missing, seconds=SECONDS)


def _agent_configuration(host: str, url: str) -> str:
    return f"""\
[agent]
host = "{host}"

[romanad]
url = "{url}"

[cni]
identity_from_args = true

[bird]
include = "{BIRD_INCLUDE}"
socket = "{BIRD_SOCKET}"
"""


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


def _sessions_missing(record: LabRecord, names: list[str]) -> list[str]:
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
        if len(one) > 3 and one[1] == "BGP" and one[-1] != "Established"
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
