"""One layer 2 segment of four hosts, without a daemon: agents reach one another's spans by routes of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from romana.apps.lab import api
from romana.apps.lab.nodes import end
from romana.apps.lab.pods import remove_pod
from romana.apps.lab.waiting import wait
from tests.lab.sites import Site, add, having, site, suffered

HOSTS = ["h1", "h2", "h3", "h4"]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    racks = [{"name": "rack1", "hosts": HOSTS[:2]}, {"name": "rack2", "hosts": HOSTS[2:]}]
    with site(tmp_path_factory.mktemp("layer2"), "hl", racks, fabric="layer2") as found:
        yield found


def ours(found: Site, host: str) -> set[str]:
    """The routes to others' spans that a host's agent set."""
    lines = found.run(host, "ip", "route", "show", "proto", "146") + found.run(
        host, "ip", "-6", "route", "show", "proto", "146"
    )
    return {line for line in lines.splitlines() if " via " in line}


def test_every_host_reaches_every_other_and_what_is_unused_ends_here(segment: Site) -> None:
    with segment.pings() as pings:
        time.sleep(1)
        result = pings.lap()
        assert len(result.pairs) == 4 * 3 * 2
        assert result.lossy() == []
    for host in HOSTS:
        assert len(ours(segment, host)) == 2 * 3
        assert "blackhole 10.112.0.0/12 proto 146" in segment.run(host, "ip", "route")
        assert "blackhole fd00:10:110::/44" in segment.run(host, "ip", "-6", "route")
    assert segment.checked() == []


def test_a_new_endpoint_changes_no_route_elsewhere(segment: Site) -> None:
    before = {host: ours(segment, host) for host in HOSTS}
    add(segment, "h1", "more")
    try:
        assert {host: ours(segment, host) for host in HOSTS} == before
    finally:
        remove_pod(segment.record, "h1", "more")


def test_a_killed_agent_disturbs_nobody_and_finds_its_routes_again(segment: Site) -> None:
    before = ours(segment, "h1")
    with segment.pings() as pings:
        segment.kill("h1", "romana-agent")
        segment.run("h1", "ip", "route", "flush", "proto", "146", "10.112.128.0/24")
        time.sleep(0.5)
        segment.start_agent("h1")
        suffered("segment: an agent killed, its routes to one host flushed, back", pings.lap())
    assert ours(segment, "h1") == before


def test_a_cut_link_stops_its_host_alone_and_comes_back(segment: Site) -> None:
    with segment.pings() as pings:
        segment.cut("h3", "switch")
        time.sleep(1)
        segment.mend("h3", "switch")
        wait("routes", segment.differences, seconds=10)
        result = pings.lap()
        time.sleep(1)
        assert pings.lap().lossy() == []
    assert 0.9 < suffered("segment: a host's link cut for 1 s", result, having("h3")) < 6


def test_romanad_away_stops_nothing(segment: Site) -> None:
    with segment.pings() as pings:
        end([segment.record.programs["ctl/romanad"]])
        segment.kill("h2", "romana-agent")
        time.sleep(0.5)
        suffered("segment: romanad away, an agent killed meanwhile", pings.lap())
        segment.start_romanad()
        segment.start_agent("h2")
        suffered("segment: romanad and the agent back", pings.lap())
    segment.until_checked()


def test_a_host_that_is_lost_takes_its_routes_with_it(segment: Site) -> None:
    """The last test: afterwards the segment has three hosts."""
    spans = [one["cidr"] for one in api.items(segment.record, "/v1/spans") if one["host"] == "h4"]
    with segment.pings() as pings:
        segment.kill("h4", "romana-agent")
        segment.kill("ctl", "romanad")  # which remembers for a minute whom it heard
        segment.start_romanad()
        api.post(segment.record, "/v1/hosts/h4/lost", {})
        wait(
            "routes",
            lambda: [one for host in HOSTS[:3] for one in ours(segment, host) if one.split()[0] in spans],
            seconds=5,
        )
        suffered("segment: a host lost", pings.lap(), having("h4"))
    assert all(len(ours(segment, host)) == 2 * 2 for host in HOSTS[:3])
