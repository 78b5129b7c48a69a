"""Packets that were told of: denied ones, and those that staged policies would decide about otherwise."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.model.address import Address
from romana.model.policy import Direction


class FlowReason(StrEnum):
    """Why a packet was told of. `egress` and `ingress` are rows of endpoints, `host-` those of hosts; an endpoint that
    sends with an address that is not its own is `spoofed`; `would-` are staged policies, which changed nothing;
    `condemned` is a live connection that a change of policy ended.
    """

    EGRESS = "egress"
    INGRESS = "ingress"
    HOST_INGRESS = "host-ingress"
    HOST_EGRESS = "host-egress"
    SPOOFED = "spoofed"
    WOULD_DENY = "would-deny"
    WOULD_ALLOW = "would-allow"
    CONDEMNED = "condemned"


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """What a packet's headers say. `port` is the destination port, or ICMP type * 256 + code."""

    source: Address
    destination: Address
    protocol: int
    port: int = 0
    source_port: int = 0


class ToldPacket(msgspec.Struct, frozen=True, kw_only=True):
    """A packet that the kernel told of: why, and the links (names) through which it came and was to go."""

    reason: FlowReason
    packet: Packet
    link_in: str = ""
    link_out: str = ""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Packets of one kind that one host told of: `count` of them from `first` to `last`, in seconds since 1970.

    `source_name` and `destination_name` are endpoints or hosts, where known. `direction` is that of the row that
    decided; `row`, `matched` and `accepts` are its id, its entry and its profile in words, and `policies` the row's
    words.
    """

    host: str
    reason: FlowReason
    packet: Packet
    first: float
    last: float
    count: int = 1
    source_name: str = ""
    destination_name: str = ""
    direction: Direction | None = None
    row: str = ""
    matched: str = ""
    accepts: str = ""
    policies: str = ""
