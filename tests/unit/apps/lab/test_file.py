from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from romana.apps.lab.reading import read_lab
from romana.model.errors import Invalid

DEMO = Path(__file__).parents[4] / "examples/demo/lab.yaml"
TOPOLOGY = {
    "version": 1,
    "networks": [{"name": "n", "cidr": "10.112.0.0/12"}],
    "topologies": [{"name": "t", "networks": ["n"], "groups": [{"name": "rack1"}, {"name": "rack2"}]}],
}
LAB: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "underlay": ["192.168.0.0/16", "fd00:192:168::/48"],
    "racks": [{"name": "rack1", "router": "tor1", "hosts": ["h1"]}],
    "topology": ["topology.json"],
    "tenants": [{"name": "blue", "segments": ["web"]}],
    "endpoints": [{"name": "web-1", "host": "h1", "tenant": "blue", "segment": "web"}],
}


def written(path: Path, **changes: Any) -> Path:
    (path / "topology.json").write_text(json.dumps(TOPOLOGY))
    (path / "lab.json").write_text(json.dumps(LAB | changes))
    return path / "lab.json"


def faults(path: Path, **changes: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read_lab(written(path, **changes))
    return {fault.path: fault.sentence for fault in caught.value.faults}


def test_the_example_has_four_hosts_and_twelve_endpoints() -> None:
    lab = read_lab(DEMO)
    assert lab.file.nodes == ("ctl", "spine", "tor1", "tor2", "h11", "h12", "h21", "h22")
    assert len(lab.file.endpoints) == 12
    assert [name for name, _ in lab.topologies] == ["topology-v2.json", "topology.yaml"]
    assert [network.name for network in lab.plan.networks] == ["pods4", "pods6"]


def test_a_small_lab_is_read(tmp_path: Path) -> None:
    assert read_lab(written(tmp_path)).file.racks[0].path == "/rack1"


def test_all_faults_of_the_file_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        name="Too Long A Name",
        underlay=["192.168.0.0/24", "10.0.0.0/16"],
        racks=[{"name": "rack1", "router": "spine", "hosts": ["h1", "h1", "a-very-long-name"]}],
        tenants=[{"name": "blue", "segments": ["web", "web"]}, {"name": "blue", "segments": []}],
        endpoints=[
            {"name": "a", "host": "h2", "tenant": "bleu", "segment": "web"},
            {
                "name": "a",
                "host": "h1",
                "tenant": "blue",
                "segment": "dbx",
                "ports": {"http": "tcp/80-81", "ok": "udp/53"},
            },
        ],
    )
    assert set(found) == {
        "name",
        "underlay",
        "underlay[0]",
        "spine",
        "racks[0].router",
        "racks[0].hosts[0]",
        "racks[0].hosts[1]",
        "racks[0].hosts[2]",
        "tenants[0].name",
        "tenants[0].segments",
        "tenants[1].name",
        "endpoints[0].name",
        "endpoints[1].name",
        "endpoints[0].host",
        "endpoints[0].tenant",
        "endpoints[1].segment",
        "endpoints[1].ports.http",
    }
    assert "did you mean `blue`?" in found["endpoints[0].tenant"]


def test_unknown_fields_and_wrong_types(tmp_path: Path) -> None:
    found = faults(tmp_path, leaves=["s1"], topology="topology.json")
    assert set(found) == {"leaves", "topology"}


def test_a_document_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = faults(tmp_path, topology=["topology.json", "gone.yaml"], policies=["lost.yaml"])
    assert set(found) == {"topology[1]", "policies[0]"}
    assert "gone.yaml cannot be read: No such file or directory" in found["topology[1]"]


def test_faults_of_the_topology_carry_its_name(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "topology.json").write_text(json.dumps(TOPOLOGY | {"networks": [{"name": "n", "cidr": "10.0.0.1/8"}]}))
    with pytest.raises(Invalid, match=r"topology\[0\] \(topology.json\): networks\[0\].cidr: .*10.0.0.0/8"):
        read_lab(path)


def test_a_rack_without_a_group_is_refused_with_the_groups_there_are(tmp_path: Path) -> None:
    found = faults(tmp_path, racks=[{"name": "rack9", "router": "tor1", "hosts": ["h1"]}])
    assert found == {"racks[0].group": "the topology has no group '/rack9'; it has /, /rack1, /rack2"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        read_lab(tmp_path / "none.yaml")
