"""What a told packet means: whose it is, and which row decided about it, by the view that the host has.

Owns the explanation. Refuses to know sockets and clocks. Invariant: a packet of which nothing is known keeps its reason
and its addresses; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from romana.core.policy.profile import allows, profile_words
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.flow import Flow, FlowReason, Packet, ToldPacket
from romana.model.policy import Direction
from romana.model.program import enforced_id
from romana.model.view import View

_ROWS = {
    FlowReason.EGRESS: (Direction.EGRESS,),
    FlowReason.INGRESS: (Direction.INGRESS,),
    FlowReason.WOULD_DENY: (Direction.EGRESS, Direction.INGRESS),
    FlowReason.WOULD_ALLOW: (Direction.EGRESS, Direction.INGRESS),
    FlowReason.CONDEMNED: (Direction.EGRESS, Direction.INGRESS),
}
_HOST_ROWS = {FlowReason.HOST_EGRESS: Direction.EGRESS, FlowReason.HOST_INGRESS: Direction.INGRESS}


class Explainer:
    """Explains the packets of one host by one view."""

    def __init__(self, host: str, view: View, endpoints: Iterable[Endpoint], own: Collection[Address]) -> None:
        """`own` are the host's own addresses."""
        self._host = host
        self._view = view
        self._own = own
        self._endpoints: dict[Address, Endpoint] = {}
        self._links: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            self._links[endpoint.link] = endpoint
            self._endpoints.update(dict.fromkeys(endpoint.addresses, endpoint))

    def flow(self, told: ToldPacket, now: float) -> Flow:
        """The packet with everything that is known of it."""
        packet = told.packet
        found = Flow(
            host=self._host,
            reason=told.reason,
            packet=packet,
            first=now,
            last=now,
            source_name=self._name(packet.source),
            destination_name=self._name(packet.destination),
        )
        if told.reason is FlowReason.SPOOFED:
            sender = self._links.get(told.link_in)
            return msgspec.structs.replace(found, source_name="" if sender is None else f"{sender.name} as another")
        for direction, row, peer in self._candidates(told.reason, packet):
            explained = self._by_row(told.reason, packet, row, peer)
            if explained:
                return msgspec.structs.replace(found, direction=direction, row=row, **explained)
        return found

    def _name(self, address: Address) -> str:
        endpoint = self._endpoints.get(address)
        if endpoint is not None:
            return endpoint.name
        return self._host if address in self._own else ""

    def _candidates(self, reason: FlowReason, packet: Packet) -> Iterator[tuple[Direction, str, Address]]:
        """The rows that may have decided, with the other end."""
        if reason in _HOST_ROWS:
            direction = _HOST_ROWS[reason]
            yield direction, self._view.host_rows.of(direction), _other_end(packet, direction)
        for direction in _ROWS.get(reason, ()):
            endpoint = self._endpoints.get(packet.source if direction is Direction.EGRESS else packet.destination)
            known = self._view.identities.get(endpoint.identity.id) if endpoint is not None else None
            if known is not None:
                row = known.egress if direction is Direction.EGRESS else known.ingress
                yield direction, row, _other_end(packet, direction)

    def _by_row(self, reason: FlowReason, packet: Packet, row: str, peer: Address) -> Mapping[str, str]:
        head = self._view.rows.get(row)
        if head is None:
            return {}
        entries = self._view.entries.get(row, {})
        matched: Prefix | None = None
        verdict = head.own
        if peer not in self._own:
            matched = next((prefix for prefix in peer.supernets() if prefix in entries), None)
            verdict = entries[matched] if matched is not None else ""
        enforced, _, planned = verdict.partition("~")
        staged = reason in (FlowReason.WOULD_DENY, FlowReason.WOULD_ALLOW)
        if staged and self._allows(planned or enforced, packet) != (reason is FlowReason.WOULD_ALLOW):
            return {}
        if self._allows(enforced, packet) != (reason is FlowReason.WOULD_DENY):
            return {}  # not the row that decided
        profile = self._view.profiles.get(enforced_id(verdict))
        return {
            "matched": "own host" if matched is None else str(matched),
            "accepts": profile_words(profile) if profile is not None else "drop",
            "policies": head.words,
        }

    def _allows(self, profile_id: str, packet: Packet) -> bool:
        if profile_id in ("accept", "drop", ""):
            return profile_id == "accept"
        profile = self._view.profiles.get(profile_id)
        return profile is not None and allows(profile, packet.protocol, packet.port)


def merged(before: Flow | None, new: Flow) -> Flow:
    """The same flow, told of once more."""
    if before is None:
        return new
    return msgspec.structs.replace(new, first=before.first, count=before.count + new.count)


def key_of(flow: Flow) -> tuple[object, ...]:
    """What makes two flows the same; source ports do not tell them apart."""
    packet = flow.packet
    return flow.host, flow.reason, packet.source, packet.destination, packet.protocol, packet.port


def _other_end(packet: Packet, direction: Direction) -> Address:
    return packet.destination if direction is Direction.EGRESS else packet.source
