"""A router that starts tells nobody of its aggregates before it has heard what its neighbours know; real BIRDs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from romana.codec.bird_router import GATHER_SECONDS
from romana.codec.text import parse_prefix
from romana.codec.topology import carved
from romana.core.routing import RoutePlan
from romana.core.topology import listed_hosts
from romana.model.errors import Unavailable
from romana.model.ipam import Span
from tests.probes.birds import Side, address, link, until
from tests.probes.spaces import shell, spaces, within

RACK = "10.112.0.0/13 via 192.0.2.1"
SPAN = "10.112.1.0/24 via 192.0.2.3"
MUTE = """
    nft add table ip mute; nft add chain ip mute in '{ type filter hook input priority 0; }'
    nft add rule ip mute in tcp sport 179 drop; nft add rule ip mute in tcp dport 179 drop
"""


class Rack(dict[str, Side]):
    """A spine, the router of a rack, and its host."""

    def start(self, routes: RoutePlan) -> None:
        for side in self.values():
            with pytest.raises(Unavailable, match="is it running"):
                side.announce(routes)
            side.start("-R")
        until(lambda: RACK in self["s1"].routes() and SPAN in self["tor1"].routes())


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    tmp_path.chmod(0o755)
    with spaces("s1", "tor1", "h11", tag="kg") as made:
        link(made["s1"], "to-tor1", made["tor1"], "to-s1")
        link(made["tor1"], "to-h11", made["h11"], "to-tor1")
        address(made["s1"], to_tor1="192.0.2.0/31", lo="198.51.100.1/32")
        address(made["tor1"], to_s1="192.0.2.1/31", to_h11="192.0.2.2/31", lo="198.51.100.2/32")
        address(made["h11"], to_tor1="192.0.2.3/31", lo="198.51.100.3/32")
        found = Rack({name: Side(tmp_path, made[name], name) for name in made})
        try:
            yield found
        finally:
            for side in found.values():
                side.stop()


def plan() -> RoutePlan:
    routers: list[dict[str, Any]] = [{"name": "tor1", "addresses": ["198.51.100.2"], "asn": 65001}]
    hosts: list[Any] = [{"name": "h11", "addresses": ["198.51.100.3"]}, "h12"]
    found = carved(
        {
            "version": 1,
            "networks": [{"name": "v4", "cidr": "10.112.0.0/12"}],
            "topologies": [
                {
                    "name": "dc",
                    "networks": ["v4"],
                    "routers": [{"name": "s1", "addresses": ["198.51.100.1"], "asn": 65000}],
                    "groups": [{"name": "rack1", "routers": routers, "hosts": hosts, "asn": 65011}, {"name": "rack2"}],
                }
            ],
            "routing": {
                "protocol": "ebgp",
                "links": [
                    {
                        "ends": ["s1", "tor1"],
                        "interfaces": ["to-tor1", "to-s1"],
                        "addresses": [["192.0.2.0", "192.0.2.1"]],
                    },
                    {
                        "ends": ["tor1", "h11"],
                        "interfaces": ["to-h11", "to-tor1"],
                        "addresses": [["192.0.2.2", "192.0.2.3"]],
                    },
                ],
            },
        }
    )
    return RoutePlan(found, listed_hosts(found), [Span(cidr=parse_prefix("10.112.1.0/24"), network="v4", host="h11")])


def boot(rack: Rack) -> None:
    """The router's machine goes away, and comes again without a route; its host does not answer BGP."""
    with within(rack["tor1"].space):
        shell("ip link set to-s1 down; ip link set to-h11 down")
    rack["tor1"].stop(signal.SIGKILL)
    until(lambda: RACK not in rack["s1"].routes() and "10.112.0.0/13" not in rack["h11"].routes())
    with within(rack["h11"].space):
        shell(MUTE)
    with within(rack["tor1"].space):
        shell("ip route flush proto bird; ip link set to-s1 up; ip link set to-h11 up")
    rack["tor1"].start("-R")


def test_a_router_that_starts_waits_for_its_host_before_it_tells_the_spine(rack: Rack) -> None:
    rack.start(plan())
    boot(rack)
    until(lambda: rack["tor1"].ask("show protocols").count("Established") == 1)
    for _ in range(20):
        assert RACK not in rack["s1"].routes()
        time.sleep(0.1)
    with within(rack["h11"].space):
        shell("nft delete table ip mute")
    until(lambda: RACK in rack["s1"].routes(), GATHER_SECONDS - 4)
    assert SPAN in rack["tor1"].routes()


def test_a_host_that_does_not_come_is_waited_for_as_long_as_that_and_no_longer(rack: Rack) -> None:
    rack.start(plan())
    boot(rack)
    until(lambda: rack["tor1"].ask("show protocols").count("Established") == 1)
    for _ in range(10 * (GATHER_SECONDS - 6)):
        assert RACK not in rack["s1"].routes()
        time.sleep(0.1)
    until(lambda: RACK in rack["s1"].routes(), 11)
    assert SPAN not in rack["tor1"].routes()
