"""What one host's agent knows of the plan, and the messages between an agent and the control plane."""

from __future__ import annotations

import msgspec

from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.flow import Flow
from romana.model.ipam import Allocation, Block, Retired, Span
from romana.model.policy import Direction, Failsafe
from romana.model.program import Profile, RowIds
from romana.model.route import Around, DeviceRoute
from romana.model.speaker import DaemonPlan, Speaker
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network


class IdentityRows(msgspec.Struct, frozen=True, kw_only=True):
    """An identity that may start on the host, with its class and the ids of its rows."""

    identity: Identity
    class_id: str
    ingress: str
    egress: str


class RowHead(msgspec.Struct, frozen=True, kw_only=True):
    """A row without its entries, which travel apart so that one changed entry is one small message. `own` is its
    verdict about the view's host itself.
    """

    direction: Direction
    words: str = ""
    own: str = "drop"


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one host needs, as mappings; changes are differences between two of them.

    `revision` orders views of one store `incarnation`; an agent refuses an older one. `spans` and `blocks` are the
    host's own. `entries` has row id -> prefix -> verdict (`Row.entries`). `retired` are spans and blocks of any host
    that are to be forgotten: whoever acknowledges this view has no rule, route or connection with them any more. A host
    that is `draining` gives back what it does not use. `audit` is the number of the last audit that was asked for,
    `cut` are links to cut off as long as nobody allocated what they use. `announced` is what the host announces beside
    its spans: what lives on it although its aggregates lead elsewhere. `host_rows` are the rows for the host's own
    traffic, empty where no policy governs it. `flows` grows with each who begins to follow packets that are told of; it
    is 0 while nobody does. `uses` has the fixed addresses of each endpoint for which the host's agent asked for some,
    so that the agent ends the uses that no endpoint came of. On a layer 2 network the agent sets routes itself: `via`
    has prefix -> addresses that it leads to, `discards` what is discarded and announced to nobody. The rest, the
    routing daemon learns and tells (`daemon`).
    """

    incarnation: str = ""
    revision: int = 0
    networks: dict[str, Network] = {}
    spans: dict[Prefix, Span] = {}
    blocks: dict[Prefix, Block] = {}
    identities: dict[str, IdentityRows] = {}
    rows: dict[str, RowHead] = {}
    entries: dict[str, dict[Prefix, str]] = {}
    profiles: dict[str, Profile] = {}
    retired: dict[Prefix, Retired] = {}
    uses: dict[str, tuple[Allocation, ...]] = {}
    draining: bool = False
    audit: int = 0
    cut: tuple[str, ...] = ()
    announced: tuple[Prefix, ...] = ()
    host_rows: RowIds = RowIds("", "")
    flows: int = 0
    via: dict[Prefix, tuple[Address, ...]] = {}
    discards: tuple[Prefix, ...] = ()
    daemon: DaemonPlan = DaemonPlan()


class ViewChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a host's view stream: what to put over, and what to take from, the view before it.

    A `snapshot` replaces everything. In `put`, what is no mapping is that of the new view.
    """

    put: View
    snapshot: bool = False
    delete_networks: tuple[str, ...] = ()
    delete_spans: tuple[Prefix, ...] = ()
    delete_blocks: tuple[Prefix, ...] = ()
    delete_identities: tuple[str, ...] = ()
    delete_rows: tuple[str, ...] = ()
    delete_entries: dict[str, tuple[Prefix, ...]] = {}
    delete_profiles: tuple[str, ...] = ()
    delete_retired: tuple[Prefix, ...] = ()
    delete_uses: tuple[str, ...] = ()
    delete_via: tuple[Prefix, ...] = ()


class RouterView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a router needs: what its daemon is to do, what its agent sets itself (`via` and `discards`), who is
    `around` it, and all routes that it should hold inside the `networks`. `audit` is the number of the last check that
    was asked for.
    """

    incarnation: str
    revision: int
    speaker: Speaker | None = None
    via: dict[Prefix, tuple[Address, ...]] = {}
    discards: tuple[Prefix, ...] = ()
    around: tuple[Around, ...] = ()
    routes: tuple[DeviceRoute, ...] = ()
    networks: tuple[Prefix, ...] = ()
    audit: int = 0


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent reports in: the random id of its state, and the host's addresses and labels as it sees them.

    `machine` is a digest that tells the machine from others, `logged` the largest number that its log ever had,
    `failsafe` what no policy about the host can close; None when the agent does not say. A host that the control plane
    does not know joins by its labels; NotFound or Invalid when no group takes it.
    """

    host: str
    instance: str
    addresses: tuple[Address, ...] = ()
    labels: dict[str, str] = {}
    version: str = ""
    machine: str = ""
    logged: int | None = None
    failsafe: Failsafe | None = None


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to Hello: the host's epoch, which every later message of the agent carries.

    A view that is older than `revision` is out of date. With `unsettled` the store was restored from a backup, and the
    agent says what it holds (Inventory) before it gets a view.
    """

    epoch: int
    incarnation: str
    revision: int
    unsettled: bool = False


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What a host really holds, told to a store that knows another history, in one or several parts.

    The `first` has all spans and blocks, the identities of the blocks, and the ids of all endpoints; every one has some
    of the endpoints. An agent without a `memory` says so, and keeps what the store knows of it. `since` is the revision
    of the Welcome before it: an inventory that arrives after the host did something else is out of date.
    """

    host: str
    epoch: int
    since: int = 0
    spans: tuple[Span, ...] = ()
    blocks: tuple[Block, ...] = ()
    identities: tuple[Identity, ...] = ()
    ids: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    first: bool = True
    last: bool = True
    memory: bool = True


class InventoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the host may not keep, each with a sentence: the agent stops what uses it when its view comes without it."""

    revision: int
    refused: tuple[str, ...] = ()


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """An agent asks for room: a block for this identity in each of `networks` (empty: the networks its tenant may use).

    `full` are blocks that have no address left for it, so another one is needed beside them. `present` is how many
    endpoints of the identity's owner are on the host.
    """

    host: str
    epoch: int
    identity: Identity
    networks: tuple[str, ...] = ()
    full: tuple[Prefix, ...] = ()
    present: int = 0


class AddressUse(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of a host begins to use fixed addresses: those of a name, or, where `addresses` are given, exactly
    these, under a new name. `epoch` is that of the host's agent.
    """

    name: str
    host: str
    epoch: int
    endpoint: str
    identity: Identity
    addresses: tuple[Address, ...] = ()


class ClaimAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The blocks that now serve the identity; the host's view has them, and the identity's rows, from `revision` on."""

    revision: int
    blocks: tuple[Prefix, ...]


class BlockTaken(msgspec.Struct, frozen=True, kw_only=True):
    """An agent gave an ownerless block of its stock to an owner while the control plane was away."""

    cidr: Prefix
    owner: Owner
    identity: str
    sequence: int


class BlockReturned(msgspec.Struct, frozen=True, kw_only=True):
    """An agent gives a block back: nobody has an address of it, none of them rests, and it allocates there no more."""

    cidr: Prefix
    sequence: int


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint is gone; sequences tell which use of its addresses is meant."""

    endpoint: str
    sequences: dict[Address, int]


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent did since its last accepted publication: blocks taken, endpoints started, endpoints gone, blocks
    given back.

    `number` grows by one with each publication of an instance; repeating one is harmless.
    """

    host: str
    epoch: int
    number: int
    taken: tuple[BlockTaken, ...] = ()
    started: tuple[Endpoint, ...] = ()
    released: tuple[Released, ...] = ()
    returned: tuple[BlockReturned, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """An agent renews its lease, and acknowledges the view that its kernel and its disk have: `applied` is that view's
    revision, 0 for none. `lease` is the length of the lease that it has, in seconds, 0 before the first one.
    """

    host: str
    epoch: int
    incarnation: str
    applied: int
    lease: int = 0


class ToldFlows(msgspec.Struct, frozen=True, kw_only=True):
    """An agent tells of packets that its kernel told of, because the view says that somebody wants it."""

    epoch: int
    flows: tuple[Flow, ...] = ()


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How long the lease now lasts, in seconds: an agent that cannot renew it for so long fences itself."""

    lease: int
