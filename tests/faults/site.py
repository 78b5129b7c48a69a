"""A site under test: hosts with real agents, romanads, and a store, each on a machine of its own.

Owns which program runs where, and how everything is looked at. romanad is reached over the underlay by agents, and by
its UNIX socket by the test.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from romana.adapters.agent_state import SqliteAgentState
from romana.adapters.romanad import RomanadClient
from romana.apps.agent.joints import COMMAND
from romana.apps.agent.server import ask
from romana.apps.server.main import MACHINE_NETWORK
from romana.codec.json import decode
from romana.model.endpoint import endpoint_id
from romana.model.errors import RomanaError
from romana.model.view import View
from romana.services.agent.attachments import link_name
from tests.faults.history import Final, Fixed, Held, Seen, ServerSeen
from tests.faults.load import OWNERS
from tests.faults.machines import Machine, Program, Underlay, copy_tree

PROGRAMS = Path(sys.executable).parent
PORT = 9600
IDLE = 2
"""Seconds for which a block or span is idle before it goes back: short, so that what is given back is tried, too."""
PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [
        {
            "name": "pods4",
            "cidr": "10.1.0.0/18",
            "block_length": 29,
            "span_length": 26,
            "static": ["10.1.63.0/24"],
        },
        {
            "name": "pods6",
            "cidr": "fd00:1::/104",
            "block_length": 122,
            "span_length": 119,
            "static": ["fd00:1::ff:0/112"],
        },
    ],
    "topologies": [{"name": "t", "networks": ["pods4", "pods6"], "groups": [{"name": "rack"}]}],
}
"""All hosts share one group, so their claims meet."""
NAMES = {f"name-{number}": OWNERS[number % len(OWNERS)] for number in range(6)}
"""Sticky fixed addresses, and whose they are."""
LONE = "name-lone"
"""One that no client of its own accord asks for."""


class Wall:
    """The wall clock of one process (Debian's libfaketime). Its monotonic and boot-time clocks are the kernel's."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",  # to look each time costs more than all the rest
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """Be so far from the true time, from at most a second later on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.rename(self._file)


class Site:
    """Six hosts, unless told otherwise. `open` starts everything, `close` takes everything away."""

    def __init__(self, directory: Path, tag: str, *, hosts: int = 6, rest: int = 2) -> None:
        self.directory = directory
        self.rest = rest
        self.clean = True
        """Whether everything runs and nobody has a container."""
        self.underlay = Underlay(tag)
        self.hosts = [f"h{number}" for number in range(1, hosts + 1)]
        self.names: dict[str, tuple[str, ...]] = {}
        """Sticky names -> their addresses, once romanad gave them."""
        self.agents: dict[str, Program] = {}
        self.planes: dict[str, Program] = {}
        self.sockets = {host: directory / f"{host}.sock" for host in self.hosts}
        self.walls = {name: Wall(directory / f"{name}.time") for name in ("h5", "p1")}
        """Clocks of their own: the agent of h5 always has it, p1 when it is started with its environment."""
        self._own = str(Path("/proc/self/ns/net").readlink())

    def open(self, store: str = "", planes: Sequence[str] = ("p1",), small: Sequence[str] = ()) -> Site:
        """`store` is what romanads' configuration says of their store, when it is not a file; `small` are machines
        whose state can become full.
        """
        for number, name in enumerate(planes, start=2):
            self._plane(self.underlay.machine(name, number), store, small=name in small)
        for number, host in enumerate(self.hosts):
            plane = planes[number % len(planes)]
            self._agent(self.underlay.machine(host, 10 + number), plane, small=host in small)
        for number, name in enumerate(("spare", "other"), start=100):
            self.underlay.machine(name, number)
        for name in planes:
            self.planes[name].start()
        for name in planes:
            self.wait_plane(name)
        self._put(planes[0], "/v1/topology", PLAN)
        for tenant, _, segment in (owner.partition("/") for owner in OWNERS):
            self._put(planes[0], f"/v1/tenants/{tenant}", {})
            self._put(planes[0], f"/v1/tenants/{tenant}/segments/{segment}", {})
        for name, owner in {**NAMES, LONE: OWNERS[0]}.items():
            tenant, _, segment = owner.partition("/")
            self._give(planes[0], {"name": name, "tenant": tenant, "segment": segment, "sticky": True})
        for host in self.hosts:
            self.agents[host].start()
        for host in self.hosts:
            self.wait_agent(host)
        return self

    def close(self) -> None:
        """End the programs and remove the machines."""
        for program in (*self.agents.values(), *self.planes.values()):
            if program.process is not None:
                program.end()
        self.underlay.close()

    def state(self, name: str) -> Path:
        """The directory of a program's state, on its machine."""
        return self.directory / name

    def mark(self, host: str) -> Path:
        """Where an agent writes how far its memory has come; a machine loses it with its power."""
        return self.sockets[host].with_suffix(".mark")

    def plane_of(self, host: str) -> str:
        """The romanad that a host's agent talks to."""
        return list(self.planes)[self.hosts.index(host) % len(self.planes)]

    def wait_plane(self, name: str, seconds: float = 60.0) -> None:
        """Until a romanad takes changes."""
        program = self.planes[name]

        def ready() -> bool:
            assert program.running, f"{name} ended: {program.log()}"
            return bool(self.ask_plane(name, lambda client: client.get("/readyz"))["healthy"])

        wait(ready, lambda: f"{name} is not ready: {program.log()}", seconds)

    def wait_agent(self, host: str) -> None:
        """Until an agent would take an ADD."""
        program = self.agents[host]

        def ready() -> bool:
            assert program.running, f"the agent of {host} ended: {program.log()}"
            return bool(self.status(host)["ready"])

        wait(ready, lambda: f"the agent of {host} is not ready: {program.log()}")

    def status(self, host: str) -> dict[str, Any]:
        """What an agent says of itself."""
        return self.ask_agent(self.sockets[host])

    def ask_agent(self, path: Path) -> dict[str, Any]:
        """The same for any agent."""
        found: dict[str, Any] = json.loads(ask(path, {COMMAND: "status"})[1])
        return found

    def listed(self, path: str) -> list[Any]:
        """All items of a list, of any romanad that runs."""
        name = next((name for name, program in self.planes.items() if program.running), "p1")
        found: list[Any] = self.ask_plane(name, lambda client: client.items(path))
        return found

    def ask_plane(self, name: str, call: Callable[[RomanadClient], Any]) -> Any:
        """The answer of a romanad to a call of the client."""
        return asyncio.run(self.asked(name, call))

    async def asked(self, name: str, call: Callable[[RomanadClient], Any]) -> Any:
        """The same inside an event loop."""
        async with RomanadClient(f"unix://{self.directory}/{name}.sock") as client:
            return await call(client)

    async def look(self, containers: dict[str, list[str]]) -> Final:
        """Everything that hosts and romanad have. `containers` are those that anybody asked for, by host."""
        hosts = dict(zip(self.hosts, await asyncio.gather(*map(self._look_at, self.hosts)), strict=True))
        names = [name for listed in containers.values() for name in listed]
        links = {name: link_name(endpoint_id(name, "eth0")) for name in names}
        return Final(hosts=hosts, server=await self._look_at_plane(), link_of=links)

    async def _look_at(self, host: str) -> Seen:
        return await asyncio.to_thread(self._seen, host)

    def _seen(self, host: str) -> Seen:
        machine = self.underlay.machines[host]
        memory, view = self.memory(host)
        status = self.status(host) if self.agents[host].running else None
        links = json.loads(machine.run("ip", "-json", "link", "show") or "[]")
        routed: dict[str, str] = {}
        for family in ("-4", "-6"):
            shown = machine.run("ip", family, "-json", "route", "show", "proto", "146")
            lone = [one for one in json.loads(shown or "[]") if "/" not in one["dst"]]
            routed |= {one["dst"]: one["dev"] for one in lone if "dev" in one}  # others are blackholes
        return Seen(
            endpoints={
                _container(name): tuple(map(str, endpoint.addresses)) for name, endpoint in memory.endpoints.items()
            },
            links=frozenset(one["ifname"] for one in links if re.fullmatch("rom[0-9a-f]{12}", one["ifname"])),
            routed={address: link for address, link in routed.items() if link.startswith("rom")},
            unpublished=len(memory.pending),
            in_use=None if status is None else status["addresses"]["in-use"],
            spans=frozenset(map(str, view.spans)),
            blocks=frozenset(str(block.cidr) for block in view.blocks.values() if block.host == host),
        )

    def memory(self, host: str) -> tuple[Any, View]:
        """What an agent wrote to its disk, read from a copy; it has no view before the first one."""
        copy = self.directory / "copies" / host
        for _ in range(20):
            try:
                copy_tree(self.underlay.machines[host].path(self.state(host)), copy)
                state = SqliteAgentState(copy, boot_id="copy")
                break
            except (OSError, RomanaError):  # it was writing meanwhile
                time.sleep(0.05)
        try:
            memory = state.load()
        finally:
            state.close()
        return memory, View() if memory.view is None else decode(memory.view, View)

    async def _look_at_plane(self) -> ServerSeen:
        name = next(name for name, program in self.planes.items() if program.running)

        async def lists(client: RomanadClient) -> list[list[Any]]:
            kinds = ("endpoints", "hosts", "spans", "blocks", "retired", "addresses")
            return [await client.items(f"/v1/{kind}") for kind in kinds]

        endpoints, hosts, spans, blocks, retired, fixed = await self.asked(name, lists)
        by_host: dict[str, dict[str, tuple[str, ...]]] = {}
        for one in endpoints:
            by_host.setdefault(one["host"], {})[_container(one["id"])] = _addresses(one)
        return ServerSeen(
            endpoints=by_host,
            hosts=frozenset(one["name"] for one in hosts),
            spans=tuple(Held(cidr=one["cidr"], host=one["host"]) for one in spans),
            blocks=tuple(Held(cidr=one["cidr"], host=one["host"], span=one["span"]) for one in blocks),
            retired=frozenset(one["cidr"] for one in retired),
            fixed=tuple(
                Fixed(
                    name=one["name"],
                    addresses=_addresses(one),
                    host=one["host"],
                    container=_container(one["endpoint"]),
                )
                for one in fixed
            ),
        )

    def _put(self, name: str, path: str, body: object) -> None:
        self.ask_plane(name, lambda client: client.put(path, body))

    def _give(self, plane: str, wanted: dict[str, Any]) -> None:
        given = self.ask_plane(plane, lambda client: client.post("/v1/addresses", wanted))
        self.names[wanted["name"]] = _addresses(given)

    def _plane(self, machine: Machine, store: str, *, small: bool) -> None:
        name = machine.name
        if small:
            machine.mount_small(self.state(name))
        config = self.directory / f"{name}.toml"
        section = store or f'[store]\npath = "{self.state(name)}/romanad.db"'
        config.write_text(
            f'{section}\n[listen]\nsocket = "{self.directory}/{name}.sock"\nport = 0\n[log]\nformat = "text"\n'
            f"[hosts]\nround_seconds = 1.0\nempty_seconds = {IDLE}\nrest_seconds = {self.rest}\nheard_seconds = 3\n"
        )
        listen = f"--insecure-listen={machine.address}:{PORT}"
        command = [str(PROGRAMS / "romanad"), f"--config={config}", listen]
        self.planes[name] = Program(machine, command, self.directory / f"{name}.log")
        self.planes[name].environment[MACHINE_NETWORK] = self._own

    def _agent(self, machine: Machine, plane: str, *, small: bool) -> None:
        host = machine.name
        if small:
            machine.mount_small(self.state(host))
        self.agents[host] = self.agent(machine, host, self.state(host), self.sockets[host], plane)
        if host in self.walls:
            self.agents[host].environment |= self.walls[host].environment

    def agent(self, machine: Machine, host: str, state: Path, path: Path, plane: str) -> Program:
        """An agent for `host` with that memory and socket, not started."""
        config = self.directory / f"{path.stem}.toml"
        config.write_text(
            f'[agent]\nhost = "{host}"\nstate = "{state}"\nsocket = "{path}"\nmtu = 1450\nrest_seconds = {self.rest}\n'
            f"give_back_seconds = {IDLE}\n"
            f'[romanad]\nurl = "http://{self.underlay.machines[plane].address}:{PORT}"\nwait_seconds = 2\n'
            "beat_seconds = 1\n"
            f'[cni]\nidentity_from_args = true\n[log]\nformat = "text"\n'
        )
        command = [str(PROGRAMS / "romana-agent"), f"--config={config}"]
        return Program(machine, command, self.directory / f"{path.stem}.log")


def _container(endpoint: str) -> str:
    """The container of an endpoint's id."""
    return endpoint.partition("/")[0]


def _addresses(answer: dict[str, Any]) -> tuple[str, ...]:
    """Those of an endpoint or a name, as romanad shows it."""
    return tuple(allocation["address"] for allocation in answer["allocations"])


def wait(condition: Callable[[], bool], words: Callable[[], str], seconds: float = 60.0) -> None:
    """Until it holds; an error of a socket or of romanad counts as not yet."""
    until = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, RomanaError):
            pass
        assert time.monotonic() < until, words()
        time.sleep(0.05)
