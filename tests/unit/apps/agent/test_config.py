"""What is wrong with an agent's configuration is said at once, each fault with its place."""

from __future__ import annotations

import pytest

from romana.apps.agent.config import (
    AgentConfig,
    AgentSection,
    BirdSection,
    CniSection,
    HostSection,
    MetricsSection,
    RomanadSection,
    check_config,
)
from romana.model.errors import Invalid


def test_every_fault_is_told_at_once() -> None:
    wrong = AgentConfig(
        agent=AgentSection(mode="switch", addresses=["192.0.2.1", "nowhere"]),
        bird=BirdSection(write="template"),
        metrics=MetricsSection(listen="9604"),
    )
    with pytest.raises(Invalid) as caught:
        check_config(wrong)
    assert [fault.path for fault in caught.value.faults] == [
        "agent.mode",
        "agent.addresses[1]",
        "metrics.listen",
        "bird.templates",
    ]


@pytest.mark.parametrize("listen", ["", "127.0.0.1:9604", "[::1]:9604", "0.0.0.0:1"])
def test_monitoring_is_answered_at_an_address_or_nowhere(listen: str) -> None:
    check_config(AgentConfig(metrics=MetricsSection(listen=listen)))


@pytest.mark.parametrize(
    "listen", ["localhost:9604", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", ":9604"]
)
def test_anything_else_is_refused(listen: str) -> None:
    with pytest.raises(Invalid, match="address:port"):
        check_config(AgentConfig(metrics=MetricsSection(listen=listen)))


def test_numbers_and_ports_that_make_no_sense_are_refused_before_anything_is_begun() -> None:
    check_config(AgentConfig())
    wrong = AgentConfig(
        agent=AgentSection(mtu=-1, rest_seconds=-5, give_back_seconds=-1, round_seconds=0),
        romanad=RomanadSection(wait_seconds=-1, beat_seconds=0),
        cni=CniSection(gc_seconds=-1),
        bird=BirdSection(asn=0),
        host=HostSection(failsafe_in=("tcp/22", "tcp/99999"), failsafe_out=("ssh",)),
    )
    with pytest.raises(Invalid) as caught:
        check_config(wrong)
    assert {fault.path for fault in caught.value.faults} == {
        "agent.mtu",
        "agent.rest_seconds",
        "agent.give_back_seconds",
        "agent.round_seconds",
        "romanad.wait_seconds",
        "romanad.beat_seconds",
        "cni.gc_seconds",
        "bird.asn",
        "host.failsafe_in[1]",
        "host.failsafe_out[0]",
    }
    with pytest.raises(Invalid, match="IPv6 needs"):
        check_config(AgentConfig(agent=AgentSection(mtu=1000)))
