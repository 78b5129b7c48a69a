"""Which live connections the rows of a view no longer accept.

Owns the judgement of a connection by the rows of this host's ends of it. Refuses to know the kernel. Invariant: what
the table would accept as a new connection is never condemned, and what it would drop always is; but for what no policy
can close, whichever of its directions is tracked: a connection that is older than tracking is picked up in its middle,
perhaps by a reply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from romana.core.policy.profile import allows
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.policy import NO_FAILSAFE, Failsafe
from romana.model.program import enforced_id
from romana.model.view import View

ALWAYS = frozenset({2, 89})
"""Protocols of the host's own traffic that no policy decides about: IGMP, OSPF."""
HOST = ""
"""Stands for the host itself among the ids of endpoints."""


class Judgement:
    """Judges connections by one view, for the endpoints of its host and for the host itself."""

    def __init__(
        self,
        view: View,
        endpoints: Iterable[Endpoint],
        own: Collection[Address] = (),
        failsafe: Failsafe = NO_FAILSAFE,
    ) -> None:
        """`own` are the host's own addresses."""
        self._view = view
        self._own = frozenset(own)
        self._failsafe = failsafe
        self._rows: dict[Address, tuple[str, str]] = {}  # -> its ingress and egress rows
        for endpoint in endpoints:
            known = view.identities.get(endpoint.identity.id)
            rows = (known.ingress, known.egress) if known is not None else ("", "")
            self._rows.update(dict.fromkeys(endpoint.addresses, rows))
        self._found: dict[tuple[str, Address], str] = {}

    def accepts(
        self,
        source: Address,
        destination: Address,
        protocol: int,
        port: int,
        asked: tuple[Address, int] | None = None,
        source_port: int = 0,
    ) -> bool:
        """Whether both ends, as far as they are on this host, accept it; `asked` is the destination with its port
        before a service's was put in, if another one.
        """
        if source == destination:
            return True
        sender, receiver = self._rows.get(source), self._rows.get(destination)
        return (
            (sender is None or self._allows(sender[1], destination, protocol, port))
            and (receiver is None or self._allows(receiver[0], source, protocol, port))
            and (
                self._is_failsafe(source, *(asked or (destination, port)), protocol, source_port)
                or (
                    self._host_accepts(source, *(asked or (destination, port)), protocol)
                    and self._host_sends(source, destination, protocol, port)
                )
            )
        )

    def _is_failsafe(self, source: Address, destination: Address, port: int, protocol: int, source_port: int) -> bool:
        """Whether no policy about the host can close it, in the direction in which it began or in the other one."""
        safe = self._failsafe
        if source in self._own:
            return (protocol, port) in safe.egress or (protocol, source_port) in safe.ingress
        return destination in self._own and ((protocol, port) in safe.ingress or (protocol, source_port) in safe.egress)

    def _host_accepts(self, source: Address, destination: Address, port: int, protocol: int) -> bool:
        row = self._view.host_rows.ingress
        if not row or destination not in self._own or source in self._own or protocol in ALWAYS:
            return True
        return self._allows(row, source, protocol, port)

    def _host_sends(self, source: Address, destination: Address, protocol: int, port: int) -> bool:
        row = self._view.host_rows.egress
        if not row or source not in self._own or destination in self._own or protocol in ALWAYS:
            return True
        return self._allows(row, destination, protocol, port)

    def _allows(self, row: str, peer: Address, protocol: int, port: int) -> bool:
        key = (row, peer)
        profile_id = self._found.get(key)
        if profile_id is None:
            profile_id = self._found[key] = self._profile_of(row, peer)
        if profile_id in ("accept", "drop", ""):
            return profile_id == "accept"
        profile = self._view.profiles.get(profile_id)
        return profile is not None and allows(profile, protocol, port)

    def _profile_of(self, row: str, peer: Address) -> str:
        if peer in self._own:
            return enforced_id(self._view.rows[row].own) if row in self._view.rows else ""
        entries = self._view.entries.get(row, {})
        return enforced_id(next((entries[prefix] for prefix in peer.supernets() if prefix in entries), ""))


def rows_in_use(view: View, endpoints: Iterable[Endpoint]) -> dict[str, object]:
    """What decides for a host's endpoints, by endpoint, and for the host itself (``): to be compared with what decided
    before.
    """
    found: dict[str, object] = {}
    contents: dict[str, object] = {}
    found[HOST] = tuple(
        _Content(view.entries.get(row, {}), "") for row in (view.host_rows.ingress, view.host_rows.egress)
    )
    for endpoint in endpoints:
        known = view.identities.get(endpoint.identity.id)
        if known is None:
            found[endpoint.id] = None
            continue
        for row in (known.ingress, known.egress):
            if row not in contents:
                head = view.rows.get(row)
                contents[row] = _Content(view.entries.get(row, {}), head.own if head is not None else "")
        found[endpoint.id] = (contents[known.ingress], contents[known.egress])
    return found


class _Content:
    """A row's verdicts, compared as a whole; profiles are named by what they accept, so their ids say enough."""

    def __init__(self, entries: Mapping[Prefix, str], own: str) -> None:
        self._entries = entries
        self._own = own

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Content)
            and self._own == other._own
            and (self._entries is other._entries or self._entries == other._entries)
        )

    def __hash__(self) -> int:
        return len(self._entries)
