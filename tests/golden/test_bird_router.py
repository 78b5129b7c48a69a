"""BIRD configurations of the example lab, beside the texts they should be; `ROMANA_REWRITE=1` rewrites them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from romana.apps.lab.file import read_lab
from romana.apps.lab.wiring import BIRD_INCLUDE, wire
from romana.codec.bird_router import render

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "bird"
LAB = read_lab(ROOT / "examples/demo/lab.yaml")
FABRIC = wire(LAB.file, LAB.plan)


@pytest.mark.parametrize("name", ["spine", "tor1", "h11"])
def test_text(name: str) -> None:
    device = FABRIC.nodes[name].device
    assert device is not None
    text = render(device)
    golden = GOLDEN / f"{name}.conf"
    if os.environ.get("ROMANA_REWRITE"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", [node for node in FABRIC.nodes if node != "ctl"])
def test_bird_takes_it(name: str, tmp_path: Path) -> None:
    bird = shutil.which("bird", path="/usr/sbin:/usr/bin")
    assert bird is not None, "bird is not installed; `make setup` installs it"
    device = FABRIC.nodes[name].device
    assert device is not None
    include = tmp_path / "romana.conf"
    include.write_text("protocol static romana4 { ipv4; route 10.112.0.0/24 blackhole; }\n")
    configuration = tmp_path / "bird.conf"
    configuration.write_text(render(device).replace(BIRD_INCLUDE, str(include)))
    ran = subprocess.run([bird, "-p", "-c", configuration], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
