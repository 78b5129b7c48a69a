"""A host with a real romanad and a real romana-agent, and pods that are made by CNI requests on the agent's socket.

The agent runs in a network namespace of its own; pods are further namespaces. romanad is reached by its UNIX socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from romana.adapters.romanad import RomanadClient
from romana.codec.cni_wire import LENGTH_SIZE, frame_length, read_answer, write_request
from romana.model.errors import RomanaError

PROGRAMS = Path(sys.executable).parent
SECONDS = 20.0
PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [
        {"name": "pods4", "cidr": "10.1.0.0/24", "block_length": 29, "span_length": 26},
        {"name": "pods6", "cidr": "fd00:1::/112", "block_length": 122, "span_length": 118},
    ],
    "topologies": [
        {"name": "rack", "networks": ["pods4", "pods6"], "groups": [{"name": "r1", "hosts": [{"name": "h1"}]}]}
    ],
}
OWNERS = {"red": ("web", "db"), "blue": ("web",)}


class Answer:
    """What one run of the plugin gave."""

    def __init__(self, status: int, output: bytes) -> None:
        self.status = status
        self.body: dict[str, Any] = json.loads(output) if output else {}

    @property
    def code(self) -> int:
        """The CNI error code; 0 for success."""
        return int(self.body["code"]) if self.status else 0

    @property
    def addresses(self) -> list[str]:
        """The endpoint's addresses, IPv4 first."""
        assert not self.status, self.body
        return [one["address"].partition("/")[0] for one in self.body["ips"]]


class AgentHost:
    """One host under test; `close` takes everything away."""

    def __init__(self, directory: Path, tag: str = "") -> None:
        self.directory = directory
        self.prefix = f"romt-g{os.getpid()}{tag}-"
        self.host = f"{self.prefix}host"
        self.agent_socket = directory / "agent.sock"
        self.romanad: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self._spaces: set[str] = set()
        self.settings = ""

    def open(self, plan: dict[str, Any] = PLAN) -> AgentHost:
        """Start everything, with two tenants, and wait until the agent is ready."""
        self.add_space("host")
        self.start_romanad()
        self.put("/v1/topology", plan)
        for tenant, segments in OWNERS.items():
            self.put(f"/v1/tenants/{tenant}", {})
            for segment in segments:
                self.put(f"/v1/tenants/{tenant}/segments/{segment}", {})
        self.start_agent()
        return self

    def close(self) -> None:
        """End the programs and remove the namespaces."""
        for process in (self.agent, self.romanad):
            if process is not None:
                process.kill()
                process.wait()
        for name in sorted(self._spaces):
            subprocess.run(["ip", "netns", "delete", self.prefix + name], check=True)

    def start_romanad(self) -> None:
        config = self.directory / "romanad.toml"
        config.write_text(
            f'[store]\npath = "{self.directory}/romanad.db"\n'
            f'[listen]\nsocket = "{self.directory}/romanad.sock"\nport = 0\n'
        )
        self.romanad = self._start([str(PROGRAMS / "romanad"), "--config", str(config)], "romanad.log")
        wait(lambda: self.call("GET", "/healthz") is not None, "romanad does not answer")

    def kill_romanad(self) -> None:
        assert self.romanad is not None
        self.romanad.kill()
        self.romanad.wait()

    def start_agent(self, *, ready: bool = True) -> None:
        config = self.directory / "agent.toml"
        config.write_text(
            f'[agent]\nhost = "h1"\nstate = "{self.directory}/agent"\nsocket = "{self.agent_socket}"\nmtu = 1450\n'
            f'[romanad]\nurl = "unix://{self.directory}/romanad.sock"\nwait_seconds = 5\n'
            f"[cni]\nidentity_from_args = true\n{self.settings}"
        )
        command = ["ip", "netns", "exec", self.host, str(PROGRAMS / "romana-agent"), "--config", str(config)]
        self.agent = self._start(command, "agent.log")
        if ready:
            wait(self._ready, f"the agent is not ready: {self.log()}")

    def stop_agent(self, number: int = signal.SIGKILL) -> int:
        assert self.agent is not None
        self.agent.send_signal(number)
        return self.agent.wait(20)

    def log(self) -> str:
        return (self.directory / "agent.log").read_text()

    def add_space(self, name: str) -> str:
        """A namespace; its path."""
        subprocess.run(["ip", "netns", "add", self.prefix + name], check=True)
        self._spaces.add(name)
        return f"/run/netns/{self.prefix}{name}"

    def remove_space(self, name: str) -> None:
        subprocess.run(["ip", "netns", "delete", self.prefix + name], check=True)
        self._spaces.discard(name)

    def cni(self, command: str, name: str = "", **more: Any) -> Answer:
        """One request as the plugin sends it. `owner` is tenant/segment, `config` replaces keys of the configuration,
        `environment` entries of the environment.
        """
        tenant, _, segment = more.get("owner", "red/web").partition("/")
        environment = {"CNI_COMMAND": command, "CNI_PATH": "/opt/cni/bin"}
        if name:
            environment |= {
                "CNI_CONTAINERID": name,
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": more.get("netns", f"/run/netns/{self.prefix}{name}"),
                "CNI_ARGS": f"ROMANA_TENANT={tenant};ROMANA_SEGMENT={segment}",
            }
        environment |= more.get("environment", {})
        config = {"cniVersion": "1.1.0", "name": "romana", "type": "romana-cni", **more.get("config", {})}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(str(self.agent_socket))
            connection.sendall(write_request(environment, more.get("stdin", json.dumps(config).encode())))
            with connection.makefile("rb") as answer:
                return Answer(*read_answer(answer.read(frame_length(answer.read(LENGTH_SIZE)))))

    def add_pod(self, name: str, owner: str = "red/web") -> list[str]:
        """A namespace and an ADD in it that must work; the addresses."""
        self.add_space(name)
        return self.cni("ADD", name, owner=owner).addresses

    def ip(self, *words: str) -> list[Any]:
        """`ip -json` on the host."""
        command = ["ip", "-n", self.host, "-json", *words]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return list(json.loads(text or "[]"))

    def links(self) -> list[str]:
        return sorted(one["ifname"] for one in self.ip("link", "show") if one["ifname"].startswith("rom"))

    def routes(self) -> set[str]:
        """Our routes, both families, as `destination`."""
        return {one["dst"] for family in ("-4", "-6") for one in self.ip(family, "route", "show", "proto", "146")}

    def table(self) -> str:
        command = ["ip", "netns", "exec", self.host, "nft", "list", "table", "inet", "romana"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    def run(self, *command: str, text: str = "") -> str:
        """A program on the host, which must succeed; what it prints."""
        words = ["ip", "netns", "exec", self.host, *command]
        return subprocess.run(words, input=text, text=True, check=True, capture_output=True).stdout

    def reaches(self, name: str, address: str) -> bool:
        """Whether a pod pings an address."""
        command = ["ip", "netns", "exec", self.prefix + name, "ping", "-c", "1", "-W", "1", address]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def endpoints(self) -> list[str]:
        """The container ids of the endpoints that romanad knows."""
        return sorted(one["id"].partition("/")[0] for one in self.call("GET", "/v1/endpoints")["items"])

    def put(self, path: str, body: object) -> Any:
        return self.call("PUT", path, body)

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        async def ask() -> Any:
            async with RomanadClient(f"unix://{self.directory}/romanad.sock") as client:
                if method == "GET":
                    return await client.get(path)
                return await (client.put(path, body) if method == "PUT" else client.post(path, body))

        return asyncio.run(ask())

    def _ready(self) -> bool:
        assert self.agent is not None
        assert self.agent.poll() is None, self.log()
        return self.agent_socket.exists() and self.cni("STATUS").status == 0

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.directory / log).open("ab") as file:
            return subprocess.Popen(command, stderr=file, stdout=file, stdin=subprocess.DEVNULL)


def wait(condition: Callable[[], bool], words: str, seconds: float = SECONDS) -> None:
    """Until it holds; an error of romanad or of the socket counts as not yet."""
    until = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, RomanaError):
            pass
        assert time.monotonic() < until, words
        time.sleep(0.02)
