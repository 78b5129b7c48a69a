"""Links in the kernel: what is made, that the first packet passes, and that a failure leaves nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from romana.adapters.linux.links import HOST_MAC, KernelLinks, workload_mac
from romana.adapters.linux.netlink import Netlink
from romana.adapters.linux.rtnetlink import KernelRoute, NextHop, new_route
from romana.adapters.linux.sysctls import prepare_host, read_sysctl, write_sysctl
from romana.codec.text import parse_address
from romana.model.errors import AlreadyExists, NotFound, RomanaError
from romana.ports import LinkPlan
from tests.probes.spaces import shell, spaces, within

LINK = "rom0123456789ab"
ADDRESSES = ("10.1.2.3", "fd00:1::3")


@pytest.fixture
def paths() -> Iterator[dict[str, str]]:
    """A host that forwards, with addresses of its own, in which the test runs; and two pods."""
    with spaces("host", "pod", "pod2") as made, within(made["host"]):
        shell("ip link set lo up; ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo nodad")
        prepare_host()
        yield made


@pytest.fixture
def links(paths: dict[str, str]) -> Iterator[KernelLinks]:
    with KernelLinks() as made:
        yield made


def plan(path: str, link: str = LINK, addresses: tuple[str, ...] = ADDRESSES) -> LinkPlan:
    found = tuple(map(parse_address, addresses))
    return LinkPlan(link=link, netns=path, interface="eth0", addresses=found, mtu=1400)


def told(command: str) -> list[dict[str, object]]:
    return json.loads(shell(command) or "[]")  # type: ignore[no-any-return]


def nothing_left(path: str) -> bool:
    with within(path):
        inside = [entry["ifname"] for entry in told("ip -j link")]
    routes = shell("ip route; ip -6 route show proto 146; ip neigh")
    return inside == ["lo"] and [entry["ifname"] for entry in told("ip -j link")] == ["lo"] and not routes


def test_the_host_side_is_as_planned(links: KernelLinks, paths: dict[str, str]) -> None:
    state = links.create(plan(paths["pod"]))
    (link,) = told(f"ip -j -d link show {LINK}")
    assert (link["ifindex"], link["mtu"], link["address"], link["operstate"]) == (state.index, 1400, HOST_MAC, "UP")
    assert link["inet6_addr_gen_mode"] == "none"
    assert not any(entry["addr_info"] for entry in told(f"ip -j addr show {LINK}"))
    routes = told(f"ip -j -N route show dev {LINK}") + told(f"ip -j -N -6 route show dev {LINK}")
    assert [(route["dst"], route["protocol"]) for route in routes] == [(address, "146") for address in ADDRESSES]
    assert routes[0]["scope"] == "253"
    neighbours = {entry["dst"]: entry for entry in told(f"ip -j neigh show dev {LINK} nud permanent")}
    assert {dst: entry["lladdr"] for dst, entry in neighbours.items()} == dict.fromkeys(ADDRESSES, state.peer_mac)


def test_the_sysctls_of_the_host_side_are_ours(links: KernelLinks, paths: dict[str, str]) -> None:
    for name in ("accept_redirects", "send_redirects", "proxy_arp"):
        write_sysctl(f"net/ipv4/conf/default/{name}", "1")
    links.create(plan(paths["pod"]))
    v4 = f"net/ipv4/conf/{LINK}"
    names = ("accept_redirects", "send_redirects", "proxy_arp", "rp_filter", "forwarding")
    assert [read_sysctl(f"{v4}/{name}") for name in names] == ["0", "0", "0", "1", "1"]
    v6 = f"net/ipv6/conf/{LINK}"
    assert [read_sysctl(f"{v6}/{name}") for name in ("accept_ra", "accept_redirects", "forwarding")] == ["0", "0", "1"]


def test_the_workload_side_is_as_planned(links: KernelLinks, paths: dict[str, str]) -> None:
    links.create(plan(paths["pod"]))
    with within(paths["pod"]):
        (link,) = told("ip -j addr show eth0")
        routes = told("ip -j route") + told("ip -j -6 route show default")
        neighbours = {entry["dst"]: entry["lladdr"] for entry in told("ip -j neigh show nud permanent")}
        loopback = told("ip -j link show lo")[0]
    assert (link["mtu"], link["address"]) == (1400, workload_mac(LINK))
    found = {(entry["local"], entry["prefixlen"], entry.get("nodad", False)) for entry in link["addr_info"]}  # type: ignore[attr-defined]
    assert found >= {("10.1.2.3", 32, False), ("fd00:1::3", 128, True)}
    assert [(route["dst"], route["gateway"]) for route in routes] == [
        ("default", "169.254.1.1"),
        ("default", "fe80::1"),
    ]
    assert neighbours == {"169.254.1.1": HOST_MAC, "fe80::1": HOST_MAC}
    assert "UP" in loopback["flags"]  # type: ignore[operator]


def test_the_first_packet_passes_both_ways(links: KernelLinks, paths: dict[str, str]) -> None:
    """No retries: each ping has one packet only, sent at once after the link was made."""
    for turn in range(5):
        link = f"rom{turn:012x}"
        links.create(plan(paths["pod"], link))
        shell(" & ".join(f"ping -nqc1 -W1 {address}" for address in ADDRESSES) + " & wait")
        for address in ADDRESSES:
            shell(f"ping -nqc1 -W1 {address}")
        links.delete(link)
        links.create(plan(paths["pod"], link))
        with within(paths["pod"]):
            for address in ("192.0.2.1", "2001:db8::1"):
                shell(f"ping -nqc1 -W1 {address}")
        links.delete(link)


def test_two_workloads_reach_each_other_through_the_host(links: KernelLinks, paths: dict[str, str]) -> None:
    links.create(plan(paths["pod"]))
    links.create(plan(paths["pod2"], "romffffffffffff", ("10.1.2.9", "fd00:1::9")))
    with within(paths["pod"]):
        shell("ping -nqc1 -W1 10.1.2.9; ping -nqc1 -W1 fd00:1::9")


def test_check_is_content_with_what_create_made(links: KernelLinks, paths: dict[str, str]) -> None:
    links.create(plan(paths["pod"]))
    assert links.check(plan(paths["pod"])) == []


@pytest.mark.parametrize(
    ("side", "damage", "sentence"),
    [
        ("host", f"ip link set {LINK} down", f"the host's link {LINK} is down"),
        ("host", f"ip link set {LINK} mtu 1300", f"the host's link {LINK} has MTU 1300 instead of 1400"),
        ("host", f"ip route del 10.1.2.3 dev {LINK}", "the host has no route to 10.1.2.3"),
        ("host", f"ip -6 neigh del fd00:1::3 dev {LINK}", "the host has no permanent neighbour fd00:1::3"),
        ("pod", "ip addr del 10.1.2.3/32 dev eth0", "does not have the address 10.1.2.3 on 'eth0'"),
        ("pod", "ip -6 route del default", "has no route to ::/0"),
        ("pod", "ip neigh del 169.254.1.1 dev eth0", "has no permanent neighbour 169.254.1.1"),
        ("pod", "ip link set eth0 name eth9", "has no interface 'eth0'"),
    ],
    ids=["down", "MTU", "route", "neighbour", "address", "default route", "gateway", "renamed"],
)
def test_check_names_what_is_missing(
    links: KernelLinks, paths: dict[str, str], side: str, damage: str, sentence: str
) -> None:
    links.create(plan(paths["pod"]))
    with within(paths[side]):
        shell(damage)
    assert any(sentence in fault for fault in links.check(plan(paths["pod"])))


def test_check_of_what_was_never_made_says_so(links: KernelLinks, paths: dict[str, str]) -> None:
    assert links.check(plan(paths["pod"])) == [f"the host has no link {LINK}"]
    links.create(plan(paths["pod"]))
    (fault,) = links.check(plan("/run/netns/romt-nowhere"))
    assert "does not exist" in fault


def test_read_tells_ours_and_no_other(links: KernelLinks, paths: dict[str, str]) -> None:
    assert links.read() == {}
    made = links.create(plan(paths["pod"]))
    shell("ip link add romeo type veth peer name juliet")
    assert links.read() == {LINK: made}


def test_deleting_is_repeatable_and_takes_all_with_it(links: KernelLinks, paths: dict[str, str]) -> None:
    links.create(plan(paths["pod"]))
    links.delete(LINK)
    links.delete(LINK)
    assert nothing_left(paths["pod"])


def test_many_links_go_at_once_and_no_other(links: KernelLinks, paths: dict[str, str]) -> None:
    names = [f"rom{number:012x}" for number in range(40)]
    for number, name in enumerate(names):
        wanted = plan(paths["pod"], name, (f"10.1.2.{number}",))
        with within(paths["pod"]):
            shell("ip route del default || true")
        links.create(msgspec.structs.replace(wanted, interface=f"eth{number}"))
    links.delete(*names[:5], *names[6:], "romffffffffffff")
    assert list(links.read()) == [names[5]]
    links.delete()
    links.delete(*names)
    assert nothing_left(paths["pod"])


def test_the_same_link_twice_is_refused_and_the_first_stays(links: KernelLinks, paths: dict[str, str]) -> None:
    links.create(plan(paths["pod"]))
    with pytest.raises(AlreadyExists, match=f"link {LINK} exists on this host"):
        links.create(plan(paths["pod2"]))
    with pytest.raises(AlreadyExists, match="has an interface 'eth0' already"):
        links.create(plan(paths["pod"], "romffffffffffff"))
    assert links.check(plan(paths["pod"])) == []
    assert list(links.read()) == [LINK]


@pytest.mark.parametrize("made", [False, True], ids=["no such path", "a file"])
def test_no_such_namespace_is_not_found(links: KernelLinks, paths: dict[str, str], tmp_path: Path, made: bool) -> None:
    path = tmp_path / "net"
    if made:
        path.touch()
    with pytest.raises(NotFound, match="not a network namespace" if made else "does not exist"):
        links.create(plan(str(path)))
    assert nothing_left(paths["pod"])


@pytest.mark.parametrize("side", ["host", "pod"])
def test_a_failure_half_way_leaves_nothing(links: KernelLinks, paths: dict[str, str], side: str) -> None:
    if side == "pod":  # the workload has a default route: through loopback, so that nothing else is in the way
        with within(paths["pod"]):
            shell("ip link set lo up; ip route add default dev lo")
    else:  # somebody else has a route to the address
        shell("ip route add 10.1.2.3/32 dev lo")
    with pytest.raises(AlreadyExists, match="setting up"):
        links.create(plan(paths["pod"]))
    shell("ip route flush root 10.1.2.3/32")
    assert nothing_left(paths["pod"])


def test_an_interface_name_that_the_kernel_refuses_is_said(links: KernelLinks, paths: dict[str, str]) -> None:
    with pytest.raises(RomanaError, match=r"creating link rom0123456789ab with 'a/b'"):
        links.create(msgspec.structs.replace(plan(paths["pod"]), interface="a/b"))
    assert nothing_left(paths["pod"])


def test_ipv6_works_where_new_interfaces_have_it_turned_off(links: KernelLinks, paths: dict[str, str]) -> None:
    for path in ("host", "pod"):
        with within(paths[path]):
            write_sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    links.create(plan(paths["pod"]))
    assert links.check(plan(paths["pod"])) == []
    shell("ping -nqc1 -W1 fd00:1::3")


def test_a_workload_without_ipv6_gets_none(links: KernelLinks, paths: dict[str, str]) -> None:
    only4 = plan(paths["pod"], addresses=("10.1.2.3",))
    links.create(only4)
    assert links.check(only4) == []
    assert read_sysctl(f"net/ipv6/conf/{LINK}/disable_ipv6") == "1"


def test_a_host_goes_on_taking_router_advertisements() -> None:
    with spaces("host") as paths, within(paths["host"]):
        shell("ip link add up0 type veth peer name up1; ip link add up2 type veth peer name up3")
        write_sysctl("net/ipv6/conf/up2/accept_ra", "0")
        changed = prepare_host()
        assert [read_sysctl(f"net/ipv6/conf/{name}/accept_ra") for name in ("up0", "up2")] == ["2", "0"]
        assert [read_sysctl(f"net/{name}") for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")] == ["1", "1"]
        assert changed["net/ipv6/conf/up0/accept_ra"] == "1"
        assert prepare_host() == {}


def test_a_refusal_carries_the_kernels_own_words(paths: dict[str, str]) -> None:
    away = KernelRoute(prefix=parse_address("10.9.9.9"), hops=(NextHop(gateway=parse_address("10.8.8.8")),))
    with Netlink() as netlink, pytest.raises(RomanaError, match=r"trying: Network is unreachable .*gateway"):
        netlink.require([new_route(away)], "trying")


def test_without_the_privilege_the_sentence_says_which(paths: dict[str, str]) -> None:
    code = (
        "import os; from romana.adapters.linux.links import KernelLinks;"  # while it may read the checkout
        "os.setgid(65534); os.setuid(65534); KernelLinks().delete('rom0')"
    )
    python = Path(__file__).parents[2] / ".venv/bin/python"
    ended = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    assert "needs CAP_NET_ADMIN" in ended.stderr
