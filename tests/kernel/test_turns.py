"""A router's guard against packets that go round, on packets: what turns is dropped, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from romana.adapters.linux.turns import NftTurnGuard
from romana.codec.text import parse_prefix
from romana.model.route import Turns
from tests.probes.birds import address, link, until
from tests.probes.spaces import shell, spaces, within

TURNS = Turns(back=(("to-one",), ("to-two",)), inside=(parse_prefix("10.112.0.0/12"), parse_prefix("fd00:10:112::/48")))
ENDS = {
    "one": ("192.0.2.0/31 2001:db8::2/127", "10.112.1.1/32 203.0.113.1/32 fd00:10:112:1::1/128"),
    "two": ("192.0.2.2/31 2001:db8::4/127", "10.112.2.1/32 203.0.113.2/32 fd00:10:112:2::1/128"),
}
"""Who is around the router: its end's addresses, and those that it has itself."""
LOST = ("10.112.2.9", "fd00:10:112:2::9", "203.0.113.9")
"""What the router believes that `two` has, which sends it back."""


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, str]]:
    with spaces("router", *ENDS, tag="kt") as found:
        for name, (wire, own) in ENDS.items():
            link(found["router"], f"to-{name}", found[name], "uplink")
            theirs = [one.partition("/")[0] for one in wire.split()]
            ours = [f"{one[:-1]}{int(one[-1]) + 1}" for one in theirs]
            address(found["router"], **{f"to_{name}": f"{ours[0]}/31 {ours[1]}/127"})
            address(found[name], uplink=wire, lo=own)
            with within(found[name]):
                shell(f"ip route add default via {ours[0]}; ip -6 route add default via {ours[1]}")
                shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0")
            with within(found["router"]):
                for one in (*own.split(), *(LOST if name == "two" else ())):
                    shell(f"ip route add {one} via {theirs[':' in one]}")
        with within(found["router"]):
            shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0")
        yield found


@pytest.fixture
def guard(made: dict[str, str]) -> Iterator[NftTurnGuard]:
    with within(made["router"]):
        found = NftTurnGuard()
        yield found
        found.remove()
        found.close()


def ping(made: dict[str, str], source: str, destination: str) -> str:
    """What ping says: `answered`, `round` when the packet's time to live was over, or `nothing`."""
    with within(made[source]):
        ran = subprocess.run(["ping", "-c1", "-W1", destination], capture_output=True, text=True, check=False)
    exceeded = "Time to live exceeded" in ran.stdout or "Hop limit" in ran.stdout
    return "answered" if not ran.returncode else "round" if exceeded else "nothing"


def test_what_goes_back_to_whoever_sent_it_is_dropped_and_all_else_goes_its_way(
    made: dict[str, str], guard: NftTurnGuard
) -> None:
    until(lambda: [ping(made, "one", lost) for lost in LOST] == ["round"] * 3)  # IPv6 takes a moment
    assert guard.keep(TURNS)
    assert [ping(made, "one", lost) for lost in LOST] == ["nothing", "nothing", "round"]  # the last is no network's
    assert guard.dropped() == 2
    assert not guard.keep(TURNS)  # a counter that counted is no change
    assert guard.dropped() == 2
    for source, destination in (
        ("one", "10.112.2.1"),
        ("two", "10.112.1.1"),
        ("one", "fd00:10:112:2::1"),
        ("two", "203.0.113.1"),
        ("router", "10.112.1.1"),
    ):
        assert ping(made, source, destination) == "answered", (source, destination)
    guard.remove()
    assert ping(made, "one", LOST[0]) == "round"
