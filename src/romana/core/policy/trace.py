"""Why a connection is accepted or not, by the compiled program, explained by the policies behind it.

The verdict is the program's alone; the explanation names the tier, policies and rules that gave it. Owns the sentences
of `romana trace`. Knows no store.
"""

from __future__ import annotations

import msgspec

from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.policy import Direction, Traffic
from romana.model.program import Program


class AllowingRule(msgspec.Struct, frozen=True):
    """A rule (counted from 0 within its policy and direction) that accepts some of the traffic."""

    policy: str
    rule: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What one end of the connection decides: egress at the source, ingress at the destination.

    `endpoint` is the id of the endpoint there, empty when there is none; then only `verdict` and `sentence` mean
    something. `tier` is `policies` or `isolation`; `policies` are those that govern the endpoint in this direction;
    `rules` those of their rules that accept some of the traffic. `matched` is the row's entry that decided.
    """

    direction: Direction
    address: Address
    verdict: bool
    sentence: str
    endpoint: str = ""
    name: str = ""
    owner: str = ""
    class_id: str = ""
    tier: str = ""
    policies: tuple[str, ...] = ()
    rules: tuple[AllowingRule, ...] = ()
    row: str = ""
    matched: Prefix | None = None
    profile: str = ""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A connection's verdict (accepted only when both ends accept all of the traffic) and both ends' reasons."""

    source: Address
    destination: Address
    traffic: Traffic
    verdict: bool
    egress: End
    ingress: End

    def lines(self) -> list[str]:
        """The trace for a person, one fact a line."""
        raise NotImplementedError


def trace(
    world: PolicyWorld, program: Program, source: Endpoint | Address, destination: Endpoint | Address, traffic: Traffic
) -> Trace:
    """Explain a connection. An address that an endpoint has stands for it; Invalid when the ends share no family."""
    raise NotImplementedError
