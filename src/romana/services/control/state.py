"""The control plane's state in memory: what the store's records say, indexed for deciding.

Owns nothing that is not in the store. Refuses to decide. Invariant: it changes only by the store's events, in their
order, so every replica that has seen the same revision holds the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from romana.codec import records
from romana.codec.records import Published, Seen, Unsettled
from romana.codec.text import parse_prefix
from romana.core.ipam.occupied import Occupied
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Blackout, Block, Numbers, Reservation, Retired, Span
from romana.model.policy import Policy
from romana.model.report import Audit, Audited
from romana.model.tenancy import Identity, Segment, Tenant
from romana.model.topology import AddressPlan, Host, Network
from romana.ports import StoreEvent

POLICY_KINDS = frozenset({"plan", "tenant", "policy", "identity", "block"})
"""Kinds of records whose change can change the compiled program, besides endpoints in blocks of several identities."""

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
    "seen": "seen",
    "unsettled": "unsettled",
    "audit": "audits",
    "audited": "audited",
}
"""Kind of record -> the mapping of a state that holds its values."""


class State:
    """Everything by its natural key. `revision` is the last event's; `policy_generation` grows when policy may
    differ.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.policy_generation = 0
        self.revisions: dict[str, int] = {}  # record key -> revision
        self.plan = AddressPlan(networks=(), topologies=())
        self.plan_document = ""
        self.hosts: dict[str, Host] = {}
        self.tenants: dict[str, Tenant] = {}
        self.segments: dict[tuple[str, str], Segment] = {}
        self.identities: dict[str, Identity] = {}
        self.spans: dict[Prefix, Span] = {}
        self.blocks: dict[Prefix, Block] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.policies: dict[str, Policy] = {}
        self.published: dict[str, Published] = {}
        self.roster_changes = 0
        self.retired: dict[Prefix, Retired] = {}
        self.blackouts: dict[Prefix, Blackout] = {}
        self.numbers: dict[str, Numbers] = {}  # by network
        self.reservations: dict[str, Reservation] = {}
        self.seen: dict[str, Seen] = {}  # by host
        self.unsettled: dict[str, Unsettled] = {}  # by host
        self.audits: dict[str, Audit] = {}  # one at most, under `current`
        self.audited: dict[str, Audited] = {}  # by host
        self.holders: dict[Address, str] = {}  # address -> endpoint id
        self.used: Counter[Prefix] = Counter()  # block -> published addresses
        self.taken = Occupied()
        """Spans, and what is retired: where no new span may be."""
        self._networks: dict[str, Network] | None = None
        self._spans_on: dict[str, dict[Prefix, Span]] = {}
        self._blocks_on: dict[str, dict[Prefix, Block]] = {}
        self._endpoints_in: dict[Prefix, dict[Address, str]] = {}

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
        found = self._endpoints_in.get(block, {})
        return [self.endpoints[found[address]] for address in sorted(found)]

    def endpoints_on(self, host: str) -> list[Endpoint]:
        """A host's endpoints, by id."""
        return sorted((one for one in self.endpoints.values() if one.host == host), key=lambda one: one.id)

    def holder(self, address: Address) -> str | None:
        """The id of the endpoint that has an address."""
        return self.holders.get(address)

    @property
    def audit(self) -> int:
        """The number of the last audit that was asked for."""
        return max((one.number for one in self.audits.values()), default=0)

    def condemned(self, host: str) -> tuple[str, ...]:
        """Links that the host's present agent is to cut off."""
        found = self.audited.get(host)
        return found.cut if found is not None and found.epoch == self.hosts[host].epoch else ()

    def world(self) -> PolicyWorld:
        """What policy is compiled from; a view on this state, not a copy."""
        return PolicyWorld(
            tenants=self.tenants,
            policies=self.policies,
            identities=self.identities,
            networks=self.networks,
            blocks=self.blocks,
            endpoints=self.endpoints,
        )

    def apply(self, events: Iterable[StoreEvent]) -> None:
        """Take over one transaction of the store."""
        for event in events:
            kind, _, rest = event.key.partition("/")
            if event.value is None:
                self.revisions.pop(event.key, None)
                self._remove(kind, rest)
            else:
                self.revisions[event.key] = event.revision
                if kind in records.KINDS:
                    value = records.KINDS[kind].decode(event.value)
                    if kind == "retired":
                        value = msgspec.structs.replace(value, revision=event.revision)
                    self._put(kind, rest, value)
            self.revision = event.revision
            if kind in POLICY_KINDS:
                self.policy_generation += 1

    def _put(self, kind: str, rest: str, value: Any) -> None:
        match kind:
            case "plan":
                self.plan, self.plan_document = value.plan, value.document
                self._networks = None
            case "identity":
                self.identities[rest] = value.identity
            case "endpoint":
                self._remove_endpoint(rest)
                self.endpoints[rest] = value
                self._count(value, 1)
            case "roster":
                self.roster_changes = value.changes
            case _:
                key = _natural_key(kind, rest)
                self._index(kind, key, None)
                self._table(kind)[key] = value
                self._index(kind, key, value)

    def _remove(self, kind: str, rest: str) -> None:
        match kind:
            case "plan":
                self.plan, self.plan_document = AddressPlan(networks=(), topologies=()), ""
                self._networks = None
            case "endpoint":
                self._remove_endpoint(rest)
            case "roster":
                self.roster_changes = 0
            case _ if kind in records.KINDS:
                key = _natural_key(kind, rest)
                self._index(kind, key, None)
                self._table(kind).pop(key, None)

    def _table(self, kind: str) -> dict[Any, Any]:
        table: dict[Any, Any] = getattr(self, TABLES[kind])
        return table

    def _index(self, kind: str, key: Any, new: Any) -> None:
        """Take a record into the indexes (None: what the table has is taken out of them)."""
        value = self._table(kind).get(key) if new is None else new
        if kind == "blackout":
            self._networks = None
        if value is None:
            return
        if kind in ("span", "retired"):
            (self.taken.remove if new is None else self.taken.add)(key)
        if kind in ("span", "block"):
            by_host: dict[str, dict[Prefix, Any]] = self._spans_on if kind == "span" else self._blocks_on
            if new is None:
                del by_host[value.host][key]
            else:
                by_host.setdefault(value.host, {})[key] = value

    def _remove_endpoint(self, name: str) -> None:
        known = self.endpoints.pop(name, None)
        if known is not None:
            self._count(known, -1)

    def _count(self, endpoint: Endpoint, by: int) -> None:
        for allocation in endpoint.allocations:
            self.used[allocation.block] += by
            if by > 0:
                self.holders[allocation.address] = endpoint.id
                self._endpoints_in.setdefault(allocation.block, {})[allocation.address] = endpoint.id
            else:
                self.holders.pop(allocation.address, None)
                self._endpoints_in.get(allocation.block, {}).pop(allocation.address, None)
            block = self.blocks.get(allocation.block)
            if block is None or len(block.identities) > 1:
                self.policy_generation += 1


def _natural_key(kind: str, rest: str) -> object:
    """What a record's value is found by: its name, its CIDR, or tenant and segment."""
    if kind in ("span", "block", "retired", "blackout"):
        return parse_prefix(rest)
    if kind == "segment":
        tenant, _, name = rest.partition("/")
        return tenant, name
    return rest
