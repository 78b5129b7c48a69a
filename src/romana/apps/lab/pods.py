"""Endpoints of a lab: pod namespaces on its hosts, made and unmade by the real CNI plugin as a runtime runs it.

Owns the pod's namespace and the plugin's environment. Refuses to know the agent. Invariant: a pod whose ADD failed
leaves no namespace behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

import romana
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.nodes import entering, environment
from romana.apps.lab.record import LabRecord
from romana.codec.text import parse_address
from romana.model.address import Address
from romana.model.errors import NotFound, RomanaError, Unavailable

CONFIGURATION = msgspec.json.encode({"cniVersion": "1.1.0", "name": "romana", "type": "romana-cni"}).decode()
AT_ONCE = 4
"""Plugins that run at the same time, as a kubelet starts pods."""
SECONDS = 60

_ADD = """\
ip netns add "$POD"
ip -netns "$POD" link set lo up && "$PLUGIN" && exit 0
status=$?
ip netns delete "$POD"
exit $status
"""
_DEL = '"$PLUGIN" && ip netns delete "$POD"'


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that runs, with its addresses, IPv4 first."""

    endpoint: LabEndpoint
    addresses: tuple[Address, ...]

    @property
    def name(self) -> str:
        """Its name, which is its namespace's, too."""
        return self.endpoint.name


class _Ip(msgspec.Struct):
    address: str


class _Result(msgspec.Struct):
    ips: list[_Ip]


class _Failure(msgspec.Struct):
    code: int = 0
    msg: str = ""
    details: str = ""


def add_pods(record: LabRecord, endpoints: Iterable[LabEndpoint]) -> list[Pod]:
    """Start endpoints, some at a time; RomanaError of the first that fails, the others are started all the same."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        started = [pool.submit(add_pod, record, endpoint) for endpoint in endpoints]
    return [one.result() for one in started]


def add_pod(record: LabRecord, endpoint: LabEndpoint, *, address: str = "") -> Pod:
    """Make a pod namespace and run ADD on it, with the fixed addresses of a name where one is given; Unavailable with
    the plugin's own words when it refuses.
    """
    identity = {"ROMANA_TENANT": endpoint.tenant, "ROMANA_SEGMENT": endpoint.segment}
    for key, pairs in (("ROMANA_LABELS", endpoint.labels), ("ROMANA_PORTS", endpoint.ports)):
        if pairs:
            identity[key] = ",".join(f"{name}={value}" for name, value in sorted(pairs.items()))
    if address:
        identity["ROMANA_ADDRESS"] = address
    output = _plugin(record, endpoint.host, endpoint.name, "ADD", _ADD, identity)
    result = msgspec.json.decode(output, type=_Result)
    addresses = sorted(parse_address(one.address.partition("/")[0]) for one in result.ips)
    return Pod(endpoint=endpoint, addresses=tuple(addresses))


def remove_pod(record: LabRecord, host: str, name: str) -> None:
    """Run DEL on a pod and remove its namespace."""
    if name not in pods_on(record, host):
        raise NotFound(f"host {host} of lab {record.name} has no endpoint {name!r}")
    _plugin(record, host, name, "DEL", _DEL, {})


def plugin_status(record: LabRecord, host: str) -> str:
    """What the plugin's STATUS says on a host when it is not ready; empty when it is."""
    try:
        _plugin(record, host, "", "STATUS", '"$PLUGIN"', {})
    except RomanaError as error:
        return str(error)
    return ""


def pods_on(record: LabRecord, host: str) -> list[str]:
    """The pod namespaces of a host."""
    return sorted(path.name for path in namespace(record, host, "").iterdir())


def namespace(record: LabRecord, host: str, name: str) -> Path:
    """Where a pod's namespace can be opened from outside its host."""
    return Path(f"/proc/{record.process(host).pid}/root/run/netns/{name}")


def plugin() -> Path:
    """The CNI plugin of this installation: built here, installed, or named by ROMANA_CNI_PLUGIN."""
    built = Path(romana.__file__).parents[2] / "build" / "romana-cni"
    for place in (
        os.environ.get("ROMANA_CNI_PLUGIN"),
        str(built),
        shutil.which("romana-cni"),
        "/opt/cni/bin/romana-cni",
    ):
        if place and os.access(place, os.X_OK):
            return Path(place)
    raise NotFound(f"the CNI plugin is not built; `make setup` compiles it to {built}")


def _plugin(record: LabRecord, host: str, name: str, verb: str, script: str, identity: Mapping[str, str]) -> str:
    arguments = ";".join(f"{key}={value}" for key, value in {"IgnoreUnknown": "1", **identity}.items())
    program = plugin()
    more = {
        "POD": name,
        "PLUGIN": str(program),
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": name,
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(program.parent),
        "CNI_ARGS": arguments,
    }
    command = entering(record.process(host), ["sh", "-e", "-c", script])
    try:
        ran = subprocess.run(
            command,
            input=CONFIGURATION,
            capture_output=True,
            text=True,
            env=environment() | more,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{verb} of {name} on {host} did not end within {SECONDS} s") from None
    if ran.returncode:
        raise _refusal(verb, name, host, ran)
    return ran.stdout


def _refusal(verb: str, name: str, host: str, ran: subprocess.CompletedProcess[str]) -> RomanaError:
    try:
        failure = msgspec.json.decode(ran.stdout, type=_Failure)
        said = f"code {failure.code}: {failure.msg}{f' ({failure.details})' if failure.details else ''}"
    except msgspec.DecodeError:
        said = (ran.stderr or ran.stdout).strip() or f"status {ran.returncode}"
    return Unavailable(f"{verb} of {name} on {host} failed: {said}")
