"""Random compiled programs in the kernel: a connection gets through exactly when the program says so at both ends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from random import Random

import pytest

from romana.core.policy.compile import compile_program
from romana.core.policy.evaluate import verdict
from romana.core.policy.profile import allows
from romana.core.policy.world import PolicyWorld
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.address import Address, Family
from romana.model.endpoint import Endpoint
from romana.model.ipam import Span
from romana.model.policy import Direction
from romana.model.program import Program
from romana.model.view import IdentityRows, RowHead, View
from tests.probes.onehost import WORLD4, WORLD6, OneHost, one_host
from tests.probes.traffic import Probe, accepted, bound
from tests.unit.core.policy.random_worlds import random_world

SEEDS = (3, 5, 9, 13, 21, 34)
PROBES_PER_WORLD = 500
TRAFFIC = (("tcp", 79), ("tcp", 80), ("tcp", 90), ("tcp", 443), ("udp", 53), ("udp", 61), ("icmp", 0))
NUMBERS = {("tcp", 4): 6, ("tcp", 6): 6, ("udp", 4): 17, ("udp", 6): 17, ("icmp", 4): 1, ("icmp", 6): 58}
ECHO = {4: 8 << 8, 6: 128 << 8}


def host_view(world: PolicyWorld, program: Program) -> View:
    """The whole program as one host's view; only the endpoints' own addresses are its spans."""
    known = {endpoint.identity.id: endpoint.identity for endpoint in world.endpoints.values()}
    return View(
        networks=dict(world.networks),
        spans={
            address: Span(cidr=address, network="", host="h1")
            for endpoint in world.endpoints.values()
            for address in endpoint.addresses
        },
        identities={
            identity: IdentityRows(
                identity=known[identity],
                class_id=name,
                ingress=program.row_ids[name].ingress,
                egress=program.row_ids[name].egress,
            )
            for identity, name in program.classes.items()
            if identity in known
        },
        rows={row.id: RowHead(direction=row.direction, words=row.words) for row in program.rows.values()},
        entries={row.id: row.entries for row in program.rows.values()},
        profiles=program.profiles,
    )


def expected(
    program: Program, ends: tuple[Endpoint | None, Endpoint | None], probe: Probe, pair: tuple[Address, Address]
) -> bool:
    family = int(pair[0].family)
    protocol = NUMBERS[probe.kind, family]
    port = probe.port if probe.kind != "icmp" else ECHO[family]
    for end, direction, peer in zip(ends, (Direction.EGRESS, Direction.INGRESS), reversed(pair), strict=True):
        if end is None:
            continue
        name = program.classes.get(end.identity.id)
        if name is None or not allows(verdict(program, direction, name, peer)[1], protocol, port):
            return False
    return True


def is_usable(address: Address) -> bool:
    """Whether a host of the world may have it and send from it."""
    if address.family is Family.V6:
        return address.value >> 112 in (0xFD00, 0x2001)
    return address.value >> 24 in (10, 203) or address.value >> 8 == 0xC00002 or address.value >> 24 == 11


@contextlib.contextmanager
def populated(host: OneHost, endpoints: list[Endpoint], outside: list[Address]) -> Iterator[list[socket.socket]]:
    for endpoint in endpoints:
        host.plug(endpoint.id, endpoint)
    host.ip("world", *(f"address add {address}/{address.length} dev lo" for address in outside))
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(bound(host.spaces[name], kind, "::" if family == 6 else "0.0.0.0", port))
            for name in ("world", *(endpoint.id for endpoint in endpoints))
            for kind, port in TRAFFIC
            for family in (4, 6)
            if kind != "icmp"
        ]


def assert_all_reachable(host: OneHost, local: dict[Address, Endpoint], servers: list[socket.socket]) -> None:
    """Without a table everything arrives; from then on every neighbour is known, so no packet waits for one."""
    probes = [
        probe
        for address, endpoint in local.items()
        for probe in (
            Probe(host.spaces["world"], "udp", address.text, 53),
            Probe(host.spaces[endpoint.id], "udp", WORLD4 if address.family is Family.V4 else WORLD6, 53),
        )
    ]
    assert accepted(probes, servers) == [True] * len(probes)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_kernel_decides_as_the_program(seed: int) -> None:
    made = random_world(seed)
    random = Random(seed)
    world, program = made.world, compile_program(made.world)
    endpoints = sorted(world.endpoints.values(), key=lambda endpoint: endpoint.id)
    local = {endpoint.addresses[0]: endpoint for endpoint in endpoints}
    outside = [address for address in made.addresses if is_usable(address) and address not in local]
    outside = random.sample(outside, min(40, len(outside)))
    with one_host("w") as host, populated(host, list(local.values()), outside) as servers:
        assert_all_reachable(host, local, servers)
        host.table.apply(ruleset_changes(desired_ruleset(host_view(world, program), local.values()), None))
        pairs = [
            (one, other)
            for one in (*local, *outside)
            for other in (*local, *outside)
            if one.family is other.family and one != other and (one in local or other in local)
        ]
        questions = [(random.choice(pairs), *random.choice(TRAFFIC)) for _ in range(PROBES_PER_WORLD if pairs else 0)]
        probes = [
            Probe(host.spaces[local[one].id if one in local else "world"], kind, other.text, port, one.text)
            for (one, other), kind, port in questions
        ]
        wanted = [
            expected(program, (local.get(pair[0]), local.get(pair[1])), probe, pair)
            for (pair, _, _), probe in zip(questions, probes, strict=True)
        ]
        found = accepted(probes, servers)
    wrong = [
        f"{pair[0]} -> {pair[1]} {kind}{port}: program {want}, kernel {got}"
        for (pair, kind, port), want, got in zip(questions, wanted, found, strict=True)
        if want != got
    ]
    assert not wrong
    assert len(set(wanted)) == 2 or len(local) < 2
