"""The stored form of endpoints: one short binary value, since there are a million of them.

Owns the layout. A record is a MessagePack array of schema, host, identity and a body; the body begins with the
allocations in a fixed form, so that a table of endpoints can keep it as it is and find addresses in it without
decoding the rest. Invariant: decoding what was encoded gives an equal endpoint, whatever is in it; records of
schema 1, which are JSON, are read as well.
"""

from __future__ import annotations

import re
import struct

import msgspec

from romana.codec.json import decode as decode_json
from romana.codec.json import encode as encode_json
from romana.codec.kind import Kind
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity

SCHEMA = 2
AS_JSON = 255
"""In place of the number of allocations: the rest of the body is the whole endpoint as JSON."""
_NETNS = ("", "/var/run/netns/cni-", "/run/netns/cni-", "/var/run/netns/", "/run/netns/")
_UUID = re.compile(r"(.*?)([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_V4, _V6 = struct.Struct(">BQ4s"), struct.Struct(">BQ16s")  # block length (of IPv6: plus 64), sequence, address
_BOTH = struct.Struct(">BBQIBQQQ")  # how most bodies begin: two allocations, IPv4 and IPv6
_V6_MARK = 64
_MAC = re.compile(r"(?:(?:[0-9a-f]{2}:){5}[0-9a-f]{2})?")


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    """What follows the allocations; `interface` is empty when it is the last part of the id.

    `netns` begins with a byte: 0 before the path as text, else the place of a usual beginning before a UUID.
    """

    name: str
    link: str
    interface: str
    netns: bytes
    mac: bytes
    mtu: int


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A record as it is stored; `identity` is MessagePack of its own."""

    schema: int
    host: str
    identity: bytes
    body: bytes


_packed = msgspec.msgpack.Decoder(Packed)
_rest = msgspec.msgpack.Decoder(_Rest)
_identity = msgspec.msgpack.Decoder(Identity)
_encoder = msgspec.msgpack.Encoder()


class EndpointKind(Kind[Endpoint]):
    """Endpoint records."""

    def __init__(self) -> None:
        super().__init__("endpoint", Endpoint, schema=SCHEMA)

    def encode(self, value: Endpoint) -> bytes:
        """The stored form."""
        return _encoder.encode(Packed(SCHEMA, value.host, _encoder.encode(value.identity), _body(value)))

    def decode(self, text: bytes, key: str = "") -> Endpoint:
        """The value of the record under a key; Unavailable when it is of a newer schema, or is none."""
        packed = self.unpack(text)
        try:
            return endpoint_of(key.removeprefix("endpoint/"), packed.host, identity_of(packed.identity), packed.body)
        except (msgspec.DecodeError, ValueError, LookupError, struct.error) as error:
            raise Unavailable(f"the endpoint record {key} cannot be read: {error}") from error

    def unpack(self, text: bytes) -> Packed:
        """The parts of a record of the present schema; one of schema 1 is brought to it first."""
        try:
            packed = _packed.decode(text)
            if packed.schema == SCHEMA:
                return packed
            self.check_schema(packed.schema)
        except (msgspec.DecodeError, ValueError) as error:
            if text[:1] == b"{":
                return self.unpack(self.encode(super().decode(text)))
            head = text[1] if len(text) > 1 else 0
            if SCHEMA < head < 128:  # a small number is itself in MessagePack
                self.check_schema(head)
            raise Unavailable(f"an endpoint record cannot be read: {error}") from error
        return packed


def identity_of(raw: bytes) -> Identity:
    """The identity in a record."""
    return _identity.decode(raw)


def endpoint_of(id_: str, host: str, identity: Identity, body: bytes) -> Endpoint:
    """The endpoint of that id from the parts of its record."""
    if body[0] == AS_JSON:
        return decode_json(body[1:], Endpoint)
    allocations = tuple(
        Allocation(
            address=Address(family, value),
            block=Prefix(family, value >> family.bits - length << family.bits - length, length),
            endpoint=id_,
            sequence=sequence,
        )
        for family, value, length, sequence in places(body)
    )
    rest = _rest.decode(memoryview(body)[_end_of_places(body) :])
    return Endpoint(
        id=id_,
        name=rest.name,
        host=host,
        identity=identity,
        allocations=allocations,
        link=rest.link,
        interface=rest.interface or id_.rpartition("/")[2],
        netns=_path(rest.netns),
        mac=rest.mac.hex(":"),
        mtu=rest.mtu,
    )


def places(body: bytes) -> list[tuple[Family, int, int, int]]:
    """Family, address, length of the block, and sequence, of each allocation in a body."""
    if body[0] == AS_JSON:
        found = decode_json(body[1:], Endpoint).allocations
        return [
            (one.address.family, one.address.value, min(one.block.length, one.address.length), one.sequence)
            for one in found
        ]
    at = 1
    listed: list[tuple[Family, int, int, int]] = []
    for _ in range(body[0]):
        if body[at] < _V6_MARK:
            length, sequence, text = _V4.unpack_from(body, at)
            at += _V4.size
            listed.append((Family.V4, int.from_bytes(text), length, sequence))
        else:
            length, sequence, text = _V6.unpack_from(body, at)
            at += _V6.size
            listed.append((Family.V6, int.from_bytes(text), length - _V6_MARK, sequence))
    return listed


def spots(body: bytes) -> list[tuple[int, int]]:
    """The block of each allocation, as one number (`room`), and the offset of the address in it."""
    if body[0] == 2 and len(body) >= _BOTH.size:
        _, short, _, value, long, _, high, low = _BOTH.unpack_from(body)
        if short < _V6_MARK <= long:
            left, right, other = 32 - short, 128 + _V6_MARK - long, high << 64 | low
            return [
                (value >> left | short + 1 << 32, value & (1 << left) - 1),
                (other >> right | long - _V6_MARK + 1 << 128, other & (1 << right) - 1),
            ]
    return [_spot(family, value, length) for family, value, length, _ in places(body)]


def _spot(family: Family, value: int, length: int) -> tuple[int, int]:
    left = family.bits - length
    return room(family, value >> left, length), value & (1 << left) - 1


def room(family: Family, index: int, length: int) -> int:
    """A block as one number: which one of its length it is, and above that the length plus one.

    Neighbours have neighbouring numbers, so that a dict of them has few collisions.
    """
    return index | length + 1 << family.bits


def block(number: int) -> tuple[Family, int, int]:
    """The reverse: family, first address and length."""
    family = Family.V6 if number >> Family.V6.bits else Family.V4
    length = (number >> family.bits) - 1
    return family, (number & (1 << family.bits) - 1) << family.bits - length, length


def _end_of_places(body: bytes) -> int:
    at = 1
    for _ in range(body[0]):
        at += _V4.size if body[at] < _V6_MARK else _V6.size
    return at


def _body(endpoint: Endpoint) -> bytes:
    if not _is_plain(endpoint):
        return bytes((AS_JSON,)) + encode_json(endpoint)
    parts = [bytes((len(endpoint.allocations),))]
    for one in endpoint.allocations:
        if one.address.family is Family.V4:
            parts.append(_V4.pack(one.block.length, one.sequence, one.address.value.to_bytes(4)))
        else:
            parts.append(_V6.pack(one.block.length + _V6_MARK, one.sequence, one.address.value.to_bytes(16)))
    interface = "" if endpoint.interface == endpoint.id.rpartition("/")[2] else endpoint.interface
    mac = bytes.fromhex(endpoint.mac.replace(":", ""))
    rest = _Rest(endpoint.name, endpoint.link, interface, _packed_path(endpoint.netns), mac, endpoint.mtu)
    return b"".join((*parts, _encoder.encode(rest)))


def _is_plain(endpoint: Endpoint) -> bool:
    """Whether the short form says all: its allocations are its own, each in its block."""
    return (
        len(endpoint.allocations) < AS_JSON
        and _MAC.fullmatch(endpoint.mac) is not None
        and bool(endpoint.interface or not endpoint.id.rpartition("/")[2])
        and all(
            one.endpoint == endpoint.id and one.block.contains(one.address) and 0 <= one.sequence < 1 << 64
            for one in endpoint.allocations
        )
    )


def _packed_path(path: str) -> bytes:
    found = _UUID.fullmatch(path)
    if found is None or found[1] not in _NETNS[1:]:
        return b"\0" + path.encode()
    return bytes((_NETNS.index(found[1]),)) + bytes.fromhex(found[2].replace("-", ""))


def _path(packed: bytes) -> str:
    if not packed[0]:
        return packed[1:].decode()
    digits = packed[1:].hex()
    return _NETNS[packed[0]] + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
