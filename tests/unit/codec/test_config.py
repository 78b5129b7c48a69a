"""A configuration tells all its faults at once: of form, of the environment, and of what it means."""

from __future__ import annotations

import pytest

from romana.apps.agent.config import AgentConfig, check_config
from romana.apps.aws import config as aws
from romana.apps.server import storing
from romana.apps.server.config import ServerConfig
from romana.codec.config import load
from romana.model.errors import Invalid


def aws_faults(text: str, environment: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        load(aws.AwsConfig, text, environment or {}, aws.check, aws.DEPENDS)
    return {fault.path: fault.sentence for fault in caught.value.faults}


def agent_faults(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        load(AgentConfig, text, {}, check_config)
    return [fault.path for fault in caught.value.faults]


def server_faults(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        load(ServerConfig, text, {}, storing.check_config, storing.DEPENDS)
    return [fault.path for fault in caught.value.faults]


def test_a_fault_of_form_hides_none_of_meaning() -> None:
    assert aws_faults('[aws]\nregion = 5\n[health]\nprobes = 0\n[log]\nlevel = "loud"\nformat = "xml"\nlevl = 1\n') == {
        "aws.region": "expected text, got int 5",
        "log.levl": "unknown field; did you mean `level`?",
        "aws.tables": "name route tables here, or by tags in aws.table_tags",
        "health.probes": "must be more than 0, got 0",
        "log.level": "'loud' is not one of debug, info, warning, error",
        "log.format": "'xml' is not one of json, text, auto",
    }


def test_numbers_of_romanad_have_a_range() -> None:
    hosts = (
        "lease_seconds = 0\nrest_seconds = -1\nround_seconds = nan\ncheck_seconds = -1\nempty_seconds = 99999999999\n"
    )
    assert set(server_faults(f"[listen]\nport = 70000\n[hosts]\n{hosts}heard_seconds = 0\n")) == {
        "listen.port",
        "hosts.lease_seconds",
        "hosts.rest_seconds",
        "hosts.round_seconds",
        "hosts.check_seconds",
        "hosts.empty_seconds",
        "hosts.heard_seconds",
    }


def test_what_was_not_read_is_not_said_to_be_missing() -> None:
    assert list(aws_faults("[aws]\ntables = 5\n")) == ["aws.tables"]
    assert list(aws_faults("[aws]\ntable_tags = 5\n")) == ["aws.table_tags"]
    assert list(aws_faults("aws = 5\n")) == ["aws"]


def test_places_are_those_of_the_file() -> None:
    assert list(aws_faults('[aws]\ntables = [5, "rtb-1", "vpc-1"]\n')) == ["aws.tables[0]", "aws.tables[2]"]


def test_a_variable_that_is_no_toml_hides_nothing() -> None:
    environment = {"ROMANA_AWS_TABLES": "rtb-1", "ROMANA_HEALTH_PROBES": "three", "ROMANA_AWS_ROUTES_PER_TABLE": "0"}
    assert set(aws_faults("", environment)) == {"ROMANA_AWS_TABLES", "ROMANA_HEALTH_PROBES", "aws.routes_per_table"}


def test_the_agents_faults_come_at_once() -> None:
    text = '[agent]\nmode = "switch"\nmtu = "x"\n[host]\nfailsafe_in = [5, "ssh"]\n[log]\nlevel = "loud"\n'
    assert agent_faults(text) == ["agent.mtu", "host.failsafe_in[0]", "agent.mode", "host.failsafe_in[1]", "log.level"]


def test_romanads_faults_come_at_once() -> None:
    assert server_faults('[listen]\nport = "x"\n[store]\nkind = "etcd"\n[log]\nformat = "xml"\n') == [
        "listen.port",
        "log.format",
        "etcd.endpoints",
    ]
    assert server_faults('[store]\nkind = 5\n[etcd]\nendpoints = ["a:1"]\n') == ["store.kind"]


def test_without_faults_it_is_a_value() -> None:
    found = load(aws.AwsConfig, '[aws]\ntables = ["rtb-1"]\n', {"ROMANA_HEALTH_PROBES": "7"}, aws.check, aws.DEPENDS)
    assert (found.aws.tables, found.health.probes) == (("rtb-1",), 7)
