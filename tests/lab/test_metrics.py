"""Monitoring of a running data centre, as Prometheus would read it."""

from __future__ import annotations

import sys

from prometheus_client.parser import text_string_to_metric_families

from romana.apps.lab import api
from romana.apps.lab.nodes import run
from romana.apps.lab.waiting import wait
from tests.lab.conftest import Centre

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]
FETCH = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


def fetch(centre: Centre, node: str, url: str) -> str:
    return run(centre.record.process(node), [sys.executable, "-c", FETCH, url])


def scraped(centre: Centre, node: str, url: str) -> Numbers:
    families = text_string_to_metric_families(fetch(centre, node, f"{url}/metrics"))
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"romana_{name}", frozenset(labels.items())


def test_romanad_counts_routes_hosts_and_sessions(centre: Centre) -> None:
    expected = sum(len(one["state"]["sessions"]) for one in api.get(centre.record, "/v1/routes/peers"))

    def missing() -> list[str]:
        up = scraped(centre, "ctl", centre.record.api).get(labelled("sessions", up="yes"), 0)
        return [f"{expected - up:.0f} of {expected}"] if up < expected else []

    wait("sessions to be up", missing, seconds=20)
    found = scraped(centre, "ctl", centre.record.api)
    assert found[labelled("hosts", state="connected")] == 4
    assert found[labelled("endpoints")] == len(centre.pods)
    assert found[labelled("device_routes", device="spine", reach="below")] == 4
    assert found[labelled("device_routes", device="tor1", reach="above")] == 2
    assert found[labelled("route_exceptions")] == 0
    assert found[labelled("sessions", up="no")] == 0
    assert found["process_resident_memory_bytes", frozenset()] > 1 << 20


def test_agents_of_hosts_and_routers_tell_their_own(centre: Centre) -> None:
    local = "http://127.0.0.1:9604"
    host, router = scraped(centre, "h11", local), scraped(centre, "tor1", local)
    here = sum(pod.endpoint.host == "h11" for pod in centre.pods)
    assert host[labelled("endpoints")] == here
    assert host[labelled("routes", reach="endpoints")] == 2 * here
    assert host[labelled("cni_requests_total", verb="ADD", result="done")] >= here
    assert router[labelled("routes", reach="below")] == 4
    assert router[labelled("turned_packets_total")] == 0
    for numbers in (host, router):
        assert numbers[labelled("ready")] == 1
        sessions = [value for (name, _), value in numbers.items() if name == "romana_session_up"]
        assert sessions
        assert all(sessions)
    assert fetch(centre, "h11", f"{local}/readyz") == "ready\n"
