"""Statements about who reaches whom, to be proved or refuted by a counterexample."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.model.address import Address
from romana.model.policy import CidrPeer, Selector, Traffic


class Claimed(StrEnum):
    """What a statement claims."""

    NEVER = "never reaches"
    ALWAYS = "always reaches"
    ONLY = "accepts only"


class Somebody(msgspec.Struct, frozen=True, kw_only=True):
    """Endpoints by selector, addresses by CIDR, or everything outside of all networks; `words` as written."""

    words: str
    selector: Selector | None = None
    cidr: CidrPeer | None = None
    outside: bool = False


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One claim: never and always are about this traffic from `sources` to `destination`, only says that `destination`
    accepts nothing but this traffic from `sources`, and nothing at all from anybody else.
    """

    text: str
    claim: Claimed
    destination: Somebody
    sources: tuple[Somebody, ...]
    traffic: tuple[Traffic, ...] = (Traffic(),)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a statement holds; if not, a connection that shows it."""

    text: str
    holds: bool
    sentence: str
    source: Address | None = None
    destination: Address | None = None
    traffic: Traffic | None = None
