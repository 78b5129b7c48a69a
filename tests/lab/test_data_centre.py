"""What the demo shows, in parts: each test leaves the data centre as it found it."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from urllib.parse import quote

import msgspec
import pytest

from romana.apps.lab import api, build, planned, programs
from romana.apps.lab.expected import expected
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.matrix import EVERYTHING, NOTHING, differences
from romana.apps.lab.nodes import end
from romana.apps.lab.observe import Capture, ruleset_size
from romana.apps.lab.pods import Pod, add_pod, add_pods, pods_on, remove_pod
from romana.apps.lab.waiting import wait
from romana.codec.policy import read_policies
from romana.model.errors import Unavailable
from tests.lab.conftest import Centre


@pytest.fixture
def policies(centre: Centre) -> Iterator[None]:
    build.make_policies(centre.record, centre.lab, print)
    yield
    for policy in api.items(centre.record, "/v1/policies"):
        api.delete(centre.record, f"/v1/policies/{quote(policy['id'], safe='')}")
    settle(centre, [])


def settle(centre: Centre, documents: list[object]) -> None:
    """Wait until the matrix is what these policies say."""
    wanted = expected(centre.pods, centre.lab.file.tenants, [one for doc in documents for one in read_policies(doc)])
    wait("matrix", lambda: differences(centre.probers.matrix(), wanted)[:5], seconds=10)


def plan_differences(centre: Centre) -> list[str]:
    plans = planned.device_plans(centre.record, centre.fabric, centre.lab.plan)
    return planned.differences(plans, planned.all_routes(centre.record, centre.fabric, centre.networks))


def like(pod: Pod, name: str) -> LabEndpoint:
    return msgspec.structs.replace(pod.endpoint, name=name)


def test_every_kernel_holds_the_routes_of_the_plan(centre: Centre) -> None:
    wait("routes", lambda: plan_differences(centre), seconds=5)
    held = planned.all_routes(centre.record, centre.fabric, centre.networks)
    assert len(held["spine"].learned) == 4
    for host in centre.fabric.roles("host"):
        mine = [pod for pod in centre.pods if pod.endpoint.host == host.name]
        assert held[host.name].endpoints == {address for pod in mine for address in pod.addresses}


def test_a_tenant_is_whole_and_apart(centre: Centre) -> None:
    matrix = centre.probers.matrix()
    assert differences(matrix, expected(centre.pods, centre.lab.file.tenants, [])) == []
    assert {EVERYTHING, NOTHING} == set(matrix.values())


@pytest.mark.usefixtures("policies")
def test_policies_leave_what_they_say(centre: Centre) -> None:
    settle(centre, [document for _, document in centre.lab.policies])
    trace = {"source": "blue-web-1", "destination": "blue-db-2", "traffic": "tcp/8080"}
    assert api.post(centre.record, "/v1/trace", trace)["trace"]["verdict"] is True
    assert api.post(centre.record, "/v1/trace", trace | {"traffic": "udp/8080"})["trace"]["verdict"] is False


def test_more_endpoints_change_no_route_above_and_no_rule(centre: Centre) -> None:
    hosts = [host.name for host in centre.fabric.roles("host")]
    before = planned.all_routes(centre.record, centre.fabric, centre.networks)
    rules = {host: ruleset_size(centre.record, host).rules for host in hosts}
    added = add_pods(centre.record, [like(pod, f"more-{number}") for number, pod in enumerate(centre.pods)])
    try:
        after = planned.all_routes(centre.record, centre.fabric, centre.networks)
        assert {name: after[name] for name in ("spine", "tor1", "tor2")} == {
            name: before[name] for name in ("spine", "tor1", "tor2")
        }
        assert {host: ruleset_size(centre.record, host).rules for host in hosts} == rules
        assert plan_differences(centre) == []
    finally:
        for pod in added:
            remove_pod(centre.record, pod.endpoint.host, pod.name)
    assert planned.all_routes(centre.record, centre.fabric, centre.networks) == before
    assert [name for host in hosts for name in pods_on(centre.record, host) if name.startswith("more")] == []


def test_packets_are_the_endpoints_own(centre: Centre) -> None:
    with Capture(centre.record, "tor1", "to-spine") as capture:
        centre.probers.matrix()
    own = {address for pod in centre.pods for address in pod.addresses}
    frames = capture.frames()
    assert {frame.source.family for frame in frames} == {4, 6}
    assert [frame.line for frame in frames if not {frame.source, frame.destination} <= own] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_an_agents_restart_loses_no_packet(centre: Centre, number: int) -> None:
    source, destination = stream_ends(centre)
    stop = centre.probers.stream(source.name, destination.addresses[-1].text)
    centre.record = programs.restart_agent(centre.record, destination.endpoint.host, number)
    result = stop()
    assert result["pings"] > 10
    assert result["bytes"] > 0
    assert (result["pings_lost"], result["bytes_lost"], result["retransmits"]) == (0, 0, 0)


def stream_ends(centre: Centre) -> tuple[Pod, Pod]:
    return next(
        (one, other)
        for one, other in itertools.permutations(centre.pods, 2)
        if one.endpoint.tenant == other.endpoint.tenant and one.endpoint.host != other.endpoint.host
    )


def test_pods_start_while_romanad_is_away(centre: Centre) -> None:
    known = centre.pods[0]
    end([centre.record.programs["ctl/romanad"]], signal.SIGKILL)
    try:
        pod = add_pod(centre.record, like(known, "away-1"))
        with pytest.raises(Unavailable, match="code 11"):
            add_pod(centre.record, msgspec.structs.replace(like(known, "away-2"), labels={"app": "never-seen"}))
        assert "away-2" not in pods_on(centre.record, known.endpoint.host)
    finally:
        centre.record = programs.start_romanad(centre.record, centre.fabric)
    wait("publication", lambda: [] if published(centre, pod) else ["away-1"], seconds=30)
    remove_pod(centre.record, known.endpoint.host, "away-1")
    wait("release", lambda: ["away-1"] if published(centre, pod) else [], seconds=30)


def published(centre: Centre, pod: Pod) -> bool:
    endpoints = api.items(centre.record, "/v1/endpoints")
    addresses = {one["address"] for endpoint in endpoints for one in endpoint["allocations"]}
    return {address.text for address in pod.addresses} <= addresses


def test_romanad_answers_again_after_it_was_killed(centre: Centre) -> None:
    before = {endpoint["id"] for endpoint in api.items(centre.record, "/v1/endpoints")}
    end([centre.record.programs["ctl/romanad"]], signal.SIGKILL)
    centre.record = programs.start_romanad(centre.record, centre.fabric)
    assert {endpoint["id"] for endpoint in api.items(centre.record, "/v1/endpoints")} == before
    started = time.monotonic()
    programs.wait_for_agents(centre.record)
    assert time.monotonic() - started < programs.SECONDS
