"""Which endpoints policy has to know one by one, because their block alone does not say which class they are in.

Owns the rooms in which that may be so. Refuses to know policies: whether several identities are one class is asked with
the classes at hand. Invariant: a program compiled from these endpoints alone is the one compiled from all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Block
from romana.services.control.endpoint_table import EndpointTable, Room, block_of, room_of


class Lodgers:
    """The special rooms: those of several identities, and those that hold an endpoint which their block does not name.

    A room is looked at when it is asked for, not when something happens in it.
    """

    def __init__(self, table: EndpointTable, blocks: Mapping[Prefix, Block], identities: Collection[str]) -> None:
        """`identities` are the ids of those that have a record of their own."""
        self._table = table
        self._blocks = blocks
        self._identities = identities
        self._special: dict[Room, bool] = {}  # -> whether an endpoint in it is not named by its block
        self._exact: frozenset[Room] = frozenset()  # as of the last `compiled`, like the next three
        self._classes: Mapping[str, str] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._loose = -1
        self._stirred = False

    def block_changed(self, cidr: Prefix) -> None:
        """A block came, went or changed."""
        self._table.touched.add(room_of(cidr))

    def identity_went(self) -> None:
        """An identity has no record any more: any room may have it."""
        self._table.touch_all()

    def stirred(self) -> bool:
        """Whether something happened, since the last `compiled`, that may change what `exact` answers."""
        self._refresh()
        return self._stirred or self._table.loose_changes != self._loose

    def exact(self, classes: Mapping[str, str]) -> dict[str, Endpoint]:
        """The endpoints that a program needs in which identities are in these classes (both by id)."""
        rooms = self._exact_rooms(classes)
        if rooms == self._exact and not self._stirred and self._table.loose_changes == self._loose:
            return self._endpoints
        ids = {id_ for room in rooms for _, id_ in self._table.in_room(block_of(room))}
        return {id_: self._table[id_] for id_ in sorted(ids | self._table.loose())}

    def compiled(self, classes: Mapping[str, str], endpoints: dict[str, Endpoint]) -> None:
        """A program was compiled from what `exact` answers now, which are these."""
        self._endpoints = endpoints
        self._exact = self._exact_rooms(classes)
        self._classes = classes
        self._loose = self._table.loose_changes
        self._stirred = False

    def _refresh(self) -> None:
        for room in self._table.touched:
            known = self._special.get(room)
            now = self._look(room)
            if now is None:
                self._special.pop(room, None)
            else:
                self._special[room] = now
            new = known is None and now is False and not self._is_plain(room, self._classes)
            self._stirred = self._stirred or room in self._exact or new or bool(known) or bool(now)
        self._table.touched.clear()

    def _exact_rooms(self, classes: Mapping[str, str]) -> frozenset[Room]:
        self._refresh()
        special = (room for room, strange in self._special.items() if strange or not self._is_plain(room, classes))
        loose = (self._table[id_].allocations for id_ in self._table.loose())
        return frozenset(special).union(room_of(one.block) for allocations in loose for one in allocations)

    def _look(self, room: Room) -> bool | None:
        """None for a room that is not special."""
        here = self._table.identities_in(room)
        if not here:
            return None
        block = self._blocks.get(block_of(room))
        if block is None or block.owner is None or not here.issubset(block.identities):
            return True
        if not all(identity in self._identities for identity in here):
            return True
        return False if len(block.identities) > 1 else None

    def _is_plain(self, room: Room, classes: Mapping[str, str]) -> bool:
        """Whether all that may live in a room is of one class."""
        block = self._blocks.get(block_of(room))
        found = {classes.get(identity, "") for identity in block.identities} if block is not None else {""}
        return len(found) == 1 and "" not in found
