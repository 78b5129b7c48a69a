"""Random worlds in the kernel: a connection gets through exactly when the program says so at both ends, and never
against the documents.

All endpoints of a world are plugged into one host, and everybody else's addresses are those of the world outside it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from romana.core.policy.world import PolicyWorld
from romana.core.ruleset import desired_ruleset, ruleset_changes
from romana.model.address import Address, Family
from romana.model.endpoint import Endpoint
from romana.model.ipam import Span
from romana.model.program import Program
from romana.model.view import IdentityRows, RowHead, View
from tests.probes.onehost import WORLD4, WORLD6, OneHost, one_host
from tests.probes.traffic import Probe, accepted, bound
from tests.proof.connections import Connection, outcomes
from tests.proof.queries import Comparison
from tests.proof.random_worlds import random_world

TRAFFIC = (
    *(("tcp", port) for port in (79, 80, 81, 90, 443)),
    *(("udp", port) for port in (53, 61, 80)),
    *(("sctp", port) for port in (80, 81)),
    ("icmp", 0),
)
MOST_OUTSIDE = 40
"""Addresses of the world outside."""
TRIES = 3
"""Until everything arrives where nothing is denied."""


class Tried(NamedTuple):
    """What came of a world: how many connections were tried, and got through, and what is wrong, in words."""

    connections: int
    reached: int
    wrong: list[str]


def try_world(seed: int, connections: int = 500, spoil: Callable[[OneHost], None] = lambda _: None) -> Tried:
    """Try random connections in the world of a seed; `spoil` may change the host's rules before."""
    made = random_world(seed)
    random = Random(seed)
    local = {
        address: endpoint
        for endpoint in sorted(made.world.endpoints.values(), key=lambda one: one.id)
        if endpoint.host == "h1"
        for address in endpoint.addresses
    }
    outside = [address for address in made.addresses if is_usable(address) and address not in local]
    outside = random.sample(outside, min(MOST_OUTSIDE, len(outside)))
    comparison = Comparison(made.world, made.documents)
    endpoints = list({endpoint.id: endpoint for endpoint in local.values()}.values())
    identities = {address: endpoint.identity for address, endpoint in local.items()}
    chosen = list(_choose(random, local, outside, connections))
    with one_host("w") as host, populated(host, endpoints, outside) as servers:
        assert_all_reachable(host, local, servers)
        view = host_view(made.world, comparison.program)
        host.table.apply(ruleset_changes(desired_ruleset(view, endpoints), None))
        spoil(host)
        probes = [_probe(host, local, one) for one in chosen]
        reached = accepted(probes, servers)
        judged = outcomes(comparison, identities, zip(chosen, reached, strict=True))
        late = [at for at, one in enumerate(judged) if one.is_expected and not one.reached]  # on a busy machine
        for at, answer in zip(late, accepted([probes[at] for at in late], servers), strict=True):
            judged[at] = judged[at]._replace(reached=answer)
    wrong = [sentence for one in judged if (sentence := one.wrong(made))]
    return Tried(len(judged), sum(one.reached for one in judged), wrong)


def _choose(
    random: Random, local: Mapping[Address, Endpoint], outside: Sequence[Address], count: int
) -> Iterator[Connection]:
    pairs = [
        (one, other)
        for one in (*local, *outside)
        for other in (*local, *outside)
        if one.family is other.family and (one in local or other in local) and local.get(one) is not local.get(other)
    ]
    for _ in range(count if pairs else 0):
        yield Connection(*random.choice(pairs), *random.choice(TRAFFIC))


def _probe(host: OneHost, local: Mapping[Address, Endpoint], connection: Connection) -> Probe:
    source = local.get(connection.source)
    space = host.spaces["world" if source is None else source.id]
    return Probe(space, connection.kind, connection.destination.text, connection.port, connection.source.text)


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


def is_usable(address: Address) -> bool:
    """Whether a host of the world may have it and send from it."""
    if address.family is Family.V6:
        return address.value >> 112 in (0xFD00, 0x2001)
    return address.value >> 24 in (10, 203) or address.value >> 8 == 0xC00002 or address.value >> 24 == 11


@contextlib.contextmanager
def populated(
    host: OneHost, endpoints: Sequence[Endpoint], outside: Sequence[Address]
) -> Iterator[list[socket.socket]]:
    """The endpoints plugged in, the outside addresses there, and servers everywhere."""
    names = ["world"]
    for endpoint in endpoints:
        host.plug(endpoint.id, endpoint)
        names.append(endpoint.id)
    host.ip("world", *(f"address add {address}/{address.length} dev lo" for address in outside))
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(bound(host.spaces[name], kind, address, port))
            for name in names
            for kind, port in (*(one for one in TRAFFIC if one[0] in ("tcp", "udp")), ("sctp", 0))
            for address in ("0.0.0.0", "::")
        ]


def assert_all_reachable(host: OneHost, local: Mapping[Address, Endpoint], servers: Sequence[socket.socket]) -> None:
    """Without a table everything arrives; from then on every neighbour is known, so no packet waits for one."""
    probes = [
        probe
        for address, endpoint in local.items()
        for probe in (
            Probe(host.spaces["world"], "udp", address.text, 53),
            Probe(host.spaces[endpoint.id], "udp", WORLD4 if address.family is Family.V4 else WORLD6, 53),
        )
    ]
    for _ in range(TRIES):
        reached = accepted(probes, servers)
        probes = [probe for probe, answer in zip(probes, reached, strict=True) if not answer]
    assert not probes
