"""How full networks, groups and hosts are."""

from __future__ import annotations

import msgspec

from romana.model.address import Prefix


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """A network, a group of its topology, or a host in it: what its `addresses` are, and what it consists of (`parts`).

    Each address is exactly one of: `used` by an endpoint, `resting` as its agent last reported, `reserved` by the plan,
    `blacked_out`, `static` (for fixed addresses, and unused), `idle` in a block with an owner, `stock` in a block
    without one, `retired`, or `spare`: in no block. `blocks` counts those with an owner and `mixed` ones apart.
    `name` is the network's, the group's path, or the host's (empty for the control plane); a host has no `cidr` of its
    own, since it holds `spans`, and the control plane has blocks in static ranges.
    """

    kind: str
    name: str
    addresses: int
    cidr: Prefix | None = None
    used: int = 0
    resting: int = 0
    reserved: int = 0
    blacked_out: int = 0
    static: int = 0
    idle: int = 0
    stock: int = 0
    retired: int = 0
    spare: int = 0
    spans: int = 0
    blocks: int = 0
    mixed_blocks: int = 0
    stock_blocks: int = 0
    retired_cidrs: int = 0
    parts: tuple[Usage, ...] = ()
