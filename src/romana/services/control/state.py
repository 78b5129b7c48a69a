"""The control plane's state in memory: what the store's records say, indexed for deciding.

Owns nothing that is not in the store. Refuses to decide. Invariant: it changes only by the store's events, in their
order, so every replica that has seen the same revision holds the same state.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from romana.codec import records
from romana.codec.records import Bound, FixedAddress, Held, Published, Seen, Unsettled, VpcTable
from romana.codec.text import parse_address, parse_prefix
from romana.core.ipam.occupied import Occupied
from romana.core.policy.world import PolicyWorld, Touched
from romana.core.routing.plan import RoutePlan
from romana.model.address import Address, Prefix
from romana.model.daemon import Peering
from romana.model.endpoint import Endpoint
from romana.model.ipam import SERVER, Blackout, Block, Numbers, Reservation, Retired, Span
from romana.model.policy import Policy
from romana.model.report import Audit, Audited
from romana.model.route import Away, RouteException
from romana.model.tenancy import Identity, Segment, Tenant
from romana.model.topology import AddressPlan, Host, Network
from romana.ports import Record, StoreEvent
from romana.services.control.endpoint_table import EndpointTable, Holders, Used
from romana.services.control.lodgers import Lodgers

T = TypeVar("T")
CLASS_KINDS = frozenset({"tenant", "policy", "identity"})
"""Kinds of records whose change can change the class of an identity."""
EVERYBODY_KINDS = frozenset({"plan", "blackout", "retired", "audit"})
"""Kinds of records that are in the view of every host."""
HOST_KINDS = frozenset({"host", "audited"})
"""Kinds of records under a host's name, that are in its view."""

CIDR_KINDS = frozenset({"span", "block", "retired", "blackout"})
"""Kinds of records under a CIDR, which their values have too."""
ENDPOINT, BLOCK = records.ENDPOINT.key(""), records.BLOCK.key("")
TABLES = {
    "host": "hosts",
    "tenant": "tenants",
    "segment": "segments",
    "identity": "identities",
    "span": "spans",
    "block": "blocks",
    "policy": "policies",
    "published": "published",
    "retired": "retired",
    "blackout": "blackouts",
    "numbers": "numbers",
    "reservation": "reservations",
    "fixed": "fixed",
    "bound": "bound",
    "seen": "seen",
    "unsettled": "unsettled",
    "held": "held",
    "audit": "audits",
    "audited": "audited",
    "vpc": "vpc_tables",
    "peering": "peerings",
}
"""Kind of record -> the mapping of a state that holds its values."""


class Changed(msgspec.Struct):
    """Whose views some events may have changed, apart from what the program changes in them. Routers count as hosts."""

    hosts: set[str] = msgspec.field(default_factory=set)
    everybody: bool = False


class Revisions(Mapping[str, int]):
    """The revision that wrote each record, by the record's key; the table of endpoints has theirs."""

    def __init__(self, endpoints: EndpointTable) -> None:
        self._endpoints = endpoints
        self._others: dict[str, int] = {}

    def note(self, key: str, revision: int | None) -> None:
        """A record that is no endpoint's was written, or is gone (None)."""
        if revision is None:
            self._others.pop(key, None)
        else:
            self._others[key] = revision

    def of(self, key: str) -> int:
        """The revision that wrote a record; 0 when there is none."""
        found = self._others.get(key)
        if found is None and key.startswith(ENDPOINT):
            found = self._endpoints.revision(key[len(ENDPOINT) :])
        return found or 0

    def __getitem__(self, key: str) -> int:
        found = self.of(key)
        if not found:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        yield from (ENDPOINT + id_ for id_ in self._endpoints)

    def __len__(self) -> int:
        return len(self._others) + len(self._endpoints)


class Local(Mapping[str, tuple[Prefix, ...]]):
    """Where the endpoints of each host live, looked up when it is asked for (`PolicyWorld.local`)."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __getitem__(self, host: str) -> tuple[Prefix, ...]:
        if host not in self._state.hosts:
            raise KeyError(host)
        return self._state.local_to(host)

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.hosts)

    def __len__(self) -> int:
        return len(self._state.hosts)


class State:
    """Everything by its natural key. `revision` is the last event's.

    `class_generation` grows when the classes of identities may differ, `policy_generation` when the program may, apart
    from what `lodgers` knows.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.class_generation = 0
        self.policy_generation = 0
        self.plan = AddressPlan(networks=(), topologies=())
        self.plan_document = ""
        self.hosts: dict[str, Host] = {}
        self.tenants: dict[str, Tenant] = {}
        self.segments: dict[tuple[str, str], Segment] = {}
        self.identities: dict[str, Identity] = {}
        self.spans: dict[Prefix, Span] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.endpoints = EndpointTable()
        self.revisions = Revisions(self.endpoints)
        self.policies: dict[str, Policy] = {}
        self.published: dict[str, Published] = {}
        self.roster_changes = 0
        self.retired: dict[Prefix, Retired] = {}
        self.blackouts: dict[Prefix, Blackout] = {}
        self.numbers: dict[str, Numbers] = {}  # by network
        self.reservations: dict[str, Reservation] = {}
        self.fixed: dict[Address, FixedAddress] = {}
        self.bound: dict[str, Bound] = {}  # by endpoint
        self.seen: dict[str, Seen] = {}  # by host
        self.unsettled: dict[str, Unsettled] = {}  # by host
        self.held: dict[str, Held] = {}  # one at most, under `fixed`
        self.audits: dict[str, Audit] = {}  # one at most, under `current`
        self.audited: dict[str, Audited] = {}  # by host
        self.vpc_tables: dict[str, VpcTable] = {}  # by id of the table
        self.peerings: dict[str, Peering] = {}  # by host or router
        self.holders = Holders(self.endpoints)
        self.used = Used(self.endpoints)
        self.lodgers = Lodgers(self.endpoints, self.blocks, self.identities)
        self.served = Occupied()
        """Blocks of the control plane itself, and what is retired: where no new block for fixed addresses may be."""
        self.served_touched: set[Prefix] = set()
        """Blocks of the control plane itself of which something changed; whoever acts on it clears it."""
        self.fixed_touched: set[Address] = set()
        """Addresses that the control plane itself gave, or took back; the same."""
        self.routes = RoutePlan(self.plan)
        """The routes of all devices; fixed addresses that are in use are exceptions."""
        self.taken = Occupied()
        """Spans, and what is retired: where no new span may be."""
        self._networks: dict[str, Network] | None = None
        self._spans_on: dict[str, dict[Prefix, Span]] = {}
        self._blocks_on: dict[str, dict[Prefix, Block]] = {}
        self._visiting: dict[str, dict[str, Reservation]] = {}  # by host and name
        self._bound: dict[str, str] = {}  # endpoint -> the reservation it uses
        self._local: dict[str, tuple[Prefix, ...]] = {}  # by host, of those that were asked for
        self._naming_local: set[str] = set()  # policies
        self._changed = Changed()
        self._touched = Touched()  # since `take_touched`

    @property
    def networks(self) -> Mapping[str, Network]:
        """The plan's networks by name, in its order, with the blackouts among what is reserved."""
        if self._networks is None:
            dark: dict[str, list[Prefix]] = {}
            for cidr, blackout in sorted(self.blackouts.items()):
                dark.setdefault(blackout.network, []).append(cidr)
            self._networks = {
                one.name: msgspec.structs.replace(one, reserved=(*one.reserved, *dark[one.name]))
                if one.name in dark
                else one
                for one in self.plan.networks
            }
        return self._networks

    def spans_on(self, host: str) -> Mapping[Prefix, Span]:
        """A host's spans; host "" is the control plane itself."""
        return self._spans_on.get(host, {})

    def blocks_on(self, host: str) -> Mapping[Prefix, Block]:
        """A host's blocks; host "" is the control plane itself."""
        return self._blocks_on.get(host, {})

    def endpoints_in(self, block: Prefix) -> list[Endpoint]:
        """The endpoints that have an address of a block, in the order of their addresses."""
        return [self.endpoints[id_] for _, id_ in self.endpoints.in_room(block)]

    def endpoints_on(self, host: str) -> list[Endpoint]:
        """A host's endpoints, by id."""
        return [self.endpoints[id_] for id_ in sorted(self.endpoints.on_host(host))]

    def reservations_on(self, host: str) -> Mapping[str, Reservation]:
        """The reservations that a host's endpoints use, by name."""
        return self._visiting.get(host, {})

    def local_to(self, host: str) -> tuple[Prefix, ...]:
        """Where a host's endpoints live: its spans, and the fixed addresses in use there."""
        found = self._local.get(host)
        if found is None:
            used = {one.address for each in self.reservations_on(host).values() for one in each.allocations}
            fixed = (Prefix(one.family, one.value, one.length) for one in used)
            found = self._local[host] = tuple(sorted({*self.spans_on(host), *fixed}))
        return found

    def reservation_of(self, endpoint: str) -> Reservation | None:
        """The reservation that an endpoint uses."""
        name = self._bound.get(endpoint)
        return None if name is None else self.reservations[name]

    def holder(self, address: Address) -> str | None:
        """The id of the endpoint that has an address."""
        return self.endpoints.holder(address)

    @property
    def audit(self) -> int:
        """The number of the last audit that was asked for."""
        return max((one.number for one in self.audits.values()), default=0)

    def condemned(self, host: str) -> tuple[str, ...]:
        """Links that the host's present agent is to cut off."""
        found = self.audited.get(host)
        return found.cut if found is not None and found.epoch == self.hosts[host].epoch else ()

    def take_touched(self) -> Touched:
        """What of `world` may differ since this was last asked."""
        touched, self._touched = self._touched, Touched()
        return touched

    def world(self, endpoints: Mapping[str, Endpoint] | None = None) -> PolicyWorld:
        """What policy is compiled from, with the endpoints that it has to know one by one (`lodgers`); a view on this
        state, not a copy.
        """
        return PolicyWorld(
            tenants=self.tenants,
            policies=self.policies,
            identities=self.identities,
            networks=self.networks,
            blocks=self.blocks,
            endpoints=endpoints or {},
            hosts=self.hosts,
            local=Local(self),
        )

    def load(self, page: Iterable[Record]) -> None:
        """Take over records of a store that is read for the first time; say `loaded` after the last of them."""
        endpoints: list[Record] = []
        others: list[StoreEvent] = []
        for record in page:
            if record.key.startswith(ENDPOINT):
                endpoints.append(record)
            elif record.key.startswith(BLOCK):
                self._load_block(record)
            else:
                others.append(StoreEvent(record.key, record.value, record.revision))
        self.endpoints.put_all(endpoints, quietly=True)
        self.apply(others)

    def _load_block(self, record: Record) -> None:
        """One of a great many, of which nobody knows anything yet."""
        block = _lean(records.BLOCK.decode(record.value))
        cidr = block.cidr
        self.blocks[cidr] = block
        self.revisions.note(record.key, record.revision)
        on_host = self._blocks_on.get(block.host)
        if on_host is None:
            on_host = self._blocks_on[block.host] = {}
        on_host[cidr] = block
        if block.allocator == SERVER:
            self.served.add(cidr)
            self.served_touched.add(cidr)

    def loaded(self, revision: int) -> None:
        """Everything was taken over, as of a revision."""
        self.endpoints.touch_all()
        self._touched.everything = True
        self.policy_generation += 1
        self.revision = revision

    def apply(self, events: Iterable[StoreEvent]) -> Changed:
        """Take over one transaction of the store, and say whose views it may concern."""
        self._changed = Changed()
        for event in events:
            self.revision = event.revision
            if event.key.startswith(ENDPOINT):
                if event.value is None:
                    self.endpoints.remove(event.key[len(ENDPOINT) :])
                else:
                    self.endpoints.put(event.key[len(ENDPOINT) :], event.value, event.revision)
                continue
            kind, _, rest = event.key.partition("/")
            self.revisions.note(event.key, None if event.value is None else event.revision)
            if kind in records.KINDS:
                value = None if event.value is None else records.KINDS[kind].decode(event.value)
                if isinstance(value, Retired):
                    value = msgspec.structs.replace(value, revision=event.revision)
                self._note(kind, rest)
                self._set(kind, rest, value)
        return self._changed

    def _note(self, kind: str, rest: str) -> None:
        """What a change of such a record means for policy and for views."""
        if kind in CLASS_KINDS:
            self.class_generation += 1
            self.policy_generation += 1
        if kind == "plan":
            self.policy_generation += 1
        if kind in EVERYBODY_KINDS:
            self._changed.everybody = True
        if kind in HOST_KINDS:
            self._changed.hosts.add(rest)

    def _set(self, kind: str, rest: str, value: Any) -> None:
        """Take over a record; None is its absence."""
        match kind:
            case "plan":
                self.plan = AddressPlan(networks=(), topologies=()) if value is None else value.plan
                self.plan_document = "" if value is None else value.document
                self._networks = None
                self.routes.set_plan(self.plan)
            case "roster":
                self.roster_changes = 0 if value is None else value.changes
            case _:
                if kind == "block" and value is not None:
                    value = _lean(value)
                table = self._table(kind)
                key = value.cidr if kind in CIDR_KINDS and value is not None else _natural_key(kind, rest)
                old, new = table.get(key), value.identity if kind == "identity" and value is not None else value
                if new is None:
                    table.pop(key, None)
                else:
                    table[key] = new
                self._index(kind, key, old, new)

    def _table(self, kind: str) -> dict[Any, Any]:
        table: dict[Any, Any] = getattr(self, TABLES[kind])
        return table

    def _index(self, kind: str, key: Any, old: Any, new: Any) -> None:
        """Follow a change in the indexes."""
        match kind:
            case "tenant":
                self._touched.tenants.add(key)
            case "policy":
                self._touched.policies.add(key)
                (self._naming_local.add if new is not None and new.names_local else self._naming_local.discard)(key)
            case "blackout":
                self._networks = None
            case "identity":
                self._touched.identities.add(key)
                if new is None:
                    self.lodgers.identity_went()
            case "host":
                if _underlay(old) != _underlay(new):
                    self.policy_generation += 1
                self._touch(self.routes.drop_host(key) if new is None else self.routes.put_host(new))
            case "reservation":
                self._bind(old, new)
            case "fixed":
                self.fixed_touched.add(key)
            case "span" | "block" | "retired":
                self._index_cidr(kind, key, old, new)

    def _index_cidr(self, kind: str, key: Prefix, old: Any, new: Any) -> None:
        match kind:
            case "span":
                self._move(self._spans_on, key, old, new)
                self._local_moved(old, new)
                self._touch(self.routes.drop_span(key) if new is None else self.routes.put_span(new))
                _recount(self.taken, key, old is not None, new is not None)
            case "retired":
                _recount(self.taken, key, old is not None, new is not None)
                _recount(self.served, key, old is not None, new is not None)
            case "block":
                ours = [one is not None and one.allocator == SERVER for one in (old, new)]
                _recount(self.served, key, *ours)
                if any(ours):
                    self.served_touched.add(key)
                self._move(self._blocks_on, key, old, new)
                self._touched.blocks.add(key)
                if self._face(old) != self._face(new):
                    self.policy_generation += 1
                    self.lodgers.block_changed(key)

    def _move(self, by_host: dict[str, dict[Prefix, Any]], key: Prefix, old: Any, new: Any) -> None:
        if old is not None:
            self._changed.hosts.add(old.host)
            if new is None or new.host != old.host:
                del by_host[old.host][key]
                if not by_host[old.host]:
                    del by_host[old.host]
        if new is not None:
            self._changed.hosts.add(new.host)
            by_host.setdefault(new.host, {})[key] = new

    def _bind(self, old: Reservation | None, new: Reservation | None) -> None:
        """Follow who uses fixed addresses."""
        self._local_moved(old, new)
        if old is not None and old.host:
            self._changed.hosts.add(old.host)
            self._visiting[old.host].pop(old.name)
            self._bound.pop(old.endpoint, None)
            for allocation in old.allocations:
                self._touch(self.routes.drop_exception(allocation.address))
        if new is not None and new.host:
            self._changed.hosts.add(new.host)
            self._visiting.setdefault(new.host, {})[new.name] = new
            self._bound[new.endpoint] = new.name
            for allocation in new.allocations:
                lone = RouteException(prefix=allocation.address, host=new.host, reason=Away.FIXED, name=new.name)
                self._touch(self.routes.put_exception(lone))

    def _local_moved(self, *changed: Span | Reservation | None) -> None:
        """The endpoints of hosts live elsewhere now, which is something to policies about them alone."""
        for one in changed:
            self._local.pop(one.host if one is not None else "", None)
        if self._naming_local:
            self.policy_generation += 1

    def _touch(self, devices: set[str]) -> None:
        """The routes of these devices, or what their daemons do, may differ now."""
        self._changed.hosts |= devices

    def _face(self, block: Block | None) -> object:
        """What policy sees of a block: nothing of stock, unless it is of a length that no network has."""
        if block is None:
            return None
        if not block.identities and any(block.cidr.length == one.block_length for one in self.plan.networks):
            return None
        return block.owner is None, block.identities


def _recount(occupied: Occupied, cidr: Prefix, before: bool, after: bool) -> None:
    if after and not before:
        occupied.add(cidr)
    if before and not after:
        occupied.remove(cidr)


def _lean(block: Block) -> Block:
    """The same block, sharing with others what it has in common with them; there are a great many."""
    return msgspec.structs.replace(
        block,
        span=_same(block.span),
        network=_same(block.network),
        host=_same(block.host),
        allocator=_same(block.allocator),
        owner=_same(block.owner),
        identities=_same(block.identities),
    )


@functools.lru_cache(maxsize=1 << 16)
def _same(value: T) -> T:
    """The first one of equal values that was seen in a while."""
    return value


def _underlay(host: Host | None) -> object:
    """What policy sees of a host."""
    return None if host is None else (host.addresses, host.labels)


def _natural_key(kind: str, rest: str) -> object:
    """What a record's value is found by: its name, its CIDR, or tenant and segment."""
    if kind in CIDR_KINDS:
        return parse_prefix(rest)
    if kind == "segment":
        tenant, _, name = rest.partition("/")
        return tenant, name
    if kind == "fixed":
        return parse_address(rest)
    return rest
