"""All endpoints in memory, as short as they are stored.

Owns packed endpoints by id, and who has which address of which block. Refuses to know blocks as records: a room here is
just the CIDR that an allocation names. Invariants: what is read is equal to what was put; an address that two endpoints
have belongs to the one that was put last; an endpoint costs a small fixed number of bytes beside its own strings, and
an endpoint that is read is decoded anew each time.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from romana.codec.endpoint_record import AS_JSON, endpoint_of, identity_of, places, spots
from romana.codec.endpoint_record import block as block_numbered
from romana.codec.endpoint_record import room as room_number
from romana.codec.records import ENDPOINT
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.tenancy import Identity
from romana.ports import Record
from romana.services.control.shared import Shared

DENSE = 64
"""Offsets below this one are places in a list; a block's others are in a dict."""
SMALL = 16
"""A block of so many addresses at most has a place for each of them from the first one on."""
_HEAD = struct.Struct("<QII")  # revision, number of the host, number of the identity
_CONTAINER = 64
PREFIX = ENDPOINT.key("")
Room = int
"""A block's CIDR as one number (`room_of`)."""


def room_of(block: Prefix) -> Room:
    """The number of a block."""
    return room_number(block.family, block.value >> block.family.bits - block.length, block.length)


def block_of(room: Room) -> Prefix:
    """The reverse."""
    return Prefix(*block_numbered(room))


class _Known(NamedTuple):
    """An identity with its id, which costs a hash."""

    identity: Identity
    id: str

    @classmethod
    def read(cls, text: bytes) -> _Known:
        """From its bytes in a record."""
        identity = identity_of(text)
        return cls(identity, identity.id)


class EndpointTable(Mapping[str, Endpoint]):
    """Endpoints by id, decoded as they are asked for."""

    def __init__(self) -> None:
        self._packed: dict[bytes, bytes] = {}
        self._hosts: Shared[str, str] = Shared(str)
        self._identities: Shared[bytes, _Known] = Shared(_Known.read)
        self._near: dict[Room, list[bytes | None]] = {}
        self._far: dict[Room, dict[int, bytes]] = {}
        self._lengths: dict[tuple[Family, int], int] = {}  # -> number of rooms
        # by number -> where they are; some may be there no longer
        self._rooms_of_host: defaultdict[int, set[Room]] = defaultdict(set)
        self._rooms_of_identity: defaultdict[int, set[Room]] = defaultdict(set)
        self._loose: set[bytes] = set()  # what `loose` answers
        self.loose_changes = 0
        """How often an endpoint that is loose came or went."""
        self.touched: set[Room] = set()
        """Rooms in which an endpoint came or went; whoever acts on it clears it."""

    def put(self, id_: str, text: bytes, revision: int) -> None:
        """The endpoint's record as it now is; Unavailable when it cannot be read."""
        self.put_all([Record(PREFIX + id_, text, revision)])

    def put_all(self, records: Iterable[Record], *, quietly: bool = False) -> None:
        """The same for many. `quietly` leaves out `touched`; say `touch_all` then."""
        unpack, pack, packed, near, skipped = ENDPOINT.unpack, _HEAD.pack, self._packed, self._near, len(PREFIX)
        rooms_of_host, rooms_of_identity = self._rooms_of_host, self._rooms_of_identity
        take_host, take_identity = self._hosts.take, self._identities.take
        for one in records:
            id_ = one.key[skipped:]
            key, record = _key(id_), unpack(one.value)
            body = record.body
            try:
                found = spots(body)
                identity = take_identity(record.identity)
            except (msgspec.DecodeError, ValueError, LookupError, struct.error) as error:
                raise Unavailable(f"the record of endpoint {id_} cannot be read: {error}") from error
            if key in packed:
                self._drop(key)
            host = take_host(record.host)
            packed[key] = pack(one.revision, host, identity) + body
            if not quietly:
                self.touched.update(room for room, _ in found)
            for room, offset in found:
                there = near.get(room)
                if there is not None and offset < len(there) and there[offset] is None:
                    there[offset] = key
                else:
                    self._settle(room, offset, key)
            if found:  # it is found again through its last room, which is the widest
                rooms_of_host[host].add(room)
                rooms_of_identity[identity].add(room)
            if not found or body[0] == AS_JSON:
                self._loosen(key)

    def touch_all(self) -> None:
        """Something happened in every room."""
        self.touched.update(self.rooms())

    def remove(self, id_: str) -> None:
        """The endpoint has no record any more; none before is fine."""
        key = _key(id_)
        if key in self._packed:
            self._drop(key)

    def revision(self, id_: str) -> int:
        """The revision that wrote the endpoint's record, 0 for none."""
        value = self._packed.get(_key(id_))
        return _revision(value) if value is not None else 0

    def holder(self, address: Address) -> str | None:
        """The id of the endpoint that has an address."""
        for family, length in self._lengths:
            if family is address.family:
                block = address.supernet(length)
                key = self._at(room_of(block), address.value - block.value)
                if key is not None:
                    return _id(key)
        return None

    def count(self, block: Prefix) -> int:
        """How many addresses of a block have an endpoint."""
        return sum(1 for _ in self._lodgers(room_of(block)))

    def in_room(self, block: Prefix) -> Iterator[tuple[Address, str]]:
        """The addresses of a block that have an endpoint, in order, and its id."""
        room = room_of(block)
        for offset, key in self._lodgers(room):
            yield block.address(offset), _id(key)

    def identities_in(self, room: Room) -> set[str]:
        """The ids of the identities of the endpoints in a room."""
        numbers = {_HEAD.unpack_from(self._packed[key])[2] for _, key in self._lodgers(room)}
        return {self._identities.value(number).id for number in numbers}

    def hosts_in(self, block: Prefix) -> set[str]:
        """The hosts of the endpoints in a block."""
        numbers = {_HEAD.unpack_from(self._packed[key])[1] for _, key in self._lodgers(room_of(block))}
        return {self._hosts.value(number) for number in numbers}

    def uses_on(self, host: str) -> dict[str, dict[Address, int]]:
        """A host's endpoints by id, each with the sequences of its addresses."""
        number = self._hosts.number(host)
        there = self._rooms_of_host.get(number, ()) if number is not None else ()
        found = {}
        for key in self._candidates(there):
            value = self._packed[key]
            if _HEAD.unpack_from(value)[1] == number:
                held = places(value[_HEAD.size :])
                found[_id(key)] = {Address(family, address): sequence for family, address, _, sequence in held}
        return found

    def rooms(self) -> Iterator[Room]:
        """All rooms in which somebody is."""
        yield from self._near
        yield from (room for room in self._far if room not in self._near)

    def loose(self) -> set[str]:
        """The ids of the endpoints that no room tells of rightly: they have no address, one that lies outside its
        block, or one that another endpoint has too.
        """
        return set(map(_id, self._loose))

    def on_host(self, host: str) -> set[str]:
        """The ids of a host's endpoints."""
        number = self._hosts.number(host)
        there = self._rooms_of_host.get(number, ()) if number is not None else ()
        return {_id(key) for key in self._candidates(there) if _HEAD.unpack_from(self._packed[key])[1] == number}

    def of_owner(self, tenant: str | None, segment: str | None = None) -> set[str]:
        """The ids of the endpoints of a tenant, of one of its segments, or of all segments of that name."""
        numbers = {
            number
            for number, known in self._identities.items()
            if tenant in (None, known.identity.owner.tenant) and segment in (None, known.identity.owner.segment)
        }
        rooms = {room for number in numbers for room in self._rooms_of_identity.get(number, ())}
        return {_id(key) for key in self._candidates(rooms) if _HEAD.unpack_from(self._packed[key])[2] in numbers}

    def handles(self) -> Collection[bytes]:
        """A short stand-in for each id."""
        return self._packed.keys()

    def id_of(self, handle: bytes) -> str:
        """The id that a handle stands for."""
        return _id(handle)

    def named(self, name: str) -> list[Endpoint]:
        """The endpoints of that name."""
        text = name.encode()
        keys = [key for key, value in self._packed.items() if text in value or key in self._loose]
        return [one for one in map(self._endpoint, keys) if one.name == name]

    def __getitem__(self, id_: str) -> Endpoint:
        return self._endpoint(_key(id_))

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and _key(id_) in self._packed

    def __iter__(self) -> Iterator[str]:
        return map(_id, self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def _endpoint(self, key: bytes) -> Endpoint:
        value = self._packed[key]
        _, host, identity = _HEAD.unpack_from(value)
        return endpoint_of(
            _id(key), self._hosts.value(host), self._identities.value(identity).identity, value[_HEAD.size :]
        )

    def _drop(self, key: bytes) -> None:
        value = self._packed.pop(key)
        _, host, identity = _HEAD.unpack_from(value)
        found = spots(value[_HEAD.size :])
        for room, offset in found:
            if self._at(room, offset) == key:
                self._leave(room, offset)
                for other in self._loose:  # whoever has it too has it alone now
                    if other != key and (room, offset) in spots(self._packed[other][_HEAD.size :]):
                        self._settle(room, offset, other)
                        break
        if key in self._loose:
            self._loose.remove(key)
            self.loose_changes += 1
        for shared, number, rooms_of in (
            (self._hosts, host, self._rooms_of_host),
            (self._identities, identity, self._rooms_of_identity),
        ):
            if shared.give_back(number):
                rooms_of.pop(number, None)
            elif found and found[-1][0] not in self._near and found[-1][0] not in self._far:
                rooms_of[number].discard(found[-1][0])

    def _loosen(self, *keys: bytes) -> None:
        self._loose.update(keys)
        self.loose_changes += 1

    def _settle(self, room: Room, offset: int, key: bytes) -> None:
        """Have an endpoint in a place of a room."""
        near = self._near.get(room)
        if near is not None and offset < len(near):
            other = near[offset]
            near[offset] = key
        elif offset < DENSE:
            other = None
            if near is None:
                self._begin(room)
                size = block_of(room).size
                near = self._near[room] = [None] * (size if size <= SMALL else 0)
            near.extend([None] * (offset + 1 - len(near)))
            near[offset] = key
        else:
            self._begin(room)
            far = self._far.setdefault(room, {})
            other = far.get(offset)
            far[offset] = key
        if other is not None and other != key:
            self._loosen(other, key)

    def _begin(self, room: Room) -> None:
        """Somebody is about to be in a room, the first one perhaps."""
        if room not in self._near and room not in self._far:
            self._count_length(room, 1)

    def _leave(self, room: Room, offset: int) -> None:
        self.touched.add(room)
        if offset >= DENSE:
            del self._far[room][offset]
            if not self._far[room]:
                del self._far[room]
        else:
            places = self._near[room]
            places[offset] = None
            if not any(places):
                del self._near[room]
        if room not in self._near and room not in self._far:
            self._count_length(room, -1)

    def _at(self, room: Room, offset: int) -> bytes | None:
        if offset >= DENSE:
            return self._far.get(room, {}).get(offset)
        places = self._near.get(room, ())
        return places[offset] if offset < len(places) else None

    def _lodgers(self, room: Room) -> Iterator[tuple[int, bytes]]:
        for offset, key in enumerate(self._near.get(room, ())):
            if key is not None:
                yield offset, key
        yield from sorted(self._far.get(room, {}).items())

    def _candidates(self, rooms: Iterable[Room]) -> set[bytes]:
        """The endpoints in some rooms, and those that no room has."""
        return self._loose.union(key for room in rooms for _, key in self._lodgers(room))

    def _count_length(self, room: Room, by: int) -> None:
        family, _, length = block_numbered(room)
        self._lengths[family, length] = self._lengths.get((family, length), 0) + by
        if not self._lengths[family, length]:
            del self._lengths[family, length]


def _revision(value: bytes) -> int:
    revision: int = _HEAD.unpack_from(value)[0]
    return revision


def _key(id_: str) -> bytes:
    """An id as short as it can be said: most begin with a container's 64 hexadecimal digits."""
    if id_[_CONTAINER : _CONTAINER + 1] == "/":
        container = id_[:_CONTAINER]
        try:
            packed = bytes.fromhex(container)
        except ValueError:
            packed = b""
        if packed.hex() == container:
            return b"\1" + packed + id_[_CONTAINER + 1 :].encode()
    return b"\0" + id_.encode()


def _id(key: bytes) -> str:
    if key[0]:
        return f"{key[1:33].hex()}/{key[33:].decode()}"
    return key[1:].decode()


class Holders(Mapping[Address, str]):
    """Endpoint ids by address."""

    def __init__(self, table: EndpointTable) -> None:
        self._table = table

    def __getitem__(self, address: Address) -> str:
        found = self._table.holder(address)
        if found is None:
            raise KeyError(address)
        return found

    def __iter__(self) -> Iterator[Address]:
        for room in self._table.rooms():
            yield from (address for address, _ in self._table.in_room(block_of(room)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Used(Mapping[Prefix, int]):
    """How many addresses of a block have an endpoint, by block; 0 for a block without any."""

    def __init__(self, table: EndpointTable) -> None:
        self._table = table

    def __getitem__(self, block: Prefix) -> int:
        return self._table.count(block)

    def __iter__(self) -> Iterator[Prefix]:
        return map(block_of, self._table.rooms())

    def __len__(self) -> int:
        return sum(1 for _ in self)
