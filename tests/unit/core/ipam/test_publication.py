from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from romana.codec.text import parse_address, parse_prefix
from romana.core.ipam import (
    PublicationChanges,
    PublicationState,
    apply_publication,
    apply_released,
    apply_started,
    apply_taken,
)
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Invalid
from romana.model.ipam import Allocation, Block
from romana.model.tenancy import Identity, Owner
from romana.model.view import BlockReturned, BlockTaken, Publication, Released

WEB = Identity(owner=Owner("acme", "web"))
DB = Identity(owner=Owner("acme", "db"))
SPAN = parse_prefix("10.0.0.0/24")


def block(text: str, who: Identity | None = WEB, host: str = "h", sequence: int = 1) -> Block:
    given = Block(cidr=parse_prefix(text), span=SPAN, network="n", host=host, allocator=host, sequence=sequence)
    return msgspec.structs.replace(given, owner=who.owner, identities=(who.id,)) if who else given


OWNED = block("10.0.0.0/29")
STOCK = block("10.0.0.8/29", None, sequence=4)
FOREIGN = block("10.0.0.16/29", host="g")
MIXED = msgspec.structs.replace(block("10.0.0.24/29"), owner=None, mixed=True, identities=(WEB.id, DB.id))
BLOCKS = {one.cidr: one for one in (OWNED, STOCK, FOREIGN, MIXED)}


def endpoint(name: str, address: str, sequence: int = 1, who: Identity = WEB, host: str = "h") -> Endpoint:
    parsed = parse_address(address)
    where = next((cidr for cidr in BLOCKS if cidr.contains(parsed)), OWNED.cidr)
    allocation = Allocation(address=parsed, block=where, endpoint=name, sequence=sequence)
    return Endpoint(id=name, name=name, host=host, identity=who, link="rom", allocations=(allocation,))


def released(one: Endpoint) -> Released:
    return Released(endpoint=one.id, sequences={each.address: each.sequence for each in one.allocations})


def state(*endpoints: Endpoint, blocks: dict[Prefix, Block] | None = None) -> PublicationState:
    holders: dict[Address, str] = {address: one.id for one in endpoints for address in one.addresses}
    used = Counter(allocation.block for one in endpoints for allocation in one.allocations)
    return PublicationState(
        blocks=BLOCKS if blocks is None else blocks,
        endpoints={one.id: one for one in endpoints},
        holder=holders.get,
        used=used.__getitem__,
    )


def publish(
    before: PublicationState,
    started: tuple[Endpoint, ...] = (),
    gone: tuple[Endpoint, ...] = (),
    taken: tuple[BlockTaken, ...] = (),
    returned: tuple[BlockReturned, ...] = (),
) -> PublicationChanges:
    publication = Publication(
        host="h",
        epoch=1,
        number=1,
        taken=taken,
        started=started,
        released=tuple(map(released, gone)),
        returned=returned,
    )
    return apply_publication(before, publication)


A1, A2 = endpoint("a", "10.0.0.1", 1), endpoint("a", "10.0.0.1", 7)
B = endpoint("b", "10.0.0.1", 2)


def test_a_start_and_its_repetition() -> None:
    assert publish(state(), (A1,)) == PublicationChanges(started=(A1,))
    assert publish(state(A1), (A1,)) == PublicationChanges()


def test_a_changed_link_is_taken_over() -> None:
    changed = msgspec.structs.replace(A1, mtu=1400)
    assert apply_started(state(A1), changed) == changed


@pytest.mark.parametrize(
    ("one", "words"),
    [
        pytest.param(endpoint("a", "10.0.0.17"), "is no block that host h allocates", id="another-hosts-block"),
        pytest.param(endpoint("a", "10.0.0.99"), "is not in block 10.0.0.0/29", id="outside-the-block"),
        pytest.param(endpoint("a", "10.0.0.9"), "does not serve identity", id="ownerless-block"),
        pytest.param(endpoint("a", "10.0.0.1", who=DB), "does not serve identity", id="another-owners-block"),
        pytest.param(msgspec.structs.replace(A1, allocations=()), "needs one address a family", id="no-address"),
        pytest.param(msgspec.structs.replace(A1, id="z"), "was allocated for a", id="another-endpoints-allocation"),
        pytest.param(
            msgspec.structs.replace(A1, allocations=(*A1.allocations, *endpoint("a", "10.0.0.2").allocations)),
            "needs one address a family",
            id="two-of-a-family",
        ),
        pytest.param(msgspec.structs.replace(A1, host="g"), "is on g, not on h", id="another-hosts-endpoint"),
    ],
)
def test_a_wrong_start_is_refused(one: Endpoint, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        publish(state(), (one,))


def test_double_ownership_is_refused() -> None:
    with pytest.raises(Conflict, match=r"10\.0\.0\.1 belongs to endpoint a, so b cannot have it"):
        publish(state(A1), (B,))
    with pytest.raises(Conflict, match=r"reports 10\.0\.0\.1 \(use 7\)"):
        publish(state(A1), (A2,))


def test_a_release_names_the_use_it_ends() -> None:
    endpoints = {"a": A2}
    assert apply_released(endpoints, "h", released(A2))
    assert not apply_released(endpoints, "h", released(A1))
    assert not apply_released(endpoints, "g", released(A2))
    assert not apply_released({}, "h", released(A2))


@pytest.mark.parametrize(
    ("before", "started", "gone", "expected"),
    [
        pytest.param((A1,), (), (A1,), PublicationChanges(released=("a",)), id="gone"),
        pytest.param((), (A1,), (A1,), PublicationChanges(), id="came-and-went"),
        pytest.param((A1,), (B,), (A1,), PublicationChanges(started=(B,), released=("a",)), id="address-used-again"),
        pytest.param((A1,), (A2,), (A1,), PublicationChanges(started=(A2,)), id="same-endpoint-again"),
        pytest.param((A2,), (), (A1,), PublicationChanges(), id="stale-release"),
        pytest.param((), (A1, B), (A1,), PublicationChanges(started=(B,)), id="one-after-the-other"),
    ],
)
def test_the_order_of_starts_and_releases_is_kept(
    before: tuple[Endpoint, ...],
    started: tuple[Endpoint, ...],
    gone: tuple[Endpoint, ...],
    expected: PublicationChanges,
) -> None:
    assert publish(state(*before), started, gone) == expected


def test_a_taken_block_serves_at_once() -> None:
    taken = BlockTaken(cidr=STOCK.cidr, owner=DB.owner, identity=DB.id, sequence=5)
    one = endpoint("d", "10.0.0.9", who=DB)
    changes = publish(state(), (one,), taken=(taken,))
    (given,) = changes.blocks
    assert (given.owner, given.identities, given.sequence) == (DB.owner, (DB.id,), 5)
    assert changes.started == (one,)
    assert apply_taken({given.cidr: given}, "h", taken) is None


@pytest.mark.parametrize(
    ("taken", "error", "words"),
    [
        pytest.param((OWNED.cidr, DB, 2), Conflict, "belongs to acme/web", id="owned"),
        pytest.param((STOCK.cidr, DB, 4), Conflict, "is at use 4; h took it as use 4", id="other-history"),
        pytest.param((FOREIGN.cidr, DB, 2), Invalid, "no block that host h allocates", id="another-hosts"),
        pytest.param((parse_prefix("10.9.0.0/29"), DB, 1), Invalid, "no block that host h allocates", id="unknown"),
    ],
)
def test_a_block_that_is_not_free_is_not_taken(
    taken: tuple[Prefix, Identity, int], error: type[Exception], words: str
) -> None:
    cidr, who, sequence = taken
    with pytest.raises(error, match=words):
        apply_taken(BLOCKS, "h", BlockTaken(cidr=cidr, owner=who.owner, identity=who.id, sequence=sequence))


def test_identities_of_several_owners_live_in_a_mixed_block() -> None:
    pods = (endpoint("a", "10.0.0.25"), endpoint("b", "10.0.0.26", who=DB))
    assert publish(state(), pods).started == pods
    other = endpoint("c", "10.0.0.27", who=Identity(owner=Owner("acme", "cache")))
    with pytest.raises(Invalid, match="does not serve identity"):
        publish(state(), (other,))
    with pytest.raises(Conflict, match="belongs to several owners"):
        apply_taken(BLOCKS, "h", BlockTaken(cidr=MIXED.cidr, owner=DB.owner, identity=DB.id, sequence=2))


def back(one: Block, sequence: int | None = None) -> BlockReturned:
    return BlockReturned(cidr=one.cidr, sequence=one.sequence if sequence is None else sequence)


@pytest.mark.parametrize("one", [OWNED, STOCK, MIXED], ids=["owned", "stock", "mixed"])
def test_an_empty_block_is_given_back(one: Block) -> None:
    assert publish(state(), returned=(back(one),)) == PublicationChanges(returned=(one,))


@pytest.mark.parametrize(
    "returned",
    [
        pytest.param(back(OWNED, 0), id="earlier-use"),
        pytest.param(back(OWNED, 2), id="later-use"),
        pytest.param(back(FOREIGN), id="another-hosts"),
        pytest.param(BlockReturned(cidr=parse_prefix("10.9.0.0/29"), sequence=1), id="gone-already"),
    ],
)
def test_a_stale_return_changes_nothing(returned: BlockReturned) -> None:
    assert publish(state(), returned=(returned,)) == PublicationChanges()


def test_a_block_with_an_endpoint_is_not_given_back() -> None:
    assert publish(state(A1), returned=(back(OWNED),)) == PublicationChanges()
    assert publish(state(), (A1,), returned=(back(OWNED),)) == PublicationChanges(started=(A1,))
    last = publish(state(A1), (), (A1,), returned=(back(OWNED),))
    assert last == PublicationChanges(released=("a",), returned=(OWNED,))
    again = publish(state(A1), (A2,), (A1,), returned=(back(OWNED),))
    assert again == PublicationChanges(started=(A2,))


def test_a_block_that_was_taken_and_given_back_is_only_given_back() -> None:
    taken = BlockTaken(cidr=STOCK.cidr, owner=DB.owner, identity=DB.id, sequence=5)
    changes = publish(state(), taken=(taken,), returned=(back(STOCK, 5),))
    assert changes.blocks == ()
    assert [(one.cidr, one.owner) for one in changes.returned] == [(STOCK.cidr, DB.owner)]


def test_a_repeated_take_of_a_block_that_was_given_back_since_changes_nothing() -> None:
    taken = BlockTaken(cidr=STOCK.cidr, owner=DB.owner, identity=DB.id, sequence=5)
    gone = {cidr: one for cidr, one in BLOCKS.items() if cidr != STOCK.cidr}
    pod = endpoint("d", "10.0.0.9", who=DB)
    repeated = publish(state(blocks=gone), (pod,), (pod,), (taken,), (back(STOCK, 5),))
    assert repeated == PublicationChanges()
    with pytest.raises(Invalid):
        publish(state(blocks=gone), taken=(taken,))
    later = {**gone, STOCK.cidr: block("10.0.0.8/29", WEB, sequence=9)}
    assert publish(state(blocks=later), taken=(taken,), returned=(back(STOCK, 5),)) == PublicationChanges()
