"""The agent's configuration, /etc/romana/agent.toml."""

from __future__ import annotations

from pathlib import Path

import msgspec

from romana.adapters.logs import log_faults
from romana.codec.config import range_faults
from romana.codec.text import parse_address
from romana.codec.traffic import parse_ports
from romana.model.errors import Fault, Invalid


class AgentSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """This device.

    mode: `host`, or `router` for a router of the plan: no endpoints, only its routing daemon and routes.
    host: the host's or router's name in the topology; empty for the machine's own name.
    addresses: the host's own addresses in the underlay, by which others reach it and policies know it; empty for those
        of its uplinks or, where there is no default route, of its loopback interface.
    labels: the host's labels, by which it joins a group where the topology does not name it.
    state: the directory of the agent's memory, on a local disk.
    socket: the UNIX socket that the CNI plugin talks to; beside it lies a small file (`.mark`) by which the agent
        notices that its memory was set back. Both belong on a file system that a reboot empties.
    mtu: of endpoints' interfaces, in bytes; 0 for the uplink's.
    rest_seconds: how long a freed address is not used again.
    give_back_seconds: how long a block is not used before it is given back.
    round_seconds: the time between full rounds, which compare everything in the kernel with the plan.
    """

    mode: str = "host"
    host: str = ""
    addresses: list[str] = []
    labels: dict[str, str] = {}
    state: str = "/var/lib/romana"
    socket: str = "/run/romana/agent.sock"
    mtu: int = 0
    rest_seconds: int = 180
    give_back_seconds: int = 300
    round_seconds: float = 180.0


def mark_file(agent: AgentSection) -> Path:
    """Where it is written how far the agent's memory has come: beside the socket, not on the disk of the memory."""
    return Path(agent.socket).with_suffix(".mark")


class RomanadSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The control plane.

    url: `unix:///path` or `http://host:port`.
    wait_seconds: how long an ADD may wait for it, when it needs a block from it.
    beat_seconds: how often this host's lease is renewed there.
    """

    url: str = "unix:///run/romana/romanad.sock"
    wait_seconds: float = 10.0
    beat_seconds: float = 10.0


class CniSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Container runtimes.

    identity_from_args: whether ROMANA_TENANT, ROMANA_SEGMENT, ROMANA_LABELS (`app=web,tier=front`) and ROMANA_PORTS
    (`http=tcp/80`) of CNI_ARGS (or the plugin's environment) say who an endpoint is. Only where everybody who may run
    the plugin is trusted with that.
    gc_seconds: an endpoint is collected when two GCs that lie so far apart did not list it.
    plugin: where `install-cni` puts the plugin.
    conflist: where `install-cni` writes the network's configuration.
    """

    identity_from_args: bool = False
    gc_seconds: int = 120
    plugin: str = "/opt/cni/bin/romana-cni"
    conflist: str = "/etc/cni/net.d/10-romana.conflist"


class BirdSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The routing daemon.

    include: our file, which bird.conf includes; empty when there is no BIRD.
    socket: BIRD's control socket.
    write: what is in our file: `prefixes` (this host's, in static protocols), `everything` (all that the plan says of
    this device; a router has nothing else), or `template`.
    templates: the directory of templates in Romana v2's form, for `template`.
    asn: the AS number that templates know as LocalAS.
    """

    include: str = ""
    socket: str = "/run/bird/bird.ctl"
    write: str = "prefixes"
    templates: str = ""
    asn: int = 65534


class HostSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The host's own traffic, where policies select hosts. What is listed no policy can close; nor can one close
    neighbour discovery, errors about connections, IGMP and OSPF.

    failsafe_in: protocols and ports that the host always accepts: SSH, DHCP, BGP, BFD, kubelet, romanad, etcd and the
    Kubernetes API, unless said otherwise.
    failsafe_out: protocols and ports that the host may always send to; DNS as well.
    """

    failsafe_in: tuple[str, ...] = (
        "tcp/22",
        "udp/68",
        "udp/546",
        "tcp/179",
        "udp/3784",
        "udp/3785",
        "udp/4784",
        "tcp/2379",
        "tcp/2380",
        "tcp/6443",
        "tcp/9600",
        "tcp/10250",
    )
    failsafe_out: tuple[str, ...] = (
        "tcp/53",
        "udp/53",
        "udp/67",
        "udp/547",
        "tcp/179",
        "udp/3784",
        "udp/3785",
        "udp/4784",
        "tcp/2379",
        "tcp/2380",
        "tcp/6443",
        "tcp/9600",
    )


class MetricsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Monitoring.

    listen: `address:port` where `/metrics` (Prometheus), `/healthz` and `/readyz` are answered to anybody; empty for
    nowhere.
    """

    listen: str = "127.0.0.1:9604"


class LogSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged on stderr.

    level: debug, info, warning or error.
    format: `json`, `text`, or `auto` (text on a terminal).
    """

    level: str = "info"
    format: str = "auto"


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """romana-agent's configuration."""

    agent: AgentSection = AgentSection()
    romanad: RomanadSection = RomanadSection()
    cni: CniSection = CniSection()
    bird: BirdSection = BirdSection()
    host: HostSection = HostSection()
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()


MODES = ("host", "router")
_LEAST_MTU = 1280
_SHORTEST, _YEAR = 0.01, 365 * 24 * 3600
FORMS = ("prefixes", "everything", "template")


def check_config(settings: AgentConfig) -> None:
    """Invalid with everything that types do not say."""
    faults = []
    agent, bird = settings.agent, settings.bird
    if agent.mode not in MODES:
        faults.append(Fault("agent.mode", f"is one of {', '.join(MODES)}, not {agent.mode!r}"))
    for index, text in enumerate(agent.addresses):
        try:
            parse_address(text)
        except ValueError as error:
            faults.append(Fault(f"agent.addresses[{index}]", str(error)))
    if settings.metrics.listen and not _is_listener(settings.metrics.listen):
        faults.append(
            Fault("metrics.listen", f"is address:port, such as 127.0.0.1:9604, not {settings.metrics.listen!r}")
        )
    if bird.write not in FORMS:
        faults.append(Fault("bird.write", f"is one of {', '.join(FORMS)}, not {bird.write!r}"))
    elif bird.write == "template" and not bird.templates:
        faults.append(Fault("bird.templates", 'is missing; `write = "template"` needs the directory'))
    faults += range_faults(_numbers(settings))
    if 0 < agent.mtu < _LEAST_MTU:
        faults.append(Fault("agent.mtu", f"must be at least {_LEAST_MTU}, which IPv6 needs, or 0; got {agent.mtu}"))
    for name in ("failsafe_in", "failsafe_out"):
        try:
            parse_ports(getattr(settings.host, name), f"host.{name}")
        except Invalid as error:
            faults += error.faults
    faults += log_faults(settings.log.level, settings.log.format)
    if faults:
        raise Invalid(*faults)


def _numbers(settings: AgentConfig) -> dict[str, tuple[float, float, float]]:
    """The numbers of a configuration, each with the least and the most that it may be; times are in seconds."""
    agent, romanad = settings.agent, settings.romanad
    return {
        "agent.mtu": (agent.mtu, 0, 65535),
        "agent.rest_seconds": (agent.rest_seconds, 0, _YEAR),
        "agent.give_back_seconds": (agent.give_back_seconds, 0, _YEAR),
        "agent.round_seconds": (agent.round_seconds, _SHORTEST, _YEAR),
        "romanad.wait_seconds": (romanad.wait_seconds, 0, _YEAR),
        "romanad.beat_seconds": (romanad.beat_seconds, _SHORTEST, _YEAR),
        "cni.gc_seconds": (settings.cni.gc_seconds, 0, _YEAR),
        "bird.asn": (settings.bird.asn, 1, (1 << 32) - 1),
    }


def _is_listener(text: str) -> bool:
    host, _, port = text.rpartition(":")
    try:
        parse_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16
