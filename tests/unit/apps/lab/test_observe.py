from __future__ import annotations

import pytest

from romana.apps.lab.observe import frame_of
from romana.model.errors import Unavailable


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (
            "0a:1 > 0a:2, ethertype IPv4 (0x0800), length 74: 10.112.0.1.40000 > 10.120.0.1.8080: Flags [S], seq 1",
            "10.112.0.1",
            "10.120.0.1",
        ),
        (
            "0a:1 > 0a:2, ethertype IPv4 (0x0800), length 50: 10.112.0.1 > 10.120.0.1: ICMP echo request, id 1",
            "10.112.0.1",
            "10.120.0.1",
        ),
        (
            "0a:1 > 0a:2, ethertype IPv6 (0x86dd), length 94: fd00:10::1.40000 > fd00:10:8::1.8080: Flags [S]",
            "fd00:10::1",
            "fd00:10:8::1",
        ),
        (
            "0a:1 > 0a:2, ethertype IPv6 (0x86dd), length 70: fd00:10::1 > fd00:10:8::1: ICMP6, echo request",
            "fd00:10::1",
            "fd00:10:8::1",
        ),
    ],
    ids=["tcp4", "icmp4", "tcp6", "icmp6"],
)
def test_a_frame_has_its_outermost_addresses(line: str, source: str, destination: str) -> None:
    frame = frame_of(line)
    assert (frame.source.text, frame.destination.text) == (source, destination)


def test_the_outer_header_of_a_tunnel_is_what_counts() -> None:
    line = "a > b, ethertype IPv4 (0x0800), length 94: 192.168.1.2 > 192.168.2.2: IP 10.112.0.1 > 10.120.0.1: ICMP"
    assert frame_of(line).source.text == "192.168.1.2"


def test_what_is_not_plain_ip_is_refused() -> None:
    with pytest.raises(Unavailable, match="not plain IP"):
        frame_of("a > b, ethertype MPLS unicast (0x8847), length 94: MPLS (label 1)")
