"""Forgetting connections: real flows of both families, one walk or filtered walks, with and without NAT."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from romana.adapters.linux import conntrack
from romana.adapters.linux.conntrack import KernelConnections
from romana.codec.text import parse_address, parse_prefix
from tests.probes.spaces import shell, spaces, within

TRACK = """
    ip link set lo up
    for n in 1 2 3; do ip addr add 10.9.0.$n/32 dev lo; ip addr add fd09::$n/128 dev lo nodad; done
    nft -f - <<X
    table inet t {
        chain track { type filter hook output priority 0; ct state new accept; }
        chain nat { type nat hook output priority -100; ip daddr 10.8.8.8 dnat ip to 10.9.0.3; }
    }
X
    ip route add 10.8.8.8/32 dev lo
"""


@pytest.fixture(params=[5, 0], ids=["flushed", "one by one"])
def connections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[KernelConnections]:
    """Both ways; a kernel before 6.11 takes the second one always."""
    monkeypatch.setattr(conntrack, "_MOST_FLUSHED", request.param)
    with spaces("host") as made, within(made["host"]):
        shell(TRACK)
        with KernelConnections() as found:
            yield found


def flow(source: str, destination: str, port: int = 53) -> None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        sender.sendto(b"x", (destination, port))


def tracked() -> list[str]:
    lines = shell("cat /proc/net/nf_conntrack").splitlines()
    return sorted(line for line in lines if "udp" in line)


def forget(connections: KernelConnections, *addresses: str) -> int:
    return connections.forget(map(parse_address, addresses))


def test_only_what_the_address_took_part_in_goes(connections: KernelConnections) -> None:
    flow("10.9.0.1", "10.9.0.2")
    flow("10.9.0.2", "10.9.0.1")
    flow("fd09::1", "fd09::2")
    flow("10.9.0.2", "10.9.0.3")
    flow("fd09::2", "fd09::3")
    assert forget(connections, "10.9.0.1", "fd09::1") == 3
    v4, v6 = tracked()
    assert "src=10.9.0.2 dst=10.9.0.3" in v4
    assert "dst=fd09:0000:0000:0000:0000:0000:0000:0003" in v6


def test_translated_connections_are_found_by_their_real_address(connections: KernelConnections) -> None:
    flow("10.9.0.1", "10.8.8.8")
    (entry,) = tracked()
    assert "dst=10.8.8.8" in entry
    assert "src=10.9.0.3" in entry
    assert forget(connections, "10.9.0.3") == 1
    assert tracked() == []


def test_a_longer_address_that_begins_alike_stays(connections: KernelConnections) -> None:
    """The four bytes of an IPv4 address may stand inside an IPv6 address."""
    shell("ip addr add fd09::a09:1/128 dev lo nodad")
    flow("fd09::a09:1", "fd09::2")
    assert forget(connections, "10.9.0.1") == 0
    assert len(tracked()) == 1


def test_a_kernel_that_cannot_flush_by_address_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter type that no kernel knows stands for a kernel that knows no filter in a flush."""
    monkeypatch.setattr(conntrack, "_TUPLE_IP", 9)
    with spaces("host") as made, within(made["host"]), KernelConnections() as found:
        shell(TRACK)
        flow("10.9.0.1", "10.9.0.2")
        forget(found, "10.9.0.1")
        monkeypatch.undo()
        assert forget(found, "10.9.0.1") == 1
        assert tracked() == []


def test_prefixes_stand_for_all_their_addresses_but_some(connections: KernelConnections) -> None:
    for prefix in ("10.9.0.", "fd09::"):
        for source in (1, 2):
            flow(f"{prefix}{source}", f"{prefix}{source}")
    blocks = [parse_prefix("10.9.0.0/29"), parse_prefix("fd09::/64"), parse_prefix("10.9.1.0/29")]
    assert connections.forget(blocks, but=[parse_address("10.9.0.2"), parse_address("fd09::1")]) > 0
    v4, v6 = (entry for entry in tracked() if "udp" in entry)
    assert "src=10.9.0.2" in v4
    assert "src=fd09:0000:0000:0000:0000:0000:0000:0001" in v6


def test_nothing_tracked_and_nothing_asked_are_no_work(connections: KernelConnections) -> None:
    assert forget(connections, "10.9.0.1") == 0
    flow("10.9.0.1", "10.9.0.2")
    assert forget(connections) == 0
    assert len(tracked()) == 1


def test_many_entries_go_in_one_call(connections: KernelConnections) -> None:
    for port in range(1, 1001):
        flow("10.9.0.1", "10.9.0.2", port)
        flow("fd09::3", "fd09::2", port)
    assert forget(connections, "10.9.0.1", "fd09::9") == 1000
    assert len(tracked()) == 1000


def test_other_namespaces_connections_stay(connections: KernelConnections) -> None:
    with spaces("other") as made, within(made["other"]):
        shell(TRACK)
        flow("10.9.0.1", "10.9.0.2")
        assert forget(connections, "10.9.0.1") == 0
        assert len(tracked()) == 1


GATED = """
    nft -f - <<X
    table inet gated {
        chain gate { type filter hook output priority 10; ct status 0x400 counter drop; }
    }
X
"""


def dropped() -> int:
    line = next(line for line in shell("nft list chain inet gated gate").splitlines() if "counter" in line)
    return int(line.split("packets ")[1].split()[0])


def test_entries_are_read_as_policy_sees_them_and_condemned_ones_drop_both_ways(
    connections: KernelConnections,
) -> None:
    shell(GATED)
    for family, one, other in (
        (socket.AF_INET, "10.9.0.1", "10.9.0.2"),
        (socket.AF_INET6, "fd09::1", "fd09::2"),
    ):
        with socket.socket(family, socket.SOCK_DGRAM) as here, socket.socket(family, socket.SOCK_DGRAM) as there:
            here.bind((one, 4000))
            there.bind((other, 53))
            there.settimeout(1)
            here.sendto(b"x", (other, 53))
            assert there.recv(10) == b"x"
            ends = [parse_address(one)]
            (found,) = connections.read(ends)
            assert (found.source, found.destination) == (ends[0], parse_address(other))
            assert (found.protocol, found.source_port, found.port, found.condemned) == (17, 4000, 53, False)
            before = dropped()
            assert connections.condemn([found]) == 1
            (again,) = connections.read(ends)
            assert again.condemned
            with pytest.raises(PermissionError):
                here.sendto(b"y", (other, 53))
            with pytest.raises(PermissionError):
                there.sendto(b"z", (one, 4000))
            assert dropped() == before + 2
            assert connections.pardon([again]) == 1
            here.sendto(b"w", (other, 53))
            assert there.recv(10) == b"w"
    assert connections.condemn([found]) + connections.pardon([found]) <= 2  # gone, or there again: both are success


def test_a_connection_through_a_service_is_read_with_its_endpoint(connections: KernelConnections) -> None:
    flow("10.9.0.1", "10.8.8.8", 80)
    (found,) = connections.read([parse_address("10.9.0.3")])
    assert (str(found.source), str(found.destination), found.port) == ("10.9.0.1", "10.9.0.3", 80)
    assert found.asked == (parse_address("10.8.8.8"), 80)
    assert connections.read([parse_address("10.8.8.8")]) == [found]


def test_an_entry_that_was_answered_since_it_was_read_is_condemned_for_a_day(connections: KernelConnections) -> None:
    """What the kernel has seen meanwhile cannot be taken back; what is sent later does not prolong the entry."""
    with socket.socket(type=socket.SOCK_DGRAM) as here, socket.socket(type=socket.SOCK_DGRAM) as there:
        here.bind(("10.9.0.1", 4000))
        there.bind(("10.9.0.2", 53))
        here.sendto(b"x", ("10.9.0.2", 53))
        ends = [parse_address("10.9.0.1")]
        (found,) = connections.read(ends)
        there.sendto(b"y", ("10.9.0.1", 4000))
        assert connections.condemn([found]) == 1
        assert connections.condemn([found]) == 0
        here.sendto(b"z", ("10.9.0.2", 53))
    (again,) = connections.read(ends)
    assert again.condemned
    left = int(shell("conntrack -L -s 10.9.0.1 2>/dev/null").split()[2])
    assert 80_000 < left <= 86_400


def test_an_icmp_connection_has_its_type_and_code(connections: KernelConnections) -> None:
    shell("ping -c1 -W1 -I 10.9.0.1 10.9.0.2 >/dev/null || true; ping -c1 -W1 -I fd09::1 fd09::2 >/dev/null || true")
    found = connections.read([parse_address("10.9.0.2"), parse_address("fd09::2")])
    assert sorted((one.protocol, one.port) for one in found) == [(1, 8 * 256), (58, 128 * 256)]
