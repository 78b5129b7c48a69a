"""Worlds for the packet benchmark: how many peers a host knows, how many policies select the target, and their packets.

Owns the tables that romana's own compiler and renderer make for two hosts: the target's, and the one where the peers
are, each with the gate of its lease. Measures nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from romana.adapters.linux.fence import open_gate
from romana.codec.nft import render_table
from romana.codec.policy import read_policies
from romana.codec.text import parse_prefix
from romana.core.policy.compile import compile_program
from romana.core.policy.world import PolicyWorld
from romana.core.ruleset import Ruleset, desired_ruleset
from romana.core.view import ViewSource, host_view
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Block, Span
from romana.model.policy import Policy
from romana.model.program import Program
from romana.model.tenancy import Identity, Isolation, Owner, Tenant
from romana.model.topology import Network

PEERS = 1000
"""Addresses that packets come from."""
PORT = 7000
SPREAD = parse_prefix("10.0.0.0/8")
"""Where peers are."""
SPARED = parse_prefix("10.112.0.0/12")
"""The network of the lab's own endpoints, the target among them."""
SINGLES = 10
"""Of so many elements one is an address in a block that several share; the others are blocks."""
FAR = "far"
"""A host that is only a name."""
SEED = 7
LEASE = 86_400
"""Seconds for which the gate of a lease is open."""

_OWNER = Owner("bench", "load")
_TARGET = Identity(owner=_OWNER, labels={"app": "target"})
_PEER = Identity(owner=_OWNER, labels={"app": "peer"})
_NETWORKS = {
    name: Network(name=name, cidr=cidr, block_length=length, span_length=length - 6)
    for name, cidr, length in (("peers4", SPREAD, 25), ("peers6", parse_prefix("fd00:10::/48"), 122))
}
_NETWORK = _NETWORKS["peers4"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A host with an endpoint: the host's node, the link of the endpoint on it, its IPv4 address."""

    node: str
    link: str
    address: Address


class World(msgspec.Struct, frozen=True, kw_only=True):
    """`groups` has, for each group of peers, what is known of them: whole blocks, and single addresses.

    With policies there is a group for each of them, which that policy lets in; without, one group of the target's own
    tenant. `peers` are those that send, at random from all groups.
    """

    policies: int
    groups: tuple[tuple[Prefix, ...], ...]
    peers: tuple[Address, ...]

    def members(self) -> list[list[Address]]:
        """The endpoints of each group: its peers, and one in each element where there is no peer."""
        sending: dict[Prefix, list[Address]] = {}
        for one in self.peers:
            sending.setdefault(one.supernet(_NETWORK.block_length), []).append(one)
        return [
            [
                one
                for element in group
                for one in (not element.is_address and sending.get(element)) or [element.address(0)]
            ]
            for group in self.groups
        ]


def world(elements: int, policies: int) -> World:
    """A world with so many elements in the target's row, each at random in SPREAD."""
    chance = random.Random(SEED)
    blocks = [_NETWORK.cidr.subnet(_NETWORK.block_length, number) for number in range(1 << 17)]
    free = [block for block in blocks if not SPARED.contains(block)]
    chance.shuffle(free)
    whole = elements - elements // SINGLES
    shared = [block.address(offset) for block in free[whole : whole + elements // 1000 + 2] for offset in range(100)]
    known: list[Prefix] = [*free[:whole], *shared[: elements // SINGLES]]
    chance.shuffle(known)
    count = max(1, policies)
    return World(
        policies=policies,
        groups=tuple(tuple(known[number::count]) for number in range(count)),
        peers=tuple(_peers(known, chance)),
    )


def _peers(known: list[Prefix], chance: random.Random) -> Iterator[Address]:
    """Different addresses, spread over all elements as evenly as there is room."""
    taken: set[Address] = set()
    while len(taken) < PEERS:
        for element in chance.sample(known, min(len(known), PEERS)):
            one = element.address(chance.randrange(1 << (element.family.bits - element.length)))
            if one not in taken and len(taken) < PEERS:
                taken.add(one)
                yield one


def ports(policy: int) -> tuple[int, int]:
    """First and last port that a policy opens, of ten kinds."""
    return PORT, PORT + policy % 10


def target_table(made: World, target: Place) -> str:
    """The table of the target's host in this world."""
    people = [Identity(owner=_OWNER, labels={"group": str(number)}) for number in range(len(made.groups))]
    inhabitants = {place: people[number] for number, group in enumerate(made.groups) for place in group}
    singles = [_endpoint(place, who) for place, who in inhabitants.items() if place.is_address]
    program = compile_program(
        PolicyWorld(
            tenants={_OWNER.tenant: Tenant(name=_OWNER.tenant)},
            policies={one.id: one for number in range(made.policies) for one in _policy(number)},
            identities={one.id: one for one in (_TARGET, *people)},
            networks=_NETWORKS,
            blocks={place: _block(place, who) for place, who in inhabitants.items() if not place.is_address},
            endpoints={one.id: one for one in singles},
        )
    )
    ruleset = _ruleset(program, [_endpoint(target.address, _TARGET, target)], [target.address])
    found = sum(len(content) for name, content in ruleset.maps.items() if name.startswith("in_"))
    if found != len(inhabitants):
        raise SystemExit(f"bench: the target's row has {found} elements, not {len(inhabitants)}")
    return _gated(ruleset)


def sender_table(made: World, sender: Place) -> str:
    """The table of the peers' host: no policy selects them, and their tenant isolates nobody."""
    program = compile_program(
        PolicyWorld(
            tenants={_OWNER.tenant: Tenant(name=_OWNER.tenant, isolation=Isolation.NONE)},
            identities={_PEER.id: _PEER},
            networks=_NETWORKS,
        )
    )
    return _gated(_ruleset(program, [_endpoint(one, _PEER, sender) for one in made.peers], _beside(SPARED)))


def _policy(number: int) -> list[Policy]:
    first, last = ports(number)
    document: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"group-{number}", "namespace": _OWNER.tenant},
        "spec": {
            "podSelector": {"matchLabels": {"app": "target"}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": {"group": str(number)}}}],
                    "ports": [{"protocol": word, "port": first, "endPort": last} for word in ("TCP", "UDP")],
                }
            ],
        },
    }
    return list(read_policies(document))


def _block(cidr: Prefix, who: Identity, host: str = FAR) -> Block:
    return Block(
        cidr=cidr, span=cidr, network=_NETWORK.name, host=host, allocator=host, owner=_OWNER, identities=(who.id,)
    )


def _endpoint(address: Prefix, who: Identity, place: Place | None = None) -> Endpoint:
    """An endpoint of a place, else of somewhere else."""
    id_ = f"{address}/eth0"
    block = address.supernet(_NETWORK.block_length)
    return Endpoint(
        id=id_,
        name=id_,
        host=place.node if place else FAR,
        identity=who,
        allocations=(
            Allocation(address=Address(address.family, address.value), block=block, endpoint=id_, sequence=1),
        ),
        link=place.link if place else "",
    )


def _gated(ruleset: Ruleset) -> str:
    return render_table(ruleset) + open_gate(LEASE)


def _beside(spared: Prefix) -> Iterator[Prefix]:
    """All of SPREAD but this part: the spans of the peers' host, so that it knows them by few ranges, as hosts do."""
    for length in range(SPREAD.length + 1, spared.length + 1):
        part = spared.supernet(length)
        yield next(one for one in part.supernet(length - 1).subnets(length) if one != part)


def _ruleset(program: Program, endpoints: list[Endpoint], spans: Iterable[Prefix]) -> Ruleset:
    """`spans` are those of the endpoints' host."""
    host = endpoints[0].host
    identities = {one.identity.id: one.identity for one in endpoints}
    source = ViewSource(
        incarnation="bench",
        revision=1,
        networks=_NETWORKS,
        spans={cidr: Span(cidr=cidr, network=_NETWORK.name, host=host) for cidr in spans},
        blocks={
            one.cidr: one for each in endpoints for one in [_block(each.allocations[0].block, each.identity, host)]
        },
        identities=identities,
        program=program,
    )
    return desired_ruleset(host_view(source, host, frozenset(_NETWORKS)), endpoints)
