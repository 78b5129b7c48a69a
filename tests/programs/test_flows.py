"""`romana flow` and what is behind it: the kernel tells, the agent explains, romanad names, the command shows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from romana.adapters.romanad import RomanadClient
from tests.probes.agenthost import AgentHost, wait

ROMANA = str(Path(sys.executable).parent / "romana")
STAGED = {
    "version": 1,
    "kind": "policy",
    "id": "web-closed",
    "staged": True,
    "applies_to": [{"tenant": "red", "segment": "web"}],
    "ingress": [],
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHost]:
    one = AgentHost(tmp_path_factory.mktemp("flows"), "f")
    try:
        yield one.open()
    finally:
        one.close()


@pytest.fixture(scope="module")
def pods(host: AgentHost) -> dict[str, list[str]]:
    owners = {"one": "red/web", "two": "red/web", "other": "blue/web"}
    return {name: host.add_pod(name, owner) for name, owner in owners.items()}


def shown(host: AgentHost, *options: str) -> subprocess.CompletedProcess[str]:
    command = [ROMANA, "flow", "--seconds", "1", *options, "--server", f"unix://{host.directory}/romanad.sock"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def flows(host: AgentHost, *options: str) -> list[dict[str, Any]]:
    ran = shown(host, "--json", *options)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def post(host: AgentHost, path: str, body: object) -> None:
    async def ask() -> None:
        async with RomanadClient(f"unix://{host.directory}/romanad.sock") as client:
            await client.post(path, body)

    asyncio.run(ask())


def test_a_denied_connection_is_shown_with_names_and_the_reason(host: AgentHost, pods: dict[str, list[str]]) -> None:
    there = pods["other"][0]
    assert not host.reaches("one", there)
    found = [one for one in flows(host, "--denied") if one["packet"]["destination"] == there]
    assert [(one["reason"], one["source_name"], one["destination_name"]) for one in found] == [
        ("ingress", "one", "other")
    ]
    assert "tenant blue" in found[0]["policies"]
    text = shown(host, "--denied").stdout
    assert f"one ({pods['one'][0]}) -> other ({there})  icmp/8" in text
    assert "is accepted: drop" in text
    assert flows(host, "--staged") == []


def test_new_flows_are_followed(host: AgentHost, pods: dict[str, list[str]]) -> None:
    command = [ROMANA, "flow", "--follow", "--json", "--server", f"unix://{host.directory}/romanad.sock"]
    there = pods["other"][1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            following.stdout.readline()  # what is remembered
            assert not host.reaches("two", there)
            for line in following.stdout:
                if json.loads(line)["packet"]["destination"] == there:
                    break
        finally:
            following.kill()


def test_what_a_staged_policy_would_deny_is_shown_and_passes(host: AgentHost, pods: dict[str, list[str]]) -> None:
    post(host, "/v1/policies", STAGED)

    def told() -> bool:
        assert host.reaches("one", pods["two"][0])
        return any(one["packet"]["destination"] == pods["two"][0] for one in flows(host, "--staged"))

    wait(told, "nothing was told of")
    (found,) = flows(host, "--staged")
    assert found["reason"] == "would-deny"
    assert found["accepts"] == "accept"
    assert not [one for one in flows(host, "--denied") if one["packet"]["destination"] == pods["two"][0]]


def test_a_host_that_does_not_tell_is_named(host: AgentHost) -> None:
    ran = shown(host, "--host", "h9")
    assert ran.returncode == 0
    assert "agent of h9 is not connected" in ran.stderr
    assert shown(host, "--denied", "--staged").returncode == 2


def test_the_agent_itself_shows_them(host: AgentHost) -> None:
    command = [ROMANA + "-agent", "--config", f"{host.directory}/agent.toml", "flows"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said["number"] >= len(said["flows"]) > 0
