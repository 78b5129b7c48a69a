"""What services need from the world. Adapters implement these; tests have fakes that pass the same contract suites.

Kernel ports are synchronous and quick: an app decides on which thread they run. Every kernel port reads a mapping of
what
is ours (`docs/ownership.md`) and applies changes to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from romana.core.diff import Changes
from romana.core.ruleset import Ruleset, RulesetChanges
from romana.model.address import Address, Family, Prefix
from romana.model.daemon import DaemonReport, DaemonState
from romana.model.endpoint import Endpoint
from romana.model.flow import Flow
from romana.model.ipam import Reservation
from romana.model.report import Observation
from romana.model.route import Route, Turns
from romana.model.speaker import DaemonPlan, Speaker
from romana.model.view import (
    AddressUse,
    BlockReturned,
    BlockTaken,
    Claim,
    ClaimAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    Inventory,
    InventoryAnswer,
    Publication,
    RouterView,
    ViewChange,
    Welcome,
)
from romana.model.vpc import Instance, OwnedRoutes, RouteTable, VpcPlan


class Record(msgspec.Struct, frozen=True):
    """A stored value and the store revision that wrote it."""

    key: str
    value: bytes
    revision: int


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """All or nothing. `compares` maps each key that was read to the record revision seen, 0 for absent."""

    compares: dict[str, int] = {}
    puts: dict[str, bytes] = {}
    deletes: tuple[str, ...] = ()


class StoreEvent(msgspec.Struct, frozen=True):
    """One change, in revision order. `value` None is a deletion."""

    key: str
    value: bytes | None
    revision: int


class Lease(Protocol):
    """The right to do work that must happen once, until it is released or lost.

    `key` is a record of the store while the lease holds, and `revision` that record's: a transaction that compares them
    cannot commit after the lease was lost.
    """

    key: str
    revision: int

    async def lost(self) -> None:
        """Return when it is held no longer."""

    async def release(self) -> None:
        """Give it up; lost already is success."""


class Store(Protocol):
    """Durable records under slash-separated keys, with one revision that grows with each transaction."""

    async def get(self, key: str) -> Record | None:
        """The record, or None."""

    async def scan(self, prefix: str = "") -> tuple[int, list[Record]]:
        """The store's revision, and all records whose key starts with `prefix`, by key, as of that revision."""

    async def read(self, prefix: str = "") -> tuple[int, AsyncIterator[list[Record]]]:
        """As `scan`, in pages, so that a big store need not be in memory twice; changes go on meanwhile.

        Every page is as of the one revision; Conflict when the store has forgotten it before the last page.
        """

    async def commit(self, transaction: Transaction) -> int:
        """Apply it and answer the new revision, once durable; Conflict when a compare fails, with nothing changed.

        A transaction without puts and deletes only compares, and answers the present revision. Invalid when a key or
        value is not storable (`adapters.store.limits`). Unavailable when it could not be done, or, with a store that is
        reached over a network, when nobody can say whether it was: read again before deciding again.
        """

    def watch(self, prefix: str, after: int) -> AsyncIterator[list[StoreEvent]]:
        """Changes after a revision, one list per transaction, for ever; Conflict when `after` was compacted away.

        Unavailable when the store has ended or failed for good; a passing failure is waited for.
        """

    async def lease(self, name: str, seconds: float) -> Lease:
        """Hold the lease of that name, renewed until it is released; whoever dies loses it after some seconds.

        Conflict while somebody else holds it.
        """

    async def check(self) -> None:
        """Unavailable while the store takes no changes."""

    async def incarnation(self) -> str:
        """The random id of this store's history; a restored copy has a new one."""

    async def close(self) -> None:
        """End watches and release the store; waits for what is being committed."""


class EmptyStore(Protocol):
    """A store without records that is filled whole, or stays empty."""

    async def add(self, records: list[tuple[str, bytes]]) -> None:
        """Some more of what it shall have; each key once."""

    async def finish(self) -> str:
        """Make it a store, under a new incarnation, which is the answer."""

    async def abandon(self) -> None:
        """Leave it empty; after `finish`, nothing."""


class ControlPlane(Protocol):
    """romanad as an agent sees it. Every call may raise Unavailable."""

    async def hello(self, hello: Hello) -> Welcome:
        """Report in; Conflict when another live instance holds the host's name."""

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """Room for an identity; NotFound for an unknown tenant or segment, Exhausted when no block is left."""

    async def use_addresses(self, use: AddressUse) -> Reservation:
        """Fixed addresses for an endpoint; NotFound for an unknown name, Conflict while another endpoint uses them,
        Invalid for addresses that are not the control plane's to give.
        """

    async def publish(self, publication: Publication) -> int:
        """Make the agent's own doings known; answers the revision that has them."""

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Renew the host's lease and acknowledge a view; Conflict for another epoch or incarnation."""

    async def inventory(self, inventory: Inventory) -> InventoryAnswer:
        """Say what the host holds, to a restored store; Unavailable while another host may still hold some of it."""

    async def observe(self, observation: Observation) -> int:
        """Say what the host has, for an audit; answers its number. Conflict for another epoch or incarnation."""

    async def report(self, report: DaemonReport) -> None:
        """Say how the device's routing daemon is; NotFound for a device that is not known."""

    async def endpoints(self, host: str) -> tuple[Endpoint, ...]:
        """The endpoints of a host that are published, for an agent that lost its memory."""

    async def tell_flows(self, host: str, epoch: int, flows: Sequence[Flow]) -> None:
        """Tell of packets, to whoever follows them; Conflict for another epoch."""

    def view(self, host: str) -> AsyncIterator[ViewChange]:
        """A snapshot of the host's view, then changes, until the connection ends (Unavailable)."""


class RouterControl(Protocol):
    """romanad as a router's agent sees it. Every call may raise Unavailable."""

    async def report(self, report: DaemonReport) -> None:
        """Say how the router is; NotFound for one that the plan does not name."""

    def router_view(self, router: str) -> AsyncIterator[RouterView]:
        """The router's view, whole each time it changes, until the connection ends (Unavailable)."""


class AgentState(Protocol):
    """An agent's durable memory on its host: written before an answer, kept over restarts."""

    def instance(self) -> str:
        """The random id of this memory, made with it, and anew by `disown`."""

    def disown(self) -> None:
        """This is not the latest memory of this host: it gets another id, agrees with nobody (epoch 0), and knows
        nothing of its lease.
        """

    def load(self) -> AgentMemory:
        """Everything that was remembered."""

    def start(self, endpoint: Endpoint) -> None:
        """Remember an endpoint and its addresses, and that it is to be published."""

    def release(self, endpoint: Endpoint, released_at: int) -> None:
        """Forget an endpoint; remember that its addresses rest since `released_at` (CLOCK_BOOTTIME, seconds), that its
        link is to be removed, and that this is to be published.
        """

    def forget(self, endpoint: Endpoint, released_at: int) -> None:
        """As `release`, of an endpoint whose link is not there, or is another one's by now: it is left alone."""

    def say_released(self, endpoint: Endpoint) -> None:
        """Remember only that a release is to be published: of a use that this memory has no more, or never had."""

    def unlinked(self, *endpoints: str) -> None:
        """The links of released endpoints are gone."""

    def rested(self, rests: Mapping[Address, int]) -> None:
        """The rests of these addresses since these seconds are over, and nobody needs to know who had them. A rest of
        an earlier boot is over as well; one that began later goes on.
        """

    def take(self, taken: BlockTaken) -> None:
        """Remember that an ownerless block was given to an owner, and that this is to be published."""

    def give_back(self, returned: BlockReturned) -> None:
        """Remember that a block was given back, so it is closed, and that this is to be published."""

    def close_blocks(self, closed: Mapping[Prefix, int]) -> None:
        """Remember that nothing is allocated from these blocks, as long as they have these sequences."""

    def forget_blocks(self, *, closed: Mapping[Prefix, int], taken: Mapping[Prefix, int]) -> None:
        """These were closed with these sequences, those taken: the kept view says so by now, or has later news."""

    def renewed(self, at: int, boot_id: str, lease: int) -> None:
        """The lease was renewed at that CLOCK_BOOTTIME second of that boot, and lasts so many seconds."""

    def pending(self, most: int) -> tuple[PendingPublication, ...]:
        """The first entries of the log that the control plane does not know yet, in order."""

    def last_number(self) -> int:
        """The largest number that an entry of the log ever had, 0 before the first one."""

    def published(self, number: int) -> None:
        """Everything up to this publication entry is known to the control plane."""

    def joined(self, epoch: int) -> None:
        """This memory and the control plane's of this host agree, under this epoch."""

    def save_view(self, text: bytes) -> None:
        """Keep the last view, so that the agent can start without the control plane."""

    def close(self) -> None:
        """Let go of what it is kept in; nothing is lost."""


class PendingPublication(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the agent's log that the control plane does not know yet; exactly one of the four is set."""

    number: int
    started: Endpoint | None = None
    released: Endpoint | None = None
    taken: BlockTaken | None = None
    returned: BlockReturned | None = None


class AgentMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent remembers. `resting` has since when (CLOCK_BOOTTIME, seconds), in which boot (its id), and the id
    of the identity before ("" where nobody knows). `closed` are blocks with the sequences they had then, `taken`
    those from the stock. `sequence` is the largest allocation sequence ever written; `pending` is in the order in
    which it happened; `epoch` is the one in which memory and control plane agreed, 0 before that. `renewed` is when
    the lease was renewed (CLOCK_BOOTTIME second, boot id, its length in seconds), None before the first time.
    """

    endpoints: dict[str, Endpoint]
    resting: dict[Address, tuple[int, str, str]]
    unlinking: dict[str, Endpoint]
    pending: tuple[PendingPublication, ...]
    view: bytes | None
    closed: dict[Prefix, int] = {}
    taken: tuple[BlockTaken, ...] = ()
    sequence: int = 0
    epoch: int = 0
    renewed: tuple[int, str, int] | None = None


class LinkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint's pair of interfaces: `link` on the host, `interface` in the network namespace at path `netns`."""

    link: str
    netns: str
    interface: str
    addresses: tuple[Address, ...]
    mtu: int


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """The host's side as the kernel has it, with the hardware address of the workload's side.

    It is not `finished` when whoever made it was ended in the middle.
    """

    link: str
    index: int
    up: bool
    mtu: int
    mac: str
    peer_mac: str = ""
    finished: bool = True


class Links(Protocol):
    """The links whose names carry our prefix, with their host routes (routing.md) and permanent neighbours."""

    def create(self, plan: LinkPlan) -> LinkState:
        """Make the pair, addresses, routes and neighbours on both sides, all up. NotFound when the namespace does not
        exist; AlreadyExists when the workload already has that interface. Failure leaves nothing behind.
        """

    def check(self, plan: LinkPlan) -> list[str]:
        """What of the plan the kernel does not have, each as a sentence; empty when all is there."""

    def delete(self, *links: str) -> None:
        """Remove the host's sides (and so the pairs); gone already is success. Many at once are much quicker."""

    def read(self) -> Mapping[str, LinkState]:
        """Our links on this host, by name."""


class Routes(Protocol):
    """Routes in the main table; all but `learned` is about those of our protocol number."""

    def read(self) -> Mapping[Prefix, Route]:
        """Ours only."""

    def learned(self, within: Collection[Prefix]) -> Mapping[Prefix, Route]:
        """Those of others inside these CIDRs: of routing daemons, and the kernel's own."""

    def connected(self) -> Mapping[Prefix, frozenset[str]]:
        """The networks that this device has an address of, links of endpoints aside, each with its interfaces."""

    def apply(self, changes: Changes[Prefix, Route]) -> None:
        """Add, replace and remove; gone or there already is success."""


class TurnGuard(Protocol):
    """What keeps packets from going round while routers do not agree."""

    def keep(self, turns: Turns) -> bool:
        """Drop what would take one of these turns, from now on and after the agent's end, and nothing else that was
        dropped here before; whether that was not so already.
        """

    def dropped(self) -> int:
        """How many packets were dropped since this was last changed."""

    def remove(self) -> bool:
        """Drop nothing any more; whether anything was."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A tracked connection as policy sees it: after a service's address became an endpoint's, before sources are
    rewritten.

    `port` is the destination port, or ICMP type * 256 + code. `asked` are destination and port that the sender wrote,
    where a service's were put in instead. `source_port` is 0 for ICMP. `key` is the kernel's own name for it, `status`
    what the kernel says of it.
    """

    source: Address
    destination: Address
    protocol: int
    port: int
    condemned: bool
    key: bytes
    status: int = 0
    asked: tuple[Address, int] | None = None
    source_port: int = 0


class Connections(Protocol):
    """The kernel's connection tracking."""

    def read(self, addresses: Collection[Address]) -> list[Connection]:
        """The connections that one of these addresses is an end of, or was asked for."""

    def condemn(self, connections: Iterable[Connection]) -> int:
        """Mark them for a day, so that our table drops all their packets; how many were not."""

    def pardon(self, connections: Iterable[Connection]) -> int:
        """Delete them, so that their next packet is judged like that of a new connection; how many."""

    def forget(self, prefixes: Iterable[Prefix], but: Collection[Address] = ()) -> int:
        """Delete every entry that has an address of these prefixes, one that is not in `but`, as source or destination
        in either direction; about how many.
        """


class Filter(Protocol):
    """Our nftables table; what packets meet of a change is one transaction: all of it or, with an error, nothing.

    Decide what is desired after reading, under whatever keeps endpoints from coming and going in between.
    """

    def read(self) -> Ruleset | None:
        """What the kernel has; None when our table is missing or not as we write it, so all is to be replaced."""

    def apply(self, changes: RulesetChanges) -> None:
        """Make the changes (`core.ruleset.ruleset_changes`); Conflict when the table is not what they were made from.

        Unavailable, with the kernel's words, when it refuses.
        """

    def add_endpoint(self, endpoint: Endpoint, ingress: str, egress: str) -> None:
        """Enforce these rows on an endpoint, whatever it had before. NotFound when a row is not in the table: then it
        is to be applied with its entries (`desired_ruleset` with the endpoint in it).
        """

    def remove_endpoint(self, endpoint: Endpoint) -> None:
        """Take away what `add_endpoint` made; gone already is success."""


class Fence(Protocol):
    """A gate of its own in front of everything that endpoints send and get, which closes by itself."""

    def keep(self) -> None:
        """See to it that there is a gate: one that is there stays as it is, a new one is closed."""

    def hold(self, seconds: int) -> None:
        """Keep it open for so many seconds from now, whatever becomes of this program."""

    def cut(self) -> None:
        """Close it, until the next `hold`."""


class RouteDaemon(Protocol):
    """The routing daemon that announces this host's prefixes."""

    def read(self) -> frozenset[Prefix] | None:
        """The prefixes in our include file, None when there is none."""

    def originated(self) -> frozenset[Prefix] | None:
        """What of ours the daemon has in its tables, whatever the file says: None when it has nothing to do with the
        file. Unavailable when it does not answer.
        """

    def announce(self, prefixes: Collection[Prefix], plan: DaemonPlan | None = None, *, keep: bool = False) -> None:
        """Write our include file and have the daemon take it in; `plan` is for files that have more than the prefixes.
        To `keep` it, a file that has all of these prefixes already is taken in as it is, with all that it has.

        Unavailable with the daemon's own words when it refuses; then the old file stays. Done already is success.
        """

    def is_stale(self) -> bool:
        """Whether files of this device that the last `announce` read, such as passwords, changed since. Cheap."""

    def up(self) -> frozenset[str]:
        """The names of the BGP sessions that are up; Unavailable when it does not answer."""

    def state(self, speaker: Speaker | None = None) -> DaemonState:
        """The daemon, and how its sessions are: those of `speaker`, or all; Unavailable when it does not answer."""


class VpcControl(Protocol):
    """What the program that writes VPC route tables needs from the control plane."""

    async def vpc_plan(self, lease: str) -> VpcPlan:
        """Routes, hosts and what is ours under a lease, as of one revision. Unavailable when it is away."""

    async def own_vpc_routes(self, table: str, owned: OwnedRoutes) -> None:
        """Write down, durably, what is ours in a table. Conflict without the lease, and for a table of another one."""

    async def hold_lease(self, name: str, holder: str, seconds: int) -> None:
        """Get or keep a lease for so many seconds. Conflict while another program has it."""

    async def drop_lease(self, name: str, holder: str) -> None:
        """Give it up; one that another program has stays."""


class Vpcs(Protocol):
    """Route tables and instances of one region of a cloud.

    Every call may take seconds. Unavailable when the cloud is away, or asks for fewer calls: try later, and less.
    Invalid, with the name of the call, for credentials that are wrong or may not make it.
    """

    def tables(self, ids: Collection[str], tags: Mapping[str, str]) -> tuple[RouteTable, ...]:
        """Those with one of these ids, and those that have all of these tags (none for no tags), by id; what does not
        exist is not in the answer.
        """

    def instances(self, vpcs: Collection[str]) -> dict[str, Instance]:
        """All instances in these VPCs, by id, without their status checks."""

    def statuses(self, instances: Collection[str]) -> dict[str, str]:
        """The worse of an instance's status checks, of those that run."""

    def add_route(self, table: str, prefix: Prefix, interface: str) -> None:
        """AlreadyExists when there is a route to the prefix, Exhausted when the table is full."""

    def replace_route(self, table: str, prefix: Prefix, interface: str) -> None:
        """Lead a prefix elsewhere, at one moment. NotFound when there is no route to it."""

    def remove_route(self, table: str, prefix: Prefix) -> None:
        """Gone already is success."""

    def stop_checking(self, interface: str) -> None:
        """Turn an interface's source/destination check off."""


class Clock(Protocol):
    """Time that wall-clock jumps do not change."""

    def boottime(self) -> int:
        """Seconds of CLOCK_BOOTTIME."""

    def boot_id(self) -> str:
        """The kernel's random id of this boot."""


class Host(Protocol):
    """Facts about the machine that the agent asks once."""

    def uplink_mtu(self) -> int:
        """The MTU of the interface that holds the default route, else 1500."""

    def families(self) -> frozenset[Family]:
        """The families in which the host has a global address."""

    def machine(self) -> str:
        """A digest that tells this machine from others, empty where nothing does."""
