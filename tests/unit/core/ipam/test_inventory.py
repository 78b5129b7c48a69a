"""Inventories after a restore: whoever speaks first, spans never overlap and nobody loses what he holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.core.ipam.inventory import InventoryState, drop, take_over
from romana.model.address import Prefix
from romana.model.ipam import Block, Retired, Span
from romana.model.topology import Network
from romana.model.view import Inventory

NETWORK = Network(name="pods", cidr=parse_prefix("10.0.0.0/24"), span_length=27, block_length=30)
SPANS = list(NETWORK.cidr.subnets(27))
HOSTS = ("h1", "h2", "h3")
owners = st.dictionaries(st.sampled_from(SPANS), st.sampled_from(HOSTS))
blocks_of = st.sets(st.sampled_from([block for span in SPANS for block in span.subnets(30)]), max_size=12)


def spans(owned: dict[Prefix, str]) -> dict[Prefix, Span]:
    return {cidr: Span(cidr=cidr, network="pods", host=host) for cidr, host in owned.items()}


def blocks(owned: dict[Prefix, str], chosen: set[Prefix], host: str) -> dict[Prefix, Block]:
    return {
        cidr: Block(cidr=cidr, span=cidr.supernet(27), network="pods", host=host, allocator=host)
        for cidr in chosen
        if owned.get(cidr.supernet(27)) == host
    }


class Store:
    """The restored store, with the rules of a transaction."""

    def __init__(self, owned: dict[Prefix, str], chosen: set[Prefix], retired: set[Prefix]) -> None:
        self.spans = spans(owned)
        self.blocks = {host: blocks(owned, chosen, host) for host in HOSTS}
        self.retired = {cidr: Retired(cidr=cidr, network="pods", host="h1") for cidr in retired}
        self.unsettled = set(HOSTS)

    def state(self, host: str) -> InventoryState:
        return InventoryState(
            networks={"pods": NETWORK},
            spans=dict(self.spans),
            blocks=dict(self.blocks[host]),
            retired=dict(self.retired),
            unsettled=set(self.unsettled),
        )

    def settle(self, inventory: Inventory) -> bool:
        """Whether the host is settled now."""
        host = inventory.host
        gone = drop(self.state(host), inventory)
        for cidr in gone.spans:
            del self.spans[cidr]
        for cidr in gone.blocks:
            del self.blocks[host][cidr]
        for one in gone.retired:
            self.retired[one.cidr] = one
        found = take_over(self.state(host), inventory)
        if found.waiting:
            return False
        self.spans |= {span.cidr: span for span in found.spans}
        self.blocks[host] |= {block.cidr: block for block in found.blocks}
        for cidr in found.revived:
            del self.retired[cidr]
        self.unsettled.discard(host)
        self.refused = found.refused
        return True


@given(owners, owners, blocks_of, blocks_of, st.permutations(HOSTS))
def test_whoever_speaks_first_the_store_ends_with_what_the_hosts_hold(
    then: dict[Prefix, str], now: dict[Prefix, str], had: set[Prefix], have: set[Prefix], order: list[str]
) -> None:
    free = {cidr for cidr in SPANS if cidr not in then}
    store = Store(then, had, {cidr for cidr in free if cidr.value & 32})
    inventories = {
        host: Inventory(
            host=host,
            epoch=1,
            spans=tuple(span for span in spans(now).values() if span.host == host),
            blocks=tuple(blocks(now, have, host).values()),
        )
        for host in HOSTS
    }
    waiting = list(order)
    for _ in range(3 * len(HOSTS)):
        waiting = [host for host in waiting if not store.settle(inventories[host])]
    assert not waiting  # nobody waits for ever for somebody who waits for him
    assert {cidr: span.host for cidr, span in store.spans.items()} == now
    for host in HOSTS:
        assert store.blocks[host] == blocks(now, have, host)
    assert not store.retired.keys() & now.keys()
    for cidr in then.keys() - now.keys():
        assert cidr in store.retired  # not free: somebody may still have a rule with it
    held = [block for host in HOSTS for block in store.blocks[host]]
    assert not store.retired.keys() & set(held)
    for host in HOSTS:
        for cidr in blocks(then, had, host).keys() - set(held):
            assert any(one.contains(cidr) for one in store.retired) or cidr.supernet(27) in now


def test_a_span_around_or_inside_another_hosts_is_refused() -> None:
    store = Store({SPANS[1]: "h1"}, set(), set())
    store.unsettled = {"h2"}
    for text in ("10.0.0.0/25", "10.0.0.32/29"):
        cidr = parse_prefix(text)
        assert store.settle(Inventory(host="h2", epoch=1, spans=tuple(spans({cidr: "h2"}).values())))
        assert "overlaps 10.0.0.32/27 of host h1" in store.refused[cidr]


def test_spans_outside_the_plan_or_of_somebody_else_are_refused() -> None:
    store = Store({}, set(), set())
    outside = Span(cidr=parse_prefix("10.9.0.0/27"), network="pods", host="h1")
    unknown = Span(cidr=parse_prefix("10.0.0.0/27"), network="gone", host="h1")
    foreign = Span(cidr=parse_prefix("10.0.0.32/27"), network="pods", host="h2")
    assert store.settle(Inventory(host="h1", epoch=1, spans=(outside, unknown, foreign)))
    assert set(store.refused) == {outside.cidr, unknown.cidr, foreign.cidr}
    assert not store.spans
