"""romanad by its front doors: UNIX socket, loopback, signals, a killed process."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from romana.adapters.romanad import RomanadClient
from romana.apps.server.main import outside_own_network
from romana.codec.text import parse_address
from romana.model.errors import Conflict, Invalid, NotFound, Unavailable
from romana.model.tenancy import Identity, Owner
from romana.model.view import AddressUse, Hello, Publication, Released
from tests.probes.spaces import shell

ROMANAD = str(Path(sys.executable).parent / "romanad")
NETWORKS = [{"name": "pods", "cidr": "10.1.0.0/16"}]
PLAN = {
    "version": 1,
    "networks": NETWORKS,
    "topologies": [{"name": "t", "networks": ["pods"], "groups": [{"name": "rack", "hosts": []}]}],
}


class Romanad:
    """A real process with its own directory and port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.socket = directory / "romanad.sock"
        self.config = directory / "romanad.toml"
        self.config.write_text(
            f'[store]\npath = "{directory}/romanad.db"\n[listen]\nsocket = "{self.socket}"\nport = {self.port}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        self.process = subprocess.Popen([ROMANAD, "--config", str(self.config), *arguments], stderr=subprocess.PIPE)
        until = time.monotonic() + 15
        while time.monotonic() < until:
            assert self.process.poll() is None, self.process.stderr.read().decode()  # type: ignore[union-attr]
            try:
                self.get("/healthz")
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("romanad did not become ready")

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(10)
        self.process.stderr.close()  # type: ignore[union-attr]
        self.process = None
        return status

    def get(self, path: str, method: str = "GET", body: object | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)


@pytest.fixture
def romanad(tmp_path: Path) -> Iterator[Romanad]:
    one = Romanad(tmp_path)
    one.start()
    try:
        yield one
    finally:
        if one.process is not None:
            one.kill()


def test_the_root_lists_services_and_openapi_describes_every_path(romanad: Romanad) -> None:
    index = romanad.get("/")
    assert index["service"] == "romanad"
    described = romanad.get("/openapi.json")
    assert described["openapi"] == "3.1.0"
    for link in index["links"]:
        if link["rel"] != "openapi":
            assert link["href"] in described["paths"]
    text = json.dumps(described)
    for name in described["components"]["schemas"]:
        assert name.isidentifier() or "_" in name
    for reference in set(text.split('"$ref": "#/components/schemas/')[1:]):
        assert reference.split('"')[0] in described["components"]["schemas"]
    listing = described["paths"]["/v1/hosts"]["get"]["responses"]
    name = listing["200"]["content"]["application/json"]["schema"]["$ref"].rsplit("/")[-1]
    assert set(described["components"]["schemas"][name]["properties"]) == set(romanad.get("/v1/hosts"))
    assert "application/problem+json" in listing["default"]["content"]
    operations = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert len(set(operations)) == len(operations)
    assert all(name.isidentifier() for name in operations)


def test_every_fault_of_a_document_comes_at_once_and_changes_nothing(romanad: Romanad) -> None:
    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            wrong = {
                **PLAN,
                "networks": [{"name": "pods", "cidr": "10.1.0.0/16", "colour": 1}, {"name": 5, "cidr": "x"}],
            }
            with pytest.raises(Invalid) as caught:
                await client.put("/v1/topology", wrong)
            assert {fault.path for fault in caught.value.faults} >= {
                "networks[0].colour",
                "networks[1].name",
                "networks[1].cidr",
            }
            overlapping = {**PLAN, "networks": [*NETWORKS, {"name": "more", "cidr": "10.1.128.0/17"}]}
            with pytest.raises(Invalid, match="overlap"):
                await client.put("/v1/topology", overlapping)
            assert (await client.get("/v1/topology"))["plan"]["networks"] == []

    asyncio.run(body())


def test_what_was_answered_is_there_after_a_kill(romanad: Romanad) -> None:
    romanad.get("/v1/topology", "PUT", PLAN)
    for number in range(20):
        romanad.get(f"/v1/tenants/t{number}", "PUT", {})
    incarnation = romanad.get("/healthz")["incarnation"]
    romanad.kill()
    romanad.start()
    assert len(romanad.get("/v1/tenants")["items"]) == 20
    assert romanad.get("/v1/networks")["items"][0]["cidr"] == "10.1.0.0/16"
    assert romanad.get("/healthz")["incarnation"] == incarnation


def test_both_ends_of_a_followed_stream_notice_when_the_other_machine_vanishes(romanad: Romanad) -> None:
    async def body() -> None:
        async with RomanadClient(f"http://127.0.0.1:{romanad.port}") as client:
            await client.put("/v1/topology", PLAN)
            await client.put("/v1/hosts/h1", {})
            stream = client.view("h1")
            await anext(stream)
            at_port = f"( sport = :{romanad.port} or dport = :{romanad.port} )"
            shown = await asyncio.to_thread(shell, f"ss -Htno state established '{at_port}'")
            timers = [line for line in shown.splitlines() if "timer:(keepalive," in line]
            assert len(timers) == 2, shown

    asyncio.run(body())


def test_sigterm_ends_it_cleanly_also_under_a_stream(romanad: Romanad) -> None:
    romanad.get("/v1/topology", "PUT", PLAN)

    async def body() -> None:
        async with RomanadClient(f"http://127.0.0.1:{romanad.port}") as client:
            await client.hello(Hello(host="h1", instance="i"))
            stream = client.view("h1")
            assert (await anext(stream)).snapshot
            status = await asyncio.to_thread(romanad.kill, signal.SIGTERM)
            with pytest.raises(Unavailable):
                await anext(stream)
            assert status == 0

    asyncio.run(body())
    assert not romanad.socket.exists()


def test_a_watch_goes_on_where_it_was(romanad: Romanad) -> None:
    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            await client.put("/v1/tenants/a", {})
            stream = client.watch("/v1/watch?from=0")
            events = [json.loads(await anext(stream)) for _ in range(2)]
            await stream.aclose()  # type: ignore[attr-defined]
            assert [event["key"] for event in events] == ["", "tenant/a"]
            await client.put("/v1/tenants/b", {})
            stream = client.watch(f"/v1/watch?from={events[-1]['revision']}")
            events = [json.loads(await anext(stream)) for _ in range(2)]
            await stream.aclose()  # type: ignore[attr-defined]
            assert events[1]["key"] == "tenant/b"

    asyncio.run(body())


def test_lists_come_in_pages(romanad: Romanad) -> None:
    for number in range(5):
        romanad.get(f"/v1/tenants/t{number}", "PUT", {})
    first = romanad.get("/v1/tenants?limit=2")
    assert [item["name"] for item in first["items"]] == ["t0", "t1"]
    rest = romanad.get(f"/v1/tenants?after={first['next']}")
    assert [item["name"] for item in rest["items"]] == ["t2", "t3", "t4"]
    assert rest["next"] is None


def test_a_parameter_that_nobody_reads_is_refused_and_changes_nothing(romanad: Romanad) -> None:
    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            for query in ("dry_run=1", "dry_run=True", "dryrun=true"):
                with pytest.raises(Invalid, match="dry_run"):
                    await client.put(f"/v1/topology?{query}", PLAN)
            await client.put("/v1/topology?dry_run=true", PLAN)
            assert (await client.get("/v1/networks"))["items"] == []
            with pytest.raises(Invalid, match="did you mean `tenant`"):
                await client.get("/v1/endpoints?tenat=a")
            for limit in ("-1", "many"):
                with pytest.raises(Invalid, match="whole number"):
                    await client.get(f"/v1/hosts?limit={limit}")

    asyncio.run(body())


def test_a_watch_that_cannot_go_on_is_refused_with_a_reason(romanad: Romanad) -> None:
    romanad.get("/v1/tenants/a", "PUT", {})
    romanad.get("/v1/tenants/b", "PUT", {})
    romanad.kill()
    romanad.start()

    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            for revision, sentence in ((1, "compacted"), (99, "not been")):
                with pytest.raises(Conflict, match=sentence):
                    await anext(client.watch(f"/v1/watch?from={revision}"))

    asyncio.run(body())


def test_half_a_character_is_refused_and_not_a_fault_of_ours(romanad: Romanad) -> None:
    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            for path in ("/v1/topology", "/v1/tenants/a"):
                with pytest.raises(Invalid, match="half of a character"):
                    await client.put(path, b'{"version": 1, "x\\ud800": "\\ud800"}')

    asyncio.run(body())


def test_a_disk_that_takes_nothing_loses_nothing_and_is_said(romanad: Romanad) -> None:
    assert romanad.process is not None
    log = romanad.directory / "romanad.db-wal"
    largest = log.stat().st_size + 20_000
    resource.prlimit(romanad.process.pid, resource.RLIMIT_FSIZE, (largest, largest))
    made: list[str] = []

    async def fill(client: RomanadClient) -> None:
        for number in range(50):
            await client.put(f"/v1/tenants/t{number}", {"labels": {"long": "x" * 3000}})
            made.append(f"t{number}")

    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            with pytest.raises(Unavailable, match="cannot be written"):
                await fill(client)
            assert [tenant["name"] for tenant in await client.items("/v1/tenants")] == made
            with pytest.raises(Unavailable, match="cannot be written"):
                await client.get("/readyz")

    asyncio.run(body())
    romanad.kill()
    romanad.start()
    assert [tenant["name"] for tenant in romanad.get("/v1/tenants")["items"]] == made


def test_unknown_things_are_answered_with_a_way_on(romanad: Romanad) -> None:
    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            with pytest.raises(NotFound, match="romana tenant add"):
                await client.put("/v1/tenants/nobody/segments/web")
            with pytest.raises(NotFound, match="lists everything"):
                await client.get("/v2/anything")
            with pytest.raises(NotFound, match="romana endpoint list"):
                await client.post("/v1/trace", {"source": "x", "destination": "10.0.0.1", "traffic": "tcp/80"})
            with pytest.raises(Invalid, match="traffic"):
                await client.post("/v1/trace", {"source": "10.0.0.2", "destination": "10.0.0.1", "traffic": "tpc/80"})

    asyncio.run(body())


def test_a_second_one_on_the_same_file_is_refused(romanad: Romanad) -> None:
    other = romanad.directory / "other.toml"
    other.write_text(romanad.config.read_text().replace("romanad.sock", "other.sock").replace(str(romanad.port), "0"))
    ended = subprocess.run([ROMANAD, "--config", str(other)], capture_output=True, timeout=15, check=False)
    assert ended.returncode == 1
    assert b"another romanad" in ended.stderr


@pytest.mark.parametrize("said", [{}, {"ROMANA_LAB_MACHINE_NETWORK": str(Path("/proc/self/ns/net").readlink())}])
def test_insecure_listening_is_refused_in_the_machines_own_network(tmp_path: Path, said: dict[str, str]) -> None:
    config = tmp_path / "romanad.toml"
    config.write_text(f'[store]\npath = "{tmp_path}/db"\n[listen]\nsocket = "{tmp_path}/s"\nport = 0\n')
    command = [ROMANAD, "--config", str(config), "--insecure-listen", "127.0.0.1:9"]
    ended = subprocess.run(command, capture_output=True, timeout=15, check=False, env={**os.environ, **said})
    assert ended.returncode == 2
    assert b"machine's own network" in ended.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("own", "first", "said", "outside"),
    [
        ("net:[2]", "net:[1]", "net:[1]", True),
        ("net:[2]", "", "net:[1]", True),
        ("net:[2]", "net:[2]", "net:[1]", False),
        ("net:[1]", "net:[2]", "net:[1]", False),
        ("net:[2]", "net:[1]", "", False),
        ("net:[2]", "", "elsewhere", False),
        ("", "net:[1]", "net:[1]", False),
    ],
    ids=["lab", "hidden-process-1", "lie", "same", "not-said", "nonsense", "unknown-own"],
)
def test_only_a_network_that_is_surely_another_one_is_outside(own: str, first: str, said: str, outside: bool) -> None:
    assert outside_own_network(own, first, said) is outside


def test_faults_in_the_configuration_are_all_named(tmp_path: Path) -> None:
    config = tmp_path / "romanad.toml"
    config.write_text('[store]\npaht = "x"\n[listen]\nport = "many"\n')
    ended = subprocess.run([ROMANAD, "--config", str(config)], capture_output=True, timeout=15, check=False)
    assert ended.returncode == 2
    assert b"store.paht" in ended.stderr
    assert b"listen.port" in ended.stderr


def test_a_named_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "none.toml"
    ended = subprocess.run([ROMANAD, "--config", config], capture_output=True, text=True, timeout=15, check=False)
    assert ended.returncode == 2
    assert f"{config}: cannot be read: No such file or directory" in ended.stderr


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    config = tmp_path / "romanad.toml"
    config.write_text("[listen]\nport = 0\n")
    environment = {**os.environ, "ROMANA_LISTEN_PORT": "no"}
    ended = subprocess.run(
        [ROMANAD, "--config", str(config)], capture_output=True, timeout=15, check=False, env=environment
    )
    assert ended.returncode == 2
    assert b"ROMANA_LISTEN_PORT" in ended.stderr


def test_version_is_printed() -> None:
    ended = subprocess.run([ROMANAD, "--version"], capture_output=True, timeout=15, check=True)
    assert ended.stdout.startswith(b"romanad 0.")


def test_an_agent_uses_fixed_addresses_by_name_and_by_address(romanad: Romanad) -> None:
    static = {"name": "vms", "cidr": "10.9.0.0/16", "static": ["10.9.128.0/17"]}
    plan = {
        "version": 1,
        "networks": [static],
        "topologies": [{"name": "t", "networks": ["vms"], "groups": [{"name": "r", "hosts": [{"name": "h1"}]}]}],
    }
    identity = Identity(owner=Owner("red", "web"), labels={"app": "db"})

    async def body() -> None:
        async with RomanadClient(f"unix://{romanad.socket}") as client:
            await client.put("/v1/topology", plan)
            epoch = (await client.hello(Hello(host="h1", instance="i"))).epoch
            await client.put("/v1/tenants/red", {})
            await client.put("/v1/tenants/red/segments/web", {})
            whose = {"tenant": "red", "segment": "web", "labels": {"app": "db"}}
            given = await client.post("/v1/addresses", {"name": "db-1", "sticky": True, **whose})
            use = AddressUse(name="db-1", host="h1", epoch=epoch, endpoint="c1/eth0", identity=identity)
            used = await client.use_addresses(use)
            assert [str(one.address) for one in used.allocations] == [one["address"] for one in given["allocations"]]
            assert (used.host, used.endpoint) == ("h1", "c1/eth0")
            other = Identity(owner=identity.owner)
            with pytest.raises(Invalid, match="was given to red/web"):
                await client.use_addresses(msgspec.structs.replace(use, identity=other))
            with pytest.raises(Conflict, match="the request is of epoch 2"):
                await client.use_addresses(msgspec.structs.replace(use, epoch=epoch + 1))
            exact = msgspec.structs.replace(
                use, name="endpoint-1", endpoint="c2/eth0", addresses=(parse_address("10.9.200.1"),)
            )
            more = await client.use_addresses(exact)
            assert await client.use_addresses(exact) == more
            with pytest.raises(Conflict, match="the agent of host h1 has address db-1 for c1/eth0"):
                await client.delete("/v1/addresses/db-1/use")
            over = tuple(
                Released(endpoint=one.endpoint, sequences={held.address: held.sequence for held in one.allocations})
                for one in (used, more)
            )
            await client.publish(Publication(host="h1", epoch=epoch, number=1, released=over))
            assert [(one["name"], one["host"]) for one in await client.items("/v1/addresses")] == [("db-1", "")]

    asyncio.run(body())
