"""Claims: the spans and blocks that a host gets from the control plane.

Owns where the next span and block are, and who joins whose block. Refuses to know addresses inside a block: those are
its allocator's. Invariants: spans never overlap; a block lies in a span of its host; nothing that is retired is given
to anybody; a block that other identities use is joined only by one of the same owner and class, unless it is mixed;
ownerless stock is given to an owner by its agent alone, so that the agent and the control plane never decide about the
same block. A claim costs what its host holds, however many hosts, spans and blocks there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from romana.core.ipam.bits import block_of, capacity, host_number, numbered
from romana.core.ipam.networks import candidate_networks
from romana.core.ipam.occupied import Occupied
from romana.model.address import Prefix
from romana.model.errors import Exhausted, Unavailable
from romana.model.ipam import Block, Numbers, Retired, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network
from romana.model.view import Claim

MIXED_IDENTITIES = 64
"""How many identities may share a mixed block: each is a line in its host's view and work for each address freed."""


class ClaimState(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's claims are decided from.

    `networks` are all of the plan, by name, with what is reserved for whatever reason; `group_cidrs` (network name ->
    CIDR) the host's leaf groups, and `sole` the networks in which that group is the host's alone. `spans` and `blocks`
    are the host's; `taken` has the spans of all hosts and what is retired. `class_of` maps identity ids to classes; an
    identity that is missing shares an owner's block with nobody. `used` is the number of published addresses by block,
    so that nobody joins a full one. New blocks begin at `sequence`, which is larger than that of every earlier block
    in the same place.
    """

    networks: Mapping[str, Network]
    group_cidrs: Mapping[str, Prefix]
    spans: Mapping[Prefix, Span]
    blocks: Mapping[Prefix, Block]
    taken: Occupied
    retired: Mapping[Prefix, Retired] = {}
    numbers: Mapping[str, Numbers] = {}
    class_of: Mapping[str, str] = {}
    used: Mapping[Prefix, int] = {}
    sole: frozenset[str] = frozenset()
    sequence: int = 0


class ClaimChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to store, and the blocks that now serve the identity, one per family, IPv4 first.

    `numbers` are those of networks with bits placement that changed. `revived` are retired no longer: their own host
    uses them again for the same owner.
    """

    spans: tuple[Span, ...] = ()
    blocks: tuple[Block, ...] = ()
    numbers: dict[str, Numbers] = {}
    revived: tuple[Prefix, ...] = ()
    answer: tuple[Prefix, ...] = ()


def claim(state: ClaimState, request: Claim) -> ClaimChanges:
    """Room for an identity on a host, in one network of each family, and its stock filled up.

    NotFound when no network serves its tenant on this host; Exhausted, with the numbers, when there is no block left;
    Unavailable while the block is being given back.
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
        self.numbers: dict[str, Numbers] = {}
        self.revived: set[Prefix] = set()
        self.reasons: list[str] = []
        self.blocks: dict[str, dict[Prefix, Block]] = {}
        for cidr, block in sorted(state.blocks.items()):
            if block.allocator == host:
                self.blocks.setdefault(block.network, {})[cidr] = block
        self.spans: dict[str, list[Prefix]] = {}
        for cidr, span in sorted(state.spans.items()):
            if self.is_home(span):
                self.spans.setdefault(span.network, []).append(cidr)

    def is_home(self, span: Span) -> bool:
        """Whether new blocks may come from a span: one that the host took along to another group is to become empty,
        but where ids place blocks, because an owner has one block a host.
        """
        group = self.state.group_cidrs.get(span.network)
        return group is None or group.contains(span.cidr) or self.state.networks[span.network].bits is not None

    def changes(self, answer: tuple[Prefix, ...]) -> ClaimChanges:
        return ClaimChanges(
            spans=tuple(self.new_spans[cidr] for cidr in sorted(self.new_spans)),
            blocks=tuple(self.changed[cidr] for cidr in sorted(self.changed)),
            numbers=self.numbers,
            revived=tuple(sorted(self.revived)),
            answer=answer,
        )

    def serve(self, networks: Sequence[Network], request: Claim) -> Block:
        for network in networks:
            block = self.computed(network, request) if network.bits else self.placed(network, request)
            if block is not None:
                return block
        for network in networks:  # sharing comes before a refusal
            block = self.mixed(network, request, may_grow=False)
            if block is not None:
                return block
        raise self.exhausted(networks, request.identity.owner)

    def placed(self, network: Network, request: Claim) -> Block | None:
        """A block in the next free place: mixed for the first endpoints of an owner, then one of its own."""
        owner = request.identity.owner
        has_own = any(block.owner == owner for block in self.blocks.get(network.name, {}).values())
        if not has_own and request.present < network.mixed:
            shared = self.mixed(network, request, may_grow=True)
            if shared is not None:
                return shared
        block = self.serving(network, request) or self.joined(network, request)
        return block or self.new_block(network, identity=request.identity, may_grow=True)

    def open_blocks(self, network: Network, request: Claim) -> Iterator[Block]:
        """The owner's blocks on this host that its agent hands out and that were not reported full, in order."""
        owner = request.identity.owner
        for cidr, block in self.blocks.get(network.name, {}).items():
            if block.owner == owner and cidr not in request.full:
                yield block

    def serving(self, network: Network, request: Claim) -> Block | None:
        identity = request.identity.id
        return next((block for block in self.open_blocks(network, request) if identity in block.identities), None)

    def joined(self, network: Network, request: Claim) -> Block | None:
        own_class = self.state.class_of.get(request.identity.id)
        if own_class is None:
            return None
        for block in self.open_blocks(network, request):
            same = all(self.state.class_of.get(other) == own_class for other in block.identities)
            if same and self.has_room(network, block):
                return self.join(block, request.identity)
        return None

    def mixed(self, network: Network, request: Claim, *, may_grow: bool) -> Block | None:
        """A block that the owners of this host share, where the network has such blocks."""
        if not network.mixed:
            return None
        shared = [
            block
            for cidr, block in self.blocks.get(network.name, {}).items()
            if block.mixed and cidr not in request.full
        ]
        identity = request.identity
        for block in shared:
            if identity.id in block.identities:
                return block
        for block in shared:
            if len(block.identities) < MIXED_IDENTITIES and self.has_room(network, block):
                return self.join(block, identity)
        return self.new_block(network, identity=identity, may_grow=True, mixed=True) if may_grow else None

    def computed(self, network: Network, request: Claim) -> Block | None:
        """The one block of an owner on this host, where the widths of a bits network put it."""
        identity = request.identity
        span = next(iter(self.spans.get(network.name, ())), None) or self.new_span(network)
        if span is None:
            return None
        before = self.numbers.get(network.name) or self.state.numbers.get(network.name, Numbers())
        try:
            numbers = numbered(network, before, identity.owner)
        except Exhausted as error:
            self.reasons.append(str(error))
            return None
        cidr = block_of(network, span, numbers, identity.owner)
        place = f"block {cidr} of {identity.owner} on host {self.host}, number {host_number(network, span)}"
        block = self.blocks.get(network.name, {}).get(cidr)
        if block is not None and cidr in request.full:
            size = capacity(network, cidr)
            if self.state.used.get(cidr, 0) < size:
                raise Unavailable(f"{place}, has addresses that still rest, or is being given back; ask again later")
            self.reasons.append(f"{place}, has all of its {size} addresses in use, and an owner has one block a host")
            return None
        if _occupied((*network.reserved, *network.static)).over(cidr) is not None:
            self.reasons.append(f"{place}, lies in a reserved or static range")
            return None
        if numbers is not before:
            self.numbers[network.name] = numbers
        if cidr in self.state.retired:
            self.revived.add(cidr)
        if block is None:
            return self.put(self.fresh_block(network, span, cidr, identity))
        return block if identity.id in block.identities else self.join(block, identity)

    def has_room(self, network: Network, block: Block) -> bool:
        return self.state.used.get(block.cidr, 0) < capacity(network, block.cidr)

    def join(self, block: Block, identity: Identity) -> Block:
        return self.put(msgspec.structs.replace(block, identities=tuple(sorted({*block.identities, identity.id}))))

    def new_block(
        self, network: Network, *, may_grow: bool, identity: Identity | None = None, mixed: bool = False
    ) -> Block | None:
        """A new block, in the first of the host's spans that has room, or in a new span; ownerless without identity."""
        for span in self.spans.get(network.name, []):
            cidr = self.free_block(network, span)
            if cidr is not None:
                return self.put(self.fresh_block(network, span, cidr, identity, mixed=mixed))
        grown = self.new_span(network) if may_grow else None
        cidr = self.free_block(network, grown) if grown is not None else None
        if grown is None or cidr is None:
            return None
        return self.put(self.fresh_block(network, grown, cidr, identity, mixed=mixed))

    def fresh_block(
        self, network: Network, span: Prefix, cidr: Prefix, identity: Identity | None, *, mixed: bool = False
    ) -> Block:
        stock = Block(
            cidr=cidr,
            span=span,
            network=network.name,
            host=self.host,
            allocator=self.host,
            sequence=self.state.sequence,
        )
        if identity is None:
            return stock
        owner = None if mixed else identity.owner
        return msgspec.structs.replace(
            stock, owner=owner, mixed=mixed, identities=(identity.id,), sequence=self.state.sequence + 1
        )

    def free_block(self, network: Network, span: Prefix) -> Prefix | None:
        def over(candidate: Prefix) -> Prefix | None:
            if candidate in self.state.blocks or candidate in self.changed:
                return candidate
            wider = (candidate.supernet(length) for length in range(span.length, candidate.length + 1))
            return next((one for one in wider if one in self.state.retired), None)

        return _first_free(span, network.block_length, network, over)

    def new_span(self, network: Network) -> Prefix | None:
        group = self.state.group_cidrs[network.name]
        whole = network.bits is None and network.name in self.state.sole and not self.spans.get(network.name)
        length = group.length if whole else network.span_length
        cidr = _first_free(group, length, network, self.span_over)
        if cidr is not None:
            self.new_spans[cidr] = Span(cidr=cidr, network=network.name, host=self.host)
            self.spans.setdefault(network.name, []).append(cidr)
        return cidr

    def span_over(self, candidate: Prefix) -> Prefix | None:
        new = any(candidate.overlaps(span) for span in self.new_spans)
        return candidate if new else self.state.taken.touching(candidate)

    def fill_stock(self) -> None:
        """From the spans the host has: a further span for stock alone could be the last one of a neighbour."""
        for name in self.state.group_cidrs:
            network = self.state.networks[name]
            if network.bits is not None:
                if not self.spans.get(name):
                    self.new_span(network)
                continue
            idle = sum(block.is_stock for block in self.blocks.get(name, {}).values())
            while idle < network.stock and self.new_block(network, may_grow=not self.spans.get(name)):
                idle += 1

    def put(self, block: Block) -> Block:
        self.blocks.setdefault(block.network, {})[block.cidr] = block
        self.changed[block.cidr] = block
        return block

    def exhausted(self, networks: Sequence[Network], owner: Owner) -> Exhausted:
        numbers = "; ".join([*self.reasons, *(self.count(network) for network in networks)])
        return Exhausted(f"no block is left for {owner} on host {self.host}: {numbers}")

    def count(self, network: Network) -> str:
        group = self.state.group_cidrs[network.name]
        room = 1 << max(0, network.span_length - group.length)
        gone = sum(one.network == network.name and group.contains(cidr) for cidr, one in self.state.retired.items())
        mine = self.blocks.get(network.name, {}).values()
        idle = sum(block.is_stock for block in mine)
        return (
            f"network {network.name}: group {group} has {room} span(s) of /{network.span_length}, none of them free; "
            f"this host has {len(self.spans.get(network.name, ()))}, with {len(mine)} block(s), {idle} of them without "
            f"an owner; {gone} CIDR(s) given back wait until every host knows, {len(network.reserved)} reserved, "
            f"{len(network.static)} static"
        )


def _first_free(
    within: Prefix, length: int, network: Network, taken: Callable[[Prefix], Prefix | None]
) -> Prefix | None:
    """The first part of `length` that is not wholly reserved, that no static range touches (its routes lead elsewhere),
    and that nothing `taken` answers lies over.
    """
    shift = within.family.bits - length
    static = (one.supernet(min(one.length, length)) for one in network.static)
    kept = _occupied((*network.reserved, *static))
    index, count = 0, 1 << (length - within.length) if length >= within.length else 0
    while index < count:
        candidate = within.subnet(length, index)
        over = kept.over(candidate) or taken(candidate)
        if over is None:
            return candidate
        index = max(index, (min(over.last, within.last) - within.value) >> shift) + 1
    return None


@functools.lru_cache(maxsize=64)
def _occupied(prefixes: tuple[Prefix, ...]) -> Occupied:
    found = Occupied()
    for prefix in prefixes:
        found.add(prefix)
    return found
