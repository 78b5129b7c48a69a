"""A store full of endpoints, written without romanad: what a big site's store holds after a while.

Owns the shape: hosts of 200 dual-stack endpoints of four owners, in racks; ids, names and paths as long as
Kubernetes' are. Measures nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from romana.adapters.store.sqlite_file import EmptyFile
from romana.codec.json import encode
from romana.codec.records import (
    BLOCK,
    ENDPOINT,
    HOST,
    IDENTITY,
    PLAN,
    PLAN_KEY,
    ROSTER,
    ROSTER_KEY,
    SEGMENT,
    SPAN,
    TENANT,
    Roster,
    StoredIdentity,
    StoredPlan,
)
from romana.codec.topology import read_plan
from romana.core.topology import carve
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint, endpoint_id
from romana.model.ipam import Allocation, Block, Span
from romana.model.tenancy import Identity, Owner, Segment, Tenant
from romana.model.topology import AddressPlan, Host, Network

PER_HOST = 200
OWNERS_OF_HOST = 4
RACKS = 64
TENANTS, SEGMENTS = 100, 10
SERVED = "bench"
"""The tenant whose addresses the benchmark asks for; its segment is `load`."""
FIXED = (("fixed", "172.16.0.0/12", 29, "172.24.0.0/13"), ("fixed6", "fd01::/64", 122, "fd01::8000:0:0:0/65"))
BATCH = 10_000
Pairs = Iterator[tuple[str, bytes]]


def plan_document() -> dict[str, object]:
    """Two networks that hosts draw from, and two whose addresses the control plane gives itself."""
    networks = [
        {"name": "pods", "cidr": "10.0.0.0/8", "block_length": 29, "span_length": 24},
        {"name": "pods6", "cidr": "fd00::/64", "block_length": 122, "span_length": 117},
        *(
            {"name": name, "cidr": cidr, "block_length": block, "static": [static], "tenants": [SERVED]}
            for name, cidr, block, static in FIXED
        ),
    ]
    racks = [{"name": f"rack{number}", "assignment": {"rack": str(number)}, "hosts": []} for number in range(RACKS)]
    everywhere = [{"name": "everywhere", "hosts": []}]
    topologies = [
        {"name": "site", "networks": ["pods", "pods6"], "groups": racks},
        {"name": "fixed", "networks": [name for name, *_ in FIXED], "groups": everywhere},
    ]
    return {"version": 1, "networks": networks, "topologies": topologies}


def host_name(number: int) -> str:
    """The name of a host."""
    return f"node-{number:05}.example.net"


async def fill(path: Path, endpoints: int) -> None:
    """A new store with so many endpoints, and everything that they need."""
    file = EmptyFile(path)
    pairs = records(endpoints)
    while batch := list(islice(pairs, BATCH)):
        await file.add(batch)
    await file.finish()


def records(endpoints: int) -> Pairs:
    """All records, keys and stored forms."""
    document = plan_document()
    plan = carve(read_plan(document))
    yield PLAN_KEY, PLAN.encode(StoredPlan(plan=plan, document=encode(document).decode()))
    identities = [
        Identity(
            owner=Owner(f"team-{tenant:03}", f"service-{segment}"), labels={"app": f"service-{segment}", "env": "p"}
        )
        for tenant in range(TENANTS)
        for segment in range(SEGMENTS)
    ]
    yield from _tenancy([*identities, Identity(owner=Owner(SERVED, "load"))])
    hosts = -(-endpoints // PER_HOST)
    yield ROSTER_KEY, ROSTER.encode(Roster(changes=hosts))
    for number in range(hosts):
        count = min(PER_HOST, endpoints - number * PER_HOST)
        yield from _host(plan, number, count, [identities[(number * 7 + one) % len(identities)] for one in range(4)])


def _tenancy(identities: Iterable[Identity]) -> Pairs:
    for tenant in {identity.owner.tenant for identity in identities}:
        yield TENANT.key(tenant), TENANT.encode(Tenant(name=tenant))
    for identity in identities:
        owner = identity.owner
        yield SEGMENT.key(owner.tenant, owner.segment), SEGMENT.encode(Segment(tenant=owner.tenant, name=owner.segment))
        yield IDENTITY.key(identity.id), IDENTITY.encode(StoredIdentity(identity=identity))


def _host(plan: AddressPlan, number: int, endpoints: int, identities: list[Identity]) -> Pairs:
    name, group = host_name(number), plan.topologies[0].root.groups[number % RACKS]
    host = Host(
        name=name,
        addresses=(Address(Family.V4, 0xC0000000 + number),),
        labels={"rack": str(number % RACKS)},
        groups={
            "site": group.path,
            "fixed": plan.topologies[1].root.groups[0].path
            if plan.topologies[1].root.groups
            else plan.topologies[1].root.path,
        },
        instance=f"{number:032x}",
        epoch=1,
    )
    yield HOST.key(name), HOST.encode(host)
    spans: list[tuple[Network, Prefix]] = []
    for network in plan.networks[:2]:
        span = group.cidrs[network.name].subnet(network.span_length, number // RACKS)
        yield SPAN.key(span), SPAN.encode(Span(cidr=span, network=network.name, host=name))
        spans.append((network, span))
    used = [0, 0]  # blocks of each span
    for place, identity in enumerate(identities):
        blocks: list[tuple[Prefix, int]] = []  # of each network: the present block, how many addresses it has given
        for each in range(endpoints // OWNERS_OF_HOST + (place < endpoints % OWNERS_OF_HOST)):
            for index, (network, span) in enumerate(spans):
                if len(blocks) <= index or blocks[index][1] == blocks[index][0].size:
                    cidr = span.subnet(network.block_length, used[index])
                    used[index] += 1
                    blocks[index : index + 1] = [(cidr, 0)]
                    yield BLOCK.key(cidr), BLOCK.encode(_block(cidr, span, network.name, name, identity))
                cidr, given = blocks[index]
                blocks[index] = (cidr, given + 1)
            endpoint = _endpoint(name, identity, number * PER_HOST + place * 64 + each, blocks)
            yield ENDPOINT.key(endpoint.id), ENDPOINT.encode(endpoint)


def _block(cidr: Prefix, span: Prefix, network: str, host: str, identity: Identity) -> Block:
    return Block(
        cidr=cidr,
        span=span,
        network=network,
        host=host,
        allocator=host,
        owner=identity.owner,
        identities=(identity.id,),
        sequence=1,
    )


def _endpoint(host: str, identity: Identity, number: int, blocks: list[tuple[Prefix, int]]) -> Endpoint:
    digest = hashlib.sha256(f"{host}{number}".encode()).hexdigest()
    id_ = endpoint_id(digest, "eth0")
    uuid = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
    return Endpoint(
        id=id_,
        name=f"{identity.owner.tenant}/{identity.owner.segment}-{digest[:9]}-{digest[9:14]}",
        host=host,
        identity=identity,
        allocations=tuple(
            Allocation(address=block.address(given - 1), block=block, endpoint=id_, sequence=2 * number + index)
            for index, (block, given) in enumerate(blocks)
        ),
        link=f"rom{digest[:12]}",
        netns=f"/var/run/netns/cni-{uuid}",
        mac=f"0a:58:{digest[:2]}:{digest[2:4]}:{digest[4:6]}:{digest[6:8]}",
        mtu=1500,
    )
