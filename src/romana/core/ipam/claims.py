"""Claims: the spans and blocks that a host gets from the control plane.

Owns where the next span and block are, and who joins whose block. Refuses to know addresses inside a block: those are
its allocator's. Invariants: spans never overlap; a block lies in a span of its host; a block that other identities use
is joined only by one of the same owner and class; ownerless stock is given to an owner by its agent alone, so that the
agent and the control plane never decide about the same block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from romana.core.ipam.networks import candidate_networks
from romana.core.topology.place import leaf_groups
from romana.model.address import Prefix
from romana.model.errors import Exhausted
from romana.model.ipam import Block, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import AddressPlan, Host, Network
from romana.model.view import Claim

STOCK = 2
"""Ownerless blocks that a host keeps in each of its networks."""


class ClaimState(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim is decided from.

    `networks` are all of the plan, by name; `group_cidrs` (network name -> CIDR) the host's leaf groups, and `sole` the
    networks in which that group is the host's alone. `spans` are at least those inside these groups, `blocks` at least
    the host's own. `class_of` maps identity ids to classes; an identity that is missing shares a block with nobody.
    `used` is the number of published addresses by block, so that nobody joins a full one.
    """

    networks: Mapping[str, Network]
    group_cidrs: Mapping[str, Prefix]
    spans: Mapping[Prefix, Span]
    blocks: Mapping[Prefix, Block]
    class_of: Mapping[str, str] = {}
    used: Mapping[Prefix, int] = {}
    sole: frozenset[str] = frozenset()
    stock: int = STOCK


def claim_state(
    plan: AddressPlan,
    host: Host,
    *,
    spans: Mapping[Prefix, Span],
    blocks: Mapping[Prefix, Block],
    class_of: Mapping[str, str],
    used: Mapping[Prefix, int],
) -> ClaimState:
    """The state for a host's claims under a plan; the mappings are as `ClaimState` has them."""
    groups = leaf_groups(plan, host)
    return ClaimState(
        networks={network.name: network for network in plan.networks},
        group_cidrs={name: group.cidrs[name] for name, group in groups.items()},
        sole=frozenset(name for name, group in groups.items() if group.sole_host == host.name),
        spans=spans,
        blocks=blocks,
        class_of=class_of,
        used=used,
    )


class ClaimChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to store, and the blocks that now serve the identity, one per family, IPv4 first."""

    spans: tuple[Span, ...] = ()
    blocks: tuple[Block, ...] = ()
    answer: tuple[Prefix, ...] = ()


def claim(state: ClaimState, request: Claim) -> ClaimChanges:
    """Room for an identity on a host, in one network of each family, and its stock filled up.

    NotFound when no network serves its tenant on this host; Exhausted, with the numbers, when there is no block left.
    """
    reachable = {name: network for name, network in state.networks.items() if name in state.group_cidrs}
    candidates = candidate_networks(reachable, request.identity.owner.tenant, request.networks)
    draft = _Draft(state, request.host)
    answer = tuple(draft.serve(networks, request).cidr for networks in candidates.values())
    draft.fill_stock()
    return draft.changes(answer)


def fill_stock(state: ClaimState, host: str) -> ClaimChanges:
    """A host's first span in each of its networks, and its stock of ownerless blocks; what there is no room for is
    left out.
    """
    draft = _Draft(state, host)
    draft.fill_stock()
    return draft.changes(())


class _Draft:
    """The state with a host's changes over it."""

    def __init__(self, state: ClaimState, host: str) -> None:
        self.state = state
        self.host = host
        self.new_spans: dict[Prefix, Span] = {}
        self.changed: dict[Prefix, Block] = {}
        self.blocks = {cidr: block for cidr, block in state.blocks.items() if block.host == host}
        self.spans: dict[str, list[Prefix]] = {}
        for cidr, span in sorted(state.spans.items()):
            if span.host == host:
                self.spans.setdefault(span.network, []).append(cidr)

    def changes(self, answer: tuple[Prefix, ...]) -> ClaimChanges:
        return ClaimChanges(
            spans=tuple(self.new_spans[cidr] for cidr in sorted(self.new_spans)),
            blocks=tuple(self.changed[cidr] for cidr in sorted(self.changed)),
            answer=answer,
        )

    def serve(self, networks: Sequence[Network], request: Claim) -> Block:
        for network in networks:
            block = self.serving(network, request) or self.joined(network, request)
            block = block or self.new_block(network, request.identity, may_grow=True)
            if block is not None:
                return block
        raise self.exhausted(networks, request.identity.owner)

    def open_blocks(self, network: Network, request: Claim) -> list[Block]:
        """The owner's blocks on this host that its agent hands out and that were not reported full, in order."""
        return [
            block
            for cidr, block in sorted(self.blocks.items())
            if block.network == network.name
            and block.owner == request.identity.owner
            and block.allocator == self.host
            and cidr not in request.full
        ]

    def serving(self, network: Network, request: Claim) -> Block | None:
        identity = request.identity.id
        return next((block for block in self.open_blocks(network, request) if identity in block.identities), None)

    def joined(self, network: Network, request: Claim) -> Block | None:
        identity = request.identity.id
        own_class = self.state.class_of.get(identity)
        if own_class is None:
            return None
        for block in self.open_blocks(network, request):
            same = all(self.state.class_of.get(other) == own_class for other in block.identities)
            if same and self.state.used.get(block.cidr, 0) < block.cidr.size:
                members = tuple(sorted({*block.identities, identity}))
                return self.put(msgspec.structs.replace(block, identities=members))
        return None

    def new_block(self, network: Network, identity: Identity | None, *, may_grow: bool) -> Block | None:
        """A new block, in the first of the host's spans that has room, or in a new span; ownerless without identity."""
        for span in self.spans.get(network.name, []):
            block = self.block_in(span, network, identity)
            if block is not None:
                return block
        grown = self.new_span(network) if may_grow else None
        return self.block_in(grown, network, identity) if grown is not None else None

    def block_in(self, span: Prefix, network: Network, identity: Identity | None) -> Block | None:
        cidr = _first_free(span, network.block_length, network.reserved, self.block_over)
        if cidr is None:
            return None
        block = Block(cidr=cidr, span=span, network=network.name, host=self.host, allocator=self.host)
        if identity is None:
            return self.put(block)
        return self.put(msgspec.structs.replace(block, owner=identity.owner, identities=(identity.id,), sequence=1))

    def block_over(self, candidate: Prefix) -> Prefix | None:
        return candidate if candidate in self.blocks else None

    def new_span(self, network: Network) -> Prefix | None:
        group = self.state.group_cidrs[network.name]
        if network.name in self.state.sole and not self.spans.get(network.name):
            cidr = None if self.span_over(group) else group
        else:
            cidr = _first_free(group, network.span_length, network.reserved, self.span_over)
        if cidr is not None:
            self.new_spans[cidr] = Span(cidr=cidr, network=network.name, host=self.host)
            self.spans.setdefault(network.name, []).append(cidr)
        return cidr

    def span_over(self, candidate: Prefix) -> Prefix | None:
        """A span that has the candidate in it; a longer one cannot be, since a live span keeps its network's length."""
        if candidate in self.state.spans or candidate in self.new_spans:
            return candidate
        network_length = min((network.cidr.length for network in self.state.networks.values()), default=0)
        for length in range(candidate.length - 1, network_length - 1, -1):
            wider = candidate.supernet(length)
            if wider in self.state.spans:
                return wider
        return None

    def fill_stock(self) -> None:
        """From the spans the host has: a further span for stock alone could be the last one of a neighbour."""
        for name in self.state.group_cidrs:
            network = self.state.networks[name]
            idle = sum(block.owner is None and block.network == name for block in self.blocks.values())
            while idle < self.state.stock and self.new_block(network, None, may_grow=not self.spans.get(name)):
                idle += 1

    def put(self, block: Block) -> Block:
        self.blocks[block.cidr] = block
        self.changed[block.cidr] = block
        return block

    def exhausted(self, networks: Sequence[Network], owner: Owner) -> Exhausted:
        return Exhausted(
            f"no block is left for {owner} on host {self.host}: "
            + "; ".join(self.numbers(network) for network in networks)
        )

    def numbers(self, network: Network) -> str:
        group = self.state.group_cidrs[network.name]
        held = [span for cidr, span in self.state.spans.items() if group.contains(cidr)]
        own = sum(span.host == self.host for span in held)
        room = 1 << max(0, network.span_length - group.length)
        mine = [block for block in self.blocks.values() if block.network == network.name]
        idle = sum(block.owner is None for block in mine)
        return (
            f"network {network.name}: group {group} has {room} span(s) of /{network.span_length}, {len(held)} claimed "
            f"({own} by this host, with {len(mine)} block(s), {idle} of them without an owner), "
            f"{len(network.reserved)} CIDR(s) reserved"
        )


def _first_free(
    within: Prefix, length: int, reserved: Sequence[Prefix], taken: Callable[[Prefix], Prefix | None]
) -> Prefix | None:
    """The first part of `length` that is not wholly reserved and that nothing `taken` answers lies over."""
    shift = within.family.bits - length
    index, count = 0, 1 << (length - within.length) if length >= within.length else 0
    while index < count:
        candidate = within.subnet(length, index)
        over = next((one for one in reserved if one.contains(candidate)), None) or taken(candidate)
        if over is None:
            return candidate
        index = max(index, (min(over.last, within.last) - within.value) >> shift) + 1
    return None
