"""What is wrong with an agent's configuration is said at once, each fault with its place."""

from __future__ import annotations

import pytest

from romana.apps.agent.config import AgentConfig, AgentSection, BirdSection, MetricsSection, check_config
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
