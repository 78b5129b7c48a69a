"""A site in a VPC: a cloud on loopback, a real romanad that knows the hosts, and romana-aws as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from romana.adapters.romanad import RomanadClient
from romana.codec.text import parse_address
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Heartbeat, Hello
from tests.probes.agenthost import wait
from tests.probes.cloud import CREDENTIALS, REGION, TIED, Cloud
from tests.probes.programs import BIN, romanad

ZONES = ("a", "b", "c")
PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [
        {"name": "pods4", "cidr": "100.96.0.0/11", "span_length": 24},
        {"name": "pods6", "cidr": "fd00:64::/40"},
    ],
    "topologies": [
        {
            "name": "site",
            "networks": ["pods4", "pods6"],
            "groups": [{"name": f"zone-{zone}", "assignment": {"zone": zone}} for zone in ZONES],
        }
    ],
}
GROUPS4 = {"a": "100.96.0.0/13", "b": "100.104.0.0/13", "c": "100.112.0.0/13"}
GROUPS6 = {"a": "fd00:64::/42", "b": "fd00:64:40::/42", "c": "fd00:64:80::/42"}


class Site:
    """Zones with a subnet each and hosts `a1`, `a2`, ...; route tables by the names that a test gives."""

    def __init__(self, directory: Path, cloud: Cloud, server: str) -> None:
        self.directory = directory
        self.cloud = cloud
        self.server = server
        self.settings: dict[str, Any] = {
            "aws": {"round_seconds": 0.2, "socket": f"{directory}/aws.sock", "holder": "one"},
            "health": {"fail_over_seconds": 0, "fail_back_seconds": 2},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()

    def build(self, hosts: int = 2, zones: tuple[str, ...] = ZONES, plan: Mapping[str, Any] = PLAN) -> None:
        """A VPC with a route table `main`, and in every zone a subnet with some hosts."""
        self.call("PUT", "/v1/topology", plan)
        self.cloud.vpc("vpc", "10.0.0.0/16")
        for number, zone in enumerate(zones, 1):
            self.cloud.subnet(f"subnet-{zone}", "vpc", f"10.0.{number}.0/24")
            for host in range(1, hosts + 1):
                labels = {"zone": zone, "rack": str(host)}
                self.host(f"{zone}{host}", f"subnet-{zone}", f"10.0.{number}.{host + 9}", labels)
        self.table("main")

    def host(self, name: str, subnet: str, address: str, labels: Mapping[str, str]) -> None:
        """An instance, whose agent reports in as a host of that name."""
        self.cloud.instance(name, subnet, address)
        self.hello(name, address, labels)

    def table(self, name: str, vpc: str = "vpc") -> None:
        """A route table that romana-aws is to write."""
        self.settings["aws"].setdefault("tables", []).append(self.cloud.table(name, vpc))

    def hello(self, name: str, address: str, labels: Mapping[str, str]) -> None:
        async def report(client: RomanadClient) -> None:
            addresses = (parse_address(address),)
            await client.hello(Hello(host=name, instance=f"agent-{name}", addresses=addresses, labels=dict(labels)))

        self._ask(report)

    def heartbeat(self, name: str) -> None:
        async def beat(client: RomanadClient) -> None:
            found = await client.get(f"/v1/hosts/{name}")
            health = await client.get("/healthz")
            sent = Heartbeat(host=name, epoch=found["epoch"], incarnation=health["incarnation"], applied=0)
            await client.heartbeat(sent)

        self._ask(beat)

    def claim(self, name: str) -> None:
        """Have a host get spans, as its agent does for its first endpoint."""

        async def claim(client: RomanadClient) -> None:
            await client.put("/v1/tenants/t", {})
            await client.put("/v1/tenants/t/segments/s", {})
            epoch = (await client.get(f"/v1/hosts/{name}"))["epoch"]
            await client.claim(Claim(host=name, epoch=epoch, identity=Identity(owner=Owner("t", "s"))))

        self._ask(claim)

    def spans(self, name: str) -> set[str]:
        return {one["cidr"] for one in self.call("GET", f"/v1/spans?host={name}")["items"]}

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        async def call(client: RomanadClient) -> Any:
            return await (client.put(path, body) if method == "PUT" else client.get(path))

        return self._ask(call)

    def owned(self, table: str = "main") -> set[str]:
        """What romanad has written down as ours in a table."""
        return set(self.call("GET", "/v1/routes/vpc")["owned"].get(self.cloud.ids[table], []))

    def config(self, name: str = "aws") -> Path:
        """The configuration as a file."""
        sections = {**self.settings, "romanad": {"url": self.server, **self.settings.get("romanad", {})}}
        sections["aws"] = {"region": REGION, "endpoint": self.cloud.gate.endpoint, **sections["aws"]}
        path = self.directory / f"{name}.toml"
        lines = []
        for section, keys in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
        path.write_text("\n".join(lines) + "\n")
        return path

    def aws(self, *words: str, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """romana-aws, once."""
        done = subprocess.run(
            [BIN / "romana-aws", *words, "--config", str(self.config())],
            capture_output=True,
            text=True,
            env={**os.environ, **CREDENTIALS, "COLUMNS": "200", **environment},
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def start(self, name: str = "aws", **aws: object) -> subprocess.Popen[bytes]:
        """romana-aws as a daemon; `aws` are keys of its section."""
        before = dict(self.settings["aws"])
        self.settings["aws"] |= aws
        config = self.config(name)
        self.settings["aws"] = before
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*TIED, BIN / "romana-aws", "run", "--config", str(config)],
                stderr=log,
                stdout=log,
                env={**os.environ, **CREDENTIALS},
            )
        self._stack.callback(_end, process)
        self.process = process
        return process

    def log(self, name: str = "aws") -> str:
        return (self.directory / f"{name}.log").read_text()

    def status(self, name: str = "aws", expect: int | None = None) -> Any:
        """What the running program tells of itself; None while it does not answer."""
        command = [str(BIN / "romana-aws"), "status", "--json", "--config", str(self.directory / f"{name}.toml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if expect is not None:
            assert done.returncode == expect, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def settled(self, routes: Mapping[str, str], table: str = "main", seconds: float = 20) -> None:
        """Wait until a table has exactly these routes."""
        found: dict[str, str] = {}

        def same() -> bool:
            found.clear()
            found.update(self.cloud.routes(table))
            return found == dict(routes)

        try:
            wait(same, "", seconds)
        except AssertionError:
            raise AssertionError(f"the table has {found}, not {dict(routes)}\n{self.log()[-3000:]}") from None

    def next_hops(self, table: str = "main") -> dict[str, str]:
        """Zone -> the host that its routes of both families lead to; both of them while they differ."""
        routes = self.cloud.routes(table)
        hosts = {zone: {routes.get(prefix, "none") for prefix in (GROUPS4[zone], GROUPS6[zone])} for zone in ZONES}
        return {zone: "|".join(sorted(found)) for zone, found in hosts.items() if found != {"none"}}

    def close(self) -> None:
        self._stack.close()

    def _ask(self, question: Any) -> Any:
        async def ask() -> Any:
            async with RomanadClient(self.server) as client:
                return await question(client)

        return asyncio.run(ask())


def both(hops: Mapping[str, str]) -> dict[str, str]:
    """The routes that a table has when zones are led to these hosts."""
    return {prefixes[zone]: host for zone, host in hops.items() for prefixes in (GROUPS4, GROUPS6)}


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


@contextmanager
def vpc_site(directory: Path, cloud: Cloud, **settings: str) -> Iterator[Site]:
    """A site without hosts, and a romanad of its own."""
    with romanad(directory, **settings) as server:
        site = Site(directory, cloud, server)
        try:
            yield site
        finally:
            site.close()
