"""What policy compiles into: profiles, rows, classes.

A profile is a verdict by protocol and port. A row gives, for the classes about which the same policies decide in a
direction, the profile of every peer address by most specific prefix. A class is a set of endpoints that no policy tells
apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from romana.model.address import Prefix
from romana.model.policy import Direction

Intervals = tuple[tuple[int, int], ...]
"""Disjoint inclusive ranges in ascending order, never adjacent, within 0..65535."""


class Profile(msgspec.Struct, frozen=True):
    """The accepted traffic: `default` for protocols that are not listed, intervals of ports (or ICMP type * 256 + code)
    for those that are. In canonical form no listed protocol equals the default; sorted by protocol.
    """

    default: bool = False
    protocols: tuple[tuple[int, Intervals], ...] = ()

    @property
    def id(self) -> str:
        """`accept`, `drop`, or 12 hexadecimal digits of SHA-256 over the canonical form."""
        if not self.protocols:
            return "accept" if self.default else "drop"
        return hashlib.sha256(repr((self.default, self.protocols)).encode()).hexdigest()[:12]


ACCEPT = Profile(default=True)
DROP = Profile(default=False)


class Staged(msgspec.Struct, frozen=True):
    """What is accepted, and what would be if staged policies decided, too."""

    enforced: Profile
    planned: Profile

    @property
    def id(self) -> str:
        """Both ids, with a tilde between them."""
        return f"{self.enforced.id}~{self.planned.id}"


def enforced_id(verdict: str) -> str:
    """The id of the profile that is in force, of an entry's verdict."""
    return verdict.partition("~")[0]


def profile_ids(verdicts: Iterable[str]) -> set[str]:
    """The ids of all profiles that entries' verdicts name."""
    return {id_ for verdict in verdicts for id_ in verdict.split("~")}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What some classes accept (ingress) or may send (egress), by the other end's address.

    `entries` maps prefixes to verdicts: the id of a profile, or of one that is staged (`Staged`); the most specific one
    decides; both families' whole spaces are always present, so a row always answers. Where an entry is more specific
    than a block of the installation but shorter than an address, no entry has exactly that block's prefix (so a lookup
    by address, block, range in this order is the most specific match). `own` says in the same way what is accepted from
    (or may be sent to) the host that an endpoint is on, by the host's address. `policies` are the ids of the policies
    that decide, `staged` those of staged ones; `words` is for people. The id is `in_` or `out_`, and a hash of what
    decides: it stays when the policies' content changes.
    """

    id: str
    direction: Direction
    entries: dict[Prefix, str]
    own: dict[Prefix, str] = {}
    policies: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    words: str = ""


class RowIds(msgspec.Struct, frozen=True):
    """The rows that decide for a class."""

    ingress: str
    egress: str

    def of(self, direction: Direction) -> str:
        """The row of a direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A whole compilation: classes by identity id, the ids of their rows by class, rows and profiles by id.

    `host_rows` has the rows of hosts that policies govern; a direction that none governs is empty.
    """

    classes: dict[str, str]
    row_ids: dict[str, RowIds]
    rows: dict[str, Row]
    profiles: dict[str, Profile]
    host_rows: dict[str, RowIds] = {}

    def row(self, class_id: str, direction: Direction) -> Row | None:
        """The row that decides for a class; None when there is no such class."""
        ids = self.row_ids.get(class_id)
        return None if ids is None else self.rows[ids.of(direction)]

    def profile(self, verdict: str) -> Profile:
        """What is accepted by an entry's verdict."""
        return self.profiles[enforced_id(verdict)]
