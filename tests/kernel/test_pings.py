"""The lab's pings: what goes round is seen, and told from what is merely lost."""

from __future__ import annotations

import time

from tests.probes.birds import address, link
from tests.probes.pings import Pair, Pings
from tests.probes.spaces import shell, spaces, within

SETTINGS = "net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0"


def test_a_loop_is_seen_in_both_families_and_what_is_discarded_is_none() -> None:
    with spaces("pod", "one", "two", "far", tag="kg") as made:
        link(made["one"], "below", made["pod"], "eth0")
        link(made["one"], "over", made["two"], "over")
        address(made["pod"], eth0="192.0.2.2/24 2001:db8:2::2/64")
        address(made["one"], below="192.0.2.1/24 2001:db8:2::1/64", over="192.0.9.1/24 2001:db8:9::1/64")
        address(made["two"], over="192.0.9.2/24 2001:db8:9::2/64")
        ways = {"pod": ("192.0.2.1", "2001:db8:2::1"), "one": ("192.0.9.2", "2001:db8:9::2")}
        ways["two"] = ("192.0.9.1", "2001:db8:9::1")
        for name, (four, six) in ways.items():
            with within(made[name]):
                shell(f"sysctl -qw {SETTINGS}; ip route add default via {four}; ip -6 route add default via {six}")
        with within(made["one"]):
            shell("ip route add blackhole 198.51.100.0/24; ip -6 route add blackhole 2001:db8:51::/48")
        pods = {
            "pod": (made["pod"], ("192.0.2.2",)),
            "loop": (made["far"], ("203.0.113.9", "2001:db8:71::9")),
            "gone": (made["far"], ("198.51.100.9", "2001:db8:51::9")),
        }
        with Pings(pods, 0.1) as pings:
            time.sleep(3)  # until link-local addresses are no longer tentative
            pings.lap()
            time.sleep(1)
            result = pings.lap()
    assert sum(result.exceeded.values()) > 4
    assert result.strays == 0
    ends = {one.partition(" at ")[0] for one in result.rounds}
    assert ends == {"192.0.2.2 > 203.0.113.9", "2001:db8:2::2 > 2001:db8:71::9"}
    lost = {pair for pair in result.lossy() if pair.source == "pod"}
    assert lost == {Pair("pod", name, family) for name in ("loop", "gone") for family in (4, 6)}
    assert any("packets went round" in one for one in result.harm(lambda _: True))
