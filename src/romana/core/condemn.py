"""Which live connections the rows of a view no longer accept.

Owns the judgement of a connection by the rows of this host's ends of it. Refuses to know the kernel. Invariant: what
the table would accept as a new connection is never condemned, and what it would drop always is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from romana.core.policy.profile import allows
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.program import enforced_id
from romana.model.view import View


class Judgement:
    """Judges connections by one view, for the endpoints of its host."""

    def __init__(self, view: View, endpoints: Iterable[Endpoint]) -> None:
        self._view = view
        self._rows: dict[Address, tuple[str, str]] = {}  # -> its ingress and egress rows
        for endpoint in endpoints:
            known = view.identities.get(endpoint.identity.id)
            rows = (known.ingress, known.egress) if known is not None else ("", "")
            self._rows.update(dict.fromkeys(endpoint.addresses, rows))
        self._found: dict[tuple[str, Address], str] = {}

    def accepts(self, source: Address, destination: Address, protocol: int, port: int) -> bool:
        """Whether both ends, as far as they are on this host, accept it."""
        if source == destination:
            return True
        sender, receiver = self._rows.get(source), self._rows.get(destination)
        return (sender is None or self._allows(sender[1], destination, protocol, port)) and (
            receiver is None or self._allows(receiver[0], source, protocol, port)
        )

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
        entries = self._view.entries.get(row, {})
        return enforced_id(next((entries[prefix] for prefix in peer.supernets() if prefix in entries), ""))


def rows_in_use(view: View, endpoints: Iterable[Endpoint]) -> dict[str, object]:
    """What decides for a host's endpoints, by endpoint: to be compared with what decided before."""
    found: dict[str, object] = {}
    contents: dict[str, object] = {}
    for endpoint in endpoints:
        known = view.identities.get(endpoint.identity.id)
        if known is None:
            found[endpoint.id] = None
            continue
        for row in (known.ingress, known.egress):
            if row not in contents:
                contents[row] = _Content(view.entries.get(row, {}))
        found[endpoint.id] = (contents[known.ingress], contents[known.egress])
    return found


class _Content:
    """A row's entries, compared as a whole; profiles are named by what they accept, so their ids say enough."""

    def __init__(self, entries: Mapping[Prefix, str]) -> None:
        self._entries = entries

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and (self._entries is other._entries or self._entries == other._entries)

    def __hash__(self) -> int:
        return len(self._entries)
