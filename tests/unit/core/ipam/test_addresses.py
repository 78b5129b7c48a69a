from __future__ import annotations

from typing import Any

import msgspec
import pytest

from romana.codec.text import parse_address, parse_prefix
from romana.core.ipam import REST, AddressBook
from romana.core.ipam.addresses import SHORT_REST, Need
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Exhausted
from romana.model.ipam import Allocation, Block
from romana.model.tenancy import Identity, Owner
from romana.model.topology import BitPlan, Network, Placement
from romana.model.view import BlockReturned, BlockTaken

WEB = Identity(owner=Owner("acme", "web"))
DB = Identity(owner=Owner("acme", "db"))

ONE_CLASS = {WEB.id: "c", DB.id: "c"}


def network(name: str, cidr: str, **fields: Any) -> Network:
    prefix = parse_prefix(cidr)
    return Network(name=name, cidr=prefix, block_length=prefix.family.bits - 2, span_length=24, **fields)


NETWORKS = {"n4": network("n4", "10.0.0.0/8"), "n6": network("n6", "fd00::/48")}


def block(text: str, *who: Identity, sequence: int = 1, host: str = "h") -> Block:
    cidr = parse_prefix(text)
    name = "n4" if cidr.family == 4 else "n6"
    owner = who[0].owner if who else None
    members = tuple(one.id for one in who)
    return Block(
        cidr=cidr,
        span=cidr,
        network=name,
        host=host,
        allocator=host,
        owner=owner,
        identities=members,
        sequence=sequence,
    )


def book(*blocks: Block, boot_id: str = "boot", **fields: Any) -> AddressBook:
    made = AddressBook("h", boot_id=boot_id, **fields)
    made.update(NETWORKS, {one.cidr: one for one in blocks}, ONE_CLASS)
    return made


def give(one: AddressBook, name: str, now: int, who: Identity = WEB, networks: tuple[str, ...] = ("n4",)) -> list[str]:
    return [str(allocation.address) for allocation in one.allocate(name, who, networks, now)]


def remembered(*allocations: Allocation) -> Endpoint:
    name = allocations[0].endpoint
    return Endpoint(id=name, name=name, host="h", identity=WEB, link="rom", allocations=allocations)


def test_addresses_in_order_with_growing_sequences() -> None:
    one = book(block("10.0.0.0/30", WEB), sequence=41)
    first = one.allocate("a", WEB, ("n4",), 0)
    assert first == (
        Allocation(address=parse_address("10.0.0.0"), block=parse_prefix("10.0.0.0/30"), endpoint="a", sequence=42),
    )
    assert one.allocate("b", WEB, ("n4",), 0)[0].sequence == 43
    assert one.holder(parse_address("10.0.0.0")) == first[0]


def test_a_repeated_request_gets_the_same_answer() -> None:
    one = book(block("10.0.0.0/30", WEB))
    assert one.allocate("a", WEB, ("n4",), 0) == one.allocate("a", WEB, ("n4",), 9)
    assert one.counts(0)["in-use"] == 1


def test_what_is_left_is_counted_by_family_up_to_enough() -> None:
    one = book(block("10.0.0.0/30", WEB), block("fd00::/126", WEB))
    both = ("n4", "n6")
    assert one.left(WEB, both, 0, enough=9) == {4: 4, 6: 4}
    for name in "abc":
        give(one, name, 0)
    assert one.left(WEB, both, 0, enough=3) == {4: 1, 6: 3}
    give(one, "d", 0)
    one.release("a", 10)
    assert one.left(WEB, both, 10, enough=3) == {4: 0, 6: 3}
    assert one.left(WEB, both, 10 + REST, enough=3) == {4: 1, 6: 3}
    assert one.left(DB, both, 0, enough=3) == {4: 0, 6: 0}


def test_a_freed_address_rests_and_the_longest_rested_is_next() -> None:
    one = book(block("10.0.0.0/30", WEB))
    for name in "abcd":
        give(one, name, 0)
    one.release("c", 10)
    one.release("a", 20)
    with pytest.raises(Exhausted) as caught:
        give(one, "e", 10 + REST - 1)
    assert str(caught.value) == (
        f"no IPv4 address is left for identity {WEB.id} on host h: network n4: 1 block(s) serve it with 4 address(es), "
        "2 in use, 2 resting, 0 reserved or waiting; 0 ownerless block(s) in stock"
    )
    assert one.full(WEB.id, ("n4",), 10 + REST - 1) == (parse_prefix("10.0.0.0/30"),)
    assert one.full(WEB.id, ("n4",), 10 + REST) == ()
    assert give(one, "e", 10 + REST) == ["10.0.0.2"]
    with pytest.raises(Exhausted):
        give(one, "f", 20 + REST - 1)
    assert give(one, "f", 20 + REST) == ["10.0.0.0"]


def test_an_address_never_used_comes_before_a_rested_one() -> None:
    one = book(block("10.0.0.0/30", WEB), block("10.0.0.4/30", WEB))
    give(one, "a", 0)
    one.release("a", 0)
    assert [give(one, str(index), 1000)[0] for index in range(8)] == [
        *(f"10.0.0.{last}" for last in range(1, 8)),
        "10.0.0.0",
    ]


def test_a_repeated_release_is_success() -> None:
    one = book(block("10.0.0.0/30", WEB))
    allocations = one.allocate("a", WEB, ("n4",), 0)
    assert one.release("a", 5) == allocations
    assert one.release("a", 6) == ()
    assert one.rested(5 + REST - 1) == {}
    assert one.rested(5 + REST) == {parse_address("10.0.0.0"): 5}
    assert one.rested(5 + REST) == {}


def test_dual_stack_is_all_or_nothing() -> None:
    one = book(block("10.0.0.0/30", WEB), block("fd00::/127", WEB))
    both = ("n6", "n4")
    assert give(one, "a", 0, networks=both) == ["10.0.0.0", "fd00::"]
    assert give(one, "b", 0, networks=both) == ["10.0.0.1", "fd00::1"]
    with pytest.raises(Exhausted, match="no IPv6 address is left"):
        give(one, "c", 0, networks=both)
    assert one.counts(0)["in-use"] == 4
    assert give(one, "d", 0) == ["10.0.0.2"]


def test_networks_of_a_family_are_tried_in_order() -> None:
    one = AddressBook("h", boot_id="boot")
    more = NETWORKS | {"m4": network("m4", "11.0.0.0/8")}
    blocks = [block("10.0.0.0/31", WEB), msgspec.structs.replace(block("11.0.0.0/30", WEB), network="m4")]
    one.update(more, {each.cidr: each for each in blocks})
    got = [give(one, str(index), 0, networks=("n4", "m4"))[0] for index in range(3)]
    assert got == ["10.0.0.0", "10.0.0.1", "11.0.0.0"]


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param((block("10.0.0.0/30", DB),), id="another-owner"),
        pytest.param((block("10.0.0.0/30"),), id="ownerless"),
        pytest.param((block("10.0.0.0/30", WEB, host="g"),), id="another-host"),
        pytest.param((msgspec.structs.replace(block("10.0.0.0/30", WEB), allocator=""),), id="the-servers"),
        pytest.param((), id="none"),
    ],
)
def test_only_own_blocks_that_serve_the_identity(blocks: tuple[Block, ...]) -> None:
    with pytest.raises(Exhausted):
        give(book(*blocks), "a", 0)


def test_no_network_at_all() -> None:
    with pytest.raises(Exhausted, match=r"host h draws from none of the networks \(none\)"):
        give(book(), "a", 0, networks=())


def test_reserved_addresses_are_left_out_also_when_reserved_later() -> None:
    one = book(block("10.0.0.0/29", WEB))
    assert give(one, "a", 0) == ["10.0.0.0"]
    one.release("a", 0)
    reserved = tuple(map(parse_prefix, ("10.0.0.0/31", "10.0.0.4/30")))
    changed = {"n4": msgspec.structs.replace(NETWORKS["n4"], reserved=reserved)}
    one.update(changed, {parse_prefix("10.0.0.0/29"): block("10.0.0.0/29", WEB)})
    assert [give(one, name, 999)[0] for name in "bc"] == ["10.0.0.2", "10.0.0.3"]
    with pytest.raises(Exhausted):
        give(one, "d", 999)
    one.update(NETWORKS, {parse_prefix("10.0.0.0/29"): block("10.0.0.0/29", WEB)})
    assert sorted(give(one, name, 999)[0] for name in "defghi"[:5]) == [f"10.0.0.{last}" for last in (1, 4, 5, 6, 7)]
    assert give(one, "z", 999) == ["10.0.0.0"]


def test_stock_in_which_an_unknown_endpoint_lives_is_given_to_nobody() -> None:
    """A lost memory may have given it to an owner."""
    first, second = parse_prefix("10.0.0.0/30"), parse_prefix("10.0.0.4/30")
    stray = Allocation(address=parse_address("10.0.0.1"), block=first, endpoint="unknown/rom1", sequence=0)
    holder = Endpoint(
        id="unknown/rom1",
        name="unknown/rom1",
        host="h1",
        identity=Identity(owner=Owner("", "")),
        allocations=(stray,),
        link="rom1",
    )
    blocks = {first: block("10.0.0.0/30"), second: block("10.0.0.4/30")}
    for late in (False, True):
        one = book()
        if not late:
            one.update(NETWORKS, blocks)
        one.restore([holder], {}, now=0)
        one.update(NETWORKS, blocks)
        assert one.stock("n4") == (second,)
        assert one.take(WEB, "n4").cidr == second
        with pytest.raises(Exhausted):
            one.take(WEB, "n4")


def test_stock_is_taken_and_stays_taken_until_the_view_knows() -> None:
    one = book(block("10.0.0.0/30", sequence=3), block("10.0.0.4/30", sequence=0))
    assert one.stock("n4") == (parse_prefix("10.0.0.0/30"), parse_prefix("10.0.0.4/30"))
    assert not one.serves(WEB.id, "n4")
    taken = one.take(WEB, "n4")
    assert taken == BlockTaken(cidr=parse_prefix("10.0.0.0/30"), owner=WEB.owner, identity=WEB.id, sequence=4)
    assert one.serves(WEB.id, "n4")
    assert give(one, "a", 0) == ["10.0.0.0"]
    old_view = [block("10.0.0.0/30", sequence=3), block("10.0.0.4/30", sequence=0)]
    one.update(NETWORKS, {each.cidr: each for each in old_view})
    assert give(one, "b", 0) == ["10.0.0.1"]
    assert one.stock("n4") == (parse_prefix("10.0.0.4/30"),)
    new_view = [block("10.0.0.0/30", WEB, DB, sequence=4)]
    one.update(NETWORKS, {each.cidr: each for each in new_view}, ONE_CLASS)
    assert give(one, "c", 0, DB) == ["10.0.0.2"]
    with pytest.raises(Exhausted, match="host h has no ownerless block left in network n4 for acme/db"):
        one.take(DB, "n4")


def test_a_block_that_was_taken_is_taken_also_when_the_kept_view_is_older() -> None:
    stock = block("10.0.0.0/30", sequence=3)
    taken = BlockTaken(cidr=stock.cidr, owner=WEB.owner, identity=WEB.id, sequence=4)
    for kept in ({}, {stock.cidr: stock}):
        one = AddressBook("h", boot_id="boot")
        one.update(NETWORKS, kept)
        one.restore((), {}, taken=[taken], now=0)
        one.update(NETWORKS, {stock.cidr: stock})
        assert one.stock("n4") == ()
        assert give(one, "a", 0) == ["10.0.0.0"]
        assert one.settled().confirmed == {}
        one.update(NETWORKS, {stock.cidr: block("10.0.0.0/30", WEB, sequence=4)})
        assert one.settled().confirmed == {stock.cidr: 4}


def test_a_block_that_is_gone_keeps_its_endpoints() -> None:
    one = book(block("10.0.0.0/30", WEB))
    give(one, "a", 0)
    give(one, "b", 0)
    one.release("b", 1)
    one.update(NETWORKS, {})
    with pytest.raises(Exhausted):
        give(one, "c", 999)
    assert [str(each.address) for each in one.release("a", 2)] == ["10.0.0.0"]
    one.update(NETWORKS, {parse_prefix("10.0.0.0/30"): block("10.0.0.0/30", WEB)})
    assert [give(one, name, 2)[0] for name in "cd"] == ["10.0.0.2", "10.0.0.3"]
    with pytest.raises(Exhausted):
        give(one, "e", 2)
    assert [give(one, name, 999)[0] for name in "ef"] == ["10.0.0.1", "10.0.0.0"]


def test_identities_come_and_go() -> None:
    one = book(block("10.0.0.0/31", WEB))
    give(one, "a", 0)
    one.release("a", 0)
    cidr = parse_prefix("10.0.0.0/31")
    one.update(NETWORKS, {cidr: block("10.0.0.0/31", WEB, DB)}, ONE_CLASS)
    assert give(one, "b", 999, DB) == ["10.0.0.1"]
    one.update(NETWORKS, {cidr: block("10.0.0.0/31", WEB)}, ONE_CLASS)
    with pytest.raises(Exhausted):
        give(one, "c", 999, DB)
    assert give(one, "c", 999) == ["10.0.0.0"]


def test_memory_is_taken_in() -> None:
    cidr = parse_prefix("10.0.0.0/29")
    one = book(block("10.0.0.0/29", WEB), block("10.0.0.8/29", sequence=2))
    held = Allocation(address=cidr.address(0), block=cidr, endpoint="a", sequence=9)
    resting = {
        cidr.address(1): (100, "boot", WEB.id),
        cidr.address(2): (400, "earlier boot", WEB.id),
        cidr.address(0): (1, "boot", WEB.id),
    }
    taken = BlockTaken(cidr=parse_prefix("10.0.0.8/29"), owner=DB.owner, identity=DB.id, sequence=3)
    one.restore([remembered(held)], resting, taken=[taken], now=50)
    assert one.allocate("a", WEB, ("n4",), 50) == (held,)
    assert [give(one, name, 50)[0] for name in "bcdef"] == [f"10.0.0.{last}" for last in (3, 4, 5, 6, 7)]
    assert give(one, "g", 100 + REST) == ["10.0.0.2"], "a new boot restarts the rest: since 50"
    assert give(one, "h", 100 + REST) == ["10.0.0.1"]
    assert give(one, "i", 50, DB) == ["10.0.0.8"]
    given = one.holder(Address(cidr.family, cidr.value + 3))
    assert given is not None
    assert given.sequence > 9


def test_memory_with_one_address_twice_is_refused() -> None:
    cidr = parse_prefix("10.0.0.0/29")
    twice = [
        remembered(Allocation(address=cidr.address(0), block=cidr, endpoint=name, sequence=1)) for name in ("a", "b")
    ]
    with pytest.raises(Conflict, match=r"10\.0\.0\.0 is remembered for a and for b"):
        book(block("10.0.0.0/29", WEB)).restore(twice, {}, now=0)


def test_an_agent_without_memory_lets_everything_rest() -> None:
    one = book(block("10.0.0.0/30", WEB))
    give(one, "a", 0)
    give(one, "b", 0)
    one.release("b", 0)
    one.rest_everything(1000)
    with pytest.raises(Exhausted):
        give(one, "c", 1000 + REST - 1)
    assert [give(one, name, 1000 + REST)[0] for name in "cde"] == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]


def test_what_is_left_behind_in_the_pools_stays_small() -> None:
    one = book(block("10.0.0.0/30", WEB, DB), rest=1)
    for now in range(0, 5000, 2):
        give(one, "a", now)
        one.release("a", now)
    assert all(len(pool.resting) < 200 for pool in one._blocks.own.values())


MIXED = {"n4": msgspec.structs.replace(NETWORKS["n4"], mixed=2)}


def mixed_block(text: str, *who: Identity) -> Block:
    return msgspec.structs.replace(block(text, *who), owner=None, mixed=True)


def shared(*blocks: Block, classes: dict[str, str] | None = None) -> AddressBook:
    made = AddressBook("h", boot_id="boot")
    made.update(MIXED, {one.cidr: one for one in blocks}, classes or {})
    return made


def test_an_owners_first_endpoints_share_and_the_next_ones_need_its_own_block() -> None:
    one = shared(mixed_block("10.0.0.0/29", WEB, DB))
    assert [give(one, name, 0)[0] for name in "ab"] == ["10.0.0.0", "10.0.0.1"]
    assert one.present(WEB.owner) == 2
    with pytest.raises(Exhausted):
        give(one, "c", 0)
    assert one.left(WEB, ("n4",), 0, enough=4) == {4: 0}
    assert one.left(WEB, ("n4",), 0, enough=4, need=Need.SHARE) == {4: 4}
    assert not one.serves(WEB.id, "n4")
    assert give(one, "d", 0, DB) == ["10.0.0.2"]
    assert one.allocate("c", WEB, ("n4",), 0, Need.SHARE)[0].address == parse_address("10.0.0.3")
    one.release("a", 0)
    one.release("b", 0)
    assert one.present(WEB.owner) == 1
    assert give(one, "e", 0) == ["10.0.0.4"]


def test_own_blocks_come_first() -> None:
    one = shared(mixed_block("10.0.0.0/29", WEB), block("10.0.0.8/31", WEB))
    got = [give(one, name, 0)[0] for name in "ab"]
    assert got == ["10.0.0.8", "10.0.0.9"]


def test_a_mixed_block_with_only_addresses_that_others_had_is_full_for_who_is_not_in_it_yet() -> None:
    one = shared(mixed_block("10.0.0.0/32", WEB), mixed_block("10.0.0.4/32", WEB))
    assert one.full(DB.id, ["n4"], 0) == ()
    give(one, "a", 0)
    one.release("a", 0)
    assert one.full(DB.id, ["n4"], REST) == (parse_prefix("10.0.0.0/32"),)
    assert one.full(WEB.id, ["n4"], REST) == ()


def test_where_sharing_is_off_mixed_blocks_are_used_by_nobody() -> None:
    one = shared(mixed_block("10.0.0.0/29", WEB))
    one.update(NETWORKS, {parse_prefix("10.0.0.0/29"): mixed_block("10.0.0.0/29", WEB)})
    with pytest.raises(Exhausted):
        one.allocate("a", WEB, ("n4",), 0, Need.HURRY)


@pytest.mark.parametrize("make", [mixed_block, block], ids=["mixed", "own"])
def test_an_address_goes_only_to_the_class_that_had_it(make: Any) -> None:
    classes = {WEB.id: "c1", DB.id: "c1"}
    one = shared(make("10.0.0.0/32", WEB, DB), classes=classes)
    give(one, "a", 0)
    one.release("a", 0)
    view = {parse_prefix("10.0.0.0/32"): make("10.0.0.0/32", WEB, DB)}
    one.update(MIXED, view, {WEB.id: "c1", DB.id: "c2"})
    with pytest.raises(Exhausted):
        give(one, "b", 999, DB)
    assert one.full(DB.id, ("n4",), 999) == (parse_prefix("10.0.0.0/32"),)
    assert one.full(WEB.id, ("n4",), 999) == ()
    one.update(MIXED, view, {DB.id: "c1"})
    with pytest.raises(Exhausted):
        give(one, "b", 999, DB)
    one.update(MIXED, view, classes)
    assert give(one, "b", 999, DB) == ["10.0.0.0"]
    one.release("b", 999)
    one.update(MIXED, view, {})
    assert give(one, "c", 2000, DB) == ["10.0.0.0"], "it had it itself"


def test_who_had_an_address_of_several_is_remembered_over_a_restart() -> None:
    cidr = parse_prefix("10.0.0.0/31")
    one = shared(mixed_block("10.0.0.0/31", WEB, DB))
    give(one, "a", 0)
    one.release("a", 0)
    assert one.rested(999) == {}
    again = shared(mixed_block("10.0.0.0/31", WEB, DB))
    again.restore((), {cidr.address(0): (0, "earlier", WEB.id)}, now=5)
    assert give(again, "b", 999, DB) == ["10.0.0.1"]
    with pytest.raises(Exhausted):
        give(again, "c", 999, DB)
    assert give(again, "c", 999) == ["10.0.0.0"]
    unknown = shared(mixed_block("10.0.0.0/31", WEB, DB), classes=ONE_CLASS)
    unknown.restore((), dict.fromkeys((cidr.address(0), cidr.address(1)), (0, "boot", "")), now=5)
    with pytest.raises(Exhausted):
        give(unknown, "d", 999)
    one.update(MIXED, {})
    assert list(one.rested(999)) == [cidr.address(0)], "nobody asks when the block is gone"


def test_in_a_block_of_several_classes_an_address_that_may_have_been_used_is_nobodys() -> None:
    one = shared(block("10.0.0.0/30", WEB, DB), classes={WEB.id: "c1", DB.id: "c2"})
    for who in (WEB, DB):
        with pytest.raises(Exhausted):
            give(one, "a", 999, who)
    assert one.full(WEB.id, ("n4",), 999) == (parse_prefix("10.0.0.0/30"),)


def test_after_a_lost_memory_mixed_blocks_are_closed() -> None:
    one = shared(mixed_block("10.0.0.0/30", WEB), block("10.0.0.4/30", WEB))
    one.rest_everything(0)
    assert list(one.closed()) == [parse_prefix("10.0.0.0/30")]
    assert [give(one, name, 999)[0] for name in "ab"] == ["10.0.0.4", "10.0.0.5"]
    one.release("a", 999)
    one.release("b", 999)
    assert one.left(WEB, ("n4",), 2000, enough=9, need=Need.SHARE) == {4: 4}


def test_a_shorter_rest_comes_before_a_refusal_and_is_counted() -> None:
    one = book(block("10.0.0.0/31", WEB))
    for name in "ab":
        give(one, name, 0)
        one.release(name, 100)
    with pytest.raises(Exhausted):
        one.allocate("c", WEB, ("n4",), 100 + SHORT_REST - 1, Need.HURRY)
    with pytest.raises(Exhausted):
        one.allocate("c", WEB, ("n4",), 100 + SHORT_REST, Need.SHARE)
    assert one.allocate("c", WEB, ("n4",), 100 + SHORT_REST, Need.HURRY)[0].address == parse_address("10.0.0.0")
    assert one.counts(200)["hurried"] == 1
    one.rest_everything(200)
    with pytest.raises(Exhausted):
        one.allocate("d", WEB, ("n4",), 200 + SHORT_REST, Need.HURRY)


def test_static_addresses_are_not_the_hosts_to_give() -> None:
    static = {"n4": msgspec.structs.replace(NETWORKS["n4"], static=(parse_prefix("10.0.0.0/31"),))}
    one = AddressBook("h", boot_id="boot")
    one.update(static, {parse_prefix("10.0.0.0/30"): block("10.0.0.0/30", WEB)})
    assert [give(one, name, 0)[0] for name in "ab"] == ["10.0.0.2", "10.0.0.3"]


@pytest.mark.parametrize("space", [0, 1, 2, 4])
def test_a_bits_block_begins_behind_the_gateway_and_leaves_room_for_each(space: int) -> None:
    plan = BitPlan(host=8, tenant=4, segment=4, endpoint=8 - space, space=space)
    networks = {"n4": msgspec.structs.replace(NETWORKS["n4"], placement=Placement.BITS, bits=plan)}
    one = AddressBook("h", boot_id="boot")
    reserved = parse_prefix("10.1.18.20/32")
    cidr = parse_prefix("10.1.18.0/24")
    one.update(networks, {cidr: block("10.1.18.0/24", WEB)})
    got = [give(one, str(number), 0)[0] for number in range({0: 253, 1: 127, 2: 64, 4: 16}[space])]
    assert got == [f"10.1.18.{last}" for last in range(3, 256, 1 << space)]
    with pytest.raises(Exhausted):
        give(one, "more", 0)
    fewer = {"n4": msgspec.structs.replace(networks["n4"], reserved=(reserved,))}
    other = AddressBook("h", boot_id="boot")
    other.update(fewer, {cidr: block("10.1.18.0/24", WEB)})
    assert [give(other, str(number), 0)[0] for number in range(len(got) - (not space))] == [
        text for text in got if text != "10.1.18.20"
    ]


def test_identities_of_several_classes_live_in_a_bits_block() -> None:
    plan = BitPlan(host=8, tenant=4, segment=4, endpoint=8)
    networks = {"n4": msgspec.structs.replace(NETWORKS["n4"], placement=Placement.BITS, bits=plan)}
    one = AddressBook("h", boot_id="boot")
    view = {parse_prefix("10.1.18.0/24"): block("10.1.18.0/24", WEB, DB)}
    one.update(networks, view, {WEB.id: "c1", DB.id: "c2"})
    assert give(one, "a", 0) + give(one, "b", 0, DB) == ["10.1.18.3", "10.1.18.4"]
    one.release("a", 0)
    one.update(networks, {}, {})
    assert one.rested(999) == {}, "the block may come again, and then it must be known who had what"
    one.update(networks, view, {WEB.id: "c1", DB.id: "c2"})
    assert one.full(DB.id, ("n4",), 999) == ()
    got = {give(one, str(number), 999, DB)[0] for number in range(251)}
    assert "10.1.18.3" not in got
    assert give(one, "c", 999) == ["10.1.18.3"]


def test_what_nobody_uses_is_idle() -> None:
    stocked = {"n4": msgspec.structs.replace(NETWORKS["n4"], stock=1)}
    blocks = [block("10.0.0.0/30", WEB), block("10.0.0.4/30"), block("10.0.0.8/30")]
    one = AddressBook("h", boot_id="boot")
    one.update(stocked, {each.cidr: each for each in blocks})

    def idle(now: int, *, draining: bool = False) -> list[str]:
        return [str(cidr) for cidr in one.idle(now, draining=draining)]

    assert idle(0) == ["10.0.0.0/30", "10.0.0.8/30"]
    assert idle(0, draining=True) == ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30"]
    give(one, "a", 0)
    assert idle(0) == ["10.0.0.8/30"]
    before = one.idle(0, draining=True)
    one.release("a", 10)
    assert idle(10 + REST - 1) == ["10.0.0.8/30"]
    after = one.idle(10 + REST)
    assert list(map(str, after)) == ["10.0.0.0/30", "10.0.0.8/30"]
    give(one, "b", 999)
    one.release("b", 999)
    again = one.idle(999 + REST)
    assert [again[cidr] == after[cidr] for cidr in again] == [False, True]
    assert after[blocks[2].cidr] == before[blocks[2].cidr]
    one.rest_everything(3000)
    assert idle(3000) == []


def test_what_the_kernel_had_keeps_its_block() -> None:
    one = book(block("10.0.0.0/30", WEB), block("10.0.0.64/26", DB))
    address = parse_address("10.0.0.1")
    for number, each in enumerate((address, parse_address("10.0.0.77"))):
        cidr = Prefix(each.family, each.value, 32)
        one.restore([remembered(Allocation(address=each, block=cidr, endpoint=f"x{number}", sequence=0))], {}, now=0)
    assert one.idle(0) == {}


def test_a_closed_block_is_given_to_nobody_whatever_the_view_says() -> None:
    one = book(block("10.0.0.0/30", WEB), block("10.0.0.4/30"))
    view = {each.cidr: each for each in (block("10.0.0.0/30", WEB, DB), block("10.0.0.4/30"))}
    first, stock = (parse_prefix(text) for text in ("10.0.0.0/30", "10.0.0.4/30"))
    assert one.close(first) == BlockReturned(cidr=first, sequence=1)
    assert one.close(stock) == BlockReturned(cidr=stock, sequence=1)
    one.update(NETWORKS, view, ONE_CLASS)
    for who in (WEB, DB):
        with pytest.raises(Exhausted):
            give(one, "a", 0, who)
    with pytest.raises(Exhausted):
        one.take(WEB, "n4")
    assert one.full(WEB.id, ("n4",), 0) == (first, stock)
    assert one.counts(0)["closed"] == 2
    again = AddressBook("h", boot_id="boot")
    again.update(NETWORKS, view, ONE_CLASS)
    again.restore((), {}, closed=one.closed(), now=0)
    with pytest.raises(Exhausted):
        give(again, "a", 0)
    again.update(NETWORKS, view | {first: block("10.0.0.0/30", WEB, sequence=2)}, ONE_CLASS)
    assert give(again, "a", 0) == ["10.0.0.0"]
    assert again.settled().reopened == {first: 1}
    assert again.settled().reopened == {}
    again.update(NETWORKS, {})
    assert again.settled().reopened == {stock: 1}
    assert again.closed() == {}


def test_a_block_that_was_closed_before_and_came_again_since_is_open() -> None:
    first = parse_prefix("10.0.0.0/30")
    one = book(block("10.0.0.0/30", WEB, sequence=3))
    one.restore((), {}, closed={first: 2, parse_prefix("10.0.0.4/30"): 5}, now=0)
    assert give(one, "a", 0) == ["10.0.0.0"]
    assert one.settled().reopened == {first: 2}
    blocks = {first: block("10.0.0.0/30", WEB, sequence=3), parse_prefix("10.0.0.4/30"): block("10.0.0.4/30", DB)}
    one.update(NETWORKS, blocks)
    with pytest.raises(Exhausted):
        give(one, "b", 0, DB)
