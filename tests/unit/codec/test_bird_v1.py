"""Romana v2's samples of BIRD 1, filled in and read by BIRD 2."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from romana.adapters.bird_forms import Template
from romana.codec.bird_v1 import as_bird2
from romana.codec.text import parse_address, parse_prefix
from romana.model.errors import Unavailable
from romana.model.speaker import DaemonPlan

STATIC = """\
router id from 192.168.0.0/16;

protocol kernel {
    scan time 60;
    import none;
        export all;
}

protocol device {
    scan time 60;
}

include "conf.d/*.conf";
"""
OSPF = """\
protocol static romana_routes {
    {{range .Networks}}
    route {{.}} reject;
    {{end}}
}

protocol ospf OSPF {
  export where proto = "romana_routes";
  area 0.0.0.0 {
    interface "eth0" {
      type broadcast;
    };
  };
}
"""
BGP = """\
{{/* Exports the prefixes of groups. */}}
{{ $hg := index .Args "HostGroups" -}}
protocol static static_bgp {
{{ range $net, $group := $hg }}
	# Network {{ $net }}
	route {{ $group.CIDR }} reject;
{{ end }}
}

protocol bgp bgp_def {
	export where proto = "static_bgp";
        direct;
	local as {{.LocalAS}};
	neighbor 192.168.99.1 as {{.LocalAS}};
}
"""
SPANS = [parse_prefix("10.112.1.0/24"), parse_prefix("10.112.4.0/24")]
PLAN = DaemonPlan(groups={"pods": parse_prefix("10.112.0.0/15")})
OWN = [(parse_address("192.168.20.30"), parse_prefix("192.168.20.0/24"))]


def made(directory: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        (directory / name).write_text(text)
    return Template(directory, 65534, lambda: OWN).write(SPANS, PLAN)


def bird_takes(directory: Path, text: str) -> None:
    (directory / "whole.conf").write_text(text)
    ran = subprocess.run(["bird", "-p", "-c", directory / "whole.conf"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), text


@pytest.mark.parametrize("template", [OSPF, BGP], ids=["ospf", "bgp"])
def test_bird_2_takes_a_directory_of_romana_v2(template: str, tmp_path: Path) -> None:
    text = made(tmp_path, {"bird.conf": STATIC, "publisher.conf": template})
    bird_takes(tmp_path, text)
    assert Template(tmp_path, 65534, lambda: OWN).read(text) == frozenset(SPANS)
    assert "include" not in text
    wanted = ["route 10.112.0.0/15 reject;"] if template is BGP else [f"route {one} reject;" for one in SPANS]
    assert all(line in text for line in wanted)


def test_one_template_for_everything(tmp_path: Path) -> None:
    text = made(
        tmp_path, {"bird.conf.t": "router id 192.0.2.1;\nprotocol device { }\n" + BGP, "publisher.conf": "nonsense"}
    )
    bird_takes(tmp_path, text)
    assert "neighbor 192.168.99.1 as 65534;" in text


def test_the_best_match_of_a_name_is_taken(tmp_path: Path) -> None:
    files = {"bird.conf.t": "a", "bird.conf.t.192.168.20.0": "b", "bird.conf.t.192.168.20.30": "c"}
    assert made(tmp_path, files).endswith("c")
    (tmp_path / "bird.conf.t.192.168.20.30").unlink()
    assert Template(tmp_path, 1, lambda: OWN).write((), PLAN) == "b"
    assert Template(tmp_path, 1, list).write((), PLAN) == "a"


def test_a_template_that_cannot_be_used_says_which_and_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"has neither bird\.conf\.t nor publisher\.conf"):
        Template(tmp_path, 1, lambda: OWN).write((), PLAN)
    with pytest.raises(Unavailable, match=r"publisher\.conf: line 2: `\.Networkz` has no Networkz"):
        made(tmp_path, {"publisher.conf": "\n{{range .Networkz}}{{end}}"})


def test_what_has_channels_stays_as_it_is() -> None:
    text = 'protocol bgp x { local as 1; neighbor 192.0.2.1 as 2; ipv4 { export where proto = "a;b"; }; }\n'
    assert as_bird2(text) == text


def test_comments_and_strings_are_no_statements(tmp_path: Path) -> None:
    text = """\
router id 192.0.2.1;
# protocol bgp nobody { export all; }
protocol device { }
protocol static mine { # with a brace {
    route 10.0.0.0/8 reject; /* import none; */
}
protocol bgp b {
    import filter { if net ~ [ 10.0.0.0/8+ ] then accept; reject; };
    export where proto = "mine";
    next hop self;
    local as 1; neighbor 192.0.2.2 as 2;
}
"""
    new = as_bird2(text)
    bird_takes(tmp_path, new)
    assert "# protocol bgp nobody { export all; }" in new
