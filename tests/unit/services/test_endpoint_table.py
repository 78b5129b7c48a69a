"""The compact table of endpoints and the indexes of the state, against plain mappings."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from romana.adapters.store.memory import MemoryStore
from romana.codec.json import encode
from romana.codec.kind import Kind
from romana.codec.records import (
    BLOCK,
    ENDPOINT,
    IDENTITY,
    PLAN,
    PLAN_KEY,
    RETIRED,
    SPAN,
    StoredIdentity,
    StoredPlan,
    Unsettled,
)
from romana.core.policy.compile import compile_program
from romana.model.address import Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.ipam import Allocation, Block, Retired, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import AddressPlan, Network
from romana.ports import Record, StoreEvent
from romana.services.control.core import Core
from romana.services.control.endpoint_table import EndpointTable, block_of, room_of
from romana.services.control.state import State

V4 = Prefix(Family.V4, 0x0A000000, 24)
V6 = Prefix(Family.V6, 0xFD << 120, 112)
CONTAINERS = [digit * 64 for digit in "0123456789abcdef"]
IDS = st.one_of(
    st.builds(
        lambda container, interface: f"{container}/{interface}",
        st.sampled_from(CONTAINERS),
        st.sampled_from(["eth0", "net1"]),
    ),
    st.sampled_from(["vm-7", "vm/eth0", "A" * 64 + "/eth0", "/", "a" * 64, "b" * 64 + "/"]),
)
IDENTITIES = [
    Identity(owner=Owner("shop", "web")),
    Identity(owner=Owner("shop", "web"), labels={"app": "é", "tier": "front"}),
    Identity(owner=Owner("shop", "db")),
    Identity(owner=Owner("bank", "web")),
]
HOSTS = ["h1", "h2"]
UUID = "0123abcd-4567-89ab-cdef-0123456789ab"
PATHS = ["", "cni-", "/var/run/netns/cni-", "/run/netns/cni-", "/var/run/netns/", "/run/netns/", "/proc/"]
BLOCKS = [*V4.subnets(29), *(V6.subnet(122, index) for index in range(8)), V6.subnet(115, 7)]


@st.composite
def allocations(draw: st.DrawFn, id_: str) -> tuple[Allocation, ...]:
    found = []
    for block in draw(st.lists(st.sampled_from(BLOCKS), max_size=2, unique_by=lambda block: block.family)):
        address = block.address(draw(st.integers(0, min(block.size, 130) - 1)))
        named = draw(st.sampled_from([block, block, block, BLOCKS[0], BLOCKS[-1]]))
        user = draw(st.sampled_from([id_, id_, id_, "other"]))
        found.append(Allocation(address=address, block=named, endpoint=user, sequence=draw(st.integers(0, 1 << 40))))
    return tuple(found)


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    id_ = draw(IDS)
    return Endpoint(
        id=id_,
        name=draw(st.sampled_from(["shop/web-1", 'quo"ted', "", "n\u00e9"])),
        host=draw(st.sampled_from(HOSTS)),
        identity=draw(st.sampled_from(IDENTITIES)),
        allocations=draw(allocations(id_)),
        link="rom0123456789a",
        interface=draw(st.sampled_from(["eth0", "net1", ""])),
        netns=draw(
            st.sampled_from(
                ["", "/run/netns/a", *(f"{beginning}{UUID}{end}" for beginning in PATHS for end in ("", "x"))]
            )
        ),
        mac=draw(st.sampled_from(["", "0a:58:0a:00:00:01", "0A:58:0a:00:00:01", "none"])),
        mtu=draw(st.sampled_from([0, 1500, 9000])),
    )


@given(endpoints())
def test_what_is_stored_is_what_is_read(endpoint: Endpoint) -> None:
    assert ENDPOINT.decode(ENDPOINT.encode(endpoint), ENDPOINT.key(endpoint.id)) == endpoint


class States(RuleBasedStateMachine):
    """A state and plain mappings, changed alike."""

    @initialize()
    def begin(self) -> None:
        self.state = State()
        self.revision = 0
        self.endpoints: dict[str, Endpoint] = {}
        self.revisions: dict[str, int] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.spans: dict[Prefix, Span] = {}
        self.identities: dict[str, Identity] = {}
        networks = (
            Network(name="v4", cidr=V4, block_length=29, span_length=27),
            Network(name="v6", cidr=V6, block_length=122, span_length=117),
        )
        plan = AddressPlan(networks=networks, topologies=())
        self._event(PLAN_KEY, PLAN.encode(StoredPlan(plan=plan, document="")))

    def _event(self, key: str, value: bytes | None) -> None:
        self.revision += 1
        self.state.apply([StoreEvent(key, value, self.revision)])
        if value is None:
            self.revisions.pop(key, None)
        else:
            self.revisions[key] = self.revision

    @rule(endpoint=endpoints())
    def start(self, endpoint: Endpoint) -> None:
        self.endpoints.pop(endpoint.id, None)  # what is put again is last
        self.endpoints[endpoint.id] = endpoint
        self._event(ENDPOINT.key(endpoint.id), ENDPOINT.encode(endpoint))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from([*self.endpoints, "nobody"]))
        self.endpoints.pop(id_, None)
        self._event(ENDPOINT.key(id_), None)

    @rule(
        cidr=st.sampled_from(BLOCKS),
        host=st.sampled_from(["", *HOSTS]),
        members=st.lists(st.sampled_from(IDENTITIES), max_size=2, unique_by=lambda one: one.id),
        owned=st.booleans(),
    )
    def put_block(self, cidr: Prefix, host: str, members: list[Identity], owned: bool) -> None:
        owner = members[0].owner if owned and members else None
        names = tuple(sorted(one.id for one in members))
        block = Block(cidr=cidr, span=cidr, network="v4", host=host, allocator=host, owner=owner, identities=names)
        self.blocks[cidr] = block
        self._event(BLOCK.key(cidr), BLOCK.encode(block))

    @rule(cidr=st.sampled_from(BLOCKS))
    def drop_block(self, cidr: Prefix) -> None:
        self.blocks.pop(cidr, None)
        self._event(BLOCK.key(cidr), None)

    @rule(cidr=st.sampled_from(BLOCKS), host=st.sampled_from([*HOSTS, None]))
    def span(self, cidr: Prefix, host: str | None) -> None:
        self.spans.pop(cidr, None)
        if host is not None:
            self.spans[cidr] = Span(cidr=cidr, network="v4", host=host)
        self._event(SPAN.key(cidr), None if host is None else SPAN.encode(self.spans[cidr]))

    @rule(one=st.sampled_from(IDENTITIES), there=st.booleans())
    def identity(self, one: Identity, there: bool) -> None:
        self.identities.pop(one.id, None)
        if there:
            self.identities[one.id] = one
        self._event(IDENTITY.key(one.id), IDENTITY.encode(StoredIdentity(identity=one)) if there else None)

    @invariant()
    def agrees(self) -> None:
        state = self.state
        assert dict(state.endpoints) == self.endpoints
        assert len(state.endpoints) == len(self.endpoints)
        assert dict(state.revisions) == self.revisions
        for host in HOSTS:
            mine = [one for id_, one in sorted(self.endpoints.items()) if one.host == host]
            assert state.endpoints_on(host) == mine
            uses = {one.id: {held.address: held.sequence for held in one.allocations} for one in mine}
            assert state.endpoints.uses_on(host) == uses
            assert state.blocks_on(host) == {cidr: one for cidr, one in self.blocks.items() if one.host == host}
            assert state.spans_on(host) == {cidr: one for cidr, one in self.spans.items() if one.host == host}
        for block in BLOCKS:
            assert state.endpoints.hosts_in(block) == {one.host for one in state.endpoints_in(block)}
        for tenant, segment in (("shop", None), ("shop", "db"), ("nobody", None), (None, "web")):
            theirs = {
                id_
                for id_, one in self.endpoints.items()
                if tenant in (None, one.identity.owner.tenant) and segment in (None, one.identity.owner.segment)
            }
            assert set(state.endpoints.of_owner(tenant, segment)) == theirs
        assert {one.id for one in state.endpoints.named("shop/web-1")} == {
            id_ for id_, one in self.endpoints.items() if one.name == "shop/web-1"
        }

    @invariant()
    def knows_holders(self) -> None:
        claims: dict[Prefix, list[str]] = {}
        for id_, endpoint in self.endpoints.items():
            for allocation in endpoint.allocations:
                claims.setdefault(allocation.address, []).append(id_)
        for address, ids in claims.items():
            holder = self.state.holder(address)  # type: ignore[arg-type]
            assert holder in ids
        assert set(self.state.holders) == set(claims)


States.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStates = States.TestCase


NARROW = BLOCKS[:2]
HERE = [f"{container}/eth0" for container in CONTAINERS[:3]]
ONE_STEP = st.one_of(
    st.tuples(
        st.just("block"),
        st.sampled_from(NARROW),
        st.sampled_from([(), (0,), (3,), (0, 2), (0, 3), None]),
        st.sampled_from([True, True, False]),
    ),
    st.tuples(st.just("start"), st.sampled_from(HERE), st.sampled_from([0, 2, 3]), st.integers(0, 15)),
    st.tuples(st.just("end"), st.sampled_from(HERE)),
    st.tuples(st.just("identity"), st.sampled_from([0, 2, 3]), st.sampled_from([True, True, False])),
    st.tuples(st.just("compile")),
)
READY = [("identity", 0, True), ("identity", 2, True), ("identity", 3, True), ("block", NARROW[0], (0,), True)]


@settings(max_examples=300, deadline=None)
@given(st.lists(ONE_STEP, max_size=14))
def test_policy_is_the_same_with_the_endpoints_it_needs_as_with_all(steps: list[Any]) -> None:
    core = Core(MemoryStore())
    everything: dict[str, Endpoint] = {}
    for revision, step in enumerate([*READY, *steps, ("compile",)], 1):
        match step:
            case "block", cidr, members, owned:
                value = None
                if members is not None:
                    names = tuple(IDENTITIES[member].id for member in members)
                    owner = IDENTITIES[members[0]].owner if members and owned else None
                    value = BLOCK.encode(
                        Block(cidr=cidr, span=V4, network="v4", host="h", allocator="h", owner=owner, identities=names)
                    )
                event = StoreEvent(BLOCK.key(cidr), value, revision)
            case "start", id_, member, place:
                block = NARROW[place // 8]
                one = Allocation(address=block.address(place % 8), block=block, endpoint=id_, sequence=1)
                endpoint = Endpoint(
                    id=id_, name="", host="h", identity=IDENTITIES[member], allocations=(one,), link="rom0"
                )
                everything.pop(id_, None)
                everything[id_] = endpoint
                event = StoreEvent(ENDPOINT.key(id_), ENDPOINT.encode(endpoint), revision)
            case "end", id_:
                everything.pop(id_, None)
                event = StoreEvent(ENDPOINT.key(id_), None, revision)
            case "identity", member, there:
                identity = IDENTITIES[member]
                stored = IDENTITY.encode(StoredIdentity(identity=identity)) if there else None
                event = StoreEvent(IDENTITY.key(identity.id), stored, revision)
            case _:
                assert core.program == compile_program(core.state.world(everything))
                continue
        core.state.apply([event])


def test_an_endpoint_in_a_block_of_its_class_is_not_compiled_again() -> None:
    core = Core(MemoryStore())
    for revision, (member, cidr) in enumerate(((0, NARROW[0]), (2, NARROW[1])), 1):
        identity = IDENTITIES[member]
        names = tuple(IDENTITIES[one].id for one in (0, 2))
        block = Block(cidr=cidr, span=V4, network="v4", host="h", allocator="h", owner=identity.owner, identities=names)
        stored = IDENTITY.encode(StoredIdentity(identity=identity))
        core.state.apply([StoreEvent(IDENTITY.key(identity.id), stored, revision)])
        core.state.apply([StoreEvent(BLOCK.key(cidr), BLOCK.encode(block), revision)])
    before = core.program
    allocation = Allocation(address=NARROW[0].address(3), block=NARROW[0], endpoint=HERE[0], sequence=1)
    endpoint = Endpoint(id=HERE[0], name="", host="h", identity=IDENTITIES[0], allocations=(allocation,), link="rom0")
    core.state.apply([StoreEvent(ENDPOINT.key(HERE[0]), ENDPOINT.encode(endpoint), 9)])
    assert core.program is before
    stranger = msgspec.structs.replace(endpoint, identity=IDENTITIES[3])
    core.state.apply([StoreEvent(ENDPOINT.key(HERE[0]), ENDPOINT.encode(stranger), 10)])
    assert core.state.lodgers.stirred()
    assert core.state.lodgers.stirred()
    assert core.program is not before
    assert not core.state.lodgers.stirred()


def test_a_million_endpoints_fit() -> None:
    """Bytes of everything that grows with endpoints, by 20,000 of them."""
    count, table = 20_000, EndpointTable()
    for number in range(count):
        id_ = f"{secrets.token_hex(32)}/eth0"
        allocations = tuple(
            Allocation(address=block.address(number % block.size), block=block, endpoint=id_, sequence=number)
            for block in (V4.subnet(29, 0), V6.subnet(122, 0))
            for block in [Prefix(block.family, block.value + number // block.size * block.size, block.length)]
        )
        endpoint = Endpoint(
            id=id_,
            name=f"shop/web-7d9c6b8f4-{number:05}",
            host=f"node-{number // 200:05}",
            identity=IDENTITIES[1],
            allocations=allocations,
            link=f"rom{number:011x}",
            netns=f"/run/netns/cni-{number:08x}-1111-2222-3333-444455556666",
            mac="0a:58:0a:00:00:01",
            mtu=1500,
        )
        table.put(id_, ENDPOINT.encode(endpoint), number + 1)
    assert _bytes(vars(table)) / count <= 390


def _bytes(thing: object) -> int:
    """Bytes of a value and of everything in it, counting what is met twice once, as an allocator rounds them."""
    met: set[int] = set()

    def sizes(one: object) -> Iterator[int]:
        if id(one) in met:
            return
        met.add(id(one))
        yield -(-sys.getsizeof(one) // 16) * 16
        if isinstance(one, dict):
            for key, value in one.items():
                yield from sizes(key)
                yield from sizes(value)
        elif isinstance(one, list | tuple | set):
            for value in one:
                yield from sizes(value)
        elif hasattr(one, "__dict__"):
            yield from sizes(vars(one))

    return sum(sizes(thing))


def test_rooms_are_numbers_and_back() -> None:
    for block in (*BLOCKS, Prefix(Family.V4, 0, 0), Prefix(Family.V6, 0, 0), Prefix(Family.V4, 0, 32)):
        assert block_of(room_of(block)) == block


def test_what_is_retired_or_a_span_is_taken_until_it_is_gone() -> None:
    state = State()
    first, second = V4.subnets(25)
    state.apply([StoreEvent(SPAN.key(first), SPAN.encode(Span(cidr=first, network="v4", host="h1")), 1)])
    gone = Retired(cidr=second, network="v4", host="h2")
    state.apply([StoreEvent(RETIRED.key(second), RETIRED.encode(gone), 2)])
    assert state.taken.over(second.address(3)) == V4
    state.apply([StoreEvent(RETIRED.key(second), None, 3)])
    assert state.taken.over(second.address(3)) is None
    assert state.taken.over(first.address(3)) == first


@given(st.binary(max_size=40), endpoints(), st.integers(0, 400))
def test_a_broken_record_is_refused_and_changes_nothing(junk: bytes, endpoint: Endpoint, at: int) -> None:
    table = EndpointTable()
    table.put(endpoint.id, ENDPOINT.encode(endpoint), 1)
    whole = ENDPOINT.encode(endpoint)
    try:
        table.put(endpoint.id, whole[:at] + junk, 2)
    except Unavailable:
        assert dict(table) == {endpoint.id: endpoint}
        assert table.revision(endpoint.id) == 1


@pytest.mark.parametrize("text", [b'{"schema":3,"value":{}}', b"\x94\x03\xa1h\x80\xc4\x00", b"\x92\x03\xa1h"])
def test_a_record_of_a_newer_schema_is_refused(text: bytes) -> None:
    with pytest.raises(Unavailable, match="schema 3, this program knows 2: upgrade"):
        EndpointTable().put("c/eth0", text, 1)


def test_a_record_of_the_first_schema_is_read() -> None:
    endpoint = Endpoint(id="c/eth0", name="n", host="h", identity=IDENTITIES[1], allocations=(), link="rom0")
    table = EndpointTable()
    table.put(endpoint.id, encode({"schema": 1, "value": endpoint}), 1)
    assert dict(table) == {endpoint.id: endpoint}


def test_records_are_upgraded_schema_by_schema() -> None:
    def renamed(value: Any) -> Any:
        return {"host": value["node"]}

    kind: Kind[Unsettled] = Kind("unsettled", Unsettled, schema=3, upgrades={1: renamed})
    assert kind.decode(b'{"schema":1,"value":{"node":"h1"}}') == Unsettled(host="h1")
    assert kind.decode(b'{"schema":2,"value":{"host":"h1"}}') == Unsettled(host="h1")
    assert kind.decode(kind.encode(Unsettled(host="h1"))) == Unsettled(host="h1")
    for text, sentence in (
        (b'{"schema":4,"value":{}}', "schema 4"),
        (b'{"schema":2,"value":{"node":"h"}}', "cannot be read"),
    ):
        with pytest.raises(Unavailable, match=sentence):
            kind.decode(text)


@settings(max_examples=60, deadline=None)
@given(st.lists(endpoints(), max_size=6, unique_by=lambda one: one.id), st.lists(st.sampled_from(BLOCKS), unique=True))
def test_a_state_that_is_read_is_the_one_that_was_followed(found: list[Endpoint], cidrs: list[Prefix]) -> None:
    texts = {ENDPOINT.key(one.id): ENDPOINT.encode(one) for one in found}
    for number, cidr in enumerate(cidrs):
        host = ("", *HOSTS)[number % 3]
        owner, member = IDENTITIES[number % 4].owner, IDENTITIES[number % 4].id
        block = Block(cidr=cidr, span=cidr, network="v4", host=host, allocator=host, owner=owner, identities=(member,))
        texts[BLOCK.key(cidr)] = BLOCK.encode(block)
    followed, read = State(), State()
    for revision, (key, text) in enumerate(texts.items(), 1):
        followed.apply([StoreEvent(key, text, revision)])
    read.load([Record(key, text, revision) for revision, (key, text) in enumerate(texts.items(), 1)])
    read.loaded(len(texts))
    assert dict(read.endpoints) == dict(followed.endpoints)
    assert dict(read.revisions) == dict(followed.revisions)
    assert read.blocks == followed.blocks
    assert read.served_touched == followed.served_touched
    for host in ("", *HOSTS):
        assert read.blocks_on(host) == followed.blocks_on(host)
        assert read.endpoints_on(host) == followed.endpoints_on(host)
    for cidr in BLOCKS:
        assert read.served.over(cidr) == followed.served.over(cidr)
    assert read.lodgers.exact({}) == followed.lodgers.exact({})
