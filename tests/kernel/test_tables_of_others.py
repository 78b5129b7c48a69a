"""Other programs' tables beside ours: not a byte of them changes, and what both say holds."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.tenancy import Identity, Owner
from romana.model.view import View
from tests.fakes.rulesets import HTTP, STORE, WEB, endpoint, entries, view
from tests.probes.onehost import HOST4, HOST6, OneHost, one_host
from tests.probes.others import SERVICE4, SERVICE6, TARGETS, load, tables
from tests.probes.traffic import Probe, accepted, bound

OTHER = Identity(owner=Owner("other", "app"))
ENDPOINTS = {"web": endpoint(1, WEB), "store": endpoint(65, STORE), "other": endpoint(129, OTHER)}
ALL = ("0.0.0.0/0 accept", "::/0 accept")
ROWS = {
    "in_web": entries(*ALL),
    "in_store": entries(f"0.0.0.0/0 {HTTP.id}", f"::/0 {HTTP.id}"),  # TCP 80 and 8000 to 8080
    "in_other": entries(),
    **{row: entries(*ALL) for row in ("out_web", "out_store", "out_other")},
}
SERVICE = {4: SERVICE4, 6: SERVICE6}


def world(**rows: tuple[str, ...]) -> View:
    changed = {row: entries(*parts) for row, parts in rows.items()}
    own = {"in_web": "accept", "out_web": "accept"}
    return view({**ROWS, **changed}, identities={"web": WEB, "store": STORE, "other": OTHER}, own=own)


def apply(host: OneHost, state: View) -> None:
    host.table.apply(ruleset_changes(desired_ruleset(state, ENDPOINTS.values()), host.table.read()))


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[OneHost, list[socket.socket]]]:
    with one_host("o") as host:
        for name, plugged in ENDPOINTS.items():
            host.plug(name, plugged)
        host.ip("world", f"route add {SERVICE4} via {HOST4}", f"route add {SERVICE6} via {HOST6}")
        host.settle()
        servers = [
            bound(host.spaces[name], "tcp", address, port)
            for name in (*ENDPOINTS, "host")
            for address in ("0.0.0.0", "::")
            for port in (80, 443, 8080)
        ]
        yield host, servers
        for server in servers:
            server.close()


@pytest.fixture
def host(built: tuple[OneHost, list[socket.socket]]) -> Iterator[OneHost]:
    yield built[0]
    built[0].nft("flush ruleset")


def reached(
    built: tuple[OneHost, list[socket.socket]], source: str, addresses: dict[int, str], *ports: int
) -> set[int]:
    """The ports that are reached by TCP, in both families."""
    goals = [(port, family) for port in ports for family in addresses]
    probes = [Probe(built[0].spaces[source], "tcp", addresses[family], port) for port, family in goals]
    found = {goal for goal, reached in zip(goals, accepted(probes, built[1]), strict=True) if reached}
    for port, family in goals:
        assert ((port, 10 - family) in found) == ((port, family) in found), f"{source}, {port}: one family alone"
    return {port for port, _ in found}


def test_not_a_byte_of_theirs_changes_while_ours_comes_changes_and_goes(host: OneHost) -> None:
    load(host.run)
    before = tables(host.run)
    plugged = endpoint(2, WEB)
    steps: tuple[Callable[[], None], ...] = (
        lambda: apply(host, world()),
        lambda: apply(host, world(in_store=(), out_web=("10.0.0.64/29 drop",))),
        lambda: host.table.add_endpoint(plugged, "in_web", "out_web"),
        lambda: host.table.remove_endpoint(plugged),
        lambda: host.table.apply(ruleset_changes(desired_ruleset(world(), ()), None)),
        host.table.remove,
    )
    for step in steps:
        step()
        assert tables(host.run) == before


@pytest.mark.parametrize("proxy", ["nftables", "iptables"])
def test_a_service_is_judged_by_where_it_really_leads(
    host: OneHost, built: tuple[OneHost, list[socket.socket]], proxy: str
) -> None:
    load(host.run, proxy)
    assert reached(built, "web", SERVICE, *TARGETS) == {80, 81, 82, 83}
    apply(host, world())
    assert reached(built, "web", SERVICE, *TARGETS) == {80, 83}
    assert reached(built, "world", SERVICE, *TARGETS) == {80, 83}
    assert reached(built, "store", SERVICE, *TARGETS) == {80, 81, 83}  # itself, too
    assert reached(built, "host", SERVICE, *TARGETS) == {83}  # web alone accepts its own host
    apply(host, world(in_store=()))
    assert reached(built, "web", SERVICE, *TARGETS) == {83}
    apply(host, world(out_store=()))
    assert reached(built, "store", SERVICE, *TARGETS) == {80, 81}


def test_a_firewall_and_policy_both_have_to_accept(host: OneHost, built: tuple[OneHost, list[socket.socket]]) -> None:
    load(host.run, "firewall")
    store, web = ({int(one.family): one.text for one in ENDPOINTS[name].addresses} for name in ("store", "web"))
    ports = (80, 443, 8080)
    assert reached(built, "web", store, *ports) == {443, 8080}
    apply(host, world())
    assert reached(built, "web", store, *ports) == {8080}
    assert reached(built, "web", {4: HOST4, 6: HOST6}, *ports) == {443, 8080}
    assert reached(built, "store", {4: HOST4, 6: HOST6}, *ports) == set()
    assert reached(built, "host", web, *ports) == set(ports)
    apply(host, world(in_web=()))
    assert reached(built, "world", web, *ports) == set()
    host.nft("delete table inet firewalld")
    assert reached(built, "web", store, *ports) == {80, 8080}
