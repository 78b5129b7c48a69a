from __future__ import annotations

import io

import pytest
from rich.console import Console

from romana.apps.lab.expected import expected
from romana.apps.lab.file import LabEndpoint, LabTenant
from romana.apps.lab.matrix import EVERYTHING, NOTHING, TCP_ONLY, Matrix, differences, table
from romana.apps.lab.pods import Pod
from romana.codec.policy import read_policies
from romana.codec.text import parse_address
from romana.model.tenancy import Isolation


def pod(name: str, number: int) -> Pod:
    tenant, segment, _ = name.split("-")
    endpoint = LabEndpoint(name=name, host="h1", tenant=tenant, segment=segment, labels={"app": segment})
    return Pod(endpoint=endpoint, addresses=(parse_address(f"10.0.0.{number}"), parse_address(f"fd00::{number}")))


PODS = [pod(name, number) for number, name in enumerate(("blue-web-1", "blue-db-1", "blue-db-2", "green-api-1"), 1)]
TENANTS = [LabTenant(name="blue", segments=("web", "db")), LabTenant(name="green", segments=("api",))]
NATIVE = {
    "version": 1,
    "kind": "policy",
    "id": "p",
    "applies_to": [{"tenant": "blue", "segment": "db"}],
    "ingress": [{"from": [{"tenant": "blue", "segment": "web"}], "ports": ["tcp/8080"]}],
}


def test_without_policy_a_tenant_is_whole_and_apart() -> None:
    reached = expected(PODS, TENANTS, [])
    assert reached("blue-web-1", "blue-db-1") == EVERYTHING
    assert reached("blue-web-1", "green-api-1") == reached("green-api-1", "blue-web-1") == NOTHING


@pytest.mark.parametrize(
    ("isolation", "from_web", "from_green"),
    [(Isolation.SEGMENT, NOTHING, NOTHING), (Isolation.NONE, EVERYTHING, EVERYTHING)],
)
def test_isolation_is_the_receivers(isolation: Isolation, from_web: object, from_green: object) -> None:
    blue = LabTenant(name="blue", segments=("web", "db"), isolation=isolation)
    reached = expected(PODS, [blue, TENANTS[1]], [])
    assert reached("blue-db-2", "blue-db-1") == EVERYTHING
    assert reached("blue-web-1", "blue-db-1") == from_web
    assert reached("green-api-1", "blue-db-1") == from_green
    assert reached("blue-db-1", "green-api-1") == NOTHING


def test_a_policy_leaves_what_it_says() -> None:
    reached = expected(PODS, TENANTS, read_policies(NATIVE))
    assert reached("blue-web-1", "blue-db-1") == TCP_ONLY
    assert reached("blue-db-2", "blue-db-1") == NOTHING
    assert reached("blue-db-1", "blue-web-1") == EVERYTHING


def test_a_cidr_is_of_one_family_and_egress_binds_the_sender() -> None:
    rule = {"to": [{"cidr": "10.0.0.0/24", "except": ["10.0.0.3/32"]}], "ports": ["icmp"]}
    document = {**NATIVE, "applies_to": [{"labels": {"app": "web"}}], "egress": [rule]}
    del document["ingress"]
    reached = expected(PODS, TENANTS, read_policies(document))
    assert reached("blue-web-1", "blue-db-1") == {(4, "icmp")}
    assert reached("blue-web-1", "blue-db-2") == NOTHING


def test_differences_name_both_directions_of_wrong() -> None:
    matrix: Matrix = {("a", "b"): frozenset({(4, "tcp")}), ("b", "a"): NOTHING}
    wanted = {("a", "b"): NOTHING, ("b", "a"): frozenset({(6, "icmp")})}
    assert differences(matrix, lambda source, destination: wanted[source, destination]) == [
        "a reached b by tcp over IPv4",
        "b did not reach a by icmp over IPv6",
    ]


def test_the_table_marks_what_is_not_expected() -> None:
    reached = expected(PODS, TENANTS, [])
    matrix: Matrix = {
        (one.name, other.name): reached(one.name, other.name) for one in PODS for other in PODS if one is not other
    }
    matrix["blue-web-1", "green-api-1"] = frozenset({(4, "tcp")})
    output = io.StringIO()
    Console(file=output, width=80).print(table(matrix, PODS, reached))
    lines = [line.split() for line in output.getvalue().splitlines()]
    assert lines[0] == ["from", "\\", "to", "b.w1", "b.d1", "b.d2", "g.a1"]
    assert ["blue-web-1", "(h1)", "-", "TUI", "TUI", "t..!"] in lines
    assert ["green-api-1", "(h1)", "...", "...", "...", "-"] in lines
