"""Real packets through the relay that romana-aws chose, over a VPC in namespaces whose routes follow moto's table."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.probes.agenthost import wait
from tests.probes.cloud import cloud
from tests.probes.spaces import spaces
from tests.probes.vpclab import VpcLab, vpc_lab
from tests.probes.vpcsite import vpc_site

ZONES = ("a", "b")
PROTOCOLS = ("tcp", "udp", "icmp")
PINGS_A_SECOND = 100


@pytest.fixture(scope="module")
def lab(moto: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VpcLab]:
    directory = tmp_path_factory.mktemp("vpc")
    with (
        spaces("vpc", tag="w") as paths,
        cloud(moto, paths["vpc"]) as found,
        vpc_site(directory, found) as site,
        vpc_lab(site, f"romt-w{os.getpid()}-") as one,
    ):
        site.settings["health"] |= {
            "fail_back_seconds": 3,
            "fail_over_seconds": 0,
            "probe_port": 22,
            "probe_seconds": 0.3,
            "probes": 3,
            "silent_seconds": 30,
        }
        one.build(ZONES, 2)
        yield one


def everything(lab: VpcLab, *hosts: str) -> set[tuple[str, str]]:
    return {(address, protocol) for host in hosts for address in lab.pods[host] for protocol in PROTOCOLS}


def test_zones_reach_one_another_when_the_tables_have_their_routes_and_not_before(lab: VpcLab) -> None:
    assert lab.probers["a1"].reached(*lab.pods["a2"]) == set()  # interfaces check, so not even on one subnet
    lab.start_aws()
    wait(lambda: len(lab.cloud.routes("main")) == 2 * len(ZONES), "no routes")
    wait(lab.routed, "the VPC does not follow")
    wait(lambda: [host for host in lab.hosts if not reaches_all(lab, host)] == [], "some do not reach all")


def reaches_all(lab: VpcLab, source: str) -> bool:
    others = [host for host in lab.hosts if host != source]
    return lab.probers[source].reached(*(one for host in others for one in lab.pods[host])) == everything(lab, *others)


def test_what_nobody_has_ends_at_the_relay_and_does_not_go_round(lab: VpcLab) -> None:
    relay = lab.hosts[lab.relays()["a"]]
    before = forwarded(lab)
    unused = ("100.103.255.9", "fd00:64:3f:ffff::9")
    assert lab.probers["b1"].reached(*unused) == set()
    assert forwarded(lab) - before < 200  # a loop would forward each of some dozens up to 64 times
    assert relay.name[0] == "a"


def forwarded(lab: VpcLab) -> int:
    """IPv4 and IPv6 packets that the VPC passed on so far."""
    command = ["ip", "netns", "exec", f"{lab.prefix}vpc", "cat", "/proc/net/snmp", "/proc/net/snmp6"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    four = [line.split() for line in text.splitlines() if line.startswith("Ip:")]
    six = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Ip6OutForwDatagrams"))
    return int(dict(zip(four[0], four[1], strict=True))["ForwDatagrams"]) + six


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_relay_that_loses_power_is_left_and_taken_again_without_loss(lab: VpcLab, family: int) -> None:
    first = lab.relays()
    relay = first["a"]
    other = "a2" if relay == "a1" else "a1"
    prober = lab.probers["b1"]
    stop = prober.stream(lab.pods[other][family])
    time.sleep(0.5)
    lab.power_off(relay)
    wait(lambda: lab.relays()["a"] == other, "the route is not led elsewhere")
    time.sleep(1)
    lost = stop()
    away = lost["pings_lost"] / PINGS_A_SECOND
    print(f"IPv{'46'[family]}: relay without power, {away:.2f} s without connectivity for the other host of its zone")
    assert lost["bytes_lost"] == 0  # TCP lives through it
    assert 0 < away < 10
    wanted = everything(lab, other)
    wait(lambda: prober.reached(*lab.pods[other]) == wanted, f"{other} is not reached")

    stop = prober.stream(lab.pods[other][family])
    lab.power_on(relay)
    wait(lambda: lab.relays() == first, "the route is not led back", seconds=40)
    time.sleep(0.5)
    back = stop()
    assert (back["pings_lost"], back["bytes_lost"]) == (0, 0)
    assert back["pings"] > 100
    wanted = everything(lab, relay)
    wait(lambda: prober.reached(*lab.pods[relay]) == wanted, f"{relay} is not reached again")
