"""The lease of a real host: its endpoints are cut off when nobody renews it, the agent being dead or alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.probes.agenthost import AgentHost, wait

LEASE = 3


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentHost]:
    monkeypatch.setenv("ROMANA_HOSTS_LEASE_SECONDS", str(LEASE))
    monkeypatch.setenv("ROMANA_ROMANAD_BEAT_SECONDS", "0.5")
    one = AgentHost(tmp_path, "l")
    try:
        yield one.open()
    finally:
        one.close()


def test_endpoints_are_cut_off_when_the_agent_is_dead_or_alone_and_come_back(host: AgentHost) -> None:
    host.add_pod("one")
    two = host.add_pod("two")
    wait(lambda: host.endpoints() == ["one", "two"], "published")
    wait(lambda: host.reaches("one", two[0]), "the pods reach each other")
    host.stop_agent()
    wait(lambda: not host.reaches("one", two[0]), "a dead agent's endpoints are cut off")
    host.start_agent()
    wait(lambda: host.reaches("one", two[0]), "they are back")
    host.kill_romanad()
    wait(lambda: not host.reaches("one", two[0]), "a lonely agent's endpoints are cut off")
    host.add_space("three")
    refused = host.cni("ADD", "three")
    assert refused.code == 11
    assert "could not renew its lease at romanad" in refused.body["msg"]
    host.start_romanad()
    wait(lambda: host.reaches("one", two[0]), "they are back")
    assert host.cni("ADD", "three").status == 0
