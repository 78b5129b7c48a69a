"""Configurations for BIRD and FRR of every kind of fabric, beside the texts they should be; both daemons take them.

`pytest tests/golden/test_daemons.py --rewrite-golden` writes what is rendered over the files.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from romana.apps.lab.file import FabricKind
from romana.codec.bird_router import Local, render
from romana.codec.daemons import configured
from romana.codec.frr import render as render_frr
from romana.codec.text import parse_address, parse_prefix
from romana.codec.topology import carved
from romana.core.routing import RoutePlan
from romana.core.routing.speakers import speaker
from romana.model.address import Prefix
from romana.model.errors import Invalid, NotFound
from romana.model.ipam import Span
from romana.model.route import Away, RouteException
from romana.model.speaker import Speaker
from romana.model.topology import Host
from tests.probes.frr import Frr, frr
from tests.probes.spaces import spaces, within
from tests.unit.core.routing.fabrics import fabric

GOLDEN = Path(__file__).parent / "daemons"
SECRET = "/etc/romana/fabric.password"
EVERYTHING: dict[str, Any] = {
    "version": 1,
    "networks": [{"name": "v4", "cidr": "10.112.0.0/12"}, {"name": "v6", "cidr": "fd00:10:112::/48"}],
    "topologies": [
        {
            "name": "dc",
            "networks": ["v4", "v6"],
            "underlay": ["192.0.2.0/24"],
            "routers": [{"name": "spine.1", "asn": 65000, "addresses": ["192.0.2.1"]}],
            "groups": [
                {
                    "name": "rack1",
                    "asn": 65101,
                    "underlay": ["192.0.2.64/26"],
                    "routers": [
                        {"name": "tor-1", "asn": 65001, "addresses": ["192.0.2.65"], "listen": ["192.0.2.96/27"]}
                    ],
                    "hosts": [
                        {"name": "h11", "addresses": ["192.0.2.66"]},
                        {"name": "h12", "addresses": ["192.0.2.67"]},
                    ],
                },
                {"name": "rack2", "asn": 65102, "hosts": [{"name": "h21", "addresses": ["192.0.2.130"]}, "h22"]},
            ],
        }
    ],
    "routing": {
        "protocol": "ebgp",
        "sessions": {"communities": ["65000:1", "65000:2:3"], "bfd": True},
        "links": [
            {
                "ends": ["spine.1", "tor-1"],
                "interfaces": ["swp1", "swp49"],
                "session": {"password_file": SECRET, "ttl_security": True, "hold_seconds": 30},
            }
        ],
        "peers": [
            {
                "name": "border",
                "routers": ["spine.1"],
                "asn": 64999,
                "addresses": ["198.51.100.9", "2001:db8::9"],
                "multihop": True,
                "session": {
                    "import": ["0.0.0.0/0", "203.0.113.0/24 ge 26 le 28"],
                    "export": ["192.0.2.0/24"],
                    "bfd": False,
                },
            },
            {
                "name": "switch",
                "group": "/rack2",
                "selector": {"port": "2"},
                "asn": 65002,
                "interface": "eth1",
                "session": {"graceful_restart": False, "communities": ["no-export"]},
            },
        ],
    },
}


def everything() -> RoutePlan:
    plan = carved(EVERYTHING)
    hosts = [Host(name=one.name, groups={"dc": one.group}, labels={"port": "2"}) for one in plan.topologies[0].hosts]
    spans = [Span(cidr=parse_prefix("10.112.1.0/24"), network="v4", host="h11")]
    away = RouteException(prefix=parse_prefix("10.120.5.5/32"), host="h12", reason=Away.FIXED, name="x")
    return RoutePlan(plan, hosts, spans, [away])


SITES = {
    "ebgp": everything(),
    "ibgp": fabric(FabricKind.IBGP, 2, [(2, 2), (1, 1)]),
    "ospf": fabric(FabricKind.OSPF, 2, [(2, 2), (1, 1)]),
}
DEVICES = [
    (site, name) for site, routes in SITES.items() for name in routes.devices() if speaker(routes, name) is not None
]
SHOWN = [("ebgp", "spine.1"), ("ebgp", "tor-1"), ("ebgp", "h12"), ("ebgp", "h21"), ("ibgp", "r1a"), ("ospf", "r1a")]
LOCAL = Local(
    neighbors={name: parse_address("fe80::1") for name in ("swp1", "swp49", "eth1")}, passwords={SECRET: "s3cret"}
)


def of(site: str, name: str) -> tuple[Speaker, tuple[Prefix, ...]]:
    found = speaker(SITES[site], name)
    assert found is not None
    return found, SITES[site].device_plan(name).originates if found.is_host else ()


def compare(path: Path, text: str, *, rewrite: bool) -> None:
    if rewrite:
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize(("site", "name"), [*SHOWN, ("ospf", "h11"), ("ospf", "s1")])
def test_text_for_bird(site: str, name: str, rewrite_golden: bool) -> None:
    compare(GOLDEN / f"{site}-{name}.bird", render(*of(site, name), LOCAL), rewrite=rewrite_golden)


@pytest.mark.parametrize(("site", "name"), SHOWN)
def test_text_for_frr(site: str, name: str, rewrite_golden: bool) -> None:
    compare(GOLDEN / f"{site}-{name}.frr", render_frr(*of(site, name)), rewrite=rewrite_golden)


@pytest.mark.parametrize(("site", "name"), DEVICES, ids=lambda value: value)
def test_bird_takes_it(site: str, name: str, tmp_path: Path) -> None:
    for local in (LOCAL, Local(passwords=LOCAL.passwords), None):
        configuration = tmp_path / "bird.conf"
        configuration.write_text(render(*of(site, name), local))
        ran = subprocess.run(["bird", "-p", "-c", configuration], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Frr]:
    with spaces("frr", tag="gf") as made, within(made["frr"]), frr(tmp_path / "frr") as running:
        yield running


@pytest.mark.parametrize(
    ("site", "name"), [("ebgp", "spine.1"), ("ebgp", "tor-1"), ("ebgp", "h21"), ("ibgp", "r1a"), ("ospf", "r1a")]
)
def test_frr_takes_it(site: str, name: str, daemons: Frr) -> None:
    found, prefixes = of(site, name)
    said = daemons.load(render_frr(found, prefixes))
    assert [line for line in said.splitlines() if line.startswith("%") or "nknown" in line or "rror" in line] == []
    running = daemons.ask("show running-config")
    if found.ospf is None:
        known = [line for line in running.splitlines() if "remote-as" in line]
        assert len(known) == len(found.sessions)
        assert all(f"prefix-list {session.name}-in seq 5" in running for session in found.sessions)
    else:
        assert running.count("ip ospf area") == running.count("ipv6 ospf6 area") == len(found.ospf.links) + 1
        assert "range 10.112.0.0/13 not-advertise" in running


def test_no_password_is_ever_printed() -> None:
    for form in ("bird", "frr"):
        text = configured(SITES["ebgp"], "tor-1", form).text
        assert "s3cret" not in text
        assert SECRET in text


def test_what_cannot_be_printed_says_why() -> None:
    with pytest.raises(Invalid, match="is one of bird, frr, not 'cisco'"):
        configured(SITES["ebgp"], "tor-1", "cisco")
    with pytest.raises(NotFound, match="has nobody to speak to"):
        configured(fabric(FabricKind.EBGP, 1, [(1, 2)], layer2=frozenset({1})), "h11", "bird")
    with pytest.raises(Invalid, match="run BIRD on hosts"):
        configured(SITES["ospf"], "h11", "frr")


@pytest.mark.parametrize("text", ['quo"te', "", "x" * 81, "back\\slash", "new\nline"])
def test_a_password_that_bird_cannot_read_is_refused_without_being_said(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        render(*of("ebgp", "tor-1"), Local(neighbors=LOCAL.neighbors, passwords={SECRET: text}))
    assert SECRET in str(caught.value)
    assert not text or text not in str(caught.value)
