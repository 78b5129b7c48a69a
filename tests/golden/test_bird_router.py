"""Daemon configurations of the example lab, beside the texts they should be; `--rewrite-golden` writes these."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from romana.apps.lab.programs import day_zero
from romana.apps.lab.reading import read_lab
from romana.codec.bird_router import render
from romana.codec.text import parse_prefix

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "bird"
SPEAKERS = day_zero(read_lab(ROOT / "examples/demo/lab.yaml"))
SPANS = [parse_prefix("10.112.0.0/24"), parse_prefix("fd00:10:110::/117")]


@pytest.mark.parametrize("name", ["spine", "tor1", "h11"])
def test_text(name: str, rewrite_golden: bool) -> None:
    speaker = SPEAKERS[name]
    text = render(speaker, SPANS if speaker.is_host else ())
    golden = GOLDEN / f"{name}.conf"
    if rewrite_golden:
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", SPEAKERS)
def test_bird_takes_it(name: str, tmp_path: Path) -> None:
    bird = shutil.which("bird", path="/usr/sbin:/usr/bin")
    assert bird is not None, "bird is not installed; `make setup` installs it"
    configuration = tmp_path / "bird.conf"
    configuration.write_text(render(SPEAKERS[name], SPANS))
    ran = subprocess.run([bird, "-p", "-c", configuration], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
