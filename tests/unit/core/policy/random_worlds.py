"""Random small worlds, made from a seed, that are unkind to a compiler: CIDRs cut inside blocks, blocks are mixed."""

from __future__ import annotations

from random import Random

import msgspec

from romana.codec.text import parse_address, parse_prefix
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Block
from romana.model.policy import (
    Action,
    CidrPeer,
    HostPeer,
    Operator,
    Peer,
    Policy,
    PolicyTier,
    Requirement,
    Rule,
    Selector,
    Traffic,
)
from romana.model.tenancy import Identity, Isolation, NamedPort, Owner, Tenant
from romana.model.topology import Host, Network

TENANTS = ("a", "b", "c")
SEGMENTS = ("web", "db")
TRAFFIC = (
    Traffic(),
    Traffic(6),
    Traffic(6, 80, 80),
    Traffic(6, 443, 443),
    Traffic(6, 80, 90),
    Traffic(17, 53, 60),
    Traffic(132, 1, 1),
    Traffic(1),
    Traffic(1, 8 * 256, 8 * 256 + 255),
    Traffic(None, 80, 80),
    Traffic(47),
)
NAMED = (Traffic(6, name="http"), Traffic(None, name="http"), Traffic(17, name="dns"), Traffic(6, name="none"))
PROBES = ((6, 79), (6, 80), (6, 90), (6, 443), (17, 53), (17, 61), (132, 1), (1, 8 * 256), (1, 0), (58, 0), (47, 0))

HOSTS = (
    Host(name="h1", addresses=(parse_address("192.0.2.1"), parse_address("2001:db8::1")), labels={"app": "x"}),
    Host(name="h2", addresses=(parse_address("192.0.2.2"),), labels={"tier": "y"}),
)


class RandomWorld(msgspec.Struct, frozen=True):
    """A world, and addresses worth asking about."""

    world: PolicyWorld
    addresses: tuple[Address, ...]


def random_world(seed: int) -> RandomWorld:
    return _Maker(Random(seed)).make()


class _Maker:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.tiered = random.random() < 0.6
        self.networks = [
            _network("small", "10.0.0.0/25", 29),
            _network("large", "10.0.1.0/25", 27),
            _network("six", "fd00::/118", 122),
        ]
        if random.random() < 0.3:
            self.networks = [_network("only", "10.0.0.0/24", 29)]
        self.identities = [self.identity() for _ in range(random.randint(2, 10))]
        self.blocks: dict[Prefix, Block] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.cidrs: list[Prefix] = []

    def make(self) -> RandomWorld:
        for _ in range(self.random.randint(1, 10)):
            self.block()
        self.cidrs = [self.cidr() for _ in range(8)]
        policies = [self.policy(number) for number in range(self.random.randint(0, 7))]
        tenants = [
            Tenant(
                name=name,
                isolation=self.random.choice(list(Isolation)),
                labels=self.labels(),
                own_host=self.random.random() < 0.5,
            )
            for name in TENANTS[: self.random.randint(1, 3)]
        ]
        world = PolicyWorld(
            tenants={one.name: one for one in tenants},
            policies={one.id: one for one in policies},
            identities={one.id: one for one in self.identities if self.random.random() < 0.9},
            networks={one.name: one for one in self.networks},
            blocks=self.blocks,
            endpoints=self.endpoints,
            hosts={one.name: one for one in HOSTS},
        )
        return RandomWorld(world, self.addresses())

    def labels(self) -> dict[str, str]:
        return {key: self.random.choice(("x", "y")) for key in ("app", "tier") if self.random.random() < 0.6}

    def identity(self) -> Identity:
        owner = Owner(self.random.choice(TENANTS), self.random.choice(SEGMENTS))
        ports = tuple(
            sorted(
                NamedPort(name, self.random.choice((6, 17)), self.random.choice((80, 90, 53)))
                for name in ("http", "dns")
                if self.random.random() < 0.4
            )
        )
        return Identity(owner=owner, labels=self.labels(), ports=ports)

    def block(self) -> None:
        random = self.random
        network = random.choice(self.networks)
        number = random.randrange(1 << (network.block_length - network.cidr.length))
        cidr = network.cidr.subnet(network.block_length, number)
        if cidr in self.blocks:
            return
        lodgers = random.sample(self.identities, random.choice((0, 1, 1, 1, 2, 2)))
        owner = lodgers[0].owner if lodgers and random.random() < 0.9 else None
        self.blocks[cidr] = Block(
            cidr=cidr,
            span=cidr,
            network=network.name,
            host="h1",
            allocator="h1",
            owner=owner,
            identities=tuple(one.id for one in lodgers),
        )
        for offset in random.sample(range(cidr.size), random.randint(0, 3)):
            identity = random.choice(lodgers if lodgers and random.random() < 0.9 else self.identities)
            name = f"e{len(self.endpoints)}"
            allocation = Allocation(address=cidr.address(offset), block=cidr, endpoint=name, sequence=1)
            self.endpoints[name] = Endpoint(
                id=name, name=name, host="h1", identity=identity, allocations=(allocation,), link=f"rom{name}"
            )

    def cidr(self) -> Prefix:
        random = self.random
        outside = [parse_prefix(text) for text in ("192.0.2.0/24", "0.0.0.0/0", "10.0.0.0/8", "2001:db8::/32", "::/0")]
        base = random.choice([*outside, *(one.cidr for one in self.networks), *self.blocks])
        if random.random() < 0.3 or base.length > base.family.bits - 4:
            return base.supernet(max(0, base.length - random.randint(0, 3)))
        length = min(base.family.bits, base.length + random.randint(0, 6))
        return base.subnet(length, random.randrange(1 << (length - base.length)))

    def requirements(self) -> tuple[Requirement, ...]:
        random = self.random
        found = []
        for key in ("app", "tier"):
            if random.random() < 0.4:
                operator = random.choice(list(Operator))
                compares = operator in (Operator.IN, Operator.NOT_IN)
                values = tuple(random.sample(("x", "y", "z"), random.randint(1, 2))) if compares else ()
                found.append(Requirement(key, operator, values))
        return tuple(found)

    def selector(self) -> Selector:
        random = self.random
        return Selector(
            tenants=tuple(random.sample(TENANTS, random.randint(1, 2))) if random.random() < 0.6 else None,
            segments=(random.choice(SEGMENTS),) if random.random() < 0.3 else None,
            tenant_labels=self.requirements() if random.random() < 0.3 else (),
            labels=self.requirements(),
        )

    def peer(self) -> Peer:
        random = self.random
        if random.random() < 0.5:
            return self.selector()
        if random.random() < 0.15:
            return HostPeer(labels=self.requirements())
        cidr = random.choice(self.cidrs)
        excluded = []
        for _ in range(random.choice((0, 0, 1, 2))):
            length = min(cidr.family.bits, cidr.length + random.randint(1, 5))
            if length > cidr.length:
                excluded.append(cidr.subnet(length, random.randrange(1 << (length - cidr.length))))
            excluded.append(random.choice(self.cidrs))
        return CidrPeer(cidr=cidr, excluded=tuple(excluded))

    def rules(self, tier: PolicyTier) -> tuple[Rule, ...] | None:
        random = self.random
        if random.random() < 0.35:
            return None
        actions = {
            PolicyTier.ADMIN: list(Action),
            PolicyTier.POLICIES: [Action.ACCEPT],
            PolicyTier.BASELINE: list(Action),
        }[tier]
        return tuple(
            Rule(
                peers=None if random.random() < 0.1 else tuple(self.peer() for _ in range(random.randint(0, 3))),
                traffic=tuple(random.sample((*TRAFFIC, *NAMED), random.randint(0, 2))),
                action=random.choice(actions),
            )
            for _ in range(random.randint(0, 3))
        )

    def policy(self, number: int) -> Policy:
        random = self.random
        subjects = tuple(self.selector() for _ in range(random.randint(1, 2)))
        tier = random.choice(list(PolicyTier)) if self.tiered else PolicyTier.POLICIES
        return Policy(
            id=f"p{number}",
            kind="native",
            subjects=subjects,
            ingress=self.rules(tier),
            egress=self.rules(tier),
            tier=tier,
            priority=random.randint(0, 2) if tier is not PolicyTier.POLICIES else 0,
            hosts=(HostPeer(labels=self.requirements()),) if random.random() < 0.3 else (),
            staged=random.random() < 0.2,
        )

    def addresses(self) -> tuple[Address, ...]:
        """Endpoints, edges of every CIDR, block and network, one beyond each edge, and some in between."""
        found = {address for one in self.endpoints.values() for address in one.addresses}
        for prefix in (*self.cidrs, *self.blocks, *(one.cidr for one in self.networks)):
            inner = self.random.randrange(prefix.size)
            for value in (prefix.value - 1, prefix.value, prefix.value + inner, prefix.last, prefix.last + 1):
                if 0 <= value < 1 << prefix.family.bits:
                    found.add(Address(prefix.family, value))
        found.add(Address(Family.V4, 0xCB007101))
        found.update(address for host in HOSTS for address in host.addresses)
        return tuple(sorted(found))


def _network(name: str, cidr: str, block: int) -> Network:
    prefix = parse_prefix(cidr)
    return Network(name=name, cidr=prefix, block_length=block, span_length=prefix.length)
