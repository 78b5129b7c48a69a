"""Live connections, judged again when policy changes: what it forbids now is cut for good.

Owns when they are looked at. A connection that is forgotten only would be picked up in its middle, perhaps by a packet
of the other direction; so it is marked, and the table drops what is marked. Invariant: after `look` no connection of
this host's endpoints is alive that the view forbids, nor marked that the view accepts.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

from romana.core.condemn import Judgement, rows_in_use
from romana.model.address import Address
from romana.model.endpoint import Endpoint
from romana.model.view import View
from romana.ports import Connections

log = structlog.get_logger()


class Condemnation:
    """Keeps a host's live connections within what its view accepts."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._judged: dict[str, object] = {}

    def look(self, view: View, endpoints: Collection[Endpoint]) -> None:
        """Judge the connections of endpoints whose rows say something else than at the last look."""
        rows = rows_in_use(view, endpoints)
        changed = [one for one in endpoints if one.id not in self._judged or self._judged[one.id] != rows[one.id]]
        if changed:
            self._judge(Judgement(view, endpoints), {address for one in changed for address in one.addresses})
        self._judged = rows

    def _judge(self, judgement: Judgement, addresses: Collection[Address]) -> None:
        found = self._connections.read(addresses)
        forbidden = [
            one
            for one in found
            if not one.condemned and not judgement.accepts(one.source, one.destination, one.protocol, one.port)
        ]
        accepted = [
            one
            for one in found
            if one.condemned and judgement.accepts(one.source, one.destination, one.protocol, one.port)
        ]
        if forbidden:
            log.info("live connections are forbidden now", count=self._connections.condemn(forbidden))
        if accepted:
            self._connections.pardon(accepted)
