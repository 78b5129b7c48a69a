"""`romana plan --device NAME --format frr|bird`: what people get to load, and the daemons that load it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from romana.apps.cli.failure import ExitStatus
from tests.probes.frr import frr
from tests.probes.programs import Romana, romanad
from tests.probes.spaces import shell, spaces, within

PLAN = """\
version: 1
networks:
  - {name: pods4, cidr: 10.112.0.0/12}
  - {name: pods6, cidr: "fd00:10:110::/44"}
topologies:
  - name: datacentre
    networks: [pods4, pods6]
    routers: [{name: spine, asn: 65000, addresses: [192.0.2.1]}]
    groups:
      - name: rack1
        asn: 65101
        underlay: [192.0.2.64/26]
        routers: [{name: tor1, asn: 65001, addresses: [192.0.2.65], listen: [192.0.2.96/27]}]
        hosts: [{name: h11, addresses: [192.0.2.66]}]
      - {name: rack2, hosts: [h21]}
routing:
  protocol: ebgp
  links:
    - {ends: [spine, tor1], addresses: [[198.51.100.0, 198.51.100.1]], session: {password_file: /etc/fabric.password}}
"""


@pytest.fixture(scope="module")
def romana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Romana]:
    directory = tmp_path_factory.mktemp("romanad")
    with romanad(directory) as server:
        found = Romana(server, directory / "compiled")
        found("topology", "apply", "-", stdin=PLAN)
        yield found


@pytest.mark.parametrize("form", ["frr", "bird"])
def test_a_document_and_the_plan_in_force_give_the_same(romana: Romana, form: str) -> None:
    text = romana("plan", "--device", "spine", "--format", form)
    assert romana("plan", "--device", "spine", "--format", form, "--current") == text
    assert Romana("unix:///nowhere")("plan", "-", "--device", "spine", "--format", form, stdin=PLAN) == text
    assert romana.json("plan", "--device", "spine", "--format", form) == {
        "device": "spine",
        "format": form,
        "text": text,
    }
    assert "10.112.0.0/12" in text


def test_frr_runs_with_it(romana: Romana, tmp_path: Path) -> None:
    text = romana("plan", "--device", "tor1", "--format", "frr")
    with spaces("tor1", tag="pd") as made, within(made["tor1"]), frr(tmp_path / "frr") as daemons:
        said = daemons.load(text)
        assert [line for line in said.splitlines() if line.startswith("%") or "nknown" in line] == []
        running = daemons.ask("show running-config")
        assert "neighbor 198.51.100.0 remote-as 65000" in running
        assert "bgp listen range 192.0.2.96/27 peer-group" in running
        routes = shell("sleep 1; ip route show type blackhole; ip -6 route show type blackhole")
        assert "10.112.0.0/13" in routes
        assert "fd00:10:110::/45" in routes


def test_bird_runs_with_it(romana: Romana, tmp_path: Path) -> None:
    file = tmp_path / "bird.conf"
    file.write_text(romana("plan", "--device", "tor1", "--format", "bird"))
    with spaces("tor1", tag="pd") as made, within(made["tor1"]):
        command = ["bird", "-f", "-c", str(file), "-s", str(tmp_path / "bird.ctl")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                ask = ["birdc", "-s", str(tmp_path / "bird.ctl"), "show", "protocols"]
                deadline = time.monotonic() + 10
                shown = ""
                while "up_spine_4" not in shown:
                    assert time.monotonic() < deadline, shown
                    shown = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
                    time.sleep(0.05)
                assert "down_192.0.2.96_27" in shown
                wanted = {"10.112.0.0/13", "fd00:10:110::/45"}
                while not wanted <= set(shell("ip route; ip -6 route").split()):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            finally:
                process.terminate()


def test_what_cannot_be_printed_is_said(romana: Romana) -> None:
    assert "known are spine, tor1" in romana.fails("plan", "--device", "tor9", status=ExitStatus.NOT_FOUND)
    assert "is not one of" in romana.fails("plan", "--device", "tor1", "--format", "cisco", status=ExitStatus.USAGE)
    assert "give a FILE" in romana.fails("plan", status=ExitStatus.USAGE)
