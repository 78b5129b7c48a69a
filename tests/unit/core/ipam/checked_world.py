"""A consistent world of hosts with agents, in which things are under way; and what a check is told of it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import msgspec

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.ipam.check import Checker
from romana.core.ipam.findings import Records, uses_of
from romana.core.ipam.observed import Comparison
from romana.core.topology import carve, group_cidrs, place_host
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import SERVER, Allocation, Blackout, Block, Reservation, Retired, Span
from romana.model.report import BlockState, Finding, Observation
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Host

PLAN: dict[str, Any] = {
    "version": 1,
    "networks": [
        {"name": "n4", "cidr": "10.0.0.0/16", "block_length": 29, "span_length": 26},
        {"name": "n6", "cidr": "fd00::/96", "block_length": 122, "span_length": 118},
    ],
    "topologies": [
        {
            "name": "site",
            "networks": ["n4", "n6"],
            "groups": [{"name": "r1", "hosts": ["h1", "h2"]}, {"name": "r2", "hosts": ["h3"]}],
        }
    ],
}
WEB = Identity(owner=Owner("red", "web"))
STATIC = parse_prefix("10.0.255.0/29")
"""Of the control plane itself."""


class World:
    """Records as dictionaries, and what each agent has."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.plan = carve(read_plan(PLAN))
        self.hosts: dict[str, Host] = {}
        self.spans: dict[Prefix, Span] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.reservations: dict[str, Reservation] = {}
        self.blackouts: dict[Prefix, Blackout] = {}
        self.retired: dict[Prefix, Retired] = {}
        self.written: dict[Prefix, int] = {}
        self.observations: dict[str, Observation] = {}
        self.sequence = 0
        for name in ("h1", "h2", "h3"):
            self.hosts[name] = place_host(self.plan, self.hosts, Host(name=name, instance="i", epoch=1))
        self.spans[STATIC] = Span(cidr=STATIC, network="n4", host=SERVER)
        self.blocks[STATIC] = Block(cidr=STATIC, span=STATIC, network="n4", host=SERVER, allocator=SERVER)
        for name in self.hosts:
            self.fill(name)
        self.reserve("vm1", "h1", STATIC.address(1))

    def fill(self, name: str) -> None:
        """A span and some blocks in each network, endpoints, and something that is under way."""
        blocks = [block for network in ("n4", "n6") for block in self.room(name, network)]
        self.observations[name] = Observation(
            host=name,
            epoch=1,
            number=1,
            incarnation="x",
            revision=100,
            blocks={
                block.cidr: BlockState(sequence=block.sequence, owner=block.owner, mixed=block.mixed)
                for block in blocks
            },
        )
        self.take_and_return(name)
        owned = [block for block in blocks if block.owner]
        for number in range(self.random.randrange(2, 12)):
            pairs = [
                (block, block.cidr.address(number))
                for block in (next(one for one in owned if one.network == name) for name in ("n4", "n6"))
                if number < block.cidr.size
            ]
            endpoint = self.endpoint(f"{name}-{number}", name, pairs)
            if not number or self.random.random() < 0.7:
                self.endpoints[endpoint.id] = endpoint
                self.hold(endpoint)
            elif self.random.random() < 0.5:  # started, not published
                self.hold(endpoint, pending=True)
            else:  # released, not published
                self.endpoints[endpoint.id] = endpoint
                self.change(name, pending_endpoints=(*self.observations[name].pending_endpoints, endpoint.id))

    def take_and_return(self, name: str) -> None:
        """The agent took a block from its stock and gave another one back, and did not publish that yet."""
        seen = self.observations[name]
        stock = [cidr for cidr, one in seen.blocks.items() if one.owner is None and not one.mixed]
        known = [cidr for cidr in stock if cidr in self.blocks]
        blocks, pending = dict(seen.blocks), []
        if known and self.random.random() < 0.5:
            taken = known.pop()
            blocks[taken] = BlockState(sequence=blocks[taken].sequence + 1, owner=WEB.owner)
            pending.append(taken)
        if known and self.random.random() < 0.5:
            returned = known.pop()
            del blocks[returned]
            pending.append(returned)
        self.change(name, blocks=blocks, pending_blocks=tuple(pending))

    def room(self, name: str, network: str) -> Iterable[Block]:
        group = group_cidrs(self.plan, self.hosts[name])[network]
        length = {"n4": 26, "n6": 118}[network]
        index = next(index for index in range(9) if group.subnet(length, index) not in self.spans)
        span = group.subnet(length, index)
        self.spans[span] = Span(cidr=span, network=network, host=name)
        for part in range(self.random.randrange(2, 6)):
            cidr = span.subnet(self.plan.networks[network == "n6"].block_length, part)
            block = Block(cidr=cidr, span=span, network=network, host=name, allocator=name, sequence=part)
            if part == 0:
                block = msgspec.structs.replace(block, owner=WEB.owner, identities=(WEB.id,), sequence=7)
            if part == 1 and self.random.random() < 0.3:
                block = msgspec.structs.replace(block, mixed=True)
            self.blocks[cidr] = block
            yield block
        for part in range(6, 6 + self.random.randrange(3)):  # under way
            cidr = span.subnet(self.plan.networks[network == "n6"].block_length, part)
            block = Block(cidr=cidr, span=span, network=network, host=name, allocator=name)
            if self.random.random() < 0.5:  # the agent has it still
                self.retired[cidr] = Retired(cidr=cidr, network=network, host=name)
                yield block
            else:  # its view does not have it yet
                self.blocks[cidr] = block
                self.written[cidr] = 101

    def endpoint(self, name: str, host: str, pairs: Iterable[tuple[Block, Address]]) -> Endpoint:
        allocations = []
        for block, address in pairs:
            self.sequence += 1
            allocations.append(Allocation(address=address, block=block.cidr, endpoint=name, sequence=self.sequence))
        return Endpoint(id=name, name=name, host=host, identity=WEB, allocations=tuple(allocations), link=f"rom{name}")

    def hold(self, endpoint: Endpoint, *, pending: bool = False) -> None:
        """The agent and the kernel have it."""
        seen = self.observations[endpoint.host]
        self.change(
            endpoint.host,
            endpoints={**seen.endpoints, endpoint.id: uses_of(endpoint.allocations)},
            pending_endpoints=(*seen.pending_endpoints, *([endpoint.id] if pending else [])),
        )

    def reserve(self, name: str, host: str, address: Address) -> None:
        self.sequence += 1
        endpoint = Endpoint(
            id=f"{name}/eth0",
            name=name,
            host=host,
            identity=WEB,
            allocations=(Allocation(address=address, block=STATIC, endpoint=f"{name}/eth0", sequence=self.sequence),),
            link=f"rom{name}",
        )
        self.endpoints[endpoint.id] = endpoint
        self.hold(endpoint)
        self.reservations[name] = Reservation(
            name=name, identity=WEB, allocations=endpoint.allocations, host=host, endpoint=endpoint.id
        )

    def change(self, host: str, **fields: Any) -> None:
        """Another observation."""
        self.observations[host] = msgspec.structs.replace(self.observations[host], **fields)

    def some_published(self, host: str = "h1") -> Endpoint:
        """An endpoint of a host that is published and held."""
        seen = self.observations[host]
        fitting = [
            one
            for one in self.endpoints.values()
            if one.host == host and one.id not in seen.pending_endpoints and one.id not in self.reserved()
        ]
        return self.random.choice(fitting)

    def reserved(self) -> set[str]:
        return {one.endpoint for one in self.reservations.values()}

    def some_block(self, host: str = "h1") -> Block:
        """A block that a host's agent has for certain."""
        return self.random.choice(
            [
                one
                for one in self.blocks.values()
                if one.host == host
                and one.cidr not in self.written
                and one.cidr not in self.observations[host].pending_blocks
            ]
        )

    def records(self) -> Records:
        holders = {address: one.id for one in self.endpoints.values() for address in one.addresses}
        return Records(
            plan=self.plan,
            hosts=self.hosts,
            spans=self.spans,
            blocks=self.blocks,
            endpoints=self.endpoints,
            holder=holders.get,
            written=lambda cidr: self.written.get(cidr, 50),
            endpoints_in=lambda cidr: [
                one for one in self.endpoints.values() if any(each.block == cidr for each in one.allocations)
            ],
            hosts_in=lambda cidr: {
                one.host for one in self.endpoints.values() if any(each.block == cidr for each in one.allocations)
            },
            uses_on=lambda host: {
                one.id: uses_of(one.allocations) for one in self.endpoints.values() if one.host == host
            },
            blocks_on=lambda host: {cidr: one for cidr, one in self.blocks.items() if one.host == host},
            reservations=self.reservations,
            blackouts=self.blackouts,
            retired=self.retired,
        )

    def check(self) -> list[Finding]:
        """Everything that every rule says."""
        records = self.records()
        checker, comparison = Checker(records), Comparison(records)
        rooms = {each.block for one in self.endpoints.values() for each in one.allocations}
        loose = [
            one.id
            for one in self.endpoints.values()
            if not one.allocations
            or any(
                not each.block.contains(each.address) or records.holder(each.address) != one.id
                for each in one.allocations
            )
        ]
        found = [
            *(finding for cidr in self.spans for finding in checker.span(cidr)),
            *(finding for cidr in self.blocks for finding in checker.block(cidr)),
            *(finding for cidr in rooms for finding in checker.endpoints_in(cidr)),
            *(finding for name in loose for finding in checker.endpoint(name)),
            *(finding for name in self.reservations for finding in checker.reservation(name)),
            *(finding for seen in self.observations.values() for finding in comparison.findings(seen)),
        ]
        return list({one.key: one for one in found}.values())
