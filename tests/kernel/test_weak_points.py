"""Weak points of the original that only a kernel can show; `docs/design/weak-points.md` has the table."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from romana.core.ruleset import desired_ruleset, ruleset_changes
from tests.fakes.rulesets import STORE, WEB, endpoint, entries, view
from tests.probes.onehost import OneHost, one_host
from tests.probes.traffic import Probe, accepted, bound

ALL = ("0.0.0.0/0 accept", "::/0 accept")
ROWS = {"in_web": entries(*ALL), "out_web": entries(*ALL), "in_store": entries(*ALL), "out_store": entries(*ALL)}
ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE)}
IDENTITIES = {"web": WEB, "store": STORE}
THEIRS = """
table ip theirs {
    set tenants { type ipv4_addr; flags interval; elements = { 10.0.0.0/29, 192.0.2.7 } }
    map verdicts { type ipv4_addr : verdict; elements = { 10.0.0.9 : accept } }
    chain forward { type filter hook forward priority 5; ip saddr @tenants accept; ip saddr vmap @verdicts; }
}
table inet romana2 {
    set endpoints { type ifname; elements = { "rom0" } }
    chain sources { accept; }
}
"""


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[OneHost, list[socket.socket]]]:
    with one_host("w") as host:
        for name, plugged in ENDPOINTS.items():
            host.plug(name, plugged)
        servers = [bound(host.spaces["store"], kind, "0.0.0.0", 80) for kind in ("tcp", "udp")]
        yield host, servers
        for server in servers:
            server.close()


@pytest.fixture
def host(built: tuple[OneHost, list[socket.socket]]) -> Iterator[OneHost]:
    yield built[0]
    built[0].nft("flush ruleset")


def apply(host: OneHost, rows: dict[str, tuple[str, ...]]) -> None:
    changed = {name: entries(*found) for name, found in rows.items()}
    state = view({**ROWS, **changed}, identities=IDENTITIES)
    host.table.apply(ruleset_changes(desired_ruleset(state, ENDPOINTS.values()), host.table.read()))


def theirs(host: OneHost) -> str:
    return host.nft("list table ip theirs") + host.nft("list table inet romana2")


def test_weak_point_16_sets_and_tables_of_others_are_left_alone(host: OneHost) -> None:
    host.nft(THEIRS)
    before = theirs(host)
    apply(host, {})
    apply(host, {"in_store": ("10.0.0.0/8 drop",)})
    host.table.add_endpoint(endpoint(2, WEB), "in_web", "out_web")
    host.table.remove_endpoint(endpoint(2, WEB))
    host.table.apply(ruleset_changes(desired_ruleset(view(ROWS, identities=IDENTITIES), ()), None))
    assert theirs(host) == before
    host.table.remove()
    assert theirs(host) == before


def test_weak_point_18_what_an_endpoint_may_send_is_judged_also_on_its_own_host(
    host: OneHost, built: tuple[OneHost, list[socket.socket]]
) -> None:
    probe = Probe(host.spaces["web"], "tcp", "10.0.0.65", 80)
    apply(host, {})
    assert accepted([probe], built[1]) == [True]
    apply(host, {"out_web": ("10.0.0.64/29 drop",)})
    assert accepted([probe], built[1]) == [False]
    apply(host, {"out_web": ("0.0.0.0/0 drop", "10.0.0.64/29 accept")})
    assert accepted([probe], built[1]) == [True]


@pytest.mark.parametrize("mark", ["ct label set 5", "ct label set 127", "ct mark set 0xffffffff", "meta mark set 5"])
def test_no_mark_that_others_give_a_connection_means_anything_to_us(
    host: OneHost, built: tuple[OneHost, list[socket.socket]], mark: str
) -> None:
    apply(host, {})
    hook = "type filter hook prerouting priority -10"
    host.nft(f"table inet marks {{\nchain marking {{\n{hook}\n{mark}\n}}\n}}")
    assert accepted([Probe(host.spaces["web"], "tcp", "10.0.0.65", 80)], built[1]) == [True]
