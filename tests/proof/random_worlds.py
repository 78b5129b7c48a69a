"""Random small worlds, made from a seed, that are unkind to a compiler.

CIDRs cut inside blocks; blocks are mixed, without owner, of one address, or of identities that nobody knows; endpoints
have one family or both; named ports differ from endpoint to endpoint. Policies are documents of every kind
(`random_documents`), read as they are when a person applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from romana.codec.policy import read_policies
from romana.codec.text import parse_address, parse_prefix
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Block
from romana.model.tenancy import Identity, Isolation, NamedPort, Owner, Tenant
from romana.model.topology import Host, Network
from tests.proof.random_documents import LABELS, SEGMENTS, TENANTS, Author, Document

ALL_KINDS = (
    ("kubernetes",),
    ("kubernetes", "native"),
    ("cluster", "cluster", "cluster", "v2", "kubernetes"),
    ("kubernetes", "cluster", "native", "v2"),
)
"""Kinds of documents that a world has, one line of which is chosen; without tiers, the null class is the least."""
PROBES = (
    *((6, port) for port in (53, 79, 80, 81, 90, 91, 443)),
    *((17, port) for port in (53, 60, 61, 80, 90)),
    *((132, port) for port in (80, 81)),
    *((1, 8 * 256), (1, 0), (1, 3 * 256 + 4), (58, 128 * 256), (58, 256), (47, 0)),
)
"""IP protocol numbers, with ports or ICMP type * 256 + code."""

HOSTS = (
    Host(name="h1", addresses=(parse_address("192.0.2.1"), parse_address("2001:db8::1")), labels={"app": "x"}),
    Host(name="h2", addresses=(parse_address("192.0.2.2"),), labels={"tier": "y"}),
)
_OUTSIDE = tuple(map(parse_prefix, ("192.0.2.0/24", "0.0.0.0/0", "10.0.0.0/8", "2001:db8::/32", "::/0")))
_STRANGER = parse_address("203.0.113.1")


class RandomWorld(msgspec.Struct, frozen=True):
    """A world, the documents that its policies come from, and addresses worth asking about."""

    world: PolicyWorld
    documents: tuple[Document, ...]
    addresses: tuple[Address, ...]


def random_world(
    seed: int, kinds: Sequence[Sequence[str]] = ALL_KINDS, *, open_tenants: bool = False, odd: bool = False
) -> RandomWorld:
    """The world of a seed, with policies of one of these sets of kinds.

    With `open_tenants` no tenant isolates its endpoints. With `odd` there is what the control plane never makes: an
    endpoint in a block that does not serve it, one that claims the address of another.
    """
    return _Maker(Random(seed), kinds).make(open_tenants=open_tenants, odd=odd)


def world_with(world: PolicyWorld, documents: Sequence[Document]) -> PolicyWorld:
    """The world with these documents in force; Invalid when one of them is not valid."""
    policies = read_policies(list(documents))
    return msgspec.structs.replace(world, policies={one.id: one for one in policies})


class _Maker:
    def __init__(self, random: Random, kinds: Sequence[Sequence[str]]) -> None:
        self.random = random
        self.kinds = random.choice(kinds)
        self.networks = [
            _network("small", "10.0.0.0/25", 29),
            _network("large", "10.0.1.0/25", 27),
            _network("six", "fd00::/118", 122),
            _network("six-large", "fd00:0:0:1::/118", 120),
        ]
        if random.random() < 0.2:
            self.networks += [_network("singles", "10.0.2.0/28", 32), _network("whole", "fd00:0:0:2::/124", 124)]
        if random.random() < 0.25:
            self.networks = [_network("only", "10.0.0.0/24", 29)]
        self.identities = [self.identity() for _ in range(random.randint(2, 9))]
        self.blocks: dict[Prefix, Block] = {}
        self.endpoints: dict[str, Endpoint] = {}

    def make(self, *, open_tenants: bool, odd: bool) -> RandomWorld:
        random = self.random
        for _ in range(random.randint(2, 14)):
            self.blocks_of_some()
        for disorder in (self.stray, self.twin) if odd else ():
            if random.random() < 0.3:
                disorder()
        cidrs = [self.cidr() for _ in range(8)]
        author = Author(random, [str(one) for one in cidrs])
        documents = tuple(author.document(number, self.kinds) for number in range(random.randint(0, 16)))
        known = TENANTS if open_tenants else TENANTS[: random.randint(1, 3)]
        isolations = [Isolation.NONE] if open_tenants else list(Isolation)
        world = PolicyWorld(
            tenants={
                one: Tenant(
                    name=one,
                    isolation=random.choice(isolations),
                    labels=self.labels(),
                    own_host=random.random() < 0.5,
                )
                for one in known
            },
            identities={one.id: one for one in self.identities if random.random() < 0.9},
            networks={one.name: one for one in self.networks},
            blocks=self.blocks,
            endpoints=self.endpoints,
            hosts={one.name: one for one in HOSTS},
            local=self.local(),
        )
        return RandomWorld(world_with(world, documents), documents, self.addresses(cidrs))

    def local(self) -> dict[str, tuple[Prefix, ...]]:
        """Where endpoints of hosts live: spans, which may hold others' too, and single addresses."""
        found: dict[str, tuple[Prefix, ...]] = {}
        addresses = [address for one in self.endpoints.values() for address in one.addresses]
        for host in HOSTS:
            spans = [one.supernet(one.length - self.random.randint(0, 2)) for one in self.blocks if self.coin()]
            fixed = [Prefix(one.family, one.value, one.length) for one in addresses if self.random.random() < 0.2]
            found[host.name] = tuple(sorted({*spans, *fixed}))
        return found

    def coin(self) -> bool:
        return self.random.random() < 0.5

    def labels(self) -> dict[str, str]:
        return {key: self.random.choice(values) for key, values in LABELS.items() if self.random.random() < 0.6}

    def identity(self) -> Identity:
        random = self.random
        owner = Owner(random.choice(TENANTS), random.choice(SEGMENTS))
        ports = {
            NamedPort(name, random.choice((6, 6, 17, 132)), random.choice((80, 90, 53)))
            for name in ("http", "http", "dns")
            if random.random() < 0.5
        }
        return Identity(owner=owner, labels=self.labels(), ports=tuple(sorted(ports)))

    def blocks_of_some(self) -> None:
        """A block with some endpoints, often one of each family."""
        random = self.random
        network = random.choice(self.networks)
        lodgers = random.sample(self.identities, random.choice((0, 1, 1, 1, 2, 2)))
        self.block(network, lodgers)
        twins = [one for one in self.networks if one.cidr.family is not network.cidr.family]
        if lodgers and twins and random.random() < 0.6:
            self.block(random.choice(twins), lodgers)

    def block(self, network: Network, lodgers: Sequence[Identity]) -> None:
        random = self.random
        number = random.randrange(1 << (network.block_length - network.cidr.length))
        cidr = network.cidr.subnet(network.block_length, number)
        if cidr in self.blocks:
            return
        owner = lodgers[0].owner if lodgers and random.random() < 0.9 else None
        self.blocks[cidr] = Block(
            cidr=cidr,
            span=cidr,
            network=network.name,
            host="h1",
            allocator="h1",
            owner=owner,
            identities=tuple(one.id for one in lodgers),
            mixed=owner is None and bool(lodgers),
        )
        for offset in random.sample(range(cidr.size), random.randint(0, min(3, cidr.size))):
            strangers = not lodgers or random.random() < 0.1
            self.lodge(random.choice(self.identities if strangers else lodgers), cidr.address(offset), cidr)

    def stray(self) -> None:
        """An endpoint that sits in a block by its address, and by its record in one that nobody knows."""
        cidr = self.random.choice(sorted(self.blocks))
        address = cidr.address(self.random.randrange(cidr.size))
        self.lodge(self.random.choice(self.identities), address, address.supernet(address.length - 1))

    def lodge(self, identity: Identity, address: Address, block: Prefix) -> None:
        """A new endpoint, or a second family for one of that identity."""
        if any(address in one.addresses for one in self.endpoints.values()):
            return
        single = [
            one
            for one in self.endpoints.values()
            if one.identity is identity and {other.family for other in one.addresses} == {_other(address.family)}
        ]
        if single and self.random.random() < 0.7:
            name, allocations = single[0].id, single[0].allocations
        else:
            name, allocations = f"e{len(self.endpoints)}", ()
        own = Allocation(address=address, block=block, endpoint=name, sequence=1)
        self.endpoints[name] = Endpoint(
            id=name, name=name, host="h1", identity=identity, allocations=(*allocations, own), link=f"rom{name}"
        )

    def twin(self) -> None:
        """An endpoint that says it has the address of another one."""
        if self.endpoints:
            other = self.random.choice(sorted(self.endpoints.values(), key=lambda one: one.id))
            allocation = msgspec.structs.replace(other.allocations[0], endpoint="twin")
            identity = self.random.choice(self.identities)
            self.endpoints["twin"] = Endpoint(
                id="twin", name="twin", host="h2", identity=identity, allocations=(allocation,), link="romtwin"
            )

    def cidr(self) -> Prefix:
        random = self.random
        base = random.choice([*_OUTSIDE, *(one.cidr for one in self.networks), *self.blocks])
        if random.random() < 0.3 or base.length > base.family.bits - 4:
            return base.supernet(max(0, base.length - random.randint(0, 3)))
        length = min(base.family.bits, base.length + random.randint(0, 6))
        return base.subnet(length, random.randrange(1 << (length - base.length)))

    def addresses(self, cidrs: Sequence[Prefix]) -> tuple[Address, ...]:
        """Endpoints, edges of every CIDR, block and network, one beyond each edge, and some in between."""
        found = {address for one in self.endpoints.values() for address in one.addresses}
        for prefix in (*cidrs, *self.blocks, *(one.cidr for one in self.networks)):
            inner = self.random.randrange(prefix.size)
            for value in (prefix.value - 1, prefix.value, prefix.value + inner, prefix.last, prefix.last + 1):
                if 0 <= value < 1 << prefix.family.bits:
                    found.add(Address(prefix.family, value))
        found.add(_STRANGER)
        found.update(address for host in HOSTS for address in host.addresses)
        return tuple(sorted(found))


def _other(family: Family) -> Family:
    return Family.V6 if family is Family.V4 else Family.V4


def _network(name: str, cidr: str, block: int) -> Network:
    prefix = parse_prefix(cidr)
    return Network(name=name, cidr=prefix, block_length=block, span_length=prefix.length)
