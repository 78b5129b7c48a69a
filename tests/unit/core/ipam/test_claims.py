from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.codec.topology import read_plan
from romana.core.ipam import ClaimChanges, ClaimState, claim, claim_state, fill_stock
from romana.core.topology import carve, place_host
from romana.model.address import Prefix
from romana.model.errors import Exhausted, NotFound
from romana.model.ipam import Block, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Host, Network
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
        self.networks = {one.name: one for one in networks}
        self.groups = groups or {"h": {one.name: str(one.cidr) for one in networks}}
        self.spans: dict[Prefix, Span] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.classes: dict[str, str] = {}
        self.stock = stock
        self.sole: frozenset[str] = frozenset()
        self.used: dict[Prefix, int] = {}

    def state(self, host: str) -> ClaimState:
        return ClaimState(
            networks=self.networks,
            group_cidrs={name: parse_prefix(cidr) for name, cidr in self.groups[host].items()},
            spans=self.spans,
            blocks=self.blocks,
            class_of=self.classes,
            used=self.used,
            sole=self.sole,
            stock=self.stock,
        )

    def store(self, changes: ClaimChanges) -> ClaimChanges:
        self.spans |= {span.cidr: span for span in changes.spans}
        self.blocks |= {block.cidr: block for block in changes.blocks}
        return changes

    def claim(self, who: Identity = WEB, host: str = "h", full: tuple[Prefix, ...] = (), *named: str) -> list[str]:
        request = Claim(host=host, epoch=1, identity=who, networks=named, full=full)
        return [str(cidr) for cidr in self.store(claim(self.state(host), request)).answer]


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


def test_the_state_of_a_host_under_a_plan() -> None:
    plan = carve(
        read_plan(
            {
                "version": 1,
                "networks": [{"name": "n", "cidr": "10.0.0.0/16"}, {"name": "elsewhere", "cidr": "10.1.0.0/16"}],
                "topologies": [
                    {"name": "t", "networks": ["n"], "groups": [{"name": "a", "hosts": ["h"]}, {"name": "b"}]},
                ],
            }
        )
    )
    host = place_host(plan, {}, Host(name="h"))
    state = claim_state(plan, host, spans={}, blocks={}, class_of={}, used={})
    assert (state.group_cidrs, state.sole) == ({"n": parse_prefix("10.0.0.0/17")}, frozenset({"n"}))
    assert [str(span.cidr) for span in fill_stock(state, "h").spans] == ["10.0.0.0/17"]


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
        "no block is left for acme/cache on host h: network n: group 10.0.0.0/28 has 2 span(s) of /29, 2 claimed "
        "(2 by this host, with 2 block(s), 0 of them without an owner), 0 CIDR(s) reserved"
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("hgf"), st.integers(0, 5), st.integers(0, 3)), max_size=40),
    st.integers(0, 2),
)
def test_spans_and_blocks_never_overlap(steps: list[tuple[str, int, int]], stock: int) -> None:
    tiny = network("n", "10.0.0.0/24", 29, 27, reserved=(parse_prefix("10.0.0.32/28"),))
    cluster = Cluster(tiny, stock=stock, h={"n": "10.0.0.0/25"}, g={"n": "10.0.0.0/25"}, f={"n": "10.0.0.128/25"})
    cluster.classes = {identity(pod=str(label)).id: str(label // 2) for label in range(4)}
    for host, segment, label in steps:
        who = identity(f"s{segment}", pod=str(label))
        own = tuple(cidr for cidr, block in cluster.blocks.items() if block.host == host)
        try:
            cluster.claim(who, host, own[:segment])
        except Exhausted:
            continue
    spans, blocks = sorted(cluster.spans), sorted(cluster.blocks)
    assert not any(one.overlaps(other) for one in spans for other in spans if one != other)
    assert not any(one.overlaps(other) for one in blocks for other in blocks if one != other)
    for block in cluster.blocks.values():
        assert block.span.contains(block.cidr)
        assert cluster.spans[block.span].host == block.host
        assert parse_prefix(cluster.groups[block.host]["n"]).contains(block.cidr)
        assert not tiny.reserved[0].contains(block.cidr)
