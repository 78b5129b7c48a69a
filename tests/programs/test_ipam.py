"""`romana ipam` by its front door: a real romanad, and an agent of a few lines behind its own connection."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from romana.adapters.romanad import RomanadClient
from romana.apps.cli.failure import ExitStatus
from romana.codec.text import parse_address
from romana.core.ipam.findings import uses_of
from romana.core.view import apply_change
from romana.model.address import Address
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation
from romana.model.report import BlockState, Observation
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Hello, Publication, View
from tests.probes.programs import Romana, romanad

PLAN = """\
version: 1
networks:
  - {name: pods4, cidr: 10.112.0.0/12, block_length: 29, span_length: 24, mixed: 0, reserved: [10.112.0.0/30]}
  - {name: pods6, cidr: "fd00:10:110::/44", block_length: 122, span_length: 117, mixed: 0}
topologies:
  - name: datacentre
    networks: [pods4, pods6]
    groups:
      - {name: rack1, hosts: [h11, h12]}
      - {name: rack2, hosts: [h21]}
"""
WEB = Identity(owner=Owner("blue", "web"))


class Agent:
    """Host h11: two endpoints, and answers to audits, on a thread of its own."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.endpoints: dict[str, Endpoint] = {}
        self.strays: dict[Address, str] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._work(),))

    def __enter__(self) -> Agent:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(30)
        self._loop.close()

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _work(self) -> None:
        try:
            async with RomanadClient(self.server) as client:
                await self._live(client)
        except asyncio.CancelledError:
            pass

    async def _live(self, client: RomanadClient) -> None:
        await client.put("/v1/topology", PLAN)
        await client.put("/v1/tenants/blue", {})
        await client.put("/v1/tenants/blue/segments/web", {})
        epoch = (await client.hello(Hello(host="h11", instance="one", addresses=(parse_address("192.168.1.1"),)))).epoch
        answer = await client.claim(Claim(host="h11", epoch=epoch, identity=WEB))
        for number in (4, 5):
            name = f"c{number}/eth0"
            held = tuple(
                Allocation(address=block.address(number), block=block, endpoint=name, sequence=number)
                for block in answer.blocks
            )
            self.endpoints[name] = Endpoint(
                id=name, name=f"web-{number}", host="h11", identity=WEB, allocations=held, link=f"rom{number}"
            )
        started = tuple(self.endpoints.values())
        await client.publish(Publication(host="h11", epoch=epoch, number=1, started=started))
        view = View()
        answered = 0
        async for change in client.view("h11"):
            view = apply_change(view, change)
            if view.audit != answered:
                await client.observe(self._observation(view, epoch))
                answered = view.audit
            self._ready.set()

    def _observation(self, view: View, epoch: int) -> Observation:
        return Observation(
            host="h11",
            epoch=epoch,
            number=view.audit,
            incarnation=view.incarnation,
            revision=view.revision,
            endpoints={name: uses_of(one.allocations) for name, one in self.endpoints.items()},
            blocks={
                cidr: BlockState(
                    sequence=one.sequence, owner=one.owner, mixed=one.mixed, resting=int(one.owner is not None)
                )
                for cidr, one in view.blocks.items()
            },
            strays=self.strays,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Romana, Agent]]:
    directory = tmp_path_factory.mktemp("romanad")
    with romanad(directory, ROMANA_HOSTS_CHECK_SECONDS="1") as server, Agent(server) as agent:
        yield Romana(server, directory / "compiled"), agent


def test_a_sound_network_is_checked_and_shown(site: tuple[Romana, Agent]) -> None:
    romana, _ = site
    done = romana.run("ipam", "check", stdin="", expect=0)
    assert (done.stdout, done.stderr) == ("", "nothing found; 1 agents answered\n")
    report = romana.json("ipam", "check")
    assert (report["findings"], report["unreachable"], report["observed"]) == ([], [], 1)
    lines = romana("ipam", "show").splitlines()
    assert lines[0].split() == [
        *("NETWORK", "CIDR", "USED", "RESTING", "WITHHELD", "IDLE", "STOCK", "SPARE", "SPANS", "BLOCKS", "SHARE")
    ]
    rows = {tuple(line.split()[:2]): line.split()[2:-1] for line in lines[1:]}
    assert rows["pods4", "10.112.0.0/12"][:2] == ["2", "1"]
    assert rows["rack1", "10.112.0.0/13"][:2] == ["2", "1"]
    assert rows["h11", "-"][-2:] == ["1", "1+0+2"]
    assert len({len(line) for line in lines[1:]}) == 1
    assert "\x1b" not in "".join(lines)
    (network,) = romana.json("ipam", "show", "--network", "pods6", "--depth", "1")
    assert (network["used"], [part["parts"] for part in network["parts"]]) == (2, [[], []])
    assert sum(part["spare"] for part in network["parts"]) == network["spare"] > 2**83
    (only,) = yaml.safe_load(romana("ipam", "show", "--network", "pods4", "--host", "h11", "-o", "yaml"))
    (group,) = only["parts"]
    assert [host["name"] for host in group["parts"]] == ["h11"]
    assert "no network 'pods7'" in romana.fails("ipam", "show", "--network", "pods7", status=ExitStatus.NOT_FOUND)
    assert "no host 'h99'" in romana.fails("ipam", "show", "--host", "h99", status=ExitStatus.NOT_FOUND)


def test_what_is_found_is_confirmed_and_repaired_and_then_gone(site: tuple[Romana, Agent], tmp_path: Path) -> None:
    romana, agent = site
    address = agent.endpoints.pop("c5/eth0").addresses[0]
    agent.strays = {parse_address("10.112.0.99"): "romstray"}
    once = romana("ipam", "check", expect=ExitStatus.FAILED)
    assert [line.split()[:2] for line in once.splitlines()[1:]] == [
        ["leaked", f"{address}/32"],
        ["unallocated-in-use", "10.112.0.99/32"],
    ]
    confirmed = romana.run("ipam", "check", "--confirm", "--json", stdin="", expect=ExitStatus.FAILED)
    assert "looking again in 1 s" in confirmed.stderr
    report: dict[str, Any] = json.loads(confirmed.stdout)
    assert sorted(report) == ["audit", "findings", "incarnation", "observed", "patience", "revision", "unreachable"]
    leak, stray = report["findings"]
    assert sorted(leak) == [
        *("actionable", "cidr", "endpoint", "host", "kind", "link", "observed", "seconds", "sentence", "sequence")
    ]
    assert (leak["endpoint"], leak["sequence"], leak["actionable"], leak["seconds"] >= 1) == ("c5/eth0", 5, True, True)
    assert (stray["link"], stray["host"], stray["actionable"]) == ("romstray", "h11", True)
    file = tmp_path / "report.json"
    file.write_text(confirmed.stdout)
    planned = romana("ipam", "repair", "--from", str(file), "--dry-run", expect=ExitStatus.FAILED)
    assert [line.split()[3] for line in planned.splitlines()[1:]] == ["yes", "no"]
    assert romana.json("endpoint", "show", "web-5")["id"] == "c5/eth0"
    done = romana("ipam", "repair", "--from", str(file), "--cut")
    assert [line.split()[3] for line in done.splitlines()[1:]] == ["yes", "yes"]
    agent.strays = {}
    assert romana.json("ipam", "check")["findings"] == []
    again = romana("ipam", "repair", "--from", "-", stdin=confirmed.stdout, expect=ExitStatus.FAILED)
    assert again.count("it is no longer so") == 2
    other = json.dumps({**report, "incarnation": "another"})
    told = romana.fails("ipam", "repair", "--from", "-", stdin=other, status=ExitStatus.CONFLICT)
    assert "check again" in told
    told = romana.fails(
        "ipam", "repair", "--from", "-", stdin='{"findings": [{"kind": "x"}]}', status=ExitStatus.INVALID
    )
    assert "report.findings[0].kind" in told
    assert "report.incarnation" in told


def test_a_host_that_does_not_answer_is_named_and_is_no_finding(site: tuple[Romana, Agent]) -> None:
    romana, _ = site

    async def join() -> None:
        async with RomanadClient(romana.environment["ROMANA_SERVER"]) as client:
            await client.hello(Hello(host="h12", instance="two", addresses=(parse_address("192.168.1.2"),)))

    asyncio.run(join())
    done = romana.run("ipam", "check", "--wait", "0.3", stdin="", expect=0)
    assert "did not answer: h12" in done.stderr
