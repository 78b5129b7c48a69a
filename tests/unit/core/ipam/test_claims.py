from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.core.ipam import ClaimChanges, ClaimState, claim, fill_stock
from romana.core.ipam.bits import capacity, without_gone
from romana.core.ipam.claims import MIXED_IDENTITIES
from romana.core.ipam.occupied import Occupied
from romana.model.address import Prefix
from romana.model.errors import Exhausted, NotFound, Unavailable
from romana.model.ipam import Block, Numbers, Retired, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import BitPlan, Network, Placement
from romana.model.view import Claim


def network(name: str, cidr: str, block: int, span: int, **fields: Any) -> Network:
    return Network(name=name, cidr=parse_prefix(cidr), block_length=block, span_length=span, **fields)


def identity(segment: str = "web", tenant: str = "acme", **labels: str) -> Identity:
    return Identity(owner=Owner(tenant, segment), labels=labels)


WEB = identity()
N4 = network("n4", "10.0.0.0/16", 29, 24)
N6 = network("n6", "fd00::/48", 122, 117, order=1)


class Cluster:
    """The server's side in memory: what claims change is stored."""

    def __init__(self, *networks: Network, stock: int = 0, **groups: dict[str, str]) -> None:
        self.networks = {one.name: msgspec.structs.replace(one, stock=stock) for one in networks}
        self.groups = groups or {"h": {one.name: str(one.cidr) for one in networks}}
        self.spans: dict[Prefix, Span] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.retired: dict[Prefix, Retired] = {}
        self.numbers: dict[str, Numbers] = {}
        self.classes: dict[str, str] = {}
        self.sole: frozenset[str] = frozenset()
        self.used: dict[Prefix, int] = {}
        self.sequence = 0

    def state(self, host: str) -> ClaimState:
        taken = Occupied()
        for cidr in (*self.spans, *self.retired):
            taken.add(cidr)
        return ClaimState(
            networks=self.networks,
            group_cidrs={name: parse_prefix(cidr) for name, cidr in self.groups[host].items()},
            spans={cidr: span for cidr, span in self.spans.items() if span.host == host},
            blocks={cidr: block for cidr, block in self.blocks.items() if block.host == host},
            taken=taken,
            retired=self.retired,
            numbers=self.numbers,
            class_of=self.classes,
            used=self.used,
            sole=self.sole,
            sequence=self.sequence,
        )

    def store(self, changes: ClaimChanges) -> ClaimChanges:
        self.spans |= {span.cidr: span for span in changes.spans}
        self.blocks |= {block.cidr: block for block in changes.blocks}
        self.numbers |= changes.numbers
        for cidr in changes.revived:
            del self.retired[cidr]
        return changes

    def claim(
        self, who: Identity = WEB, host: str = "h", full: tuple[Prefix, ...] = (), *named: str, present: int = 99
    ) -> list[str]:
        request = Claim(host=host, epoch=1, identity=who, networks=named, full=full, present=present)
        return [str(cidr) for cidr in self.store(claim(self.state(host), request)).answer]

    def retire(self, *texts: str) -> None:
        for text in texts:
            cidr = parse_prefix(text)
            gone = self.blocks.pop(cidr, None) or self.spans.pop(cidr)
            self.retired[cidr] = Retired(cidr=cidr, network=gone.network, host=gone.host)


def test_the_first_claim_takes_a_span_a_block_and_stock() -> None:
    cluster = Cluster(N4, N6, stock=2)
    changes = cluster.store(claim(cluster.state("h"), Claim(host="h", epoch=1, identity=WEB)))
    assert [str(cidr) for cidr in changes.answer] == ["10.0.0.0/29", "fd00::/122"]
    assert [str(span.cidr) for span in changes.spans] == ["10.0.0.0/24", "fd00::/117"]
    assert [(str(block.cidr), block.owner, block.sequence) for block in changes.blocks if block.network == "n4"] == [
        ("10.0.0.0/29", WEB.owner, 1),
        ("10.0.0.8/29", None, 0),
        ("10.0.0.16/29", None, 0),
    ]
    owned = changes.blocks[0]
    assert (owned.identities, owned.host, owned.allocator, owned.span) == (
        (WEB.id,),
        "h",
        "h",
        parse_prefix("10.0.0.0/24"),
    )


def test_a_repeated_claim_changes_nothing() -> None:
    cluster = Cluster(N4, stock=2)
    cluster.claim()
    again = claim(cluster.state("h"), Claim(host="h", epoch=1, identity=WEB))
    assert again == ClaimChanges(answer=(parse_prefix("10.0.0.0/29"),))


def test_a_full_block_is_followed_by_another() -> None:
    cluster = Cluster(N4)
    assert cluster.claim() == ["10.0.0.0/29"]
    assert cluster.claim(full=(parse_prefix("10.0.0.0/29"),)) == ["10.0.0.8/29"]
    assert cluster.claim() == ["10.0.0.0/29"]


def test_owners_and_hosts_have_blocks_of_their_own() -> None:
    cluster = Cluster(N4, h={"n4": "10.0.0.0/17"}, g={"n4": "10.0.0.0/17"}, far={"n4": "10.0.128.0/17"})
    assert cluster.claim() == ["10.0.0.0/29"]
    assert cluster.claim(identity("db")) == ["10.0.0.8/29"]
    assert cluster.claim(host="g") == ["10.0.1.0/29"]
    assert cluster.claim(host="far") == ["10.0.128.0/29"]


def test_an_identity_joins_a_block_of_its_owner_in_its_class() -> None:
    cluster = Cluster(N4)
    first, same, other, unknown = (identity(pod=name) for name in "abcd")
    cluster.classes = {first.id: "c1", same.id: "c1", other.id: "c2"}
    assert cluster.claim(first) == ["10.0.0.0/29"]
    assert cluster.claim(same) == ["10.0.0.0/29"]
    assert cluster.claim(other) == ["10.0.0.8/29"]
    assert cluster.claim(unknown) == ["10.0.0.16/29"]
    block = cluster.blocks[parse_prefix("10.0.0.0/29")]
    assert (block.identities, block.sequence) == (tuple(sorted((first.id, same.id))), 1)


def test_nobody_joins_a_full_block() -> None:
    cluster = Cluster(N4)
    first, same = identity(pod="a"), identity(pod="b")
    cluster.classes = {first.id: "c", same.id: "c"}
    cluster.claim(first)
    cluster.used = {parse_prefix("10.0.0.0/29"): 8}
    assert cluster.claim(same) == ["10.0.0.8/29"]


def test_stock_is_the_agents_to_give() -> None:
    cluster = Cluster(N4, stock=2)
    cluster.store(fill_stock(cluster.state("h"), "h"))
    assert [str(cidr) for cidr in cluster.blocks] == ["10.0.0.0/29", "10.0.0.8/29"]
    assert cluster.claim() == ["10.0.0.16/29"]
    assert fill_stock(cluster.state("h"), "h") == ClaimChanges()


def test_stock_takes_no_further_span() -> None:
    cluster = Cluster(network("n", "10.0.0.0/24", 29, 28), stock=2)
    cluster.claim()
    assert (len(cluster.spans), len(cluster.blocks)) == (1, 2)
    cluster.claim(identity("db"))
    assert (len(cluster.spans), len(cluster.blocks)) == (2, 4)


def test_a_group_of_one_host_is_its_span() -> None:
    cluster = Cluster(N4, h={"n4": "10.0.64.0/18"})
    cluster.sole = frozenset({"n4"})
    cluster.claim()
    assert list(map(str, cluster.spans)) == ["10.0.64.0/18"]


def test_a_span_is_never_around_another_one_or_around_what_is_retired() -> None:
    cluster = Cluster(network("n4", "10.0.0.0/16", 29, 24))
    inside = parse_prefix("10.0.0.64/26")
    cluster.spans[inside] = Span(cidr=inside, network="n4", host="other")
    gone = parse_prefix("10.0.1.8/29")
    cluster.retired[gone] = Retired(cidr=gone, network="n4", host="other")
    cluster.claim(WEB)
    assert [str(cidr) for cidr, span in cluster.spans.items() if span.host == "h"] == ["10.0.2.0/24"]


def test_reserved_parts_are_skipped() -> None:
    reserved = tuple(map(parse_prefix, ("10.0.0.0/23", "10.0.2.0/28", "10.0.2.20/32")))
    cluster = Cluster(msgspec.structs.replace(N4, reserved=reserved))
    assert cluster.claim() == ["10.0.2.16/29"]
    huge = network("n6", "fd00::/16", 122, 117, reserved=(parse_prefix("fd00::/17"),))
    assert Cluster(huge).claim() == ["fd00:8000::/122"]


def test_tenants_networks_come_before_open_ones_and_others_not_at_all() -> None:
    open_net = network("open", "10.1.0.0/16", 29, 24, order=0)
    beta = network("beta", "10.2.0.0/16", 29, 24, order=1, tenants=("beta",))
    acme = network("acme", "10.3.0.0/28", 29, 28, order=2, tenants=("acme", "x"))
    cluster = Cluster(open_net, beta, acme, N6)
    assert cluster.claim() == ["10.3.0.0/29", "fd00::/122"]
    full = tuple(map(parse_prefix, ("10.3.0.0/29",)))
    assert cluster.claim(full=full)[0] == "10.3.0.8/29"
    assert cluster.claim(full=(*full, parse_prefix("10.3.0.8/29")))[0] == "10.1.0.0/29"
    assert cluster.claim(identity(tenant="zz"))[0] == "10.1.0.8/29"
    assert cluster.claim(WEB, "h", (), "open") == ["10.1.0.0/29"]
    for named, words in (("beta", "does not serve tenant 'acme'"), ("nowhere", "is not one that the host draws from")):
        with pytest.raises(NotFound, match=words):
            cluster.claim(WEB, "h", (), named)


def test_a_tenant_without_a_network_is_told_so() -> None:
    cluster = Cluster(msgspec.structs.replace(N4, tenants=("beta",)))
    with pytest.raises(NotFound, match="no network serves tenant 'acme' here; the host draws from: n4"):
        cluster.claim()


def test_exhaustion_says_the_numbers_and_changes_nothing() -> None:
    cluster = Cluster(network("n", "10.0.0.0/28", 29, 29), N6)
    cluster.claim()
    cluster.claim(identity("db"))
    with pytest.raises(Exhausted) as caught:
        cluster.claim(identity("cache"))
    assert str(caught.value) == (
        "no block is left for acme/cache on host h: network n: group 10.0.0.0/28 has 2 span(s) of /29, none of them "
        "free; this host has 2, with 2 block(s), 0 of them without an owner; 0 CIDR(s) given back wait until every "
        "host knows, 0 reserved, 0 static"
    )


def test_what_is_retired_is_nobodys() -> None:
    cluster = Cluster(network("n", "10.0.0.0/26", 29, 28), h={"n": "10.0.0.0/26"}, g={"n": "10.0.0.0/26"})
    assert cluster.claim() == ["10.0.0.0/29"]
    cluster.retire("10.0.0.0/29")
    assert cluster.claim() == ["10.0.0.8/29"]
    cluster.retire("10.0.0.8/29")
    cluster.retire("10.0.0.0/28")
    assert cluster.claim(host="g") == ["10.0.0.16/29"]
    assert cluster.claim() == ["10.0.0.32/29"]
    del cluster.retired[parse_prefix("10.0.0.0/28")]  # of which only the blocks wait now
    assert cluster.claim(identity("db"), host="g", full=(parse_prefix("10.0.0.24/29"),)) == ["10.0.0.24/29"]
    cluster.claim(identity("x"))
    assert cluster.claim(identity("y")) == ["10.0.0.48/29"]
    cluster.claim(identity("z"))
    with pytest.raises(Exhausted, match=r"2 CIDR\(s\) given back wait until every host knows"):
        cluster.claim(identity("more"))


def test_a_block_that_comes_again_has_a_later_sequence() -> None:
    cluster = Cluster(N4, stock=1)
    cluster.sequence = 7
    cluster.claim()
    assert [block.sequence for block in cluster.blocks.values()] == [8, 7]


def test_a_span_that_a_static_range_touches_is_nobodys() -> None:
    static = tuple(map(parse_prefix, ("10.0.0.200/29", "10.0.2.0/23")))
    everywhere = {"n4": "10.0.0.0/16"}
    cluster = Cluster(msgspec.structs.replace(N4, static=static), h=everywhere, g=everywhere)
    assert cluster.claim() == ["10.0.1.0/29"]
    assert cluster.claim(host="g") == ["10.0.4.0/29"]
    assert list(map(str, cluster.spans)) == ["10.0.1.0/24", "10.0.4.0/24"]
    halves = tuple(map(parse_prefix, ("10.0.0.0/25", "10.0.0.128/25")))
    assert Cluster(msgspec.structs.replace(N4, static=halves[:1], reserved=halves[1:])).claim() == ["10.0.1.0/29"]


def test_the_first_endpoints_of_an_owner_share_a_mixed_block() -> None:
    cluster = Cluster(msgspec.structs.replace(N4, mixed=2), stock=1)
    assert cluster.claim(present=0) == ["10.0.0.0/29"]
    assert cluster.claim(present=1) == ["10.0.0.0/29"]
    assert cluster.claim(identity("db"), present=0) == ["10.0.0.0/29"]
    block = cluster.blocks[parse_prefix("10.0.0.0/29")]
    assert (block.mixed, block.owner, block.identities) == (True, None, tuple(sorted((WEB.id, identity("db").id))))
    assert cluster.claim(present=2) == ["10.0.0.16/29"], "after the stock, which is nobody's to share"
    assert cluster.claim(identity(pod="other"), present=1) == ["10.0.0.24/29"], "its owner has a block of its own"
    assert not cluster.blocks[parse_prefix("10.0.0.8/29")].mixed


def test_a_full_mixed_block_is_followed_by_another() -> None:
    cluster = Cluster(msgspec.structs.replace(N4, mixed=2))
    first = parse_prefix("10.0.0.0/29")
    cluster.claim(present=0)
    cluster.used = {first: 8}
    assert cluster.claim(identity("db"), present=0) == ["10.0.0.8/29"]
    assert cluster.claim(full=(first,), present=1) == ["10.0.0.8/29"]
    cluster.used = {}
    for number in range(2 * MIXED_IDENTITIES):
        cluster.claim(identity(f"s{number}"), present=0)
    assert all(len(block.identities) <= MIXED_IDENTITIES for block in cluster.blocks.values())


def test_sharing_comes_before_a_refusal() -> None:
    cluster = Cluster(network("n", "10.0.0.0/28", 29, 28, mixed=1))
    cluster.claim(present=0)
    assert cluster.claim(present=1) == ["10.0.0.8/29"]
    assert cluster.claim(identity("db"), present=1) == ["10.0.0.0/29"]
    with pytest.raises(Exhausted):
        cluster.claim(identity("cache"), "h", (parse_prefix("10.0.0.0/29"),), present=1)
    cluster.networks = {"n": msgspec.structs.replace(cluster.networks["n"], mixed=0)}
    with pytest.raises(Exhausted):
        cluster.claim(identity("cache"), present=0)


def bits_network(cidr: str = "10.0.0.0/8", **widths: int) -> Network:
    plan = BitPlan(**{"host": 8, "tenant": 4, "segment": 4, "endpoint": 8, **widths})
    made = parse_prefix(cidr)
    block = made.family.bits - plan.endpoint - plan.space
    return network("b", cidr, block, made.length + plan.host, placement=Placement.BITS, bits=plan)


def test_bits_put_a_block_where_host_tenant_and_segment_say() -> None:
    cluster = Cluster(bits_network(), h={"b": "10.0.0.0/8"}, g={"b": "10.0.0.0/8"})
    assert cluster.claim(identity("s0", "t0")) == ["10.0.0.0/24"]
    assert [cluster.claim(identity(f"s{number}", "t1"), "g") for number in range(3)] == [
        ["10.1.16.0/24"],
        ["10.1.17.0/24"],
        ["10.1.18.0/24"],
    ]
    assert cluster.claim(identity("s2", "t1"), "g") == ["10.1.18.0/24"]
    assert cluster.claim(identity("s2", "t1")) == ["10.0.18.0/24"], "the same ids on every host"
    assert sorted(map(str, cluster.spans)) == ["10.0.0.0/16", "10.1.0.0/16"]
    assert cluster.claim(identity("s2", "t1", pod="other class"), "g") == ["10.1.18.0/24"]
    assert len(cluster.blocks[parse_prefix("10.1.18.0/24")].identities) == 2


def test_new_blocks_come_from_the_group_where_the_host_is_but_where_ids_place_them() -> None:
    cluster = Cluster(N4, h={"n4": "10.0.0.0/17"})
    assert cluster.claim() == ["10.0.0.0/29"]
    cluster.groups["h"] = {"n4": "10.0.128.0/17"}
    assert cluster.claim() == ["10.0.0.0/29"], "it has room"
    assert cluster.claim(identity("db")) == ["10.0.128.0/29"]
    bits = Cluster(bits_network(), h={"b": "10.0.0.0/9"})
    assert bits.claim() == ["10.0.0.0/24"]
    bits.groups["h"] = {"b": "10.128.0.0/9"}
    assert bits.claim(identity("db")) == ["10.0.1.0/24"]


def test_bits_placement_works_in_the_other_family() -> None:
    cluster = Cluster(bits_network("fd00::/64", host=16, tenant=16, segment=16, endpoint=12, space=4))
    assert cluster.claim(identity("s", "t")) == ["fd00::/112"]
    assert cluster.claim(identity("r", "t")) == ["fd00::1:0/112"]


@pytest.mark.parametrize("space", [0, 1, 2, 4])
def test_how_many_endpoints_a_bits_block_has(space: int) -> None:
    one = bits_network(endpoint=8 - space, space=space)
    assert capacity(one, parse_prefix("10.0.0.0/24")) == {0: 253, 1: 127, 2: 64, 4: 16}[space]


def test_ids_that_do_not_fit_their_width_are_refused() -> None:
    cluster = Cluster(bits_network("10.0.0.0/16", host=0))
    for number in range(16):
        cluster.claim(identity("s", f"t{number}"))
    with pytest.raises(Exhausted, match=r"no id is left for tenant more .* 4 bit\(s\) number 16 tenants"):
        cluster.claim(identity("s", "more"))
    for number in range(1, 16):
        cluster.claim(identity(f"s{number}", "t0"))
    with pytest.raises(Exhausted, match=r"no id is left for segment t0/more .* 16 segments of tenant t0"):
        cluster.claim(identity("more", "t0"))
    assert len(cluster.blocks) == 31
    assert len({block.value >> 8 for block in cluster.blocks}) == 31
    everywhere = {"b": "10.0.0.0/15"}
    narrow = Cluster(bits_network("10.0.0.0/15", host=1), h=everywhere, g=everywhere, f=everywhere)
    assert narrow.claim(host="h") + narrow.claim(host="g") == ["10.0.0.0/24", "10.1.0.0/24"]
    with pytest.raises(Exhausted, match=r"has 2 span\(s\) of /16, none of them free; this host has 0"):
        narrow.claim(host="f")


def test_a_full_bits_block_has_no_other_beside_it() -> None:
    cluster = Cluster(bits_network(endpoint=4, space=4))
    block = parse_prefix(cluster.claim()[0])
    with pytest.raises(Unavailable, match="still rest, or is being given back"):
        cluster.claim(full=(block,))
    cluster.used = {block: 16}
    with pytest.raises(Exhausted, match="has all of its 16 addresses in use, and an owner has one block a host"):
        cluster.claim(full=(block,))


def test_a_bits_block_that_was_given_back_is_its_owners_again_at_once() -> None:
    cluster = Cluster(bits_network())
    block = cluster.claim()
    cluster.retire(*block)
    assert cluster.claim() == block
    assert not cluster.retired


def test_ids_are_freed_when_no_block_of_them_is_left() -> None:
    one = bits_network()
    numbers = Numbers(tenants={"a": 0, "b": 1}, segments={"a/x": 0, "b/x": 0, "b/y": 1})
    blocks = [parse_prefix("10.7.17.0/24")]  # of b/y

    def left(*owners: tuple[str, str]) -> Numbers:
        return without_gone(one, numbers, tenants={tenant for tenant, _ in owners}, segments=set(owners), blocks=blocks)

    assert left(("a", "x"), ("b", "x"), ("b", "y")) is numbers
    assert left(("b", "x")) == Numbers(tenants={"b": 1}, segments={"b/x": 0, "b/y": 1})
    assert left(("a", "x")) == Numbers(tenants={"a": 0, "b": 1}, segments={"a/x": 0, "b/y": 1})
    blocks = []
    assert left(("a", "x")) == Numbers(tenants={"a": 0}, segments={"a/x": 0})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("hgf"), st.integers(0, 5), st.integers(0, 3)), max_size=40),
    st.integers(0, 2),
)
def test_spans_and_blocks_never_overlap(steps: list[tuple[str, int, int]], stock: int) -> None:
    tiny = network("n", "10.0.0.0/24", 29, 27, reserved=(parse_prefix("10.0.0.32/28"),), mixed=2)
    cluster = Cluster(tiny, stock=stock, h={"n": "10.0.0.0/25"}, g={"n": "10.0.0.0/25"}, f={"n": "10.0.0.128/25"})
    cluster.classes = {identity(pod=str(label)).id: str(label // 2) for label in range(4)}
    for host, segment, label in steps:
        who = identity(f"s{segment}", pod=str(label))
        own = tuple(cidr for cidr, block in cluster.blocks.items() if block.host == host)
        if label == 3 and own:  # the oldest block is given back, and perhaps a whole span with it
            cluster.retire(str(own[0]))
            span = own[0].supernet(27)
            if not any(span.contains(cidr) for cidr in cluster.blocks):
                cluster.retire(str(span))
        try:
            cluster.claim(who, host, own[:segment], present=label)
        except Exhausted:
            continue
    assert not any(one.overlaps(gone) for one in cluster.blocks for gone in cluster.retired)
    assert not any(gone.contains(one) for one in cluster.spans for gone in cluster.retired)
    spans, blocks = sorted(cluster.spans), sorted(cluster.blocks)
    assert not any(one.overlaps(other) for one in spans for other in spans if one != other)
    assert not any(one.overlaps(other) for one in blocks for other in blocks if one != other)
    for block in cluster.blocks.values():
        assert block.span.contains(block.cidr)
        assert cluster.spans[block.span].host == block.host
        assert parse_prefix(cluster.groups[block.host]["n"]).contains(block.cidr)
        assert not tiny.reserved[0].contains(block.cidr)
