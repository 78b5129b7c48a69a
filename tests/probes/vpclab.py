"""A VPC with real packets: hosts with real agents in namespaces, and one namespace that routes as the VPC would.

The namespace `vpc` has a bridge a subnet; its kernel's routes follow a route table of moto's, and it drops what an
interface sends or gets that is not its own as long as moto says that the interface checks. Each zone's group is a layer
2 network of the plan, so agents have routes to the spans of hosts on their subnet; the discard of the group on every
host stands in here for what people set.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from romana.apps.lab import probe
from romana.core.diff import diff
from tests.probes.agenthost import PROGRAMS, AgentHost, wait
from tests.probes.cloud import CREDENTIALS, Cloud
from tests.probes.vpcsite import GROUPS4, GROUPS6, PLAN, Site

OWN4, OWN6 = PLAN["networks"][0]["cidr"], PLAN["networks"][1]["cidr"]
PORT = 8080
FOLLOW = 0.05
"""Seconds between two looks at moto's table."""
CHECKED = f"""
table bridge vpc {{
  set checked {{ type ifname; }}
  chain sent {{
    type filter hook prerouting priority 0;
    iifname @checked ip saddr {OWN4} drop
    iifname @checked ip6 saddr {OWN6} drop
  }}
  chain got {{
    type filter hook postrouting priority 0;
    oifname @checked ip daddr {OWN4} drop
    oifname @checked ip6 daddr {OWN6} drop
  }}
}}
"""
"""What an interface that checks does not send and get."""


class Host(AgentHost):
    """A real agent in its namespace; its pods are further namespaces."""

    def __init__(self, directory: Path, name: str, server: str, labels: Mapping[str, str]) -> None:
        super().__init__(directory, f"v{name}")
        directory.mkdir()
        self.name = name
        self._server = server
        self._labels = labels

    def start_agent(self, *, ready: bool = True) -> None:
        config = self.directory / "agent.toml"
        labels = ", ".join(f'{key} = "{value}"' for key, value in self._labels.items())
        config.write_text(
            f'[agent]\nhost = "{self.name}"\nlabels = {{{labels}}}\nstate = "{self.directory}/state"\n'
            f'socket = "{self.agent_socket}"\nmtu = 1450\n[romanad]\nurl = "{self._server}"\nbeat_seconds = 1\n'
            "[cni]\nidentity_from_args = true\n"
        )
        command = ["ip", "netns", "exec", self.host, str(PROGRAMS / "romana-agent"), "--config", str(config)]
        self.agent = self._start(command, "agent.log")
        if ready:
            wait(self._ready, f"the agent is not ready: {self.log()}")


class Prober:
    """The lab's prober in a pod."""

    def __init__(self, space: str) -> None:
        self._process = subprocess.Popen(
            [
                "nsenter",
                f"--net=/run/netns/{space}",
                "--",
                sys.executable,
                "-I",
                "-S",
                str(Path(probe.__file__)),
                str(PORT),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def reached(self, *addresses: str) -> set[tuple[str, str]]:
        """The addresses and protocols that answer."""
        protocols = ("tcp", "udp", "icmp")
        self._say({"do": "probe", "addresses": addresses, "protocols": protocols, "port": PORT, "seconds": 1.5})
        return {(address, protocol) for address, protocol in self._answer()["reached"]}

    def stream(self, address: str) -> Callable[[], dict[str, int]]:
        """A ping and a TCP stream, every 10 ms, until the answer is called."""
        self._say({"do": "stream", "address": address, "port": PORT})
        self._answer()

        def stop() -> dict[str, int]:
            self._say({"do": "stop"})
            found: dict[str, int] = self._answer()
            return found

        return stop

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class VpcLab:
    """Zones of hosts, a pod on each, and romana-aws in the VPC's namespace."""

    def __init__(self, site: Site, prefix: str) -> None:
        self.site = site
        self.cloud: Cloud = site.cloud
        self.prefix = prefix
        self.hosts: dict[str, Host] = {}
        self.addresses: dict[str, tuple[str, str]] = {}
        """Host -> its own IPv4 and IPv6 address."""
        self.pods: dict[str, list[str]] = {}
        """Host -> the addresses of its pod, IPv4 first."""
        self.probers: dict[str, Prober] = {}
        self._written: dict[str, str] = {}
        self._stack = ExitStack()
        self._stopping = threading.Event()

    def build(self, zones: tuple[str, ...], count: int) -> None:
        """Everything but romana-aws."""
        self.site.call("PUT", "/v1/topology", _with_subnets(PLAN))
        self.site.call("PUT", "/v1/tenants/red", {})
        self.site.call("PUT", "/v1/tenants/red/segments/web", {})
        self.cloud.vpc("vpc", "10.0.0.0/16")
        self._vpc("link set lo up", *(line for number, zone in enumerate(zones, 1) for line in _bridge(number, zone)))
        self._in("vpc", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self._in("vpc", "nft", CHECKED)
        for number, zone in enumerate(zones, 1):
            self.cloud.subnet(f"subnet-{zone}", "vpc", f"10.0.{number}.0/24")
            for host in range(1, count + 1):
                self._host(f"{zone}{host}", number, host + 9, zone)
        self.site.table("main")
        thread = threading.Thread(target=self._follow)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._stopping.set)
        for name, one in self.hosts.items():
            self.pods[name] = one.add_pod(f"pod-{name}")
            self.probers[name] = Prober(f"{one.prefix}pod-{name}")
            self._stack.callback(self.probers[name].close)

    def start_aws(self) -> None:
        config = self.site.config()
        command = [
            "ip",
            "netns",
            "exec",
            f"{self.prefix}vpc",
            str(PROGRAMS / "romana-aws"),
            "run",
            "--config",
            str(config),
        ]
        with (self.site.directory / "aws.log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, **CREDENTIALS})
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def power_off(self, name: str) -> None:
        """A host is gone without a word: its agent is killed and its link is down; the cloud notices nothing."""
        self.hosts[name].stop_agent(signal.SIGKILL)
        self._vpc(f"link set {name} down")

    def power_on(self, name: str) -> None:
        self._vpc(f"link set {name} up")
        self.hosts[name].start_agent()

    def relays(self) -> dict[str, str]:
        """Zone -> the host that relays it, in both families."""
        return self.site.next_hops()

    def routed(self) -> bool:
        """Whether the VPC's kernel has what moto's table has."""
        return self._written.keys() == self.cloud.routes("main").keys()

    def close(self) -> None:
        self._stack.close()
        for one in self.hosts.values():
            one.close()

    def _host(self, name: str, number: int, last: int, zone: str) -> None:
        one = self.hosts[name] = Host(self.site.directory / name, name, self.site.server, {"zone": zone})
        one.add_space("host")
        four, six = f"10.0.{number}.{last}", f"2001:db8:{number}::{last}"
        self.addresses[name] = (four, six)
        self.cloud.instance(name, f"subnet-{zone}", four)
        self._vpc(
            f"link add {name} type veth peer name eth0 netns {one.host}",
            f"link set {name} master br-{zone} up",
        )
        _ip(
            one.host,
            "link set lo up",
            f"address add {four}/24 dev eth0",
            f"address add {six}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via 10.0.{number}.1",
            f"route add default via 2001:db8:{number}::1",
            f"route add blackhole {GROUPS4[zone]}",
            f"route add blackhole {GROUPS6[zone]}",
        )
        subprocess.run(
            ["ip", "netns", "exec", one.host, "sysctl", "-q", "-w", "net.ipv4.conf.eth0.send_redirects=0"], check=True
        )
        known = {"addresses": list(self.addresses[name]), "labels": {"zone": zone}}
        self.site.call("PUT", f"/v1/hosts/{name}", known)
        one.start_agent()

    def _follow(self) -> None:
        """Be the VPC, until the end."""
        while not self._stopping.wait(FOLLOW):
            routes = {
                prefix: self.addresses[host][":" in prefix]
                for prefix, host in self.cloud.routes("main").items()
                if host in self.addresses
            }
            self._write(routes)
            checked = [name for name in self.hosts if self.cloud.checks(name)]
            elements = f"add element bridge vpc checked {{ {', '.join(checked)} }}\n" if checked else ""
            self._in("vpc", "nft", f"flush set bridge vpc checked\n{elements}")

    def _write(self, routes: Mapping[str, str]) -> None:
        """Have exactly these routes of ours in the VPC's namespace."""
        changes = diff(routes, self._written)
        if changes:
            put = {**changes.add, **changes.replace}
            self._vpc(
                *(f"route replace {prefix} via {hop} proto 98" for prefix, hop in put.items()),
                *(f"route del {prefix} proto 98" for prefix in changes.remove),
            )
            self._written = dict(routes)

    def _vpc(self, *lines: str) -> None:
        _ip(f"{self.prefix}vpc", *lines)

    def _in(self, name: str, *command: str) -> None:
        words = ["nft", "-f", "-"] if command[0] == "nft" else list(command)
        text = command[1] if command[0] == "nft" else ""
        subprocess.run(["ip", "netns", "exec", f"{self.prefix}{name}", *words], input=text, text=True, check=True)


def _with_subnets(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with each group as one layer 2 network."""
    (topology,) = plan["topologies"]
    return {**plan, "topologies": [{**topology, "groups": [{**one, "layer2": True} for one in topology["groups"]]}]}


def _bridge(number: int, zone: str) -> list[str]:
    return [
        f"link add br-{zone} type bridge",
        f"link set br-{zone} up",
        f"address add 10.0.{number}.1/24 dev br-{zone}",
        f"address add 2001:db8:{number}::1/64 dev br-{zone} nodad",
    ]


def _ip(space: str, *lines: str) -> None:
    """`ip` commands in a namespace; the family is that of the addresses."""
    for family in ("-4", "-6"):
        mine = [line for line in lines if (":" in line) == (family == "-6")]
        text = "".join(f"{line}\n" for line in mine)
        subprocess.run(["ip", family, "-netns", space, "-batch", "-"], input=text, text=True, check=True)


@contextmanager
def vpc_lab(site: Site, prefix: str) -> Iterator[VpcLab]:
    """A lab without anything in it; the namespace `PREFIXvpc` is there already."""
    lab = VpcLab(site, prefix)
    try:
        yield lab
    finally:
        lab.close()
