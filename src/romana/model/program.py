"""What policy compiles into: profiles, rows, classes.

A profile is a verdict by protocol and port. A row gives, for one class and direction, the profile of every peer
address by
most specific prefix. A class is a set of endpoints that no policy tells apart.
"""

from __future__ import annotations

import hashlib

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


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one class accepts (ingress) or may send (egress), by the other end's address.

    `entries` maps prefixes to profile ids; the most specific one decides; both families' whole spaces are always
    present, so a row always answers. Where an entry is more specific than a block of the installation but shorter
    than an
    address, no entry has exactly that block's prefix (so a lookup by address, block, range in this order is the most
    specific match). `policies` are the ids of the policies that govern the class in this direction; `words` is for
    people.
    """

    id: str
    class_id: str
    direction: Direction
    entries: dict[Prefix, str]
    policies: tuple[str, ...] = ()
    words: str = ""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A whole compilation: class by identity id, rows by (class id, direction) through `rows`' own ids, profiles by
    id.
    """

    classes: dict[str, str]
    rows: dict[str, Row]
    profiles: dict[str, Profile]


def row_id(class_id: str, direction: Direction) -> str:
    """The id of the row of a class in a direction: `in_<class>` or `out_<class>`."""
    return f"{'in' if direction is Direction.INGRESS else 'out'}_{class_id}"
