"""The control plane's records: one small record for each thing, under a key that says what it is.

Owns which kinds there are, and the values that only the store knows. Invariant: every record carries the version of its
schema (`codec.kind`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from romana.codec.endpoint_record import EndpointKind
from romana.codec.json import encode
from romana.codec.kind import Kind
from romana.model.address import Prefix
from romana.model.daemon import Peering
from romana.model.ipam import Blackout, Block, Numbers, Reservation, Retired, Span
from romana.model.policy import Policy
from romana.model.report import Audit, Audited
from romana.model.tenancy import Identity, Segment, Tenant
from romana.model.topology import AddressPlan, Host


class StoredPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The carved plan, and the document it came from as JSON text."""

    plan: AddressPlan
    document: str


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The last publication taken over from a host: which epoch, which number."""

    epoch: int
    number: int


class StoredIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """An identity that some block declares."""

    identity: Identity


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """Which hosts there are, with which addresses and labels: only how often that changed.

    A decision about all hosts compares this record, because a host that joins meanwhile has no record to compare.
    """

    changes: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a host acknowledged, written only when something retired waits for it.

    `silent` counts the seconds for which some romanad, while it had the lease of the watch over hosts, saw it not
    renew its own lease; nothing else tells a long silence from a jump of a clock. `lease` is the longest one that its
    agent may have been told, in seconds. `by` names the replica that hears from it where there are several.
    """

    epoch: int
    applied: int
    silent: int = 0
    lease: int = 0
    by: str = ""


class Unsettled(msgspec.Struct, frozen=True, kw_only=True):
    """A host of a restored store that has not said yet what it holds; no claim is granted while there is one."""

    host: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A restored store: fixed addresses may have been given after the backup, and only people know which. While the
    record is there, none is chosen for anybody.
    """


class VpcTable(msgspec.Struct, frozen=True, kw_only=True):
    """The destinations in a VPC's route table that were written there for the plan, by programs that take turns by a
    lease of that name; all others are somebody else's.
    """

    lease: str
    routes: tuple[Prefix, ...]


class FixedAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Which reservation has an address: two that want the same one write the same record, so one of them loses."""

    reservation: str


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Which reservation an endpoint uses: two that it begins to use at once write the same record, as above."""

    reservation: str


PLAN: Kind[StoredPlan] = Kind("plan", StoredPlan)
HOST: Kind[Host] = Kind("host", Host)
TENANT: Kind[Tenant] = Kind("tenant", Tenant)
SEGMENT: Kind[Segment] = Kind("segment", Segment)
IDENTITY: Kind[StoredIdentity] = Kind("identity", StoredIdentity)
SPAN: Kind[Span] = Kind("span", Span)
BLOCK: Kind[Block] = Kind("block", Block)
ENDPOINT = EndpointKind()
POLICY: Kind[Policy] = Kind("policy", Policy)
PUBLISHED: Kind[Published] = Kind("published", Published)
ROSTER: Kind[Roster] = Kind("roster", Roster)
RETIRED: Kind[Retired] = Kind("retired", Retired)
BLACKOUT: Kind[Blackout] = Kind("blackout", Blackout)
NUMBERS: Kind[Numbers] = Kind("numbers", Numbers)
RESERVATION: Kind[Reservation] = Kind("reservation", Reservation)
FIXED: Kind[FixedAddress] = Kind("fixed", FixedAddress)
BOUND: Kind[Bound] = Kind("bound", Bound)
SEEN: Kind[Seen] = Kind("seen", Seen)
UNSETTLED: Kind[Unsettled] = Kind("unsettled", Unsettled)
HELD: Kind[Held] = Kind("held", Held)
AUDIT: Kind[Audit] = Kind("audit", Audit)
AUDITED: Kind[Audited] = Kind("audited", Audited)
VPC_TABLE: Kind[VpcTable] = Kind("vpc", VpcTable)
PEERING: Kind[Peering] = Kind("peering", Peering)

PLAN_KEY = PLAN.key("current")
ROSTER_KEY = ROSTER.key("current")
AUDIT_KEY = AUDIT.key("current")
HELD_KEY = HELD.key("fixed")
KINDS: dict[str, Kind[Any]] = {
    kind.name: kind
    for kind in (
        PLAN,
        HOST,
        TENANT,
        SEGMENT,
        IDENTITY,
        SPAN,
        BLOCK,
        ENDPOINT,
        POLICY,
        PUBLISHED,
        ROSTER,
        RETIRED,
        BLACKOUT,
        NUMBERS,
        RESERVATION,
        FIXED,
        BOUND,
        SEEN,
        UNSETTLED,
        HELD,
        AUDIT,
        AUDITED,
        VPC_TABLE,
        PEERING,
    )
}


def as_json(key: str, text: bytes) -> bytes:
    """A record's stored form as JSON, whatever form its kind is stored in."""
    return text if text[:1] == b"{" else encode({"schema": 1, "value": ENDPOINT.decode(text, key)})
