"""The control plane of the address machine: claims, publications, retirement, over plain dicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import msgspec

from romana.codec.text import parse_prefix
from romana.core.ipam import (
    ClaimChanges,
    ClaimState,
    PublicationState,
    apply_publication,
    claim,
    fill_stock,
)
from romana.core.ipam.occupied import Occupied
from romana.core.ipam.retirement import acknowledged, empty_spans
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Block, Numbers, Retired, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import BitPlan, Network, Placement
from romana.model.view import Claim, Publication


def _network(name: str, cidr: str, block: int, span: int, **fields: object) -> Network:
    made = Network(name=name, cidr=parse_prefix(cidr), block_length=block, span_length=span)
    return msgspec.structs.replace(made, **fields)


NETWORKS = {
    one.name: one
    for one in (
        _network(
            "n4",
            "10.0.0.0/25",
            30,
            28,
            mixed=2,
            stock=1,
            reserved=(parse_prefix("10.0.0.5/32"), parse_prefix("10.0.0.8/31"), parse_prefix("10.0.0.64/28")),
            static=(parse_prefix("10.0.0.24/29"),),
        ),
        _network("n6", "fd00::/121", 126, 124, order=1, stock=0, tenants=("acme",)),
        _network(
            "b6",
            "fd01::/118",
            124,
            121,
            order=2,
            stock=0,
            tenants=("beta",),
            placement=Placement.BITS,
            bits=BitPlan(host=3, tenant=1, segment=2, endpoint=3, space=1),
        ),
    )
}
GROUPS = {
    "h": {"n4": "10.0.0.0/26", "n6": "fd00::/121", "b6": "fd01::/118"},
    "g": {"n4": "10.0.0.0/26", "n6": "fd00::/121", "b6": "fd01::/118"},
    "f": {"n4": "10.0.0.64/26", "n6": "fd00::/121", "b6": "fd01::/118"},
}
IDENTITIES = [
    Identity(owner=Owner(tenant, segment), labels={"pod": pod})
    for tenant, segment in (("acme", "a"), ("acme", "b"), ("beta", "a"), ("beta", "b"))
    for pod in "xy"
]


class Sight(msgspec.Struct, frozen=True):
    """One host's view: blocks of everybody, and the addresses that have entries of their own (-> identity's id)."""

    revision: int
    blocks: Mapping[Prefix, Block]
    classes: Mapping[str, str]
    exact: Mapping[Address, str]
    draining: bool

    def believed(self, address: Address, length: int) -> Block | str | None:
        """What the host takes an address for: its block's class, an identity's, or nothing."""
        block = self.blocks.get(address.supernet(length))
        if block is None or block.is_stock:
            return None
        return self.exact.get(address) if _is_apart(block, self.classes) else block


class Control:
    """The control plane's records."""

    def __init__(self) -> None:
        self.revision = 0
        self.spans: dict[Prefix, Span] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.retired: dict[Prefix, Retired] = {}
        self.taken = Occupied()
        self.numbers: dict[str, Numbers] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.holders: dict[Address, str] = {}
        self.used: Counter[Prefix] = Counter()
        self.shown: set[Allocation] = set()
        """What ever was published, so that others may have seen it."""
        self.classes = {identity.id: identity.owner.segment for identity in IDENTITIES}
        self.epochs = dict.fromkeys(GROUPS, 1)
        self.published = dict.fromkeys(GROUPS, (0, 0))
        self.applied = dict.fromkeys(GROUPS, 0)
        self.draining: set[str] = set()

    def state(self, host: str) -> ClaimState:
        return ClaimState(
            networks=NETWORKS,
            group_cidrs={name: parse_prefix(cidr) for name, cidr in GROUPS[host].items()},
            spans={cidr: span for cidr, span in self.spans.items() if span.host == host},
            blocks={cidr: block for cidr, block in self.blocks.items() if block.host == host},
            taken=self.taken,
            retired=self.retired,
            numbers=self.numbers,
            class_of=self.classes,
            used=self.used,
            sequence=self.revision,
        )

    def claim(self, request: Claim) -> tuple[Prefix, ...]:
        changes = claim(self.state(request.host), request)
        self._store(changes)
        return changes.answer

    def refill(self, host: str) -> None:
        if host not in self.draining:
            self._store(fill_stock(self.state(host), host))

    def _store(self, changes: ClaimChanges) -> None:
        self.revision += 1
        for span in changes.spans:
            assert span.cidr not in self.spans
            self.spans[span.cidr] = span
            self.taken.add(span.cidr)
        for cidr in changes.revived:
            del self.retired[cidr]
            self.taken.remove(cidr)
        self.blocks |= {block.cidr: block for block in changes.blocks}
        self.numbers |= changes.numbers

    def publish(self, publication: Publication) -> None:
        host = publication.host
        if self.epochs[host] != publication.epoch:
            return
        if self.published[host] >= (publication.epoch, publication.number):
            return
        self.revision += 1
        state = PublicationState(
            blocks=self.blocks, endpoints=self.endpoints, holder=self.holders.get, used=self.used.__getitem__
        )
        changes = apply_publication(state, publication)
        for name in (*changes.released, *(endpoint.id for endpoint in changes.started)):
            self._forget(name)
        for endpoint in changes.started:
            self.endpoints[endpoint.id] = endpoint
            for allocation in endpoint.allocations:
                assert allocation.address not in self.holders
                self.holders[allocation.address] = endpoint.id
                self.shown.add(allocation)
                self.used[allocation.block] += 1
        self.blocks |= {block.cidr: block for block in changes.blocks}
        for block in changes.returned:
            del self.blocks[block.cidr]
            self._retire(block.cidr, block.network, host)
        self.published[host] = (publication.epoch, publication.number)
        self.refill(host)

    def _forget(self, name: str) -> None:
        known = self.endpoints.pop(name, None)
        if known is not None:
            for allocation in known.allocations:
                del self.holders[allocation.address]
                self.used[allocation.block] -= 1

    def _retire(self, cidr: Prefix, network: str, host: str) -> None:
        self.retired[cidr] = Retired(cidr=cidr, network=network, host=host, revision=self.revision)
        self.taken.add(cidr)

    def retire_spans(self, host: str) -> None:
        self.revision += 1
        spans = {cidr: span for cidr, span in self.spans.items() if span.host == host}
        blocks = [block for block in self.blocks.values() if block.host == host]
        for span in empty_spans(spans, blocks, self.retired, self.draining):
            del self.spans[span.cidr]
            self.taken.remove(span.cidr)
            self._retire(span.cidr, span.network, host)

    def free(self) -> None:
        self.revision += 1
        for one in acknowledged(self.retired.values(), self.applied):
            del self.retired[one.cidr]
            self.taken.remove(one.cidr)

    def sight(self, host: str) -> Sight:
        exact = {
            allocation.address: endpoint.identity.id
            for endpoint in self.endpoints.values()
            for allocation in endpoint.allocations
            if _is_apart(self.blocks[allocation.block], self.classes)
        }
        return Sight(self.revision, dict(self.blocks), dict(self.classes), exact, host in self.draining)

    def check(self) -> None:
        """Nothing lies where it must not."""
        spans, blocks = sorted(self.spans), sorted(self.blocks)
        for cidrs in (spans, blocks):
            assert not any(one.overlaps(other) for one, other in pairwise(cidrs)), cidrs
        for cidr, block in self.blocks.items():
            assert block.span.contains(cidr)
            assert self.spans[block.span].host == block.host
            assert parse_prefix(GROUPS[block.host][block.network]).contains(cidr)
            assert not any(gone.overlaps(cidr) for gone in self.retired), cidr
        assert not any(gone.contains(span) for gone in self.retired for span in spans)
        for allocation in (one for endpoint in self.endpoints.values() for one in endpoint.allocations):
            assert self.blocks[allocation.block].cidr.contains(allocation.address)
        again = Occupied()
        for cidr in (*self.spans, *self.retired):
            again.add(cidr)
        assert (again._members, again._full) == (self.taken._members, self.taken._full)


def _is_apart(block: Block, classes: Mapping[str, str]) -> bool:
    """Whether a block's addresses have entries of their own."""
    return block.mixed or len({classes[name] for name in block.identities}) != 1
