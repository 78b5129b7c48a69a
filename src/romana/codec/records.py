"""The control plane's records: one small record for each thing, under a key that says what it is.

Owns keys and the form of values. Invariant: every record carries the version of its schema, and one of a newer schema
is
refused rather than misread.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from romana.codec.json import encode, from_text
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.ipam import Blackout, Block, Numbers, Reservation, Retired, Span
from romana.model.policy import Policy
from romana.model.report import Audit, Audited
from romana.model.tenancy import Identity, Segment, Tenant
from romana.model.topology import AddressPlan, Host

SCHEMA = 1
T = TypeVar("T")


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
    renew its own lease; nothing else tells a long silence from a jump of a clock.
    """

    epoch: int
    applied: int
    silent: int = 0


class Unsettled(msgspec.Struct, frozen=True, kw_only=True):
    """A host of a restored store that has not said yet what it holds; no claim is granted while there is one."""

    host: str


class Kind(Generic[T]):
    """One kind of record: keys are `<name>/<id>`."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self._decoder = msgspec.json.Decoder(_envelope(value), dec_hook=from_text)

    def key(self, *parts: object) -> str:
        """The key of one record of this kind."""
        return "/".join((self.name, *map(str, parts)))

    def encode(self, value: T) -> bytes:
        """The stored form."""
        return encode({"schema": SCHEMA, "value": value})

    def decode(self, text: bytes) -> T:
        """The value; Unavailable when the record is of a newer schema."""
        stored = self._decoder.decode(text)
        if stored.schema > SCHEMA:
            raise Unavailable(
                f"a {self.name} record has schema {stored.schema}, this program knows {SCHEMA}: upgrade it"
            )
        value: T = stored.value
        return value


def _envelope(value: Any) -> Any:
    return msgspec.defstruct("Envelope", [("schema", int), ("value", value)], frozen=True)


PLAN: Kind[StoredPlan] = Kind("plan", StoredPlan)
HOST: Kind[Host] = Kind("host", Host)
TENANT: Kind[Tenant] = Kind("tenant", Tenant)
SEGMENT: Kind[Segment] = Kind("segment", Segment)
IDENTITY: Kind[StoredIdentity] = Kind("identity", StoredIdentity)
SPAN: Kind[Span] = Kind("span", Span)
BLOCK: Kind[Block] = Kind("block", Block)
ENDPOINT: Kind[Endpoint] = Kind("endpoint", Endpoint)
POLICY: Kind[Policy] = Kind("policy", Policy)
PUBLISHED: Kind[Published] = Kind("published", Published)
ROSTER: Kind[Roster] = Kind("roster", Roster)
RETIRED: Kind[Retired] = Kind("retired", Retired)
BLACKOUT: Kind[Blackout] = Kind("blackout", Blackout)
NUMBERS: Kind[Numbers] = Kind("numbers", Numbers)
RESERVATION: Kind[Reservation] = Kind("reservation", Reservation)
SEEN: Kind[Seen] = Kind("seen", Seen)
UNSETTLED: Kind[Unsettled] = Kind("unsettled", Unsettled)
AUDIT: Kind[Audit] = Kind("audit", Audit)
AUDITED: Kind[Audited] = Kind("audited", Audited)

PLAN_KEY = PLAN.key("current")
ROSTER_KEY = ROSTER.key("current")
AUDIT_KEY = AUDIT.key("current")
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
        SEEN,
        UNSETTLED,
        AUDIT,
        AUDITED,
    )
}
