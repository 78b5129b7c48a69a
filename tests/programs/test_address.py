"""Fixed addresses by their front doors: REST, the command line, and what a watcher is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from romana.adapters.romanad import RomanadClient
from romana.apps.cli.failure import ExitStatus
from romana.codec.json import decode, encode
from romana.model.endpoint import Endpoint
from romana.model.ipam import Reservation
from romana.model.view import Hello, Publication
from tests.probes.programs import Romana, romanad

PLAN = """\
version: 1
networks:
  - {name: pods, cidr: 10.0.0.0/16, static: [10.0.255.0/28]}
topologies:
  - {name: site, networks: [pods], groups: [{name: all, hosts: [h1]}]}
"""


@pytest.fixture
def romana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Romana]:
    """A romanad with a plan and a tenant."""
    directory = tmp_path_factory.mktemp("romanad")
    with romanad(directory) as server:
        asyncio.run(_fill(server))
        yield Romana(server, directory / "compiled")


async def _fill(server: str) -> None:
    async with RomanadClient(server) as client:
        await client.put("/v1/topology", PLAN)
        await client.put("/v1/tenants/blue", {})
        await client.put("/v1/tenants/blue/segments/web", {})
        await client.put("/v1/hosts/h1", {})


def test_an_address_is_given_used_and_taken_back(romana: Romana) -> None:
    owner = ("--tenant", "blue", "--segment", "web")
    assert "10.0.255.0" in romana("address", "add", "vm1", *owner, "--sticky")
    assert "10.0.255.9" in romana("address", "add", "vm2", *owner, "--address", "10.0.255.9", "-l", "app=db")
    assert "10.0.0.9" in romana.fails(
        "address", "add", "vm3", *owner, "--address", "10.0.0.9", status=ExitStatus.INVALID
    )
    romana("address", "use", "vm1", "--host", "h1", "--endpoint", "vm1/eth0")
    assert [one["name"] for one in romana.json("address", "list", "--host", "h1")] == ["vm1"]
    assert [one["name"] for one in romana.json("address", "list")] == ["vm1", "vm2"]
    assert "end that use first" in romana.fails("address", "remove", "vm1", status=ExitStatus.CONFLICT)
    romana("address", "end", "vm1")
    assert romana.json("address", "show", "vm1")["host"] == ""
    romana("address", "remove", "vm1")
    assert "fixed addresses, such as vm2" in romana.fails("tenant", "remove", "blue", status=ExitStatus.CONFLICT)


def test_a_watcher_gets_endpoints_as_json_whatever_they_are_stored_as(romana: Romana) -> None:
    async def body() -> None:
        async with RomanadClient(romana.environment["ROMANA_SERVER"]) as client:
            welcome = await client.hello(Hello(host="h1", instance="one"))
            asked = {"name": "vm1", "tenant": "blue", "segment": "web", "host": "h1", "endpoint": "vm1/eth0"}
            given = decode(encode(await client.post("/v1/addresses", asked)), Reservation)
            endpoint = Endpoint(
                id="vm1/eth0", name="vm", host="h1", identity=given.identity, allocations=given.allocations, link="rom0"
            )
            before = (await client.get("/healthz"))["revision"]
            await client.publish(Publication(host="h1", epoch=welcome.epoch, number=1, started=(endpoint,)))
            async for line in client.watch(f"/v1/watch?from={before}"):
                event = json.loads(line)
                if event["key"].startswith("endpoint/"):
                    assert decode(json.dumps(event["value"]["value"]), Endpoint) == endpoint
                    break
            assert decode(encode(await client.get("/v1/endpoints/vm1/eth0")), Endpoint) == endpoint
            for query in ("host=h1", "tenant=blue", "tenant=blue&segment=web&host=h1", ""):
                found = await client.get(f"/v1/endpoints?{query}")
                assert [one["id"] for one in found["items"]] == ["vm1/eth0"], query
            assert not (await client.get("/v1/endpoints?host=h2"))["items"]

    asyncio.run(body())
