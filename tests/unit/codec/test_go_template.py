from __future__ import annotations

from typing import Any

import pytest

from romana.codec.go_template import render
from romana.model.errors import Invalid

DATA: dict[str, Any] = {
    "Networks": ["10.1.0.0/24", "10.2.0.0/24"],
    "LocalAS": 65534,
    "NeighborIP": "",
    "Args": {"HostGroups": {"net2": {"CIDR": "10.9.0.0/16"}, "net1": {"CIDR": "10.8.0.0/16"}}},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain { } text", "plain { } text"),
        ("as {{.LocalAS}};", "as 65534;"),
        ("{{/* a comment\n of two lines */}}x", "x"),
        ("a\n {{- .LocalAS -}} \n b", "a65534b"),
        ("{{range .Networks}}route {{.}} reject;\n{{end}}", "route 10.1.0.0/24 reject;\nroute 10.2.0.0/24 reject;\n"),
        ("{{range $i, $n := .Networks}}{{$i}}={{$n}} {{end}}", "0=10.1.0.0/24 1=10.2.0.0/24 "),
        (
            '{{$hg := index .Args "HostGroups"}}{{range $net, $g := $hg}}{{$net}} {{$g.CIDR}};{{end}}',
            "net1 10.8.0.0/16;net2 10.9.0.0/16;",
        ),
        ("{{range .Args.HostGroups}}{{.CIDR}} {{$.LocalAS}};{{end}}", "10.8.0.0/16 65534;10.9.0.0/16 65534;"),
        ("{{if .NeighborIP}}a{{else}}b{{end}}", "b"),
        ("{{if .NeighborIP}}a{{else if eq .LocalAS 65534}}c{{else}}b{{end}}", "c"),
        ("{{with .NeighborIP}}{{.}}{{else}}none{{end}}", "none"),
        ("{{with $x := .LocalAS}}{{$x}}{{end}}", "65534"),
        ("{{if and .Networks (not .NeighborIP)}}yes{{end}}", "yes"),
        ("{{len .Networks}} {{.Networks | len}} {{index .Networks 1}}", "2 2 10.2.0.0/24"),
        ('{{"a \\"b\\""}}{{`c`}}{{true}}', 'a "b"ctrue'),
    ],
)
def test_text(template: str, text: str) -> None:
    assert render(template, DATA) == text


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("\n{{.Nothing}}", "line 2: `.Nothing` has no Nothing"),
        ("{{$x}}", "there is no variable $x"),
        ("{{end}}", "`end` closes nothing"),
        ("{{range .Networks}}", "ends before `end`"),
        ('{{template "x"}}', "`template` is no"),
        ("{{range .LocalAS}}{{end}}", "goes over lists and maps"),
        ("{{index .Networks 9}}", "cannot be done"),
        ("{{(.LocalAS}}", "a `\\)` is missing"),
        ("{{if }}{{end}}", "an expression is missing"),
    ],
)
def test_what_is_not_understood_is_said_with_its_line(template: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence.replace("$", "\\$")):
        render(template, DATA)
